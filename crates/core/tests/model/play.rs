//! What can happen in a world, and how its states are told apart.

use std::hash::Hash;

use relay_core::{Conn, Counts, Effect, Effects, Path, ServerId, invariant};

use crate::canon::{Digest, FIRST_CONN, START};
use crate::search::{Model, Rule, rule};
use crate::world::{Binary, Event, Phone, PhoneState, Role, World};

impl Model for World {
    type Event = Event;
    type Effect = (ServerId, Effect);

    fn events(&self, out: &mut Vec<Event>) {
        out.extend([Event::Tick, Event::Timers]);
        if !self.shutting_down {
            if self.bounds.shutdown {
                out.push(Event::ShutDown);
            }
            let admitted = self.hub.admit(self.now, &self.server).is_ok();
            if admitted && self.binaries.len() < self.bounds.binaries {
                let names = (1..=self.bounds.instances).map(Some);
                out.extend(
                    names
                        .chain([None])
                        .map(|instance| Event::Claims { instance }),
                );
            }
            let open = self
                .phones
                .iter()
                .filter(|phone| phone.state != PhoneState::Gone);
            if open.count() < self.bounds.phones {
                out.push(Event::Registers);
            }
        }
        for (nth, binary) in (0..).zip(&self.binaries) {
            out.push(Event::BinaryEnds { nth });
            if let Role::Waiting(wait) = binary.role {
                out.push(Event::Pong { nth });
                if wait.asked {
                    let silent =
                        (0..=self.policy.probe_dead_path_ms).map(|for_ms| Path::Silent { for_ms });
                    let paths = silent.chain([Path::Unknown, Path::Acknowledged]);
                    out.extend(paths.map(|path| Event::Path { nth, path }));
                }
            }
        }
        for (nth, phone) in (0..).zip(&self.phones) {
            let asks = match phone.state {
                PhoneState::Gone => continue,
                PhoneState::Asks => true,
                PhoneState::Parked { .. } => phone.waiting < self.bounds.frames,
                _ => false,
            };
            if asks {
                out.push(Event::Frame { nth });
            }
            out.extend([false, true].map(|directed| Event::PhoneEnds { nth, directed }));
        }
    }

    fn take(&mut self, event: Event, said: &mut Effects) -> Result<(), Rule> {
        match event {
            Event::Tick => {
                self.now = self.now.plus(1);
                Ok(())
            }
            Event::ShutDown => self.shut_down(said),
            event => self.step(event, said),
        }?;
        self.check_books()
    }

    fn key(&self) -> Result<u128, Rule> {
        let mut digest = Digest::new(self.now, self.past_ms());
        self.hub.hash(&mut digest);
        let mut known = 0;
        let mut others = Vec::new();
        let binaries = self
            .binaries
            .iter()
            .map(|binary| (binary.conn, self.binary_word(&digest, binary)));
        let phones = self
            .phones
            .iter()
            .map(|phone| (phone.conn, self.phone_word(&digest, phone)));
        let mut words = vec![0; digest.conns.len()];
        for (conn, word) in binaries.chain(phones) {
            match digest.conns.iter().position(|of_hub| *of_hub == conn) {
                Some(at) => {
                    words[at] = word;
                    known += 1;
                }
                None => others.push(word),
            }
        }
        rule(
            known == digest.conns.len(),
            "no connection that is over is remembered",
        )?;
        others.sort_unstable();
        for word in words.into_iter().chain(others) {
            digest.word(word);
        }
        digest.word(self.shutting_down.into());
        if let Some(at) = self.last_short_tenure.filter(|_| self.past_ms() > 0) {
            digest.word(digest.moment(at));
        }
        Ok(digest.key())
    }

    fn quiet(&self) -> Option<Event> {
        let due = self.hub.deadline()?;
        Some(if due <= self.now {
            Event::Timers
        } else {
            Event::Tick
        })
    }

    fn check(&self) -> Result<(), Rule> {
        invariant::check(&self.hub).map_err(|violation| violation.rule)?;
        self.check_admission()?;
        self.check_deaf()
    }

