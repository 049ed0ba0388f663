//! The log: a closed vocabulary of events and keys, one line per record on standard error.
//!
//! Nothing else in this program writes a log line, and a record can only be built from the
//! [`Event`]s and [`Key`]s of these tables; there is no way to hand it a frame, a header or a token by accident.
//! Lines are written by a thread of their own behind a bounded queue: a stalled reader of standard
//! error costs log lines (counted, and said in the log), never a delay for a peer. A line is written at once; those
//! that follow it closely go out together.

use super::recent::Recent;
use super::text;
pub use super::vocabulary::{Event, Key, Level};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// Lines waiting for standard error at most; further ones are dropped and counted.
const QUEUE_LINES: usize = 8192;

/// Bytes written at once, but for the end of a line.
const WRITE_BYTES: usize = 64 * 1024;

/// After so many lines at once there is no pause.
const MANY_LINES: usize = QUEUE_LINES / 8;

/// Between two writes. While the log's thread pauses nobody needs to wake it: a line then costs a peer no system call,
/// and thousands a second cost a hundred writes.
const PAUSE: Duration = Duration::from_millis(10);

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// One line per record on standard error.
    #[default]
    Stderr,
    /// Nowhere.
    Silent,
}

/// How a record is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `time=… level=… msg=… key=value`.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Where the log goes, how it looks, and what is left out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Where to.
    pub target: LogTarget,
    /// How.
    pub format: Format,
    /// Records below this level are not written.
    pub level: Level,
}

impl LogSettings {
    /// No log.
    pub fn silent() -> Self {
        Self {
            target: LogTarget::Silent,
            ..Self::default()
        }
    }
}

/// A handle for writing records; cheap to clone.
#[derive(Clone)]
pub struct Log {
    recent: Arc<Recent>,
    queue: Option<SyncSender<Message>>,
    dropped: Arc<AtomicU64>,
    format: Format,
    level: Level,
}

enum Message {
    Line(String),
    /// Everything before it is written.
    Flushed(SyncSender<()>),
}

/// What the last lines get before the process ends without them.
const FLUSH: Duration = Duration::from_secs(1);

impl Log {
    /// Starts the log.
    pub fn start(settings: LogSettings) -> Self {
        let mut log = Self {
            recent: Arc::default(),
            queue: None,
            dropped: Arc::new(AtomicU64::new(0)),
            format: settings.format,
            level: settings.level,
        };
        if settings.target == LogTarget::Silent {
            return log;
        }
        let (queue, messages) = sync_channel(QUEUE_LINES);
        let lost = Lost::new(&log);
        let writer = move || write_messages(&messages, lost, std::io::stderr());
        // Without the thread every line is lost, and nothing else: not worth a refusal to start.
        drop(std::thread::Builder::new().name("log".into()).spawn(writer));
        log.queue = Some(queue);
        log
    }

    /// Writes one record. Never blocks.
    pub fn write(&self, event: Event, fields: &[(Key, &dyn std::fmt::Display)]) {
        let stray = fields.iter().find(|(key, _)| !event.keys().contains(key));
        debug_assert!(stray.is_none(), "{event:?} has no {:?}", stray.map(|s| s.0));
        self.recent.note(event, fields);
        let Some(queue) = self.queue.as_ref().filter(|_| self.writes(event)) else {
            return;
        };
        let line = Message::Line(render(self.format, event, fields));
        if let Err(TrySendError::Full(_)) = queue.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether its level is high enough.
    pub(crate) fn writes(&self, event: Event) -> bool {
        event.level() >= self.level
    }

    /// What was written lately, whatever the level of the log.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Lines that were dropped since the start, because standard error took none.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was written before is out, for a second at most.
    pub fn flush(&self) {
        let Some(queue) = &self.queue else { return };
        let (flushed, done) = sync_channel(1);
        let deadline = Instant::now() + FLUSH;
        let mut message = Message::Flushed(flushed);
        while let Err(TrySendError::Full(back)) = queue.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(10));
        }
        // Out of time: standard error is stuck, and the lines are lost.
        let _ = done.recv_timeout(FLUSH);
    }
}

pub(crate) fn render(
    format: Format,
    event: Event,
    fields: &[(Key, &dyn std::fmt::Display)],
) -> String {
    let mut record = match format {
        Format::Text => text::Record::text(),
        Format::Json => text::Record::json(),
    };
    let time = humantime::format_rfc3339_millis(SystemTime::now());
    record.push("time", &time, false);
    record.push("level", &event.level().name(), false);
    record.push("msg", &event.name(), false);
    for (key, value) in fields {
        record.push(key.name(), value, key.is_number());
    }
    record.finish()
}

/// What says that lines were dropped.
struct Lost {
    recent: Arc<Recent>,
    dropped: Arc<AtomicU64>,
    reported: u64,
    format: Format,
}

impl Lost {
    fn new(log: &Log) -> Self {
        Self {
            recent: log.recent.clone(),
            dropped: log.dropped.clone(),
            reported: 0,
            format: log.format,
        }
    }

    /// A line with the number of those that were dropped since this was last asked; empty if none were.
    fn line(&mut self) -> String {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let lost = dropped - std::mem::replace(&mut self.reported, dropped);
        if lost == 0 {
            return String::new();
        }
        let fields: [(Key, &dyn std::fmt::Display); 1] = [(Key::Count, &lost)];
        self.recent.note(Event::LogLinesDropped, &fields);
        render(self.format, Event::LogLinesDropped, &fields)
    }
}

