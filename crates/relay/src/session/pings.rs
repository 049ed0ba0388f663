//! A session's pings: the heartbeat's, a probe's and a proof's; and what their pongs mean.

use super::item::Item;
use super::{Handler, Session, Transport};
use relay_core::Millis;
use relay_proto::ws::{Control, ControlPayload, control_frame};
use std::str::FromStr;
use std::time::Duration;

impl<S: Transport, H: Handler> Session<S, H> {
    /// Turns pending pings and pongs into items.
    pub(super) fn queue_controls(&mut self) {
        if !self.writer.takes_controls() {
            return;
        }
        if let Some(pong) = self.pong.take() {
            self.writer.push_control(Item::control(&pong));
        }
        if let Some(number) = self.ping.take() {
            self.push_ping(&number.to_string());
        }
        if let Some(probe) = self.probe.take() {
            self.push_ping(&format!("p{probe}"));
        }
    }

    pub(super) fn push_ping(&mut self, payload: &str) {
        let ping = control_frame(Control::Ping, payload.as_bytes());
        self.writer.push_control(Item::control(&ping));
    }

    /// The pings of the heartbeat carry a decimal number, those of a probe one behind a `p`, proofs one
    /// behind an `s`. Other pongs mean nothing.
    pub(super) fn pong(&mut self, payload: &ControlPayload, now: Millis) {
        let Ok(text) = std::str::from_utf8(payload) else {
            return;
        };
        let answers_another = if let Some(probe) = number_behind('p', text) {
            let answered = self.life.probe_answered(probe);
            if answered {
                self.handler.probe_answered(probe);
            }
            answered
        } else if let Some(number) = number_behind('s', text) {
            if self.handler.proof(number) {
                self.life.proof_answered();
            }
            false
        } else if let Ok(number) = text.parse() {
            if let Some(round_trip_ms) = self.life.round_trip_ms(now, number) {
                let round_trip = Duration::from_millis(round_trip_ms);
                self.count(|metrics, leg| metrics.heartbeat(leg, round_trip));
            }
            self.life.pong(number)
        } else {
            false
        };
        if answers_another {
            self.handler.proof_passed_over();
        }
    }
}

fn number_behind<N: FromStr>(letter: char, text: &str) -> Option<N> {
    text.strip_prefix(letter)?.parse().ok()
}
