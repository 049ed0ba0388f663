//! What each effect may be said for, and what must be true after it.

use relay_core::{Claim, Conn, Effect, Effects, Input, Instance, Path, PhoneEnd, RetryAfter};
use relay_proto::close::Cause;

use crate::search::{Rule, rule};
use crate::world::{Binary, Event, Phone, PhoneState, Role, Step, Tenure, Wait, World};

type Checked = Result<(), Rule>;

impl World {
    /// Does what the effects say, and checks that each may be said.
    pub(super) fn obey(&mut self, step: &Step, said: &Effects) -> Checked {
        let mut step = Step { ..*step };
        let was = self.begin(&step);
        for (_, effect) in said {
            self.obey_one(&mut step, effect)?;
        }
        self.end(&step, was, said)
    }

    /// What is true of a connection that ends before the hub hears of it.
    fn begin(&mut self, step: &Step) -> Before {
        let mut before = Before::default();
        let Some(conn) = step.conn else { return before };
        match step.event {
            Event::BinaryEnds { .. } => {
                before.was_holder = self.holder == Some(conn);
                self.binaries.retain(|binary| binary.conn != conn);
                if before.was_holder {
                    self.holder = None;
                    if self.now.since(self.since) < self.policy.redial_short_tenure_ms {
                        self.last_short_tenure = Some(self.now);
                    }
                }
            }
            Event::PhoneEnds { .. } => {
                if let Some(phone) = self.phones.iter_mut().find(|phone| phone.conn == conn) {
                    before.was_registered = phone.is_registered();
                    before.was_parked = phone.is_parked();
                    phone.state = PhoneState::Gone;
                }
            }
            _ => {}
        }
        before
    }

    fn obey_one(&mut self, step: &mut Step, effect: &Effect) -> Checked {
        match *effect {
            Effect::Claimed { conn, how } => self.claimed(step, conn, how),
            Effect::Probing { conn } => self.probing(step, conn),
            Effect::ClaimRefused { conn } => self.refused(step, conn),
            Effect::Displaced { conn } => self.displaced(step, conn),
            Effect::Released { conn } => self.released(step, conn),
            Effect::Probe { conn, probe } => self.probe(conn, probe),
            Effect::CheckPath { conn, probe } => self.check_path(step, conn, probe),
            Effect::Registered { conn } => self.registered(step, conn),
            Effect::RegisterRefused { conn, cause } => self.register_refused(step, conn, cause),
            Effect::GraceExpired => self.grace_expired(step),
            ref effect => self.obey_for_phone(step, effect),
        }
    }

