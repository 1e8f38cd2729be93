//! What a server and Django's tables on it are like.

use diesel::mysql::MysqlConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};

/// Of what holds any text.
pub(super) const TEXT: &str = "longtext CHARACTER SET utf8mb4";

/// What is only for people. Of everything else, a character that the table has not is refused.
const SHOWN: [&str; 6] = [
    "output",
    "exception",
    "traceback",
    "log",
    "reason",
    "refusal",
];

/// What a server and its tables are like.
pub(super) struct ServerProperties {
    /// It takes no longer statements, in bytes.
    pub(super) most_bytes: usize,
    /// The type of `carrot_messagelog.uuid` with its collation: with another one, its index is of no
    /// use.
    key: String,
    /// The last character up to which its table surely has them all.
    pub(super) highest_character: char,
    /// The type of what is only for people, in the table's characters: others become `?`.
    shown: String,
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
        // A column of bytes has neither.
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
            key,
            highest_character,
            shown,
        })
    }

    /// The type of a column of texts in a statement's values; names are those of schedules.
    pub(super) fn kind(&self, name: &str) -> &str {
        match name {
            "uuid" | "compared" | "name" => &self.key,
            _ if SHOWN.contains(&name) => &self.shown,
            // By default it would have the database's characters, and lose others.
            _ => TEXT,
        }
    }
}
