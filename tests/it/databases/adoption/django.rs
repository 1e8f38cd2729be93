//! Django's statements, as its ORM writes them.

use serde_json::{Map, Value};

use crate::support::{Client, DJANGOS_COLUMNS, Database, World};

/// The columns of a schedule, without the id.
const SCHEDULE: [&str; 10] = [
    "interval_type",
    "interval_count",
    "exchange",
    "routing_key",
    "queue",
    "task",
    "task_args",
    "content",
    "active",
    "task_name",
];

/// One of Django's models.
#[derive(Clone, Copy)]
pub struct Model {
    pub table: &'static str,
    pub columns: &'static [&'static str],
    /// The captured rows of this model.
    pub captured: fn() -> Vec<Value>,
}

pub const MESSAGE_LOG: Model = Model {
    table: "carrot_messagelog",
    columns: &DJANGOS_COLUMNS,
    captured: super::message_rows,
};
pub const SCHEDULED_TASK: Model = Model {
    table: "carrot_scheduledtask",
    columns: &SCHEDULE,
    captured: super::schedule_rows,
};

/// A connection of Django's.
pub struct Django {
    database: Database,
    pub client: Client,
}

impl Django {
    pub fn on(world: &World) -> Self {
        Self {
            database: world.database,
            client: world.client(),
        }
    }

    fn quoted(&self, name: &str) -> String {
        match self.database {
            #[cfg(feature = "mysql")]
            Database::Mariadb => format!("`{name}`"),
            _ => format!("\"{name}\""),
        }
    }

    /// The column, qualified by its table.
    fn full(&self, model: Model, column: &str) -> String {
        format!("{}.{}", self.quoted(model.table), self.quoted(column))
    }

    fn values(&self, model: Model, row: &Value) -> Vec<String> {
        let columns = model.columns.iter();
        columns
            .map(|column| self.database.literal(&row[*column]))
            .collect()
    }

    /// `objects.create` and `bulk_create`: their ids.
    pub fn create(&mut self, model: Model, rows: &[Value]) -> Vec<i64> {
        let columns: Vec<_> = model.columns.iter().map(|c| self.quoted(c)).collect();
        let values: Vec<_> = rows
            .iter()
            .map(|row| format!("({})", self.values(model, row).join(", ")))
            .collect();
        let insert = format!(
            "INSERT INTO {} ({}) VALUES {}",
            self.quoted(model.table),
            columns.join(", "),
            values.join(", ")
        );
        let id = |row: &Value| row["id"].as_i64().unwrap();
        match self.database {
            // Some of Django's versions ask like this; the ids of a statement are consecutive.
            #[cfg(feature = "mysql")]
            Database::Mariadb => {
                self.client.execute(&insert);
                let first = id(&self.client.rows("SELECT last_insert_id() AS id")[0]);
                (first..).take(rows.len()).collect()
            }
            _ => {
                let returning = format!("{insert} RETURNING {}", self.full(model, "id"));
                self.client.rows(&returning).iter().map(id).collect()
            }
        }
    }

    /// `create` with an id.
    pub fn create_with_id(&mut self, model: Model, row: &Value) {
        let columns: Vec<_> = model.columns.iter().map(|c| self.quoted(c)).collect();
        self.client.execute(&format!(
            "INSERT INTO {} ({}, {}) VALUES ({}, {})",
            self.quoted(model.table),
            self.quoted("id"),
            columns.join(", "),
            row["id"],
            self.values(model, row).join(", "),
        ));
    }

    /// `save()` of an existing object: it writes all columns.
    pub fn save(&mut self, model: Model, id: i64, row: &Value) {
        let set: Vec<_> = model
            .columns
            .iter()
            .zip(self.values(model, row))
            .map(|(column, value)| format!("{} = {value}", self.quoted(column)))
            .collect();
        self.client.execute(&format!(
            "UPDATE {} SET {} WHERE {} = {id}",
            self.quoted(model.table),
            set.join(", "),
            self.full(model, "id"),
        ));
    }

    /// `objects.filter(…)`, in the model's order.
    pub fn filter(&mut self, model: Model, condition: &str) -> Vec<Value> {
        let columns: Vec<_> = ["id"]
            .iter()
            .chain(model.columns)
            .map(|column| self.full(model, column))
            .collect();
        let order = if model.table == MESSAGE_LOG.table {
            "failure_time DESC, completion_time DESC, status ASC, priority DESC, publish_time DESC, id"
        } else {
            "id"
        };
        let rows = self.client.rows(&format!(
            "SELECT {} FROM {} WHERE {condition} ORDER BY {order}",
            columns.join(", "),
            self.quoted(model.table),
        ));
        rows.into_iter().map(plain).collect()
    }

    /// `objects.get(pk=…)`.
    pub fn get(&mut self, model: Model, id: i64) -> Option<Value> {
        let condition = format!("{} = {id}", self.full(model, "id"));
        self.filter(model, &condition).pop()
    }

    /// `delete()` of some objects.
    pub fn delete(&mut self, model: Model, condition: &str) {
        let table = self.quoted(model.table);
        self.client
            .execute(&format!("DELETE FROM {table} WHERE {condition}"));
    }
}

/// A row with its times in the format of the fixtures, on any database.
pub fn plain(row: Value) -> Value {
    let Value::Object(row) = row else {
        return row;
    };
    let time = |(column, value): (String, Value)| match value {
        Value::String(text) if column.ends_with("_time") => {
            let text = text.replace('T', " ");
            let naive = text.strip_suffix("+00:00").unwrap_or(&text);
            let time =
                chrono::NaiveDateTime::parse_from_str(naive, "%Y-%m-%d %H:%M:%S%.f").unwrap();
            let text = time.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            (column, text.into())
        }
        value => (column, value),
    };
    Value::Object(row.into_iter().map(time).collect::<Map<_, _>>())
}
