//! The figures in words: one line each, the most important first. The snapshot and the view say the same.

use super::api::{Certificate, Level, Push, Summary};
use super::units::{age, bytes, count, counted, date, micros, millis};

/// A line of figures.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Figure {
    pub(super) label: &'static str,
    pub(super) text: String,
    /// Something that an operator should look at.
    pub(super) alarming: bool,
}

/// The longest label.
pub(super) const LABEL: usize = 11;

/// Above this share of a limit, it is time to look.
const CROWDED: f64 = 0.9;

/// All of them.
pub(super) fn figures(summary: &Summary) -> Vec<Figure> {
    let s = summary;
    let mut figures = vec![
        peers(s),
        slots(s),
        connections(s),
        frames(s),
        latency(s),
        since_start(s),
        changes(s),
        buffers(s),
    ];
    figures.extend(
        s.certificate
            .as_ref()
            .map(|c| certificate(c, s.now_ms / 1000)),
    );
    figures.push(push(&s.push));
    figures.push(process(s));
    figures
}

fn figure(label: &'static str, text: String) -> Figure {
    Figure {
        label,
        text,
        alarming: false,
    }
}

fn peers(s: &Summary) -> Figure {
    let text = format!(
        "{}, {}; {} waiting",
        counted(s.binaries, "daemon"),
        counted(s.phones, "phone"),
        counted(s.parked, "phone")
    );
    figure("peers", text)
}

fn slots(s: &Summary) -> Figure {
    let slots = &s.slots;
    let text = format!(
        "{} live, {} in grace, {} waiting",
        whole(slots.live),
        whole(slots.grace),
        whole(slots.waiting)
    );
    figure("slots", text)
}

fn connections(s: &Summary) -> Figure {
    let text = format!(
        "{}; {} unanswered; {}/s let in, {}/s refused",
        of(&s.connections, count),
        of(&s.handshakes, count),
        count(s.sample.accepts),
        count(s.sample.refusals)
    );
    Figure {
        alarming: crowded(&s.connections) || crowded(&s.handshakes),
        ..figure("connections", text)
    }
}

fn frames(s: &Summary) -> Figure {
    let sample = &s.sample;
    let text = format!(
        "{}/s up, {}/s down; {}/s in, {}/s out",
        count(sample.frames_up),
        count(sample.frames_down),
        bytes(sample.received_bytes),
        bytes(sample.sent_bytes)
    );
    figure("frames", text)
}

fn latency(s: &Summary) -> Figure {
    let sample = &s.sample;
    let text = format!(
        "p50 {}, p99 {}; heartbeat p50 {}, p99 {}",
        micros(sample.latency_p50_us),
        micros(sample.latency_p99_us),
        millis(sample.heartbeat_p50_ms),
        millis(sample.heartbeat_p99_ms)
    );
    figure("latency", text)
}

fn since_start(s: &Summary) -> Figure {
    let t = &s.totals;
    let text = format!(
        "{} frames, {} in, {} out; {} let in, {} refused",
        count(t.frames_up + t.frames_down),
        bytes(t.received_bytes),
        bytes(t.sent_bytes),
        count(t.accepts),
        count(t.refusals)
    );
    figure("since start", text)
}

fn changes(s: &Summary) -> Figure {
    let t = &s.totals;
    let text = format!(
        "takeovers {}, reclaims {}, resumes {}, evictions {}, graces over {}",
        count(t.takeovers),
        count(t.reclaims),
        count(t.resumes),
        count(t.evictions),
        count(t.grace_expiries)
    );
    figure("changes", text)
}

fn buffers(s: &Summary) -> Figure {
    let high = s.queue_bytes.high_water.unwrap_or_default();
    let text = format!(
        "{} queued (highest {}); {} kept for waiting phones",
        of(&s.queue_bytes, bytes),
        bytes(high),
        of(&s.park_bytes, bytes)
    );
    Figure {
        alarming: crowded(&s.queue_bytes) || crowded(&s.park_bytes),
        ..figure("buffers", text)
    }
}

fn certificate(c: &Certificate, now_s: u64) -> Figure {
    let until = match c.not_after {
        None => String::new(),
        Some(end) if end > now_s => format!(" until {} ({})", date(end), age((end - now_s) as f64)),
        Some(end) => format!(" since {}", date(end)),
    };
    let domain = c.domain.as_ref().map(|domain| format!(" for {domain}"));
    Figure {
        alarming: c.state.as_str() != "valid",
        ..figure(
            "certificate",
            format!(
                "{}{until}; {}{}",
                c.state,
                c.source,
                domain.unwrap_or_default()
            ),
        )
    }
}

