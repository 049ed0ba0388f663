//! The phones' side of a slot: registration, links, parking, notices.

use std::mem;

use relay_proto::close::Cause;

use super::{Context, Departed, Effect, Parked, Phone, PhoneEnd, Slot, Tenure};
use crate::Conn;

impl Slot {
    pub(super) fn register(&mut self, conn: Conn, cx: &mut Context<'_>) {
        if self.position(conn).is_some() {
            return;
        }
        let parks = match self.tenure {
            Tenure::Live(_) => false,
            Tenure::Grace(_) => cx.policy.parks(),
            Tenure::Empty => {
                if !cx.policy.parks() || cx.now >= cx.boot_park_until {
                    return cx.emit(Effect::RegisterRefused {
                        conn,
                        cause: Cause::NoServer,
                    });
                }
                true
            }
        };
        if self.phones.len() >= cx.policy.phones_per_server {
            return cx.emit(Effect::RegisterRefused {
                conn,
                cause: Cause::TooManyPhones,
            });
        }
        let mut phone = Phone {
            conn,
            heard: false,
            parked: None,
        };
        cx.emit(Effect::Registered { conn });
        if parks {
            phone.park(false, cx);
        }
        self.phones.push(phone);
    }

    /// A phone without a link has a frame: where to?
    pub(super) fn phone_frame(&mut self, conn: Conn, cx: &mut Context<'_>) {
        let Some(index) = self.position(conn) else {
            return;
        };
        let phone = &mut self.phones[index];
        match &self.tenure {
            Tenure::Live(live) => {
                phone.heard = true;
                phone.parked = None;
                cx.emit(Effect::Link {
                    phone: conn,
                    binary: live.holder,
                });
            }
            // Its session is with a process that is gone for good, as far as anyone knows.
            Tenure::Grace(grace) if phone.heard && !grace.can_resume() => {
                self.evict(index, Cause::BinaryAway, cx);
            }
            Tenure::Grace(_) | Tenure::Empty if cx.policy.parks() => phone.park(true, cx),
            Tenure::Grace(_) | Tenure::Empty => self.evict(index, Cause::BinaryAway, cx),
        }
    }

    /// A phone left. Its binary is told, now or when it is back, unless it asked for that or will not be back; a phone
    /// that it can't have heard of, because it was waiting for a binary, is never mentioned.
    pub(super) fn phone_gone(&mut self, conn: Conn, end: PhoneEnd, cx: &mut Context<'_>) {
        let Some(index) = self.position(conn) else {
            return self.evicted_gone(conn, end, cx);
        };
        let phone = self.phones.remove(index);
        if end.silent {
            return;
        }
        let code = end.code;
        match &self.tenure {
            Tenure::Live(live) => cx.emit(Effect::Notice {
                binary: live.holder,
                phone: conn,
                code,
            }),
            Tenure::Grace(grace) if grace.may_tell_of(&phone) => {
                self.remember_departed(&phone, code, cx);
            }
            Tenure::Grace(_) if phone.parked.is_none() => {
                cx.emit(Effect::Unnoticed { phone: conn, code });
            }
            Tenure::Grace(_) | Tenure::Empty => {}
        }
    }

    /// A phone that was evicted before is gone now. It may turn out that its binary had asked for that.
    fn evicted_gone(&mut self, conn: Conn, end: PhoneEnd, cx: &mut Context<'_>) {
        let Tenure::Grace(grace) = &mut self.tenure else {
            return;
        };
        let departed = grace
            .departed
            .iter()
            .position(|departed| departed.conn == conn);
        if let Some(index) = departed.filter(|_| end.silent) {
            grace.departed.remove(index);
            cx.emit(Effect::ForgetDeparted { phone: conn });
        }
    }

    /// In grace, a process that may resume its tenure will want to know which of its phones are gone.
    fn remember_departed(&mut self, phone: &Phone, code: u16, cx: &mut Context<'_>) {
        if let Tenure::Grace(grace) = &mut self.tenure
            && grace.may_tell_of(phone)
        {
            grace.departed.push(Departed {
                conn: phone.conn,
                code,
            });
            cx.emit(Effect::Departed { phone: phone.conn });
        }
    }

    /// A new tenure begins: phones that the old one knew leave with it, the others stay.
    pub(super) fn adopt_unheard(&mut self, binary: Conn, cx: &mut Context<'_>) {
        self.phones.retain_mut(|phone| {
            let stays = !phone.heard && cx.policy.parks();
            if stays {
                phone.adopt(binary, cx);
            } else {
                cx.emit(Effect::Evict {
                    phone: phone.conn,
                    cause: Cause::BinaryReclaimed,
                });
            }
            stays
        });
    }

    /// The tenure goes on with another connection: everybody stays.
    pub(super) fn adopt_all(&mut self, binary: Conn, cx: &mut Context<'_>) {
        for phone in &mut self.phones {
            phone.adopt(binary, cx);
        }
    }

    /// Grace begins: no phone has a link any more, and those the holder never heard of are parked.
    pub(super) fn cut_links(&mut self, cx: &mut Context<'_>) {
        for phone in &mut self.phones {
            if !phone.heard && cx.policy.parks() {
                phone.park(false, cx);
            } else {
                cx.emit(Effect::Unlink { phone: phone.conn });
            }
        }
    }

    pub(super) fn evict_all(&mut self, cause: Cause, cx: &mut Context<'_>) {
        for phone in mem::take(&mut self.phones) {
            cx.emit(Effect::Evict {
                phone: phone.conn,
                cause,
            });
        }
    }

    /// Evicts every phone that has been parked for as long as a phone may be.
    pub(super) fn end_long_waits(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        let is_due = |phone: &Phone| phone.parked.as_ref().is_some_and(|p| p.until <= now);
        while let Some(index) = self.phones.iter().position(is_due) {
            self.evict(index, Cause::NoServer, cx);
        }
    }

    /// Evicts one phone. A binary that knows it will hear of that, should it resume its tenure.
    fn evict(&mut self, index: usize, cause: Cause, cx: &mut Context<'_>) {
        let phone = self.phones.remove(index);
        cx.emit(Effect::Evict {
            phone: phone.conn,
            cause,
        });
        if let Some(close) = cause.close() {
            self.remember_departed(&phone, close.code, cx);
        }
    }

    fn position(&self, conn: Conn) -> Option<usize> {
        self.phones.iter().position(|phone| phone.conn == conn)
    }
}

impl Phone {
    /// Parks it, or lets it stay parked: the time it has waited counts from the first call.
    fn park(&mut self, frames: bool, cx: &mut Context<'_>) {
        let until = cx.park_until();
        self.parked.get_or_insert(Parked { until, frames }).frames |= frames;
        cx.emit(Effect::Park { phone: self.conn });
    }

    /// Joins it to a holder: linked if the holder knows it or is about to read what it has parked; if it has
    /// said nothing yet, its first frame asks.
    fn adopt(&mut self, binary: Conn, cx: &mut Context<'_>) {
        let parked = self.parked.take();
        self.heard |= parked.as_ref().is_some_and(|p| p.frames);
        if self.heard {
            cx.emit(Effect::Link {
                phone: self.conn,
                binary,
            });
        } else if parked.is_some() {
            cx.emit(Effect::Unlink { phone: self.conn });
        }
    }
}
