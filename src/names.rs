//! Names that several rooms share, and how they are made storable.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::OnceLock;

use uuid::Uuid;

/// The `type` property of every message that django-carrot and carrot-actors publish.
pub const MESSAGE_TYPE: &str = "django-carrot message";

/// The header that names the task.
pub const TASK_HEADER: &str = "type";

/// The most characters of a text in django-carrot's `varchar(200)` columns.
pub const COLUMN_CHARS: usize = 200;

/// The most bytes of an AMQP 0-9-1 short string (§4.2.5.3), such as a queue's name, a routing key or a message
/// id. A longer one breaks the frame and with it the connection.
pub const SHORT_STRING_BYTES: usize = 255;

/// The environment variable by which a daemon that executes itself again passes its state on.
pub const RESUMED_VARIABLE: &str = "CARROT_RESUMED";

/// The environment variables that systemd sets for the service alone, not for its children.
pub const SYSTEMD_VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

static PROGRAM: OnceLock<String> = OnceLock::new();

/// Sets the program's name, as the user types it, from the path of its binary. Only the first call counts.
pub fn set_program(path: &OsStr) {
    if let Some(name) = Path::new(path).file_name() {
        PROGRAM.get_or_init(|| name.to_string_lossy().into_owned());
    }
}

/// The name of the program that has our command line. In a program that only publishes it is `carrot-actors`,
/// the stock program.
#[must_use]
pub fn program() -> &'static str {
    PROGRAM.get().map_or("carrot-actors", String::as_str)
}

/// A key for a new message.
#[must_use]
pub fn new_key() -> String {
    Uuid::new_v4().to_string()
}

/// The key of a message with the message id `id`. It is the id itself if it fits the `uuid` column in any
/// character set (ASCII, without NUL, not too long). Otherwise it is a UUID that is the same at each delivery:
/// 16 bytes that are not UTF-8 are taken as a raw UUID, whose publisher's row has it in the usual form; from
/// any other id one is derived.
#[must_use]
pub fn key_for_id(id: &[u8]) -> String {
    match std::str::from_utf8(id) {
        Ok(text) if id.len() <= COLUMN_CHARS && id.is_ascii() && !id.contains(&0) => {
            text.to_owned()
        }
        Ok(_) => Uuid::new_v5(&Uuid::NAMESPACE_OID, id).to_string(),
        Err(_) => Uuid::from_slice(id)
            .unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, id))
            .to_string(),
    }
}

/// A consumer's name, as in django-carrot: `default-consumer-1`. `n` starts at 1.
#[must_use]
pub fn consumer_name(queue: &str, n: usize) -> String {
    format!("{queue}-consumer-{n}")
}

/// `text` in a form that every database can store: NULs are replaced by U+FFFD.
#[must_use]
pub fn storable(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// `text` in a form that every database can store in a `varchar(200)` column: cut, and without NULs.
#[must_use]
pub fn storable_name(text: &str) -> String {
    storable(text.chars().take(COLUMN_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_does_not_fit_the_column_gets_the_same_key_each_time() {
        let of = |id: &str| key_for_id(id.as_bytes());
        let long = "x".repeat(250);
        assert_eq!(of(&long), of(&long));
        assert!(of(&long).len() <= COLUMN_CHARS);
        assert_ne!(of(&long), of(&"x".repeat(251)));
        assert_ne!(of("a\0b"), of("a\0c"));
        assert_ne!(of("\u{1f955}"), of("\u{1f34e}"));
        assert_eq!(of("any id"), "any id");
    }

    #[test]
    fn an_id_of_other_bytes_is_a_key_too_and_a_raw_uuid_that_uuid() {
        let uuid = Uuid::from_u128(0x6e8b_c430_9c3a_41d9_a669_0800_200c_9a66);
        assert_eq!(key_for_id(uuid.as_bytes()), uuid.to_string());
        assert_eq!(key_for_id(b"caf\xe9"), key_for_id(b"caf\xe9"));
        assert_ne!(key_for_id(b"caf\xe9"), key_for_id(b"caf\xe8"));
        // 16 bytes of text are a text.
        assert_eq!(key_for_id(b"order-0000000042"), "order-0000000042");
    }
}
