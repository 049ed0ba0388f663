//! What must be true after a step, and in every state.

use relay_core::{Conn, Effect, Effects, Input, Instance, Path, PhoneEnd, RetryAfter};

use crate::canon::FIRST_CONN;
use crate::rules::{Before, Checked};
use crate::search::rule;
use crate::world::{Event, Phone, PhoneState, Role, Step, World};

impl World {
    /// Whatever the step was to do has been done.
    pub(super) fn end(&mut self, step: &Step, before: Before, said: &Effects) -> Checked {
        match step.event {
            Event::BinaryEnds { .. } => {
                rule(
                    before.was_holder || said.is_empty(),
                    "who does not hold the slot changes nothing by leaving",
                )?;
                rule(
                    !before.was_holder || step.succession,
                    "a holder that ends releases its slot",
                )?;
            }
            Event::Registers => rule(step.registration, "a registration is answered at once")?,
            Event::PhoneEnds { directed, .. } => self.end_phone(step, before, directed, said)?,
            Event::Pong { .. } => rule(
                said.len()
                    == said
                        .iter()
                        .filter(|(_, e)| matches!(e, Effect::ClaimRefused { .. }))
                        .count()
                    && !said.is_empty(),
                "a sign of life refuses those who waited for it",
            )?,
            Event::Path { nth, .. } => {
                if let Some(Role::Waiting(wait)) =
                    self.binaries.get_mut(nth as usize).map(|b| &mut b.role)
                {
                    wait.asked = false;
                }
            }
            _ => {}
        }
        self.answer_path(step)?;
        self.drop_what_is_settled();
        if self.view().is_none() {
            // The next claim makes another slot.
            self.last_probe = 0;
        }
        if step.event == Event::Timers {
            let now = self.now;
            rule(
                self.obligations().all(|at| at > now),
                "what is due has been done",
            )?;
        }
        Ok(())
    }

    /// The kernel's answer: dead for long enough, or to be asked again when it would be.
    fn answer_path(&mut self, step: &Step) -> Checked {
        let Event::Path {
            nth,
            path: Path::Silent { for_ms },
        } = step.event
        else {
            return Ok(());
        };
        let dead_path_ms = self.policy.probe_dead_path_ms;
        if for_ms >= dead_path_ms {
            return rule(step.succession, "a dead path ends the holder's time");
        }
        let again = self.now.plus(dead_path_ms - for_ms);
        if let Some(Role::Waiting(wait)) = self.binaries.get_mut(nth as usize).map(|b| &mut b.role)
        {
            wait.check_at = Some(again);
        }
        Ok(())
    }

    fn end_phone(
        &mut self,
        step: &Step,
        before: Before,
        directed: bool,
        said: &Effects,
    ) -> Checked {
        let (live, may_resume) = (self.holder.is_some(), self.may_resume());
        let in_grace = self.grace_until.is_some();
        let phone = match step.conn {
            Some(conn) => self.phone(conn)?,
            None => return Ok(()),
        };
        if directed {
            return rule(!phone.departed, "who asked for an end is not told of it");
        }
        if !before.was_registered {
            return rule(said.is_empty(), "a phone that was evicted is out already");
        }
        let owed = if live {
            phone.noticed
        } else {
            phone.departed == (may_resume && phone.tenure.is_some())
        };
        let silent = live || phone.departed || before.was_parked || !in_grace;
        rule(
            live || phone.noticed != silent,
            "who waits for a binary is not mentioned, and everybody else is",
        )?;
        rule(owed, "a binary hears of every end that it did not ask for")
    }

    fn drop_what_is_settled(&mut self) {
        for phone in &mut self.phones {
            if !phone.departed && !phone.owed_notice && !phone.is_registered() {
                phone.waiting = 0;
            }
        }
        self.phones
            .retain(|phone| phone.state != PhoneState::Gone || phone.departed || phone.owed_notice);
    }

    /// What must be true of everybody between two steps.
    pub(super) fn check_promises(&self) -> Checked {
        for binary in &self.binaries {
            match binary.role {
                Role::New => return Err("a claim is answered at once, or waits"),
                Role::Waiting(wait) => {
                    rule(self.holder.is_some(), "a claim waits only for a holder")?;
                    rule(
                        wait.probe.is_some(),
                        "the holder is pinged for each claimant",
                    )?;
                }
                Role::Holder => rule(self.holder == Some(binary.conn), "one holder")?,
                Role::Out => {}
            }
        }
        self.phones
            .iter()
            .try_for_each(|phone| self.check_phone(phone))
    }

