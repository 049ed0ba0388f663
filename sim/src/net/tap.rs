//! Listens in on the relay's side of every connection: what its metrics have to agree with.

use relay_proto::envelope::{self, Directive};
use relay_proto::ws::{Decoder, Event, Limits, Role, Utf8};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Which kind of peer a connection belongs to, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leg {
    /// A daemon.
    Binary,
    /// An app.
    Phone,
}

/// What one relay wrote and read on its WebSockets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wire(Arc<Mutex<Totals>>);

/// Sums over all connections of a relay; arrays by [`Leg`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Answers 101.
    pub(crate) upgrades: [u64; 2],
    /// Answers with another status, by that.
    pub(crate) refusals: BTreeMap<String, u64>,
    /// Requests that have no answer; in the end, those of peers that did not wait for it.
    pub(crate) unanswered: u64,
    /// Bytes written behind the 101.
    pub(crate) sent_bytes: [u64; 2],
    /// Bytes read behind the request.
    pub(crate) received_bytes: [u64; 2],
    /// Frames written to this leg, and their bytes.
    pub(crate) frames: [(u64, u64); 2],
    /// Close frames written, by leg and code (1005: without a code).
    pub(crate) closes: BTreeMap<(Leg, u16), u64>,
    /// What no peer could read.
    pub(crate) nonsense: Vec<String>,
}

impl Wire {
    /// The sums until now.
    pub(crate) fn totals(&self) -> Totals {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn tap(&self) -> Tap {
        Tap {
            wire: self.clone(),
            leg: Leg::Phone,
            request: Vec::new(),
            response: Vec::new(),
            asked: false,
            early: 0,
            decoder: None,
        }
    }
}

/// Listens in on one connection.
#[derive(Debug)]
pub(super) struct Tap {
    wire: Wire,
    leg: Leg,
    request: Vec<u8>,
    response: Vec<u8>,
    asked: bool,
    /// Bytes read behind the request before it was answered.
    early: u64,
    decoder: Option<Decoder>,
}

impl Tap {
    fn count(&self, count: impl FnOnce(&mut Totals)) {
        count(&mut self.wire.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The relay read this.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if self.decoder.is_some() {
            let leg = self.leg as usize;
            return self.count(|totals| totals.received_bytes[leg] += bytes.len() as u64);
        }
        if self.asked {
            self.early += bytes.len() as u64;
            return;
        }
        self.request.extend_from_slice(bytes);
        if let Some(end) = head_end(&self.request) {
            self.asked = true;
            self.early = (self.request.len() - end) as u64;
            self.count(|totals| totals.unanswered += 1);
            if self.request.starts_with(b"GET /v1/server") {
                self.leg = Leg::Binary;
            }
        }
    }

    /// The relay wrote this.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        if self.decoder.is_some() {
            return self.decode(bytes.to_vec());
        }
        self.response.extend_from_slice(bytes);
        let Some(end) = head_end(&self.response) else {
            return;
        };
        let rest = self.response.split_off(end);
        let head = std::mem::take(&mut self.response);
        let status = String::from_utf8_lossy(&head[9..12]).into_owned();
        let (leg, early) = (self.leg as usize, self.early);
        self.count(|totals| totals.unanswered -= 1);
        if status != "101" {
            return self.count(|totals| *totals.refusals.entry(status).or_default() += 1);
        }
        self.count(|totals| {
            totals.upgrades[leg] += 1;
            totals.received_bytes[leg] += early;
        });
        let limits = Limits {
            message_bytes: usize::MAX >> 1,
            utf8: Utf8::Every,
        };
        self.decoder = Some(Decoder::new(Role::Client, limits));
        self.decode(rest);
    }

    fn decode(&mut self, mut bytes: Vec<u8>) {
        let leg = self.leg;
        let Some(mut decoder) = self.decoder.take() else {
            return;
        };
        self.count(|totals| totals.sent_bytes[leg as usize] += bytes.len() as u64);
        let mut input = &mut bytes[..];
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(Event::Message { payload, .. })) => self.message(&payload),
                Ok(Some(Event::Close(frame))) => {
                    let code = frame.map_or(1005, |frame| frame.code);
                    self.count(|totals| *totals.closes.entry((leg, code)).or_default() += 1);
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    self.count(|totals| totals.nonsense.push(error.to_string()));
                    break;
                }
            }
        }
        self.decoder = Some(decoder);
    }

    fn message(&self, payload: &[u8]) {
        let bytes = match (self.leg, envelope::parse(payload)) {
            (Leg::Phone, _) => payload.len(),
            (Leg::Binary, Ok(Directive::Frame { frame, .. })) => frame.len(),
            (Leg::Binary, Ok(Directive::Close { .. })) => return,
            (Leg::Binary, other) => {
                let text = format!("to a binary: {other:?}");
                return self.count(|totals| totals.nonsense.push(text));
            }
        };
        let leg = self.leg as usize;
        self.count(|totals| {
            totals.frames[leg].0 += 1;
            totals.frames[leg].1 += bytes as u64;
        });
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}
