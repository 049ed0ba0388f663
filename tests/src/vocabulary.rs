//! What log lines may say: the table of docs/log.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::Value;

use crate::log::Record;

/// An event's level, and the keys that its records may have.
struct Entry {
    level: &'static str,
    keys: BTreeSet<&'static str>,
}

fn events() -> &'static BTreeMap<&'static str, Entry> {
    static EVENTS: OnceLock<BTreeMap<&'static str, Entry>> = OnceLock::new();
    EVENTS.get_or_init(|| {
        let manual = include_str!("../../docs/log.md");
        manual.lines().filter_map(row).collect()
    })
}

/// `| `event` | LEVEL | `key`, `key` | meaning |`
fn row(line: &'static str) -> Option<(&'static str, Entry)> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let name = cells.next()?.strip_suffix('`')?;
    let level = cells.next()?;
    let keys = cells.next()?.split(", ").map(|key| key.trim_matches('`'));
    let keys = keys.filter(|key| !key.is_empty()).collect();
    Some((name, Entry { level, keys }))
}

/// What is wrong with a line of the log: it is no record, or its event, its level or one of its keys is not in the
/// table. `None`: nothing.
pub fn complaint(line: &str) -> Option<String> {
    let Some(record) = Record::parse(line).or_else(|| of_json(line)) else {
        return Some("no record of the log".into());
    };
    let Some(entry) = events().get(&*record.msg) else {
        return Some(format!("the event {:?} is not in docs/log.md", record.msg));
    };
    if record.level != entry.level {
        return Some(format!("level {} instead of {}", record.level, entry.level));
    }
    let strange = |key: &&str| *key != "time" && !entry.keys.contains(key);
    let mut keys = record.fields.iter().map(|(key, _)| &**key);
    let key = keys.find(strange)?;
    Some(format!("{} does not have the key {key:?}", record.msg))
}

fn of_json(line: &str) -> Option<Record> {
    let Value::Object(mut object) = serde_json::from_str(line).ok()? else {
        return None;
    };
    let mut text = |key| Some(object.remove(key)?.as_str()?.to_owned());
    let (level, msg) = (text("level")?, text("msg")?);
    let fields = object
        .into_iter()
        .map(|(key, value)| (key, value.to_string()));
    Some(Record {
        line: line.to_owned(),
        level,
        msg,
        fields: fields.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_outside_of_the_table_are_found() {
        assert!(events().len() > 60, "the table was read");
        let good = "time=1 level=INFO msg=server_released server_id=a";
        assert_eq!(complaint(good), None);
        assert_eq!(
            complaint(r#"{"time":"1","level":"INFO","msg":"server_released","server_id":"a"}"#),
            None
        );
        for bad in [
            "time=1 level=INFO msg=server_lost server_id=a",
            "time=1 level=WARN msg=server_released server_id=a",
            "time=1 level=INFO msg=server_released remote=a",
            "thread 'main' panicked at src/main.rs:1:2:",
            r#"{"time":"1","level":"INFO","msg":"server_released","frame":"a"}"#,
        ] {
            assert!(complaint(bad).is_some(), "{bad}");
        }
    }
}
