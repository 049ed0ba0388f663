//! What the relay decides, without anything that could make the same inputs decide differently: no clock,
//! no socket, no lock, no randomness. Time comes in as a [`Millis`], events come in as values, and what is to
//! be done comes out as values.
//!
//! - [`hub`] holds every server-id's slot: who holds it, which phones it has, who is waiting for what.
//!   Frames don't pass through it; it makes and cuts the links they travel on.
//! - [`view`] shows the slots to whoever only looks.
//! - [`session`] is one connection's life: heartbeat, deadlines, the closing handshake; [`turn`] is how much it may take
//!   before others have their turn; [`proof`] is what a binary has proven to have read; [`resume`] says which phones may
//!   go on when their binary's process comes back.
//! - [`outbox`], [`park`] and [`bucket`] count what may be queued, kept and admitted; [`budget`] is what all outboxes
//!   share.
//! - [`lobby`] holds who is accepted and not answered yet; [`forwarded`] says who calls through proxies of ours.
//! - [`wake`] says which push wakes are sent, when a send is tried again, and what became of it.
//! - [`complaints`] says which lines about what somebody does wrong are written.
//! - [`drain`] spreads the closes of a shutdown; [`renewal`] says when a certificate is renewed.
//! - [`invariant`] says what must hold of a hub after every step.
//! - [`limits`] has every bound with its derivation.

#![forbid(unsafe_code)]

pub mod bucket;
pub mod budget;
pub mod complaints;
pub mod drain;
pub mod forwarded;
pub mod hub;
pub mod ids;
pub mod invariant;
pub mod limits;
pub mod lobby;
pub mod outbox;
pub mod park;
pub mod policy;
pub mod proof;
pub mod renewal;
pub mod resume;
pub mod session;
pub mod slot;
pub mod time;
pub mod turn;
pub mod view;
pub mod wake;

pub use bucket::{Buckets, Concurrent, RetryAfter, SourceKey, source_key};
pub use budget::Budget;
pub use complaints::Complaints;
pub use drain::Drain;
pub use hub::{Counts, Hub};
pub use ids::{Conn, Instance, ServerId, phone_conn_id, phone_suffix, suffix_of_digits};
pub use lobby::{Entry, Lobby, Ticket};
pub use outbox::{Outbox, Overflow};
pub use park::ParkBudget;
pub use policy::{Policy, SessionPolicy, WakePolicy};
pub use proof::Proofs;
pub use renewal::{Counted, Renewal, UnixSeconds, Validity};
pub use resume::{Resume, Sent};
pub use session::{Action, Session};
pub use slot::{Claim, Effect, Effects, Input, Path, PhoneEnd};
pub use time::Millis;
pub use turn::{Gather, TURN_BYTES, Turns};
pub use view::{SlotState, SlotView};
