//! A log line, whatever a peer calls itself: one line, from which the values can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyrycode_relay::fuzzing::log_line;
use pyrycode_relay::observe::log::Format;

/// Characters of a value that are written.
const LONGEST: usize = 256;

fuzz_target!(|input: (&str, &str)| {
    let (server_id, remote) = input;
    let json = log_line(Format::Json, server_id, remote);
    let record: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(record.as_object().map(|record| record.len()), Some(5));
    assert_eq!(record["msg"], "server_claimed");
    assert_eq!(record["server_id"], cut(server_id));
    assert_eq!(record["remote"], cut(remote));
    assert_eq!(json.find('\n'), Some(json.len() - 1));

    let text = log_line(Format::Text, server_id, remote);
    let line = text.strip_suffix('\n').expect("a line");
    assert!(relay_fuzz::is_one_line(line), "{line:?}");
    let pairs = pairs(line).expect("pairs");
    let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, ["time", "level", "msg", "server_id", "remote"]);
    assert_eq!(pairs[3].1, cut(server_id));
    assert_eq!(pairs[4].1, cut(remote));
});

fn cut(value: &str) -> String {
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// Reads a line as tools for Go's `slog` do.
fn pairs(mut line: &str) -> Option<Vec<(&str, String)>> {
    let mut pairs = Vec::new();
    while !line.is_empty() {
        let (key, rest) = line.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (value, rest) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
                let bare = !value.is_empty() && !value.contains(['"', '=']);
                (bare.then(|| value.to_owned())?, rest)
            }
        };
        pairs.push((key, value));
        line = match rest.is_empty() {
            true => rest,
            false => rest.strip_prefix(' ')?,
        };
    }
    Some(pairs)
}

/// The value of a Go string literal whose opening quote was taken, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'x' => escape(&mut chars, 2)?,
                'u' => escape(&mut chars, 4)?,
                'U' => escape(&mut chars, 8)?,
                plain @ ('"' | '\\') => plain,
                _ => return None,
            }),
            plain => value.push(plain),
        }
    }
}

fn escape(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let digits: String = chars.take(digits).collect();
    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
}
