//! What the probe prints: a line for each step as it ends, or one JSON object at the end.

use std::time::{Duration, Instant};

use relay_client::Endpoint;
use serde_json::{Value, json};

use super::stats::{RoundTrips, ms};
use crate::foreign::Text;
use crate::stdout;

/// Why a step failed, and what to do about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) what: String,
    pub(super) fix: String,
    /// Whether nothing answers there at all: no other step would fare better.
    pub(super) unreachable: bool,
}

impl Failure {
    pub(super) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: fix.into(),
            unreachable: false,
        }
    }
}

/// The steps so far.
#[derive(Debug)]
pub(super) struct Report {
    url: String,
    json: bool,
    started: Instant,
    steps: Vec<Value>,
    failed: usize,
    round_trips: Option<Value>,
}

impl Report {
    pub(super) fn start(relay: &Endpoint, json: bool) -> Self {
        let url = relay.to_string();
        if !json {
            stdout::line(format_args!("probing {url}\n"));
        }
        Self {
            url,
            json,
            started: Instant::now(),
            steps: Vec::new(),
            failed: 0,
            round_trips: None,
        }
    }

    /// Adds a step that took `time`; tells whether it passed.
    pub(super) fn step(
        &mut self,
        name: &str,
        time: Duration,
        result: Result<String, Failure>,
    ) -> bool {
        let passed = result.is_ok();
        let (mut step, line) = match result {
            Ok(text) => (
                json!({ "detail": text }),
                format!("ok    {}", line(name, time, &text)),
            ),
            Err(failure) => {
                self.failed += 1;
                let line = line(name, time, &failure.what);
                let fix = format!("{:29}=> {}", "", failure.fix);
                let step = json!({ "detail": failure.what, "fix": failure.fix });
                (step, format!("FAIL  {line}\n{fix}"))
            }
        };
        if !self.json {
            stdout::line(line);
        }
        step["name"] = name.into();
        step["ok"] = passed.into();
        step["ms"] = ms(time).into();
        self.steps.push(step);
        passed
    }

    /// Adds the measured round trips; returns them in words.
    pub(super) fn round_trips(&mut self, times: &RoundTrips, payload_bytes: usize) -> String {
        let [min, p50, p90, p99, max] = times.percentiles_ms([0.0, 50.0, 90.0, 99.0, 100.0]);
        let count = times.count();
        self.round_trips = Some(json!({
            "count": count, "payload_bytes": payload_bytes,
            "min_ms": min, "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": max,
        }));
        format!(
            "{count} round trips of {payload_bytes} B came back unchanged: \
             p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"
        )
    }

    /// Prints the verdict; tells whether every step passed.
    pub(super) fn finish(self) -> bool {
        let passed = self.failed == 0;
        let total = self.started.elapsed();
        if self.json {
            let all = json!({
                "url": self.url, "ok": passed, "ms": ms(total),
                "steps": self.steps, "round_trip": self.round_trips,
            });
            stdout::line(all);
        } else if passed {
            let (checks, seconds) = (self.steps.len(), total.as_secs_f64());
            stdout::line(format_args!("\nhealthy: {checks} checks in {seconds:.1} s"));
        } else {
            let (failed, checks) = (self.failed, self.steps.len());
            stdout::line(format_args!(
                "\nNOT healthy: {failed} of {checks} checks failed"
            ));
        }
        passed
    }
}

/// A line for a terminal. The text may quote the server that is probed.
fn line(name: &str, time: Duration, text: &str) -> String {
    format!("{name:<9}{:>9.1} ms  {}", ms(time), Text::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_write_lines_of_its_own_and_json_has_its_words() {
        let said = "closed with 1008 (\u{1b}[2J\u{9b}31m\r\nok    \u{202e}healthy)";
        let shown = line("daemon", Duration::ZERO, said);
        assert_eq!(
            shown,
            "daemon         0.0 ms  closed with 1008 ([2J31mok    healthy)"
        );
        let relay = Endpoint::parse("ws://h").unwrap();
        let mut report = Report::start(&relay, true);
        report.step("daemon", Duration::ZERO, Err(Failure::new(said, "")));
        assert_eq!(report.steps[0]["detail"], said);
    }
}
