//! The properties of a server and of Django's tables on it that statements depend on.

use diesel::mysql::MysqlConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

/// The type that holds any text.
pub(super) const TEXT: &str = "longtext CHARACTER SET utf8mb4";

/// The columns that only people read, in which characters that the table can't store become `?`. In all other
/// columns the server refuses such characters.
const LOSSY_COLUMNS: [&str; 6] = [
    "output",
    "exception",
    "traceback",
    "log",
    "reason",
    "refusal",
];

/// The properties of a server and its tables.
pub(super) struct ServerProperties {
    /// The server's limit on the length of a statement, in bytes.
    pub(super) most_bytes: usize,
    /// The type of `carrot_messagelog.uuid` with its collation: a comparison with another collation can't use the
    /// index.
    key_type: String,
    /// The table can store all characters up to this one.
    pub(super) highest_character: char,
    /// The type of [`LOSSY_COLUMNS`]: in the table's character set.
    lossy_type: String,
}

#[derive(QueryableByName)]
struct Limit {
    #[diesel(sql_type = BigInt)]
    most_bytes: i64,
}

#[derive(QueryableByName)]
struct Collation {
    #[diesel(sql_type = Nullable<Text>)]
    charset: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    collation: Option<String>,
}

impl ServerProperties {
    pub(super) fn of(connection: &mut MysqlConnection) -> QueryResult<Self> {
        let limit: Limit =
            diesel::sql_query("SELECT CAST(@@max_allowed_packet AS SIGNED) AS most_bytes")
                .get_result(connection)?;
        let collation: Option<Collation> = diesel::sql_query(
            "SELECT character_set_name AS charset, collation_name AS collation \
             FROM information_schema.columns WHERE table_schema = DATABASE() \
                 AND table_name = 'carrot_messagelog' AND column_name = 'uuid'",
        )
        .get_result(connection)
        .optional()?;
        let (mut key, mut shown) = ("varchar(255)".to_owned(), TEXT.to_owned());
        let mut highest_character = char::MAX;
        // A binary column has neither.
        if let Some(Collation {
            charset: Some(charset),
            collation: Some(collation),
        }) = collation
        {
            key = format!("{key} CHARACTER SET {charset} COLLATE {collation}");
            shown = format!("longtext CHARACTER SET {charset}");
            highest_character = match charset.as_str() {
                "utf8mb4" => char::MAX,
                "utf8mb3" | "utf8" => '\u{ffff}',
                _ => '\x7f',
            };
        }
        Ok(Self {
            most_bytes: usize::try_from(limit.most_bytes).unwrap_or(usize::MAX),
            key_type: key,
            highest_character,
            lossy_type: shown,
        })
    }

    /// The type of a column of texts in a statement's values, where `name` is that of a schedule.
    pub(super) fn text_type(&self, name: &str) -> &str {
        match name {
            "uuid" | "compared" | "name" => &self.key_type,
            _ if LOSSY_COLUMNS.contains(&name) => &self.lossy_type,
            // Without a character set, it would have the database's, and lose other characters.
            _ => TEXT,
        }
    }
}
