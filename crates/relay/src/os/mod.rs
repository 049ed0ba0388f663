//! What the relay asks of the operating system.

pub(crate) mod rlimit;
pub(crate) mod tcp_info;
