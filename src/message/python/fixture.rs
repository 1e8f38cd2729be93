//! Compares with what CPython writes and reads, as recorded by `tests/fixtures/python_literals.py`.

use serde_json::Value;

use super::{parse_tuple, repr, repr_tuple};
use crate::message::{Literal, json};

/// The texts and values of one kind from the fixture.
fn cases(kind: &str) -> Vec<(String, Vec<Literal>)> {
    let fixture = include_str!("../../../tests/fixtures/python_literals.json");
    let Literal::Object(fixture) = json::parse(fixture).unwrap() else {
        panic!("the fixture is no object");
    };
    let Some(Literal::List(cases)) = fixture.get(kind) else {
        panic!("there are no {kind}");
    };
    let case = |case: &Literal| match case {
        Literal::Object(case) => match (case.get("python"), case.get("json")) {
            (Some(Literal::Text(python)), Some(Literal::List(args))) => {
                (python.clone(), args.clone())
            }
            (Some(Literal::Text(python)), None) => (python.clone(), Vec::new()),
            other => panic!("{other:?} is no case"),
        },
        other => panic!("{other} is no case"),
    };
    cases.iter().map(case).collect()
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
        if let [literal @ Literal::Number(number)] = &*args
            && number.as_str().contains(['.', 'e'])
        {
            let float: f64 = number.as_str().parse().unwrap();
            assert_eq!(repr(&Value::from(float).into()), repr(literal));
        }
    }
}

#[test]
fn what_python_reads_is_read() {
    for (text, args) in cases("read") {
        let read = parse_tuple(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        // The digits of floats may differ.
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
