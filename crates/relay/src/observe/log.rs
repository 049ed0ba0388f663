//! The log: a closed vocabulary of events and keys, one line per record on standard error.
//!
//! Nothing else in this program writes a log line, and a record can only be built from the
//! [`Event`]s and [`Key`]s of these tables; there is no way to hand it a frame, a header or a token by accident.
//! Lines are written by a thread of their own behind a bounded queue: a stalled reader of standard
//! error costs log lines (counted, and said in the log), never a delay for a peer.

use super::text;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// Lines waiting for standard error at most; further ones are dropped and counted.
const QUEUE_LINES: usize = 8192;

/// Characters of a value; what is longer is cut, and ends with an ellipsis.
const LONGEST_VALUE: usize = 256;

/// How much a record matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something normal happened.
    Info,
    /// A peer or the machine misbehaves.
    Warn,
    /// The relay cannot do its work.
    Error,
}

macro_rules! events {
    ($($variant:ident $level:ident $name:literal),* $(,)?) => {
        /// Every event the relay logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event { $(#[doc = $name] $variant),* }

        impl Event {
            /// Every event.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The `msg` of its line.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }

            /// The level of its line.
            pub fn level(self) -> Level { match self { $(Self::$variant => Level::$level),* } }
        }
    };
}

events! {
    ServerClaimed Info "server_claimed",
    ServerIdTakeover Info "server_id_takeover",
    ServerIdConflict Info "server_id_conflict",
    ServerReleased Info "server_released",
    ServerResumed Info "server_resumed",
    PhoneRegistered Info "phone_registered",
    PhoneRegisterNoServer Info "phone_register_no_server",
    PhoneRegisterAtCap Info "phone_register_at_cap",
    PhoneParked Info "phone_parked",
    PhoneUnregistered Info "phone_unregistered",
    PhoneCloseNoticeSendFailed Info "phone_close_notice_send_failed",
    PhoneForwarderReadEnd Info "phone_forwarder_read_end",
    PhoneForwarderMarshalErr Warn "phone_forwarder_marshal_err",
    PhoneForwarderNoBinary Info "phone_forwarder_no_binary",
    PhoneForwarderSendFailed Info "phone_forwarder_send_failed",
    BinaryForwarderReadEnd Info "binary_forwarder_read_end",
    BinaryForwarderUnmarshalErr Warn "binary_forwarder_unmarshal_err",
    BinaryForwarderPushWakeDropped Warn "binary_forwarder_push_wake_dropped",
    BinaryForwarderUnknownConnId Warn "binary_forwarder_unknown_conn_id",
    BinaryForwarderPhoneEnqueueFailed Info "binary_forwarder_phone_enqueue_failed",
    BinaryForwarderPhoneSendFailed Info "binary_forwarder_phone_send_failed",
    BinaryForwarderCloseFrameSendFailed Info "binary_forwarder_close_frame_send_failed",
    BinaryForwarderPhoneClosed Info "binary_forwarder_phone_closed",
    RateLimited Warn "rate_limited",
    RedialLimited Warn "redial_limited",
    ConnCapReached Warn "conn_cap_reached",
    IpConnCapReached Warn "ip_conn_cap_reached",
    AcceptFailed Warn "accept_failed",
    LogLinesDropped Warn "log_lines_dropped",
    Starting Info "starting",
    StartingMetricsListener Info "starting metrics listener",
    PushOff Info "push off: PYRYCODE_RELAY_FCM_CREDENTIALS unset",
    ShutdownSignal Info "shutdown signal received; draining",
    ShutdownComplete Info "shutdown complete",
    ShutdownDeadlineExceeded Warn "shutdown deadline exceeded; force-closed listeners",
    DrainIncomplete Warn "drain incomplete",
    ListenerFailed Error "listener failed",
    CertCacheTightened Info "tightened cert cache dir perms",
    AutocertSetupFailed Error "autocert setup failed",
    CertificateSelfSigned Info "certificate_self_signed",
    CertificateLoaded Info "certificate_loaded",
    CertificateUnfit Warn "certificate_unfit",
    CertificateReloadFailed Warn "certificate_reload_failed",
    CertificateIssued Info "certificate_issued",
    CertificateChallengeFailed Warn "certificate_challenge_failed",
    CertificateRenewalFailed Warn "certificate_renewal_failed",
    CertificateCacheUnusable Warn "certificate_cache_unusable",
    CertificateCacheWriteFailed Warn "certificate_cache_write_failed",
    CertificateCacheWritten Info "certificate_cache_written",
}

