//! What may be said of phones, and what it means.

use relay_core::{Claim, Conn, Effect};
use relay_proto::close::Cause;

use crate::canon::START;
use crate::rules::Checked;
use crate::search::{Rule, rule};
use crate::world::{Event, Phone, PhoneState, Step, World};

impl World {
    pub(super) fn obey_for_phone(&mut self, step: &mut Step, effect: &Effect) -> Checked {
        match *effect {
            Effect::Registered { conn } => self.registered(step, conn),
            Effect::RegisterRefused { conn, cause } => self.register_refused(step, conn, cause),
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
            Effect::Unnoticed { phone, code } => self.unnoticed(step, phone, code),
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

    fn has_server(&self) -> bool {
        self.holder.is_some() || self.grace_until.is_some()
    }

    fn parks_at_boot(&self) -> bool {
        let until = START.plus(self.policy.boot_park_ms);
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

    fn unnoticed(&mut self, step: &Step, conn: Conn, code: u16) -> Checked {
        rule(
            self.grace_until.is_some(),
            "only a binary that is away is not told",
        )?;
        let own_end = matches!(
            step.event,
            Event::PhoneEnds {
                directed: false,
                ..
            }
        );
        let ended = step.conn == Some(conn) && own_end;
        let phone = self.phone(conn)?;
        rule(ended, "a notice is about an end nobody asked for")?;
        rule(!phone.noticed, "a notice is sent once")?;
        rule(phone.code == code, "a notice tells the truth")?;
        phone.noticed = true;
        Ok(())
    }

    pub(super) fn phone(&mut self, conn: Conn) -> Result<&mut Phone, Rule> {
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
}
