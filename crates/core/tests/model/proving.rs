//! One connection's proofs between a wire in both directions and a peer who answers all of several pings, or only the
//! newest.

use std::collections::VecDeque;

use relay_core::Proofs;

use crate::canon::{Digest, START};
use crate::search::{Model, Rule, rule};

/// So many frames are written, and so many pings sent that are no proofs.
const FRAMES: u64 = 3;
const OTHERS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Frame(u64),
    Ping(Ping),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    /// That all frames up to this number arrived.
    Proof(u64),
    /// The heartbeat's, or a probe's.
    Other,
}

#[derive(Clone)]
pub(crate) struct Proving {
    proofs: Proofs,
    holder: bool,
    /// The number of the last frame: another connection's, or one that was written to this one.
    numbered: u64,
    written: u64,
    others: u32,
    /// On the way to the peer.
    wire: VecDeque<Sent>,
    /// Read by the peer, which may answer them yet.
    pings: VecDeque<Ping>,
    pongs: VecDeque<Ping>,
    asked: u64,
    proven: u64,
    /// The number of the last proof, unless another ping was answered since.
    awaited: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Written,
    /// A frame is written to another connection of the tenure.
    WrittenElsewhere,
    /// The heartbeat's ping is sent, or a probe's.
    OtherPing,
    /// Everything is written: is a proof due?
    Idle,
    Displaced,
    /// The peer reads what comes next.
    Read,
    /// The peer answers the newest ping and none before, or the oldest.
    Answer {
        newest: bool,
    },
    Pong,
}

impl Proving {
    pub(crate) fn new() -> Self {
        Self {
            proofs: Proofs::default(),
            holder: true,
            numbered: 0,
            written: 0,
            others: 0,
            wire: VecDeque::new(),
            pings: VecDeque::new(),
            pongs: VecDeque::new(),
            asked: 0,
            proven: 0,
            awaited: 0,
        }
    }

    fn idle(&mut self, said: &mut Vec<u64>) -> Result<(), Rule> {
        let holder = self.holder;
        let Some(number) = self.proofs.due(|| holder) else {
            return Ok(());
        };
        said.push(number);
        rule(holder, "only a holder is asked for proof")?;
        rule(
            self.awaited <= self.proven,
            "a proof that will be answered is waited for",
        )?;
        rule(
            number == self.written && number > self.proven,
            "a proof is about all that is written, and not known to have arrived",
        )?;
        (self.asked, self.awaited) = (number, number);
        self.wire.push_back(Sent::Ping(Ping::Proof(number)));
        Ok(())
    }

    fn pong(&mut self) -> Result<(), Rule> {
        match self.pongs.pop_front() {
            Some(Ping::Proof(number)) => {
                let news = self.proofs.answered(number);
                rule(
                    news == (number > self.proven),
                    "a proof counts once, however late",
                )?;
                self.proven = self.proven.max(number);
            }
            Some(Ping::Other) => {
                self.proofs.passed_over();
                self.awaited = 0;
            }
            None => {}
        }
        Ok(())
    }

    fn read(&mut self) {
        if let Some(Sent::Ping(ping)) = self.wire.pop_front() {
            self.pings.push_back(ping);
        }
    }

    fn answer(&mut self, newest: bool) {
        if newest {
            self.pongs.extend(self.pings.pop_back());
            self.pings.clear();
        } else {
            self.pongs.extend(self.pings.pop_front());
        }
    }
}

impl Model for Proving {
    type Event = Event;
    type Effect = u64;

    fn events(&self, out: &mut Vec<Event>) {
        out.push(Event::Idle);
        if self.numbered < FRAMES {
            out.push(Event::WrittenElsewhere);
            out.push(Event::Written);
        }
        if self.others < OTHERS {
            out.push(Event::OtherPing);
        }
        if self.holder {
            out.push(Event::Displaced);
        }
        if !self.wire.is_empty() {
            out.push(Event::Read);
        }
        if !self.pings.is_empty() {
            out.extend([false, true].map(|newest| Event::Answer { newest }));
        }
        if !self.pongs.is_empty() {
            out.push(Event::Pong);
        }
    }

    fn take(&mut self, event: Event, said: &mut Vec<u64>) -> Result<(), Rule> {
        match event {
            Event::Written => {
                self.numbered += 1;
                self.written = self.numbered;
                self.proofs.written(self.written);
                self.wire.push_back(Sent::Frame(self.written));
            }
            Event::WrittenElsewhere => self.numbered += 1,
            Event::OtherPing => {
                self.others += 1;
                self.wire.push_back(Sent::Ping(Ping::Other));
            }
            Event::Idle => self.idle(said)?,
            Event::Displaced => self.holder = false,
            Event::Read => self.read(),
            Event::Answer { newest } => self.answer(newest),
            Event::Pong => self.pong()?,
        }
        Ok(())
    }

    fn key(&self) -> Result<u128, Rule> {
        let mut digest = Digest::new(START, 0);
        let of_ping = |ping: &Ping| match ping {
            Ping::Proof(number) => *number,
            Ping::Other => 0,
        };
        let of_sent = |sent: &Sent| match sent {
            Sent::Frame(number) => 100 + number,
            Sent::Ping(ping) => of_ping(ping),
        };
        std::hash::Hash::hash(&self.proofs, &mut digest);
        let counts = [
            self.numbered,
            self.written,
            self.asked,
            self.proven,
            self.awaited,
            self.holder.into(),
            self.others.into(),
        ];
        let wire: Vec<_> = self.wire.iter().map(of_sent).collect();
        let pings: Vec<_> = self.pings.iter().map(of_ping).collect();
        let pongs: Vec<_> = self.pongs.iter().map(of_ping).collect();
        for words in [&counts[..], &wire, &pings, &pongs] {
            digest.word(words.len() as u64);
            words.iter().for_each(|word| digest.word(*word));
        }
        Ok(digest.key())
    }

    /// A peer that answers only the newest of all that it has read: the one of which the least is known.
    fn quiet(&self) -> Option<Event> {
        let mut asked = self.proofs.clone();
        if asked.due(|| self.holder).is_some() {
            Some(Event::Idle)
        } else if !self.wire.is_empty() {
            Some(Event::Read)
        } else if !self.pings.is_empty() {
            Some(Event::Answer { newest: true })
        } else {
            (!self.pongs.is_empty()).then_some(Event::Pong)
        }
    }

    /// A proof lies behind the frames that it is about, so that what it proves was read. Nothing else is proven.
    fn check(&self) -> Result<(), Rule> {
        let mut proofs = self.proofs.clone();
        let mut beyond = self.asked + 1..=FRAMES + 1;
        let taken = beyond.any(|number| proofs.answered(number)) || proofs.answered(self.proven);
        rule(
            !taken && proofs == self.proofs,
            "what is repeated or invented proves nothing",
        )
    }

    fn at_rest(&self) -> Result<(), Rule> {
        rule(
            !self.holder || self.proven == self.written,
            "all that a holder has read is proven in the end",
        )
    }

    fn describe(&self, event: Event) -> String {
        format!("{event:?}")
    }
}
