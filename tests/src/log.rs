//! What the program printed on standard error.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::watch;

use crate::soon;

/// One parsed log line.
#[derive(Debug, Clone)]
pub struct Record {
    /// The whole line.
    pub line: String,
    /// `INFO`, `WARN` or `ERROR`.
    pub level: String,
    /// The event.
    pub msg: String,
    /// Every other key in the order of the line, `time` first.
    pub fields: Vec<(String, String)>,
}

impl Record {
    /// The value of `key`, if the line has it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// Whether this is the event `msg` and carries all of `fields`.
    pub fn is(&self, msg: &str, fields: &[(&str, &str)]) -> bool {
        self.msg == msg && fields.iter().all(|(k, v)| self.get(k) == Some(v))
    }

    /// Reads a line of `key=value` pairs; `None` if it is none.
    pub fn parse(line: &str) -> Option<Self> {
        let mut pairs = Vec::new();
        let mut rest = line.trim_end();
        while !rest.is_empty() {
            let (key, after) = rest.split_once('=')?;
            let (value, after) = value(after)?;
            pairs.push((key.to_owned(), value));
            rest = after.strip_prefix(' ').unwrap_or(after);
        }
        let mut known: BTreeMap<String, String> = pairs.iter().cloned().collect();
        let (level, msg) = (known.remove("level")?, known.remove("msg")?);
        pairs.retain(|(k, _)| k != "level" && k != "msg");
        Some(Self {
            line: line.to_owned(),
            level,
            msg,
            fields: pairs,
        })
    }
}

/// Takes one value, quoted or bare, from the front of `text`.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(' ').unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((out, &quoted[at + 1..])),
            (_, '\\') => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'x' => out.push(hex(&mut chars, 2)?),
                'u' => out.push(hex(&mut chars, 4)?),
                other => out.push(other),
            },
            (_, plain) => out.push(plain),
        }
    }
}

fn hex(chars: &mut std::str::CharIndices<'_>, digits: usize) -> Option<char> {
    let text: String = chars.take(digits).map(|(_, c)| c).collect();
    char::from_u32(u32::from_str_radix(&text, 16).ok()?)
}

/// Collects the lines while the program runs.
#[derive(Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    count: watch::Receiver<usize>,
}

impl Log {
    /// Starts collecting from `stream` until it ends.
    pub fn collect(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (counter, count) = watch::channel(0);
        let sink = Arc::clone(&lines);
        tokio::spawn(async move {
            let mut source = BufReader::new(stream).lines();
            while let Ok(Some(line)) = source.next_line().await {
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
                counter.send_modify(|n| *n += 1);
            }
        });
        Self { lines, count }
    }

    /// Waits for the end of the stream: the program has closed it.
    pub async fn ended(&self) {
        let mut count = self.count.clone();
        soon("the end of the log", async {
            while count.changed().await.is_ok() {}
        })
        .await;
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Every line, once the program has printed its last.
    pub async fn all_lines(&self) -> Vec<String> {
        let mut count = self.count.clone();
        soon("the end of the output", async {
            while count.changed().await.is_ok() {}
        })
        .await;
        self.lines()
    }

    /// Every line so far that is a record.
    pub fn records(&self) -> Vec<Record> {
        self.lines()
            .iter()
            .filter_map(|line| Record::parse(line))
            .collect()
    }

    /// How often the event `msg` with `fields` has been logged.
    pub fn count(&self, msg: &str, fields: &[(&str, &str)]) -> usize {
        self.records().iter().filter(|r| r.is(msg, fields)).count()
    }

    /// The first record of the event `msg` that carries `fields`; waits for it.
    pub async fn wait(&self, msg: &str, fields: &[(&str, &str)]) -> Record {
        self.wait_nth(1, msg, fields).await
    }

    /// The `n`th such record (from 1); waits for it.
    pub async fn wait_nth(&self, n: usize, msg: &str, fields: &[(&str, &str)]) -> Record {
        let mut count = self.count.clone();
        let what = format!("log line no. {n} of {msg} {fields:?}");
        soon(&what, async {
            loop {
                count.borrow_and_update();
                let found = self
                    .records()
                    .into_iter()
                    .filter(|r| r.is(msg, fields))
                    .nth(n - 1);
                if let Some(record) = found {
                    return record;
                }
                if count.changed().await.is_err() {
                    panic!(
                        "the program ended without {what}; its log:\n{}",
                        self.lines().join("\n")
                    )
                }
            }
        })
        .await
    }
}