fn push(p: &Push) -> Figure {
    if !p.on {
        return figure("push", "off".to_owned());
    }
    let failed = p.send_failed + p.token_fetch_failed + p.dropped;
    let text = format!(
        "{} sent, {} to phones gone, {} failed ({} sending, {} for want of a token, {} dropped), {} under way",
        count(p.sent),
        count(p.unregistered),
        count(failed),
        count(p.send_failed),
        count(p.token_fetch_failed),
        count(p.dropped),
        count(p.in_flight)
    );
    figure("push", text)
}

fn process(s: &Summary) -> Figure {
    let process = &s.process;
    let number = |n: Option<f64>, write: fn(f64) -> String| n.map_or("–".to_owned(), write);
    let cpu = s
        .sample
        .cpu_percent
        .map_or("–".to_owned(), |percent| format!("{percent:.1}"));
    let text = format!(
        "{}, {cpu} % of a processor, {} of {} descriptors",
        number(process.rss_bytes, bytes),
        number(process.open_fds, count),
        number(process.fds_limit, count)
    );
    let share = process.open_fds.zip(process.fds_limit);
    Figure {
        alarming: share.is_some_and(|(open, limit)| open > CROWDED * limit),
        ..figure("process", text)
    }
}

fn of(level: &Level, write: fn(f64) -> String) -> String {
    format!("{} of {}", write(level.now), write(level.limit))
}

fn crowded(level: &Level) -> bool {
    level.limit > 0.0 && level.now > CROWDED * level.limit
}

fn whole(n: u64) -> String {
    count(n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fixture;

    #[test]
    fn every_figure_is_said_once_and_labels_line_up() {
        let figures = figures(&fixture::summary());
        let labels: Vec<_> = figures.iter().map(|f| f.label).collect();
        let expected = "peers slots connections frames latency since start changes buffers certificate push process";
        assert_eq!(labels.join(" "), expected);
        assert!(labels.iter().all(|label| label.len() <= LABEL));
        assert!(figures.iter().all(|figure| !figure.alarming));
        assert_eq!(figures[0].text, "3 daemons, 12 phones; 1 phone waiting");
        assert_eq!(
            figures[4].text,
            "p50 40 µs, p99 1.2 ms; heartbeat p50 –, p99 –"
        );
        assert_eq!(
            figures[8].text,
            "valid until 2026-10-31 (36d 4h); acme for relay.example.com"
        );
    }

    #[test]
    fn failed_pushes_are_summed_up_and_told_apart() {
        let mut summary = fixture::summary();
        summary.push = Push {
            on: true,
            in_flight: 1.0,
            sent: 1_200.0,
            unregistered: 7.0,
            send_failed: 4.0,
            token_fetch_failed: 3.0,
            dropped: 2.0,
        };
        let figures = figures(&summary);
        assert_eq!(
            figures[9].text,
            "1,200 sent, 7 to phones gone, 9 failed (4 sending, 3 for want of a token, 2 dropped), 1 under way"
        );
    }

    #[test]
    fn a_certificate_that_is_missing_has_no_date() {
        let mut summary = fixture::summary();
        summary.certificate = Some(Certificate {
            source: super::super::api::Text::new("acme"),
            state: super::super::api::Text::new("missing"),
            ..Certificate::default()
        });
        let certificate = &figures(&summary)[8];
        assert_eq!(certificate.text, "missing; acme");
        assert!(certificate.alarming);
    }

    #[test]
    fn what_needs_a_look_is_alarming() {
        let mut summary = fixture::summary();
        summary.connections.now = 19_000.0;
        summary.queue_bytes.now = summary.queue_bytes.limit;
        summary.certificate = Some(Certificate {
            state: super::super::api::Text::new("expired"),
            not_after: Some(0),
            ..Certificate::default()
        });
        summary.process.open_fds = summary.process.fds_limit;
        let alarming: Vec<_> = figures(&summary)
            .into_iter()
            .filter(|f| f.alarming)
            .map(|f| f.label)
            .collect();
        assert_eq!(
            alarming,
            ["connections", "buffers", "certificate", "process"]
        );
    }
}