    fn obey_for_phone(&mut self, step: &Step, effect: &Effect) -> Checked {
        match *effect {
            Effect::Link { phone, binary } => self.link(phone, binary),
            Effect::Unlink { phone } => {
                let phone = self.registered_phone(phone)?;
                rule(phone.waiting == 0, "no frame that waits is forgotten")?;
                phone.state = PhoneState::Asks;
                Ok(())
            }
            Effect::Park { phone } => self.park(phone),
            Effect::Evict { phone, cause } => self.evict(step, phone, cause),
            Effect::Notice {
                binary,
                phone,
                code,
            } => self.notice(step, binary, phone, code),
            Effect::Departed { phone } => self.departs(phone),
            Effect::DeliverDeparted { phone, binary } => {
                rule(
                    step.claimed == Some(Claim::Resume),
                    "only who resumes gets what was left",
                )?;
                let departed = self.departed_phone(phone)?;
                departed.owed_notice = true;
                self.deliver(phone, binary)
            }
            Effect::ForgetDeparted { phone } => {
                self.departed_phone(phone)?.waiting = 0;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn claimed(&mut self, step: &mut Step, conn: Conn, how: Claim) -> Checked {
        rule(self.holder.is_none(), "one holder")?;
        rule(step.claimed.is_none(), "one claim succeeds at a time")?;
        rule(
            !self.shutting_down(),
            "a relay that shuts down hands no slot over",
        )?;
        let waits = |binary: &Binary| matches!(binary.role, Role::Waiting(_));
        let first = self
            .binaries
            .iter()
            .find(|binary| waits(binary))
            .map(|binary| binary.conn);
        let winner = self.binary(conn)?;
        let (role, instance) = (winner.role, winner.instance);
        winner.role = Role::Holder;
        let waited = match role {
            Role::New => false,
            Role::Waiting(_) => true,
            Role::Holder | Role::Out => return Err("who lost the slot does not get it back"),
        };
        rule(!waited || first == Some(conn), "who waits longest is next")?;
        rule(waited || first.is_none(), "nobody overtakes a claimant")?;
        let same = self
            .tenure
            .is_some_and(|tenure| instance.is_some() && tenure.instance == instance);
        let expected = match (same, waited, self.tenure) {
            (true, ..) => Claim::Resume,
            (_, true, _) => Claim::Takeover,
            (_, _, Some(_)) => Claim::Reclaim,
            (_, _, None) => Claim::Fresh,
        };
        rule(how == expected, "a claim is what it is called")?;
        if how != Claim::Resume {
            self.last_tenure += 1;
            self.tenure = Some(Tenure {
                number: self.last_tenure,
                instance,
            });
        }
        for wait in self.waits() {
            wait.probe = None;
        }
        (self.holder, self.grace_until, self.since) = (Some(conn), None, self.now);
        step.claimed = Some(how);
        Ok(())
    }

    fn probing(&mut self, step: &Step, conn: Conn) -> Checked {
        rule(self.holder.is_some(), "a claim waits only for a holder")?;
        rule(step.conn == Some(conn), "a claim is answered once")?;
        let takeover_at = self.now.plus(self.policy.probe_timeout_ms);
        let binary = self.binary(conn)?;
        rule(binary.role == Role::New, "a claim is answered once")?;
        binary.role = Role::Waiting(Wait {
            probe: None,
            check_at: None,
            asked: false,
            takeover_at,
        });
        Ok(())
    }

    fn probe(&mut self, conn: Conn, probe: u32) -> Checked {
        rule(self.holder == Some(conn), "only the holder is pinged")?;
        rule(probe > self.last_probe, "numbers of pings grow")?;
        self.last_probe = probe;
        let (now, policy) = (self.now, self.policy.clone());
        let mut waits = self.waits();
        let wait = waits.find(|wait| wait.probe.is_none());
        *wait.ok_or("a ping is for somebody")? = Wait {
            probe: Some(probe),
            check_at: Some(now.plus(policy.probe_dead_path_ms)),
            asked: false,
            takeover_at: now.plus(policy.probe_timeout_ms),
        };
        Ok(())
    }

    fn check_path(&mut self, step: &Step, conn: Conn, probe: u32) -> Checked {
        rule(
            step.event == Event::Timers,
            "the kernel is asked in its time",
        )?;
        rule(
            self.holder == Some(conn),
            "the kernel is asked about the holder",
        )?;
        let now = self.now;
        let wait = self.waits().find(|wait| wait.probe == Some(probe));
        let wait = wait.ok_or("the kernel is asked for a claimant")?;
        let due = wait.check_at.take().is_some_and(|at| at <= now);
        wait.asked = true;
        rule(due, "the kernel is asked once, in its time")
    }

    /// 4409 needs a pong of the holder to a ping that was sent after the claim.
    fn refused(&mut self, step: &Step, conn: Conn) -> Checked {
        rule(
            matches!(step.event, Event::Pong { .. }),
            "only a sign of life refuses a claim",
        )?;
        let binary = self.binary(conn)?;
        rule(
            matches!(binary.role, Role::Waiting(_)),
            "a claim is answered once",
        )?;
        binary.role = Role::Out;
        Ok(())
    }

    fn displaced(&mut self, step: &mut Step, conn: Conn) -> Checked {
        rule(self.holder == Some(conn), "only the holder is displaced")?;
        let (now, dead_path_ms) = (self.now, self.policy.probe_dead_path_ms);
        let overdue = self.waits().any(|wait| wait.takeover_at <= now);
        let proven_dead = match step.event {
            Event::Timers => overdue,
            Event::Path {
                path: Path::Silent { for_ms },
                ..
            } => for_ms >= dead_path_ms,
            _ => false,
        };
        rule(proven_dead, "a holder is displaced only if it seems dead")?;
        self.binary(conn)?.role = Role::Out;
        self.holder = None;
        step.succession = true;
        Ok(())
    }

    fn released(&mut self, step: &mut Step, conn: Conn) -> Checked {
        let own = matches!(step.event, Event::BinaryEnds { .. }) && step.conn == Some(conn);
        rule(
            own && !step.succession,
            "only its own end releases a holder, once",
        )?;
        step.succession = true;
        if self.waits().next().is_none() {
            self.grace_until = Some(self.now.plus(self.policy.grace_ms));
            self.since = self.now;
        }
        Ok(())
    }

    fn has_server(&self) -> bool {
        self.holder.is_some() || self.grace_until.is_some()
    }

    fn parks_at_boot(&self) -> bool {
        let until = crate::canon::START.plus(self.policy.boot_park_ms);
        self.policy.parks() && self.now < until
    }

    fn registered(&mut self, step: &mut Step, conn: Conn) -> Checked {
        let room = self.counts().phones < self.policy.phones_per_server;
        rule(room, "no more phones than allowed")?;
        rule(
            self.has_server() || self.parks_at_boot(),
            "an empty slot has no phones",
        )?;
        if self.view().is_none() {
            self.since = self.now;
        }
        let first = !std::mem::replace(&mut step.registration, true);
        let phone = self.phone(conn)?;
        rule(
            first && phone.state == PhoneState::New,
            "a registration is answered once",
        )?;
        phone.state = PhoneState::Asks;
        Ok(())
    }

    fn register_refused(&mut self, step: &mut Step, conn: Conn, cause: Cause) -> Checked {
        let first = !std::mem::replace(&mut step.registration, true);
        rule(
            first && step.conn == Some(conn),
            "a registration is answered once",
        )?;
        let server = self.has_server() || self.parks_at_boot();
        let full = self.counts().phones >= self.policy.phones_per_server;
        rule(
            match cause {
                Cause::NoServer => !server,
                Cause::TooManyPhones => server && full,
                _ => false,
            },
            "a phone is refused only for what is true",
        )?;
        self.phones.retain(|phone| phone.conn != conn);
        Ok(())
    }

    fn grace_expired(&mut self, step: &mut Step) -> Checked {
        let due = self.grace_until.is_some_and(|until| until <= self.now);
        rule(due && step.event == Event::Timers, "grace ends in its time")?;
        (self.grace_until, self.tenure) = (None, None);
        step.grace_expired = true;
        Ok(())
    }

    fn link(&mut self, conn: Conn, binary: Conn) -> Checked {
        self.registered_phone(conn)?.state = PhoneState::Linked { to: binary };
        self.deliver(conn, binary)
    }

    /// A binary gets what waits of a phone: all of it, in order, and nobody else ever gets any.
    fn deliver(&mut self, conn: Conn, binary: Conn) -> Checked {
        rule(self.holder == Some(binary), "frames go to the holder only")?;
        let tenure = self.tenure.map_or(0, |tenure| tenure.number);
        let phone = self.phone(conn)?;
        if phone.waiting > 0 {
            let first = phone.sent - phone.waiting;
            rule(
                phone.delivered == first,
                "frames arrive in order, without a gap",
            )?;
            (phone.delivered, phone.waiting) = (phone.sent, 0);
        }
        let own = phone.delivered == 0 || *phone.tenure.get_or_insert(tenure) == tenure;
        rule(own, "a phone's frames reach one tenure")
    }

    fn park(&mut self, conn: Conn) -> Checked {
        rule(
            self.holder.is_none(),
            "nobody is parked while there is a holder",
        )?;
        rule(self.policy.parks(), "nobody is parked when parking is off")?;
        let until = self.now.plus(self.policy.park_ms);
        let phone = self.registered_phone(conn)?;
        // The time it has waited counts from the first one.
        if !phone.is_parked() {
            phone.state = PhoneState::Parked { until };
        }
        Ok(())
    }

    fn evict(&mut self, step: &Step, conn: Conn, cause: Cause) -> Checked {
        let (now, parks, has_holder) = (self.now, self.policy.parks(), self.holder.is_some());
        let phone = self.registered_phone(conn)?;
        let long = matches!(phone.state, PhoneState::Parked { until } if until <= now);
        let may = match cause {
            Cause::NoServer => long && step.event == Event::Timers,
            Cause::BinaryAway => {
                matches!(step.event, Event::Frame { .. }) && step.conn == Some(conn) && !has_holder
            }
            Cause::BinaryDidNotReturn => step.grace_expired,
            Cause::BinaryReclaimed => match step.claimed {
                // Whom no binary has heard of waits for the next one.
                Some(Claim::Reclaim) => phone.tenure.is_some() || !parks,
                Some(Claim::Takeover) => true,
                _ => false,
            },
            _ => false,
        };
        rule(may, "a phone is evicted only for what is true")?;
        phone.state = PhoneState::Evicted;
        phone.code = cause.close().map_or(0, |close| close.code);
        Ok(())
    }

    fn departs(&mut self, conn: Conn) -> Checked {
        rule(
            self.may_resume(),
            "a phone is kept only for a tenure that may be resumed",
        )?;
        let tenure = self.tenure.map(|tenure| tenure.number);
        let phone = self.phone(conn)?;
        let out = matches!(phone.state, PhoneState::Evicted | PhoneState::Gone);
        rule(out && !phone.departed, "a phone departs once")?;
        rule(
            phone.tenure.is_some() && phone.tenure == tenure,
            "only whom the binary knows is kept for it",
        )?;
        phone.departed = true;
        Ok(())
    }

    fn notice(&mut self, step: &Step, binary: Conn, conn: Conn, code: u16) -> Checked {
        rule(self.holder == Some(binary), "notices go to the holder only")?;
        let tenure = self.tenure.map(|tenure| tenure.number);
        let directed = matches!(step.event, Event::PhoneEnds { directed: true, .. });
        let phone = self.phone(conn)?;
        let ended =
            step.conn == Some(conn) && matches!(step.event, Event::PhoneEnds { .. }) && !directed;
        rule(
            ended || phone.owed_notice,
            "a notice is about an end nobody asked for",
        )?;
        rule(!phone.noticed, "a notice is sent once")?;
        rule(phone.code == code, "a notice tells the truth")?;
        rule(phone.waiting == 0, "a notice comes after the last frame")?;
        rule(
            phone.tenure.is_none() || phone.tenure == tenure,
            "a notice stays in the tenure",
        )?;
        (phone.noticed, phone.owed_notice) = (true, false);
        Ok(())
    }

    fn may_resume(&self) -> bool {
        self.grace_until.is_some() && self.tenure.is_some_and(|tenure| tenure.instance.is_some())
    }

    fn waits(&mut self) -> impl Iterator<Item = &mut Wait> {
        self.binaries
            .iter_mut()
            .filter_map(|binary| match &mut binary.role {
                Role::Waiting(wait) => Some(wait),
                _ => None,
            })
    }

    fn binary(&mut self, conn: Conn) -> Result<&mut Binary, Rule> {
        let found = self.binaries.iter_mut().find(|binary| binary.conn == conn);
        found.ok_or("a binary that is gone is left alone")
    }

    fn phone(&mut self, conn: Conn) -> Result<&mut Phone, Rule> {
        let found = self.phones.iter_mut().find(|phone| phone.conn == conn);
        found.ok_or("a phone that is gone is left alone")
    }

    fn registered_phone(&mut self, conn: Conn) -> Result<&mut Phone, Rule> {
        let phone = self.phone(conn)?;
        rule(
            phone.is_registered(),
            "only a registered phone is linked, parked or evicted",
        )?;
        Ok(phone)
    }

    /// A departed phone, which is settled by that.
    fn departed_phone(&mut self, conn: Conn) -> Result<&mut Phone, Rule> {
        let phone = self.phone(conn)?;
        let departed = std::mem::take(&mut phone.departed);
        rule(departed, "what was kept is settled once")?;
        Ok(phone)
    }

    /// Whatever the step was to do has been done.
    fn end(&mut self, step: &Step, before: Before, said: &Effects) -> Checked {
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
        let stranger = Conn(crate::canon::FIRST_CONN);
        let end = PhoneEnd {
            code: 1001,
            silent: false,
        };
        let long = Path::Silent { for_ms: u64::MAX };
        let never_sent = self.last_probe.saturating_add(1);
        let outsiders = self
            .binaries
            .iter()
            .filter(|binary| binary.role != Role::Holder);
        let outsiders = outsiders.map(|binary| binary.conn).chain([stranger]);
        let mut inputs = Vec::with_capacity(32);
        for conn in outsiders {
            inputs.push(Input::Pong {
                conn,
                probe: self.last_probe,
            });
            let probes = 0..=self.last_probe;
            inputs.extend(probes.rev().take(3).map(|probe| Input::Path {
                conn,
                probe,
                path: long,
            }));
        }
        let out_already = self
            .binaries
            .iter()
            .filter(|binary| binary.role == Role::Out);
        inputs.extend(
            out_already
                .map(|binary| binary.conn)
                .chain([stranger])
                .map(|conn| Input::BinaryGone { conn }),
        );
        if let Some(conn) = self.holder {
            let oldest = self.binaries.iter().find_map(|binary| match binary.role {
                Role::Waiting(wait) => wait.probe,
                _ => None,
            });
            let stale = oldest.unwrap_or(never_sent).saturating_sub(1);
            inputs.extend([0, stale, never_sent].map(|probe| Input::Pong { conn, probe }));
            inputs.extend([stale, never_sent].map(|probe| Input::Path {
                conn,
                probe,
                path: long,
            }));
        }
        let known = self
            .binaries
            .iter()
            .filter(|binary| binary.role != Role::Out);
        if self.holder.is_some() {
            inputs.extend(known.map(|binary| Input::Claim {
                conn: binary.conn,
                instance: Some(Instance::new(b"another")),
            }));
        }
        let not_registered = self.phones.iter().filter(|phone| !phone.is_registered());
        for conn in not_registered.map(|phone| phone.conn).chain([stranger]) {
            inputs.push(Input::PhoneFrame { conn });
            inputs.push(Input::PhoneGone { conn, end });
        }
        let registered = self.phones.iter().filter(|phone| phone.is_registered());
        inputs.extend(registered.map(|phone| Input::Register { conn: phone.conn }));
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
}

/// What a connection was when it ended.
#[derive(Clone, Copy, Default)]
struct Before {
    was_holder: bool,
    was_registered: bool,
    was_parked: bool,
}