fn write_messages(messages: &Receiver<Message>, mut lost: Lost, mut out: impl Write) {
    // With standard error gone there is nowhere left to complain to.
    let mut write = |lines: &mut String| {
        drop(out.write_all(lines.as_bytes()));
        lines.clear();
    };
    let mut lines = String::new();
    while let Ok(first) = messages.recv() {
        let mut count = 0;
        let waiting = std::iter::once(first).chain(messages.try_iter());
        for message in waiting.take(MANY_LINES) {
            match message {
                Message::Line(line) => lines.push_str(&line),
                Message::Flushed(flushed) => {
                    lines += &lost.line();
                    write(&mut lines);
                    let _ = flushed.send(());
                }
            }
            if lines.len() >= WRITE_BYTES {
                write(&mut lines);
            }
            count += 1;
        }
        lines += &lost.line();
        write(&mut lines);
        // Many may come in a pause, and the queue must not fill meanwhile.
        if count < MANY_LINES {
            std::thread::sleep(PAUSE);
        }
    }
}

/// A value inside an extra pair of quotes, as the `remote` of `rate_limited` has it.
pub struct Quoted<'a>(pub &'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut quoted = String::new();
        text::push_quoted(&mut quoted, self.0);
        f.write_str(&quoted)
    }
}

/// A time that something took, as Go writes it: `123.4ms`, `1.5s`, `1m2.3s`. Tenths of a millisecond are the finest.
pub struct Elapsed(pub Duration);

impl std::fmt::Display for Elapsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = (self.0.as_micros() + 50) / 100;
        if tenths < 10_000 {
            return write!(f, "{}ms", decimal(tenths, 1));
        }
        let (minutes, tenths) = (tenths / 600_000, tenths % 600_000);
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(tenths, 4))
    }
}

/// `value` with its last `digits` digits behind the point, without zeros at its end.
fn decimal(value: u128, digits: usize) -> String {
    let text = format!("{value:0width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_in_slog_text_form() {
        let line = render(
            Format::Text,
            Event::ServerClaimed,
            &[(Key::ServerId, &"a b"), (Key::Remote, &"127.0.0.1")],
        );
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(
            time.starts_with("time=20") && time.ends_with('Z') && time.contains('.'),
            "{time}"
        );
        assert_eq!(
            rest,
            "level=INFO msg=server_claimed server_id=\"a b\" remote=127.0.0.1\n"
        );
    }

    #[test]
    fn the_rate_limited_remote_is_quoted_twice() {
        let line = render(
            Format::Text,
            Event::RateLimited,
            &[(Key::Remote, &Quoted("::1"))],
        );
        assert!(
            line.ends_with("level=WARN msg=rate_limited remote=\"\\\"::1\\\"\"\n"),
            "{line}"
        );
    }

    #[test]
    fn a_long_value_is_cut_between_two_characters() {
        let line = render(
            Format::Text,
            Event::ServerClaimed,
            &[(Key::ServerId, &"ä".repeat(100_000))],
        );
        assert!(line.capacity() < 2_048, "{} bytes", line.capacity());
        assert!(line.contains("ä…"), "{line}");
    }

    #[test]
    fn lines_that_wait_go_out_in_order_and_together() {
        struct Writes(Vec<String>);
        impl Write for &mut Writes {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.push(String::from_utf8_lossy(bytes).into_owned());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let line = "x".repeat(127) + "\n";
        let lines = 3 * WRITE_BYTES / line.len();
        let (queue, messages) = sync_channel(lines + 2);
        for number in 0..lines {
            let line = format!("{number:04}{}", &line[4..]);
            queue.send(Message::Line(line)).unwrap();
        }
        let (flushed, done) = sync_channel(1);
        queue.send(Message::Flushed(flushed)).unwrap();
        queue.send(Message::Line("after\n".into())).unwrap();
        drop(queue);
        let mut out = Writes(Vec::new());
        let log = Log::start(LogSettings::silent());
        log.dropped.store(2, Ordering::Relaxed);
        write_messages(&messages, Lost::new(&log), &mut out);
        let (shown, _) = log.recent().take();
        assert_eq!(shown.len(), 1);
        assert_eq!(
            (shown[0].event, &*shown[0].detail),
            (Event::LogLinesDropped, "count=2")
        );
        done.try_recv().expect("flushed");
        let all = out.0.concat();
        let numbers = all.lines().filter(|line| line.ends_with('x'));
        assert!(
            numbers
                .map(|line| line[..4].parse::<usize>().unwrap())
                .eq(0..lines)
        );
        assert!(all.contains("msg=log_lines_dropped count=2\n"), "{all}");
        assert!(all.ends_with("after\n"), "{all}");
        let written = out.0.iter().filter(|write| !write.is_empty()).count();
        assert!(written <= 5, "{written} writes");
    }

    #[test]
    fn a_record_can_be_a_json_object() {
        let fields: [(Key, &dyn std::fmt::Display); 2] =
            [(Key::ServerId, &"a\n\"b"), (Key::CloseCode, &1000)];
        let line = render(Format::Json, Event::ServerClaimed, &fields);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["msg"], "server_claimed");
        assert_eq!(read["server_id"], "a\n\"b");
        assert_eq!(read["close_code"], 1000);
        assert!(
            line.ends_with("}\n") && line.matches('\n').count() == 1,
            "{line}"
        );
    }

    #[test]
    fn times_look_as_in_go() {
        for (micros, text) in [
            (0, "0ms"),
            (49, "0ms"),
            (50, "0.1ms"),
            (123_400, "123.4ms"),
            (7_000, "7ms"),
            (999_949, "999.9ms"),
            (999_950, "1s"),
            (1_500_000, "1.5s"),
            (10_000_300, "10.0003s"),
            (62_300_000, "1m2.3s"),
            (60_000_000, "1m0s"),
        ] {
            assert_eq!(Elapsed(Duration::from_micros(micros)).to_string(), text);
        }
    }
}
