//! A configuration file: settings or one clear error, and what `check-config` prints means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrycode_relay::fuzzing::configuration;
use relay_fuzz::is_one_line;
use toml::{Table, Value};

fuzz_target!(|text: &str| {
    let first = match configuration(text) {
        Ok(configuration) => configuration,
        Err(error) => return assert!(is_one_line(&error), "{error:?}"),
    };
    for refusal in &first.refusals {
        assert!(is_one_line(refusal), "{refusal:?}");
    }
    let file: Table = text.parse().expect("a file that was understood");
    let shown: Table = first.shown.parse().expect("a file");
    assert!(file.len() <= shown.len() + first.shown.matches("is not set").count());
    for (name, value) in &file {
        let name = name.replace('_', "-");
        let given = written(value);
        match shown.get(&name) {
            Some(value) => assert_eq!(written(value), given, "{name}"),
            None => assert_eq!(given, "", "{name}"),
        }
    }
    let again = match configuration(&first.shown) {
        Ok(configuration) => configuration,
        Err(error) => panic!("{error}\n{}", first.shown),
    };
    assert_eq!(again.in_force, first.in_force, "{}", first.shown);
    assert_eq!(again.refusals, first.refusals, "{}", first.shown);
});

/// As on the command line.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            let texts: Vec<_> = values.iter().map(written).collect();
            texts.join(",")
        }
        value => value.to_string(),
    }
}
