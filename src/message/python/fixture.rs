//! What CPython writes and reads, noted by `tests/fixtures/python_literals.py`.

use serde_json::Value;

use super::{parse_tuple, repr, repr_tuple};

/// The texts and values of one kind.
fn cases(kind: &str) -> Vec<(String, Vec<Value>)> {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/python_literals.json")).unwrap();
    let case = |case: &Value| {
        let python = case["python"].as_str().unwrap().to_owned();
        (python, case["json"].as_array().cloned().unwrap_or_default())
    };
    fixture[kind].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn what_python_writes_is_written_and_read() {
    for (text, args) in cases("written") {
        assert_eq!(repr_tuple(&args), text);
        assert_eq!(parse_tuple(&text), Ok(args), "{text}");
    }
}

#[test]
fn a_double_is_written_as_python_writes_it() {
    for (_, args) in cases("written") {
        if let [number @ Value::Number(_)] = &*args
            && let Some(float) = number
                .as_f64()
                .filter(|_| number.to_string().contains(['.', 'e']))
        {
            assert_eq!(repr(&Value::from(float)), repr(number));
        }
    }
}

#[test]
fn what_python_reads_is_read() {
    for (text, args) in cases("read") {
        let read = parse_tuple(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        // But for the digits of a float.
        assert_eq!(repr_tuple(&read), repr_tuple(&args), "{text}");
    }
}

#[test]
fn what_a_message_can_not_carry_is_refused_and_named() {
    for (text, _) in cases("refused") {
        let error = parse_tuple(&text).expect_err(&text).to_string();
        assert!(
            error.contains("JSON can") || error.contains("a simple key"),
            "{text}: {error}"
        );
    }
}

#[test]
fn what_is_no_literal_is_refused() {
    for (text, _) in cases("nonsense") {
        parse_tuple(&text).expect_err(&text);
    }
}
