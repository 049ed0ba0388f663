//! What the relay asks of the operating system.

pub(crate) mod privileges;
pub(crate) mod random;
pub(crate) mod rlimit;
pub(crate) mod systemd;
pub(crate) mod tcp_info;
