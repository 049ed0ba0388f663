//! The binaries' side of a slot: claims, probes, grace.

use std::mem;

use relay_proto::close::Cause;

use super::{Claim, Claimant, Context, Departed, Effect, Grace, Live, Path, Slot, Tenure};
use crate::{Conn, Instance};

impl Slot {
    /// A claim takes effect at once unless somebody holds the slot; then the holder is asked for a sign of life.
    pub(super) fn claim(&mut self, conn: Conn, instance: Option<Instance>, cx: &mut Context<'_>) {
        let how = match &self.tenure {
            Tenure::Empty => Claim::Fresh,
            Tenure::Grace(grace) if same_process(&grace.instance, &instance) => Claim::Resume,
            Tenure::Grace(_) => Claim::Reclaim,
            Tenure::Live(live) => {
                if !live.knows(conn) {
                    cx.emit(Effect::Probing { conn });
                    self.probe(conn, instance, cx);
                }
                return;
            }
        };
        let before = self.install(conn, instance, cx);
        cx.emit(Effect::Claimed { conn, how });
        match how {
            Claim::Resume => self.adopt_all(conn, cx),
            _ => self.adopt_unheard(conn, cx),
        }
        if let Tenure::Grace(grace) = before {
            settle_departed(grace, (how == Claim::Resume).then_some(conn), cx);
        }
    }

    /// Asks the holder for a sign of life on behalf of a claimant.
    fn probe(&mut self, conn: Conn, instance: Option<Instance>, cx: &mut Context<'_>) {
        let Tenure::Live(live) = &mut self.tenure else {
            return;
        };
        // Saturates after four thousand million claims of one tenure; from then on a pong answers all of them.
        self.last_probe = self.last_probe.saturating_add(1);
        let probe = self.last_probe;
        live.claimants.push(Claimant {
            conn,
            instance,
            probe,
            check_at: Some(cx.now.plus(cx.policy.probe_dead_path_ms)),
            takeover_at: cx.now.plus(cx.policy.probe_timeout_ms),
        });
        cx.emit(Effect::Probe {
            conn: live.holder,
            probe,
        });
    }

    /// A pong proves that the holder lived after the probe was sent, hence after these claims arrived.
    pub(super) fn pong(&mut self, conn: Conn, probe: u32, cx: &mut Context<'_>) {
        let Tenure::Live(live) = &mut self.tenure else {
            return;
        };
        // A number that was never sent proves nothing about when the pong was.
        if live.holder != conn || probe > self.last_probe {
            return;
        }
        live.claimants.retain(|claimant| {
            let answered = claimant.probe <= probe;
            if answered {
                cx.emit(Effect::ClaimRefused {
                    conn: claimant.conn,
                });
            }
            !answered
        });
    }

    /// The kernel's evidence. Only silence for the whole time since the probe means that the path is dead.
    pub(super) fn path(&mut self, conn: Conn, probe: u32, path: Path, cx: &mut Context<'_>) {
        let Tenure::Live(live) = &mut self.tenure else {
            return;
        };
        if live.holder != conn {
            return;
        }
        let Some(claimant) = live.claimants.iter_mut().find(|c| c.probe == probe) else {
            return;
        };
        let Path::Silent { for_ms } = path else {
            return;
        };
        match cx.policy.probe_dead_path_ms.checked_sub(for_ms) {
            None | Some(0) => self.takeover(cx),
            Some(missing_ms) => claimant.check_at = Some(cx.now.plus(missing_ms)),
        }
    }

    /// Asks about the path for every claimant whose time has come.
    pub(super) fn check_paths(&mut self, cx: &mut Context<'_>) {
        let Tenure::Live(live) = &mut self.tenure else {
            return;
        };
        for claimant in &mut live.claimants {
            if claimant.check_at.is_some_and(|at| at <= cx.now) {
                claimant.check_at = None;
                cx.emit(Effect::CheckPath {
                    conn: live.holder,
                    probe: claimant.probe,
                });
            }
        }
    }

