//! What each effect may be said for, and what it means.

use relay_core::{Claim, Conn, Effect, Effects, Path};

use crate::search::{Rule, rule};
use crate::world::{Binary, Event, PhoneState, Role, Step, Tenure, Wait, World};

pub(super) type Checked = Result<(), Rule>;

impl World {
    /// Does what the effects say, and checks that each may be said.
    pub(super) fn obey(&mut self, mut step: Step, said: &Effects) -> Checked {
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
            Effect::GraceExpired => self.grace_expired(step),
            ref effect => self.obey_for_phone(step, effect),
        }
    }

    fn claimed(&mut self, step: &mut Step, conn: Conn, how: Claim) -> Checked {
        rule(self.holder.is_none(), "one holder")?;
        rule(step.claimed.is_none(), "one claim succeeds at a time")?;
        rule(
            !self.shutting_down,
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

    fn grace_expired(&mut self, step: &mut Step) -> Checked {
        let due = self.grace_until.is_some_and(|until| until <= self.now);
        rule(due && step.event == Event::Timers, "grace ends in its time")?;
        (self.grace_until, self.tenure) = (None, None);
        step.grace_expired = true;
        Ok(())
    }

    pub(super) fn may_resume(&self) -> bool {
        self.grace_until.is_some() && self.tenure.is_some_and(|tenure| tenure.instance.is_some())
    }

    pub(super) fn waits(&mut self) -> impl Iterator<Item = &mut Wait> {
        self.binaries
            .iter_mut()
            .filter_map(|binary| match &mut binary.role {
                Role::Waiting(wait) => Some(wait),
                _ => None,
            })
    }

    pub(super) fn binary(&mut self, conn: Conn) -> Result<&mut Binary, Rule> {
        let found = self.binaries.iter_mut().find(|binary| binary.conn == conn);
        found.ok_or("a binary that is gone is left alone")
    }
}

/// What a connection was when it ended.
#[derive(Clone, Copy, Default)]
pub(super) struct Before {
    pub(super) was_holder: bool,
    pub(super) was_registered: bool,
    pub(super) was_parked: bool,
}