macro_rules! keys {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// Every key a record may carry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Key { $(#[doc = $name] $variant),* }

        impl Key {
            /// Every key.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its spelling.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }
        }
    };
}

keys! {
    ServerId "server_id",
    ConnId "conn_id",
    BinaryConnId "binary_conn_id",
    DeviceName "device_name",
    Remote "remote",
    BinaryVersion "binary_version",
    Err "err",
    Path "path",
    CloseCode "close_code",
    Version "version",
    Mode "mode",
    Listen "listen",
    MaxConnections "max_connections",
    Addr "addr",
    Count "count",
    From "from",
    To "to",
    Domain "domain",
    NotAfter "not_after",
    RetryIn "retry_in",
    Fingerprint "fingerprint",
    Challenge "challenge",
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// One line per record on standard error.
    #[default]
    Stderr,
    /// Nowhere.
    Silent,
}

/// A handle for writing records; cheap to clone.
#[derive(Clone)]
pub struct Log {
    queue: Option<SyncSender<Message>>,
    dropped: Arc<AtomicU64>,
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
    pub fn start(target: LogTarget) -> Self {
        let dropped = Arc::new(AtomicU64::new(0));
        if target == LogTarget::Silent {
            return Self {
                queue: None,
                dropped,
            };
        }
        let (queue, messages) = sync_channel(QUEUE_LINES);
        let counter = dropped.clone();
        let writer = move || write_messages(&messages, &counter);
        // Without the thread every line is lost, and nothing else: not worth a refusal to start.
        drop(std::thread::Builder::new().name("log".into()).spawn(writer));
        Self {
            queue: Some(queue),
            dropped,
        }
    }

    /// Writes one record. Never blocks.
    pub fn write(&self, event: Event, fields: &[(Key, &dyn std::fmt::Display)]) {
        let Some(queue) = &self.queue else { return };
        let line = Message::Line(render(event, fields));
        if let Err(TrySendError::Full(_)) = queue.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
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

fn render(event: Event, fields: &[(Key, &dyn std::fmt::Display)]) -> String {
    let mut line = String::with_capacity(160);
    line.push_str("time=");
    line.push_str(&humantime::format_rfc3339_millis(SystemTime::now()).to_string());
    line.push_str(match event.level() {
        Level::Info => " level=INFO msg=",
        Level::Warn => " level=WARN msg=",
        Level::Error => " level=ERROR msg=",
    });
    text::push_value(&mut line, event.name());
    for (key, value) in fields {
        line.push(' ');
        line.push_str(key.name());
        line.push('=');
        text::push_value(&mut line, shortened(&mut value.to_string()));
    }
    line.push('\n');
    line
}

/// Peers choose some of the values: a long one must fill neither the queue nor the disk.
fn shortened(value: &mut String) -> &str {
    if let Some((end, _)) = value.char_indices().nth(LONGEST_VALUE) {
        value.truncate(end);
        value.push('…');
    }
    value
}

fn write_messages(messages: &Receiver<Message>, dropped: &AtomicU64) {
    let mut stderr = std::io::stderr();
    while let Ok(message) = messages.recv() {
        match message {
            // With standard error gone there is nowhere left to complain to.
            Message::Line(line) => drop(stderr.write_all(line.as_bytes())),
            Message::Flushed(flushed) => drop(flushed.send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let line = render(Event::LogLinesDropped, &[(Key::Count, &lost)]);
            drop(stderr.write_all(line.as_bytes()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_in_slog_text_form() {
        let line = render(
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
        let line = render(Event::RateLimited, &[(Key::Remote, &Quoted("::1"))]);
        assert!(
            line.ends_with("level=WARN msg=rate_limited remote=\"\\\"::1\\\"\"\n"),
            "{line}"
        );
    }

    #[test]
    fn a_long_value_is_cut_between_two_characters() {
        let line = render(
            Event::ServerClaimed,
            &[(Key::ServerId, &"ä".repeat(100_000))],
        );
        assert!(line.len() < 700, "{} bytes", line.len());
        assert!(line.contains("ä…"), "{line}");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Event::ALL.iter().map(|e| e.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Event::ALL.len());
    }
}
