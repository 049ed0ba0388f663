//! Every bound of the relay's memory, with where the number comes from.

/// Largest message a peer may send, in bytes, summed over its fragments; one more is closed 1009.
///
/// The real peers' largest legitimate message is about 87.5 KB (a 65,535-byte Noise message in base64, in its
/// JSON), and the daemon accepts 1 MiB: this is three times the one, and a quarter of the other.
pub const MESSAGE_BYTES: usize = 262_144;

/// What may wait for one phone, in bytes, counting [`OUTBOX_ITEM_BYTES`] for every item.
///
/// Sixteen messages of the largest size: the bursts that daemons send to a phone that has just connected fit,
/// and a phone that never reads costs no more than this.
pub const OUTBOX_BYTES: usize = 4 * 1024 * 1024;

/// What one queued item costs besides its own bytes: roughly what its entry in the queue and its
/// allocation take (a tiny item takes up to 150 bytes). It bounds an outbox to 65,536 items, however small they are.
pub const OUTBOX_ITEM_BYTES: usize = 64;

/// What every outbox may hold without drawing on the bytes that all of them share: planned into the connection limit,
/// and more than nearly all peers ever have waiting.
pub const QUEUE_FREE_BYTES: usize = 64 * 1024;

/// What an outbox draws at once from the bytes that all share: large enough that the common counter is touched
/// rarely, small against any sensible budget.
pub const QUEUE_STEP_BYTES: usize = 64 * 1024;

/// Of the bytes that a queue is to leave free for what is sent about others (close notices), those for which it draws
/// in time: some 60 notices. The whole would keep a budget busy with bytes that are nearly never used.
pub const QUEUE_SPARE_BYTES: usize = 8 * 1024;

/// What a binary's outbox leaves free for close notices, in bytes, and what notices may take up beyond the common budget:
/// some ten thousand of them.
pub const NOTICE_BYTES: usize = 1024 * 1024;

/// What one parked phone may have waiting, in bytes. A handshake's first message is far below 1 KiB; the rest is
/// room for a client that doesn't wait for its answer.
pub const PARK_PHONE_BYTES: usize = 65_536;

/// What all parked phones together may have waiting, in bytes, unless configured: 512 phones at their own limit,
/// or some 30,000 with a handshake each. An eighth of a machine with 256 MB.
pub const PARK_TOTAL_BYTES: usize = 32 * 1024 * 1024;

/// Phones one server-id may have, parked ones included: a person's devices, with room.
pub const PHONES_PER_SERVER: usize = 16;

/// Claimants that may wait for one slot's probe; further ones are turned away before their upgrade (those whose
/// upgrade is under way may still join, so the connection caps bound the rest). A daemon has one connection and at most one successor; sixteen is a crowd of misconfigured ones.
pub const CLAIMANTS_PER_SERVER: usize = 16;

/// Server-ids whose short tenures are remembered at a time. About 100 bytes each: 6 MiB at the most. An entry
/// lives at most burst × refill (10 s by default), so more would need 6,500 quarrelling ids per second.
pub const REDIAL_IDS: usize = 65_536;

/// Sources whose rate is remembered at a time, in each table of rates. Measured: 180 bytes for an address, 12 MiB at the
/// most; 360 for a name of 64 characters, as a proxy that is believed in everything can make them, 23 MiB.
pub const RATE_SOURCES: usize = 65_536;

/// Wakes that are being sent at a time, unless configured. Each may hold a connection to the push service and its
/// device token for some 20 s; the Go relay has the same number.
pub const WAKES_IN_FLIGHT: u32 = 32;

/// Server-ids whose rate of wakes is remembered at a time, at the price of [`RATE_SOURCES`] with names of 64
/// characters. An entry lives at most burst × refill (a minute by default).
pub const WAKE_IDS: usize = 65_536;

/// Lines about what one binary sends that goes nowhere, at once: enough to see what is wrong.
pub const COMPLAINT_BURST: u32 = 20;

/// Milliseconds until there may be one more such line: a journal keeps up with one a second.
pub const COMPLAINT_REFILL_MS: u64 = 1_000;

/// Whose rate of such lines is remembered at a time: about 100 bytes each, as of [`REDIAL_IDS`]. An entry lives at most
/// burst × refill.
pub const COMPLAINT_KEYS: usize = 65_536;

/// Entries an empty outbox keeps room for, so that one frame after the other needs no allocation.
pub const OUTBOX_KEPT_ITEMS: usize = 4;
