//! Rows of any query as JSON objects, the same on all databases.

use diesel::deserialize::{FromSql, QueryableByName, Result};
use diesel::row::{Field, NamedRow, Row};
use diesel::sql_types::{BigInt, Double, Text};
use diesel::sqlite::{Sqlite, SqliteType, SqliteValue};
use serde_json::{Map, Value};

/// A row that the database itself has converted to JSON.
#[derive(QueryableByName)]
pub struct JsonText {
    #[diesel(sql_type = Text)]
    row: String,
}

impl JsonText {
    pub fn parse(self) -> Value {
        serde_json::from_str(&self.row).unwrap()
    }
}

/// A row as a JSON object.
pub struct Json(pub Value);

/// Boolean columns, which SQLite and MariaDB store as numbers.
fn is_boolean(column: &str) -> bool {
    matches!(column, "active" | "suspect")
}

fn object<'a, DB: diesel::backend::Backend>(
    row: &impl NamedRow<'a, DB>,
    json: impl Fn(DB::RawValue<'_>) -> Result<Value>,
) -> Result<Json> {
    let mut object = Map::new();
    for nth in 0..row.field_count() {
        let field = Row::get(row, nth).unwrap();
        let name = field.field_name().unwrap();
        let value = field.value().map(&json).transpose()?;
        let value = match value {
            Some(Value::Number(number)) if is_boolean(name) => {
                Value::Bool(number.as_i64() != Some(0))
            }
            other => other.unwrap_or_default(),
        };
        object.insert(name.to_owned(), value);
    }
    Ok(Json(Value::Object(object)))
}

impl QueryableByName<Sqlite> for Json {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> Result<Self> {
        object(row, |value: SqliteValue<'_, '_, '_>| {
            Ok(match value.value_type() {
                Some(SqliteType::Double | SqliteType::Float) => {
                    <f64 as FromSql<Double, Sqlite>>::from_sql(value)?.into()
                }
                Some(SqliteType::SmallInt | SqliteType::Integer | SqliteType::Long) => {
                    <i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?.into()
                }
                Some(_) => <String as FromSql<Text, Sqlite>>::from_sql(value)?.into(),
                None => Value::Null,
            })
        })
    }
}

#[cfg(feature = "mysql")]
impl QueryableByName<diesel::mysql::Mysql> for Json {
    fn build<'a>(row: &impl NamedRow<'a, diesel::mysql::Mysql>) -> Result<Self> {
        use diesel::mysql::{Mysql, MysqlType, MysqlValue};
        use diesel::sql_types::Datetime;
        object(row, |value: MysqlValue<'_>| {
            Ok(match value.value_type() {
                MysqlType::Float | MysqlType::Double | MysqlType::Numeric => {
                    <f64 as FromSql<Double, Mysql>>::from_sql(value)?.into()
                }
                MysqlType::String | MysqlType::Blob | MysqlType::Enum | MysqlType::Set => {
                    String::from_utf8_lossy(value.as_bytes()).into()
                }
                MysqlType::DateTime | MysqlType::Timestamp | MysqlType::Date => {
                    let time =
                        <chrono::NaiveDateTime as FromSql<Datetime, Mysql>>::from_sql(value)?;
                    time.format("%Y-%m-%d %H:%M:%S%.6f").to_string().into()
                }
                _ => <i64 as FromSql<BigInt, Mysql>>::from_sql(value)?.into(),
            })
        })
    }
}
