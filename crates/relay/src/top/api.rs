//! What the relay answers, as far as it is shown. A relay of another version may leave things out or add some:
//! what is missing is empty or zero.

pub(super) use crate::foreign::Text;
use serde::Deserialize;

/// `GET /admin/summary`, and what starts a stream of events.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    pub(super) version: Text,
    pub(super) phase: Text,
    pub(super) now_ms: u64,
    pub(super) uptime_seconds: f64,
    pub(super) binaries: u64,
    pub(super) phones: u64,
    pub(super) parked: u64,
    pub(super) slots: Slots,
    pub(super) connections: Level,
    pub(super) handshakes: Level,
    pub(super) queue_bytes: Level,
    pub(super) park_bytes: Level,
    pub(super) totals: Totals,
    pub(super) sample: Sample,
    pub(super) certificate: Option<Certificate>,
    pub(super) push: Push,
    pub(super) process: Process,
    pub(super) history: Option<History>,
    pub(super) recent: Vec<Recent>,
}

/// Slots by state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slots {
    pub(super) live: u64,
    pub(super) grace: u64,
    pub(super) waiting: u64,
}

/// Something that has a limit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Level {
    pub(super) now: f64,
    pub(super) limit: f64,
    pub(super) high_water: Option<f64>,
}

/// Counts since the start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) frames_up: f64,
    pub(super) frames_down: f64,
    pub(super) received_bytes: f64,
    pub(super) sent_bytes: f64,
    pub(super) accepts: f64,
    pub(super) refusals: f64,
    pub(super) takeovers: f64,
    pub(super) reclaims: f64,
    pub(super) resumes: f64,
    pub(super) evictions: f64,
    pub(super) grace_expiries: f64,
}

/// One second.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sample {
    pub(super) t: u64,
    pub(super) binaries: f64,
    pub(super) phones: f64,
    pub(super) frames_up: f64,
    pub(super) frames_down: f64,
    pub(super) received_bytes: f64,
    pub(super) sent_bytes: f64,
    pub(super) latency_p50_us: Option<f64>,
    pub(super) latency_p99_us: Option<f64>,
    pub(super) heartbeat_p50_ms: Option<f64>,
    pub(super) heartbeat_p99_ms: Option<f64>,
    pub(super) accepts: f64,
    pub(super) refusals: f64,
    pub(super) cpu_percent: Option<f64>,
}

/// The columns of earlier samples that are drawn, oldest first.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    t: Vec<u64>,
    binaries: Vec<f64>,
    phones: Vec<f64>,
    frames_up: Vec<f64>,
    frames_down: Vec<f64>,
    received_bytes: Vec<f64>,
    sent_bytes: Vec<f64>,
    latency_p99_us: Vec<Option<f64>>,
}

impl History {
    /// The samples, with what the columns have.
    pub(super) fn samples(&self) -> impl Iterator<Item = Sample> {
        self.t.iter().enumerate().map(|(i, &t)| {
            let of = |column: &Vec<f64>| column.get(i).copied().unwrap_or_default();
            Sample {
                t,
                binaries: of(&self.binaries),
                phones: of(&self.phones),
                frames_up: of(&self.frames_up),
                frames_down: of(&self.frames_down),
                received_bytes: of(&self.received_bytes),
                sent_bytes: of(&self.sent_bytes),
                latency_p99_us: self.latency_p99_us.get(i).copied().flatten(),
                ..Sample::default()
            }
        })
    }
}

/// The certificate in force.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Certificate {
    pub(super) source: Text,
    pub(super) domain: Option<Text>,
    pub(super) not_after: Option<u64>,
    pub(super) state: Text,
}

/// Push wakes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Push {
    pub(super) on: bool,
    pub(super) in_flight: f64,
    pub(super) sent: f64,
    pub(super) unregistered: f64,
    pub(super) send_failed: f64,
    pub(super) token_fetch_failed: f64,
    pub(super) dropped: f64,
}

/// The relay's process.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) rss_bytes: Option<f64>,
    pub(super) open_fds: Option<f64>,
    pub(super) fds_limit: Option<f64>,
}

/// Something that happened, or how much was left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Recent {
    Skipped { skipped: u64 },
    Happening(Happening),
}

/// Something that happened.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Happening {
    pub(super) t: u64,
    pub(super) event: Text,
    pub(super) level: Text,
    pub(super) slot: Option<Text>,
    pub(super) server_id: Option<Text>,
    pub(super) phone: Option<Text>,
    pub(super) detail: Text,
}

/// `GET /admin/slots`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Page {
    pub(super) total: usize,
    pub(super) matching: usize,
    pub(super) offset: usize,
    pub(super) slots: Vec<Slot>,
}

/// A slot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slot {
    pub(super) slot: Text,
    pub(super) server_id: Option<Text>,
    pub(super) state: Text,
    pub(super) since_seconds: f64,
    pub(super) phones: u64,
    pub(super) parked: u64,
    pub(super) queue_bytes: f64,
    pub(super) version: Option<Text>,
    pub(super) remote: Option<Text>,
}

impl Slot {
    /// The server-id where the relay shows it, else the hash.
    pub(super) fn name(&self) -> &Text {
        self.server_id.as_ref().unwrap_or(&self.slot)
    }
}

/// `GET /admin/slots/{slot}`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Detail {
    pub(super) state: Text,
    pub(super) since_seconds: f64,
    pub(super) binary: Option<Binary>,
    pub(super) phones: Vec<Phone>,
}

/// The daemon of a slot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Binary {
    pub(super) version: Option<Text>,
    pub(super) remote: Option<Text>,
    pub(super) connected_seconds: f64,
    pub(super) queue_bytes: f64,
    pub(super) resumable: bool,
}

/// A phone of a slot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Phone {
    pub(super) phone: Text,
    pub(super) device_name: Option<Text>,
    pub(super) remote: Option<Text>,
    pub(super) state: Text,
    pub(super) connected_seconds: f64,
    pub(super) queue_bytes: f64,
    pub(super) frames_up: f64,
    pub(super) frames_down: f64,
    pub(super) last_up_bytes: Vec<f64>,
    pub(super) last_down_bytes: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_version_leaves_out_or_adds_is_no_error() {
        let summary: Summary = serde_json::from_str(
            r#"{"version":"9","phones":2,"news":[1],"push":{"on":false},"certificate":null}"#,
        )
        .unwrap();
        assert_eq!((summary.version.as_str(), summary.phones), ("9", 2));
        assert!(!summary.push.on && summary.certificate.is_none());
    }

    #[test]
    fn history_becomes_samples() {
        let history: History = serde_json::from_str(
            r#"{"t":[1000,2000],"phones":[1,2],"latency_p99_us":[null,7.5],"binaries":[1]}"#,
        )
        .unwrap();
        let samples: Vec<_> = history
            .samples()
            .map(|s| (s.t, s.phones, s.binaries, s.latency_p99_us))
            .collect();
        assert_eq!(
            samples,
            [(1000, 1.0, 1.0, None), (2000, 2.0, 0.0, Some(7.5))]
        );
    }

    #[test]
    fn what_was_skipped_is_told_from_what_happened() {
        let recent: Vec<Recent> = serde_json::from_str(
            r#"[{"t":1,"event":"server_claimed","slot":"ab","server_id":null},{"skipped":4}]"#,
        )
        .unwrap();
        assert!(matches!(&recent[0], Recent::Happening(h) if h.event.as_str() == "server_claimed"));
        assert!(matches!(recent[1], Recent::Skipped { skipped: 4 }));
    }
}
