//! The definitions of tables, as the database describes them.

use serde_json::Value;

use crate::support::{Database, World};

impl World {
    /// The columns of a table in their order, with all their properties.
    pub fn columns(&self, table: &str) -> Vec<Value> {
        self.rows(&match self.database {
            Database::Postgresql => format!(
                "SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, \
                     NOT a.attnotnull AS nullable, pg_get_expr(d.adbin, d.adrelid) AS by_default, \
                     a.attidentity, a.attcollation::int AS collation \
                 FROM pg_attribute a \
                 LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
                 WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped \
                 ORDER BY a.attnum"
            ),
            Database::Sqlite => format!(
                "SELECT name, type, \"notnull\" = 0 AS nullable, dflt_value AS by_default, pk \
                 FROM pragma_table_info('{table}') ORDER BY cid"
            ),
            #[cfg(feature = "mysql")]
            Database::Mariadb => format!(
                "SELECT column_name AS name, column_type, is_nullable = 'YES' AS nullable, \
                     column_default AS by_default, collation_name, extra \
                 FROM information_schema.columns \
                 WHERE table_schema = database() AND table_name = '{table}' \
                 ORDER BY ordinal_position"
            ),
        })
    }

    /// The indexes and constraints of a table, and its other properties.
    pub fn properties(&self, table: &str) -> Vec<Value> {
        self.rows(&match self.database {
            Database::Postgresql => format!(
                "SELECT conname::text AS name, pg_get_constraintdef(oid) AS definition \
                     FROM pg_constraint WHERE conrelid = '{table}'::regclass \
                 UNION ALL SELECT indexname::text, \
                         replace(indexdef, current_schema() || '.', '') FROM pg_indexes \
                     WHERE schemaname = current_schema() AND tablename = '{table}' \
                 UNION ALL SELECT 'owner', concat_ws(' ', relowner, reloptions) FROM pg_class \
                     WHERE oid = '{table}'::regclass"
            ),
            // Without the statement of the table itself.
            Database::Sqlite => format!(
                "SELECT name, sql AS definition FROM sqlite_master \
                     WHERE tbl_name = '{table}' AND type <> 'table'"
            ),
            #[cfg(feature = "mysql")]
            Database::Mariadb => format!(
                "SELECT index_name AS name, CONCAT_WS(' ', seq_in_index, column_name, sub_part, \
                         index_type, non_unique) AS definition \
                     FROM information_schema.statistics \
                     WHERE table_schema = database() AND table_name = '{table}' \
                 UNION ALL SELECT constraint_name, check_clause \
                     FROM information_schema.check_constraints \
                     WHERE constraint_schema = database() AND table_name = '{table}' \
                 UNION ALL SELECT table_name, CONCAT_WS(' ', engine, table_collation, row_format) \
                     FROM information_schema.tables \
                     WHERE table_schema = database() AND table_name = '{table}'"
            ),
        })
    }

    /// The definitions of several tables, line by line.
    pub fn catalogue(&self, tables: &[&str]) -> Vec<String> {
        let line = |table: &str, kind, line: &Value| format!("{table}: {kind} {line}");
        let of = |table: &&str| {
            let columns = self.columns(table);
            let properties = self.properties(table);
            let columns = columns.iter().map(|column| line(table, "column", column));
            let mut properties: Vec<_> = properties
                .iter()
                .map(|property| line(table, "has", property))
                .collect();
            properties.sort();
            columns.chain(properties).collect::<Vec<_>>()
        };
        tables.iter().flat_map(of).collect()
    }
}
