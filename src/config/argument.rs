//! Arguments of queues and exchanges: the values of AMQP field tables.

use std::collections::BTreeMap;

use toml::Value;

use super::reader::Entry;

/// The most bytes of an argument's name, which is an AMQP 0-9-1 short string.
const MAX_KEY_BYTES: usize = 255;

/// A value of `queue_arguments` or of an exchange's `arguments`.
#[derive(Debug, Clone, PartialEq)]
pub enum ArgumentValue {
    /// A boolean.
    Bool(bool),
    /// A whole number, signed, 64 bits.
    Integer(i64),
    /// A double.
    Float(f64),
    /// A long string.
    String(String),
    /// A field array.
    List(Vec<ArgumentValue>),
    /// A field table.
    Table(BTreeMap<String, ArgumentValue>),
}

/// Reads a table of arguments.
pub(super) fn read_arguments(entry: &Entry<'_>) -> Option<BTreeMap<String, ArgumentValue>> {
    let pairs = entry.pairs("a table of arguments")?;
    // All entries are read before the table is given up, so that each one reports its fault.
    let read: Vec<_> = pairs
        .into_iter()
        .map(|(key, value)| {
            if key.is_empty() || key.len() > MAX_KEY_BYTES {
                value.fault(format!("must have a name of 1 to {MAX_KEY_BYTES} bytes"));
            }
            Some((key.to_owned(), read_value(&value)?))
        })
        .collect();
    read.into_iter().collect()
}

fn read_value(entry: &Entry<'_>) -> Option<ArgumentValue> {
    Some(match entry.value() {
        Value::Boolean(value) => ArgumentValue::Bool(*value),
        Value::Integer(value) => ArgumentValue::Integer(*value),
        Value::Float(value) => ArgumentValue::Float(*value),
        Value::String(value) => ArgumentValue::String(value.clone()),
        Value::Array(_) => {
            let items = entry.items("a list")?;
            let read: Vec<_> = items.iter().map(read_value).collect();
            ArgumentValue::List(read.into_iter().collect::<Option<_>>()?)
        }
        Value::Table(_) => ArgumentValue::Table(read_arguments(entry)?),
        Value::Datetime(_) => {
            entry.mismatch("a string, number, boolean, list or table");
            return None;
        }
    })
}