    fn at_rest(&self) -> Result<(), Rule> {
        let waiting = |binary: &Binary| matches!(binary.role, Role::New | Role::Waiting(_));
        rule(
            !self.binaries.iter().any(waiting),
            "every claimant gets an answer",
        )?;
        rule(
            !self.phones.iter().any(Phone::is_parked),
            "every parked phone leaves or is delivered",
        )?;
        rule(
            !self.phones.iter().any(|phone| phone.departed),
            "nobody is kept for a binary that does not come",
        )?;
        if self.holder.is_none() {
            rule(
                self.hub.slot(&self.server).is_none() && self.hub.counts() == Counts::default(),
                "a slot whose binary stays away becomes empty",
            )?;
        }
        Ok(())
    }

    fn describe(&self, event: Event) -> String {
        let at = self.now.since(START);
        let binary = |nth: u8| self.name(self.binaries[nth as usize].conn);
        let phone = |nth: u8| self.name(self.phones[nth as usize].conn);
        let what = match event {
            Event::Claims { instance: None } => "a binary claims".to_owned(),
            Event::Claims { instance: Some(n) } => format!("process {n} claims"),
            Event::BinaryEnds { nth } => format!("the connection of {} ends", binary(nth)),
            Event::Pong { nth } => format!("the holder answers the ping for {}", binary(nth)),
            Event::Path { nth, path } => {
                format!("the kernel answers for {}: {path:?}", binary(nth))
            }
            Event::Registers => "a phone dials".to_owned(),
            Event::Frame { nth } => format!("{} sends a frame", phone(nth)),
            Event::PhoneEnds {
                nth,
                directed: false,
            } => format!("the connection of {} ends", phone(nth)),
            Event::PhoneEnds {
                nth,
                directed: true,
            } => format!("{} is closed, as its binary asked", phone(nth)),
            Event::Tick => "time passes".to_owned(),
            Event::Timers => "timers fire".to_owned(),
            Event::ShutDown => "the relay shuts down".to_owned(),
        };
        format!("at {at:2}  {what}")
    }

    fn describe_effect(&self, (_, effect): &Self::Effect) -> String {
        let mut text = format!("{effect:?}");
        for conn in (FIRST_CONN..=self.next_conn).map(Conn) {
            text = text.replace(&format!("{conn:?}"), &self.name(conn));
        }
        text
    }
}

impl World {
    /// For how long it matters that a holder ended right after its claim.
    pub(super) fn past_ms(&self) -> u64 {
        let forgotten_ms = self.policy.redial_refill_ms * u64::from(self.policy.redial_burst);
        forgotten_ms.max(self.policy.redial_short_tenure_ms * u64::from(forgotten_ms > 0))
    }

    fn name(&self, conn: Conn) -> String {
        format!("#{}", conn.0 - FIRST_CONN)
    }

    fn binary_word(&self, digest: &Digest, binary: &Binary) -> u64 {
        match binary.role {
            Role::New => 1,
            Role::Out => 2,
            Role::Holder => 3,
            Role::Waiting(wait) => {
                let check = wait.check_at.map_or(0, |at| digest.moment(at) + 1);
                4 | u64::from(wait.asked) << 3 | check << 8 | digest.moment(wait.takeover_at) << 16
            }
        }
    }

    fn phone_word(&self, digest: &Digest, phone: &Phone) -> u64 {
        let state = match phone.state {
            PhoneState::New => 1,
            PhoneState::Asks => 2,
            PhoneState::Linked { .. } => 3,
            PhoneState::Evicted => 4,
            PhoneState::Gone => 5,
            PhoneState::Parked { until } => 6 | digest.moment(until) << 3,
        };
        let tenure = match (phone.tenure, self.tenure) {
            (None, _) => 0,
            (Some(its), Some(now)) if its == now.number => 1,
            _ => 2,
        };
        // Nothing tells the ends of an evicted phone apart but whether it is kept.
        let code = if phone.departed {
            u64::from(phone.code)
        } else {
            0
        };
        let gap = u64::from(phone.delivered + phone.waiting < phone.sent);
        let flags = u64::from(phone.departed) | gap << 1 | u64::from(phone.noticed) << 2;
        1 << 63 | code << 32 | phone.waiting << 24 | flags << 20 | tenure << 16 | state
    }

    /// The books balance, and the hub says what they say.
    fn check_books(&self) -> Result<(), Rule> {
        self.check_promises()?;
        rule(
            self.hub.counts() == self.counts(),
            "the counts equal reality",
        )?;
        rule(
            self.hub.slot(&self.server) == self.view(),
            "whoever looks at the slot sees what it is",
        )?;
        rule(
            self.hub.deadline() == self.obligations().min(),
            "there is a timer for what is owed next, and for nothing else",
        )
    }
}
