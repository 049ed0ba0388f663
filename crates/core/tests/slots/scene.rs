//! A hub with one server-id, driven by sentences. After every sentence the invariants are checked.

use relay_core::{
    Claim, Conn, Effect, Effects, Hub, Input, Instance, Millis, Path, PhoneEnd, Policy, ServerId,
    invariant,
};
use relay_proto::close::Cause;

pub(crate) const A: Conn = Conn(1);
pub(crate) const B: Conn = Conn(2);
pub(crate) const C: Conn = Conn(3);
pub(crate) const P: Conn = Conn(101);
pub(crate) const Q: Conn = Conn(102);
pub(crate) const R: Conn = Conn(103);

pub(crate) struct Scene {
    pub(crate) hub: Hub,
    pub(crate) now: Millis,
    pub(crate) server: ServerId,
}

impl Scene {
    /// A relay with the default policy that started long ago.
    pub(crate) fn new() -> Self {
        Self::with(Policy::default())
    }

    /// The same with another policy.
    pub(crate) fn with(policy: Policy) -> Self {
        let mut scene = Self::at_boot_with(policy);
        scene.now = Millis(3_600_000);
        scene
    }

    /// A relay that starts now.
    pub(crate) fn at_boot() -> Self {
        Self::at_boot_with(Policy::default())
    }

    fn at_boot_with(policy: Policy) -> Self {
        let now = Millis(1_000);
        Self {
            hub: Hub::new(policy, now),
            now,
            server: ServerId::new("8f7e1c0a"),
        }
    }

    pub(crate) fn claim(&mut self, conn: Conn) -> Vec<Effect> {
        self.step(Input::Claim {
            conn,
            instance: None,
        })
    }

    pub(crate) fn claim_as(&mut self, conn: Conn, instance: &str) -> Vec<Effect> {
        self.step(Input::Claim {
            conn,
            instance: Some(Instance::new(instance.as_bytes())),
        })
    }

    pub(crate) fn binary_gone(&mut self, conn: Conn) -> Vec<Effect> {
        self.step(Input::BinaryGone { conn })
    }

    pub(crate) fn register(&mut self, conn: Conn) -> Vec<Effect> {
        self.step(Input::Register { conn })
    }

    pub(crate) fn frame(&mut self, conn: Conn) -> Vec<Effect> {
        self.step(Input::PhoneFrame { conn })
    }

    /// A phone that registers and sends a frame.
    pub(crate) fn talkative(&mut self, conn: Conn) {
        self.register(conn);
        self.frame(conn);
    }

    pub(crate) fn phone_gone(&mut self, conn: Conn, code: u16) -> Vec<Effect> {
        self.step(Input::PhoneGone {
            conn,
            end: PhoneEnd {
                code,
                silent: false,
            },
        })
    }

    pub(crate) fn phone_gone_as_directed(&mut self, conn: Conn) -> Vec<Effect> {
        self.step(Input::PhoneGone {
            conn,
            end: PhoneEnd {
                code: 4401,
                silent: true,
            },
        })
    }

    pub(crate) fn pong(&mut self, conn: Conn, probe: u32) -> Vec<Effect> {
        self.step(Input::Pong { conn, probe })
    }

    pub(crate) fn path(&mut self, conn: Conn, probe: u32, path: Path) -> Vec<Effect> {
        self.step(Input::Path { conn, probe, path })
    }

    /// Lets time pass, firing each timer at its moment.
    pub(crate) fn wait(&mut self, ms: u64) -> Vec<Effect> {
        let until = self.now.plus(ms);
        let mut out = Effects::new();
        while let Some(at) = self.hub.deadline().filter(|at| *at <= until) {
            assert!(at >= self.now, "a timer was left in the past");
            self.now = at;
            self.hub.expire(at, &mut out);
            self.check();
        }
        self.now = until;
        self.mine(out)
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Effects::new();
        self.hub.step(self.now, &self.server, input, &mut out);
        self.check();
        self.mine(out)
    }

    fn check(&self) {
        assert_eq!(invariant::check(&self.hub), Ok(()));
    }

    fn mine(&self, out: Effects) -> Vec<Effect> {
        out.into_iter()
            .map(|(server, effect)| {
                assert_eq!(server, self.server);
                effect
            })
            .collect()
    }
}

/// The default policy without parking.
pub(crate) fn no_parking() -> Policy {
    Policy {
        park_ms: 0,
        ..Policy::default()
    }
}

// Effects with several fields, as one word each.

pub(crate) fn claimed(conn: Conn, how: Claim) -> Effect {
    Effect::Claimed { conn, how }
}

pub(crate) fn probe(conn: Conn, probe: u32) -> Effect {
    Effect::Probe { conn, probe }
}

pub(crate) fn check_path(conn: Conn, probe: u32) -> Effect {
    Effect::CheckPath { conn, probe }
}

pub(crate) fn register_refused(conn: Conn, cause: Cause) -> Effect {
    Effect::RegisterRefused { conn, cause }
}

pub(crate) fn link(phone: Conn, binary: Conn) -> Effect {
    Effect::Link { phone, binary }
}

pub(crate) fn evict(phone: Conn, cause: Cause) -> Effect {
    Effect::Evict { phone, cause }
}

pub(crate) fn notice(binary: Conn, phone: Conn, code: u16) -> Effect {
    Effect::Notice {
        binary,
        phone,
        code,
    }
}

pub(crate) fn unnoticed(phone: Conn, code: u16) -> Effect {
    Effect::Unnoticed { phone, code }
}

pub(crate) fn deliver_departed(phone: Conn, binary: Conn) -> Effect {
    Effect::DeliverDeparted { phone, binary }
}