    /// The holder failed its probe: the longest waiting claimant displaces it.
    pub(super) fn takeover(&mut self, cx: &mut Context<'_>) {
        if let Tenure::Live(live) = &self.tenure {
            cx.emit(Effect::Displaced { conn: live.holder });
        }
        self.succeed(cx);
    }

    /// Hands the slot to the longest waiting claimant. The others wait for a sign of life of the new holder.
    fn succeed(&mut self, cx: &mut Context<'_>) {
        let Tenure::Live(live) = mem::take(&mut self.tenure) else {
            return;
        };
        let mut waiting = live.claimants.into_iter();
        let Some(winner) = waiting.next() else { return };
        let resumes = same_process(&live.instance, &winner.instance);
        let how = if resumes {
            Claim::Resume
        } else {
            Claim::Takeover
        };
        self.install(winner.conn, winner.instance, cx);
        cx.emit(Effect::Claimed {
            conn: winner.conn,
            how,
        });
        if resumes {
            self.adopt_all(winner.conn, cx);
        } else {
            self.evict_all(Cause::BinaryReclaimed, cx);
        }
        for claimant in waiting {
            self.probe(claimant.conn, claimant.instance, cx);
        }
    }

    /// Makes `conn` the holder and returns what was before.
    fn install(&mut self, conn: Conn, instance: Option<Instance>, cx: &Context<'_>) -> Tenure {
        let live = Live {
            holder: conn,
            instance,
            claimants: Vec::new(),
        };
        self.since = cx.now;
        mem::replace(&mut self.tenure, Tenure::Live(live))
    }

    /// A binary's connection ended. Of one that isn't the holder (any more), the slot knows nothing.
    pub(super) fn binary_gone(&mut self, conn: Conn, cx: &mut Context<'_>) {
        let Tenure::Live(live) = &mut self.tenure else {
            return;
        };
        if live.holder != conn {
            live.claimants.retain(|claimant| claimant.conn != conn);
            return;
        }
        cx.emit(Effect::Released { conn });
        if !live.claimants.is_empty() {
            return self.succeed(cx);
        }
        let grace_ms = if cx.may_wait { cx.policy.grace_ms } else { 0 };
        let until = cx.now.plus(grace_ms);
        let instance = live.instance.take();
        self.since = cx.now;
        self.tenure = Tenure::Grace(Grace {
            until,
            instance,
            departed: Vec::new(),
        });
        self.cut_links(cx);
    }

    /// Whether `conn` holds the slot since less than `ms` milliseconds.
    pub(crate) fn is_short_tenure(&self, conn: Conn, ms: u64, now: crate::Millis) -> bool {
        matches!(&self.tenure, Tenure::Live(live) if live.holder == conn && now.since(self.since) < ms)
    }

    /// The holder didn't come back.
    pub(super) fn grace_expired(&mut self, cx: &mut Context<'_>) {
        let Tenure::Grace(grace) = mem::take(&mut self.tenure) else {
            return;
        };
        self.since = cx.now;
        cx.emit(Effect::GraceExpired);
        self.evict_all(Cause::BinaryDidNotReturn, cx);
        settle_departed(grace, None, cx);
    }
}

impl Live {
    fn knows(&self, conn: Conn) -> bool {
        self.holder == conn || self.claimants.iter().any(|claimant| claimant.conn == conn)
    }
}

/// Whether both said who they are, and it is the same.
fn same_process(a: &Option<Instance>, b: &Option<Instance>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a == b)
}

/// The phones that left during grace: their last frames and their notices go to the binary that resumed the
/// tenure, if one did.
fn settle_departed(grace: Grace, resumed_by: Option<Conn>, cx: &mut Context<'_>) {
    for Departed { conn: phone, code } in grace.departed {
        match resumed_by {
            Some(binary) => {
                cx.emit(Effect::DeliverDeparted { phone, binary });
                cx.emit(Effect::Notice {
                    binary,
                    phone,
                    code,
                });
            }
            None => cx.emit(Effect::ForgetDeparted { phone }),
        }
    }
}