    fn check_phone(&self, phone: &Phone) -> Checked {
        let known = phone.tenure.is_some();
        let own = phone.tenure == self.tenure.map(|tenure| tenure.number);
        rule(!phone.owed_notice, "the notice follows the last frames")?;
        rule(
            !phone.departed || self.may_resume(),
            "a phone is kept only while the tenure may be resumed",
        )?;
        if !phone.is_registered() {
            let kept = phone.departed || phone.state == PhoneState::Evicted;
            let missed = phone.state == PhoneState::Evicted
                && known
                && own
                && self.may_resume()
                && !phone.departed
                && !phone.noticed;
            return rule(
                kept && !missed,
                "a binary that may come back hears whom it lost",
            );
        }
        rule(!known || own, "no phone outlives the tenure that knows it")?;
        match phone.state {
            PhoneState::Linked { to } => {
                rule(Some(to) == self.holder && known, "links lead to the holder")
            }
            PhoneState::Parked { .. } => rule(
                self.holder.is_none() && (!known || self.may_resume()),
                "a phone that a binary knows is parked only for that one",
            ),
            _ => rule(
                phone.waiting == 0
                    && if known {
                        self.holder.is_none()
                    } else {
                        self.holder.is_some() || !self.policy.parks()
                    },
                "whoever is registered has its place",
            ),
        }
    }

    /// Claims are refused only after short tenures, at once if one is too many, and for as long as is said.
    pub(super) fn check_admission(&self) -> Checked {
        let short_ago = self.last_short_tenure.map(|at| self.now.since(at));
        let admitted = |after_ms: u64| self.hub.admit(self.now.plus(after_ms), &self.server);
        match admitted(0) {
            Ok(()) => {
                let just_now = short_ago == Some(0);
                rule(
                    !just_now || self.policy.redial_burst != 1,
                    "who redials at once is refused",
                )
            }
            Err(RetryAfter(ms)) => {
                let recent = short_ago.is_some_and(|ago| ago <= self.past_ms());
                rule(recent, "only who redials at once is refused")?;
                rule(
                    admitted(ms).is_ok() && admitted(ms - 1).is_err(),
                    "who is refused is told when to come again",
                )
            }
        }
    }

    /// What is late, early, repeated or invented changes nothing.
    pub(super) fn check_deaf(&self) -> Checked {
        let mut hub = self.hub.clone();
        let mut out = Effects::new();
        let mut inputs = Vec::with_capacity(32);
        self.outsiders_say(&mut inputs);
        self.holder_repeats(&mut inputs);
        self.phones_repeat(&mut inputs);
        for input in inputs {
            hub.step(self.now, &self.server, input, &mut out);
        }
        if self.obligations().all(|at| at > self.now) {
            hub.expire(self.now, &mut out);
        }
        rule(
            out.is_empty() && hub == self.hub,
            "what is stale, early, repeated or invented changes nothing",
        )
    }

    /// Binaries that do not hold the slot answer the holder's pings, and those that lost it end.
    fn outsiders_say(&self, inputs: &mut Vec<Input>) {
        let outsiders = self
            .binaries
            .iter()
            .filter(|binary| binary.role != Role::Holder);
        for conn in outsiders.map(|binary| binary.conn).chain([STRANGER]) {
            inputs.push(Input::Pong {
                conn,
                probe: self.last_probe,
            });
            let probes = (0..=self.last_probe).rev().take(3);
            inputs.extend(probes.map(|probe| Input::Path {
                conn,
                probe,
                path: LONG_SILENCE,
            }));
        }
        let out_already = self
            .binaries
            .iter()
            .filter(|binary| binary.role == Role::Out);
        let out_already = out_already.map(|binary| binary.conn).chain([STRANGER]);
        inputs.extend(out_already.map(|conn| Input::BinaryGone { conn }));
    }

    /// The holder answers what is answered, or was never asked; it and the claimants claim again.
    fn holder_repeats(&self, inputs: &mut Vec<Input>) {
        let Some(conn) = self.holder else { return };
        let never_sent = self.last_probe.saturating_add(1);
        let oldest = self.binaries.iter().find_map(|binary| match binary.role {
            Role::Waiting(wait) => wait.probe,
            _ => None,
        });
        let stale = oldest.unwrap_or(never_sent).saturating_sub(1);
        inputs.extend([0, stale, never_sent].map(|probe| Input::Pong { conn, probe }));
        inputs.extend([stale, never_sent].map(|probe| Input::Path {
            conn,
            probe,
            path: LONG_SILENCE,
        }));
        let known = self
            .binaries
            .iter()
            .filter(|binary| binary.role != Role::Out);
        inputs.extend(known.map(|binary| Input::Claim {
            conn: binary.conn,
            instance: Some(Instance::new(b"another")),
        }));
    }

    /// Phones that are out go on, and those that are in register again.
    fn phones_repeat(&self, inputs: &mut Vec<Input>) {
        let out_already = self.phones.iter().filter(|phone| !phone.is_registered());
        for conn in out_already.map(|phone| phone.conn).chain([STRANGER]) {
            let end = PhoneEnd {
                code: 1001,
                silent: false,
            };
            inputs.extend([Input::PhoneFrame { conn }, Input::PhoneGone { conn, end }]);
        }
        let registered = self.phones.iter().filter(|phone| phone.is_registered());
        inputs.extend(registered.map(|phone| Input::Register { conn: phone.conn }));
    }
}

/// A connection that there never was.
const STRANGER: Conn = Conn(FIRST_CONN);

/// Enough for any limit.
const LONG_SILENCE: Path = Path::Silent { for_ms: u64::MAX };
