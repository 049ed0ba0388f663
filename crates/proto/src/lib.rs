//! The wire of the relay, as pure functions and small state machines.
//!
//! Two kinds of peer dial in over WebSocket: the **binary** (one daemon per server-id) and its
//! **phones** (up to sixteen). This crate knows every byte they may exchange with the relay, and
//! nothing of sockets, clocks, threads or randomness: bytes in, values out.
//!
//! ```text
//!   phone ──────── bare JSON ───────▶ relay ── {"conn_id":"c","frame":<the same bytes>} ──▶ binary
//!   phone ◀─ the bytes of `frame` ─── relay ◀─ {"conn_id":"c","frame":…[,"close_code":n]} ─ binary
//!                                     relay ── {"conn_id":"c","close_code":1001} ─────────▶ binary
//!                                     relay ◀─ {"push_wake":{"platform":…,"token":…}} ───── binary
//! ```
//!
//! | module        | answers                                                                        |
//! |---------------|--------------------------------------------------------------------------------|
//! | [`headers`]   | Who is calling? The `x-pyrycode-*` headers of an upgrade request.               |
//! | [`handshake`] | Is it a WebSocket upgrade, and what is the answer? (RFC 6455 §4.2)              |
//! | [`ws`]        | Which messages are in these bytes? The RFC 6455 codec, both roles.              |
//! | [`json`]      | Is this exactly one JSON value?                                                |
//! | [`envelope`]  | What does the binary ask for; how is a phone's frame wrapped for it?            |
//! | [`proxy`]     | Who calls through a proxy? The PROXY protocol's header, before all else.       |
//! | [`close`]     | Why did a connection end: the close code, its reason, its label, what apps do.  |
//!
//! Facts that hold everywhere:
//!
//! * The relay sends each message as one unfragmented text frame, and accepts text and binary alike.
//! * No extension and no subprotocol is ever negotiated, so RSV bits are violations.
//! * A frame's JSON is never re-encoded: it is checked, then forwarded byte for byte.
//! * Error values and their `Display` carry offsets and kinds, never payload bytes.
#![forbid(unsafe_code)]

pub mod close;
pub mod envelope;
pub mod handshake;
pub mod headers;
pub mod json;
pub mod proxy;
pub mod ws;
