//! What the kernel knows about a connection's path.
//!
//! The one place of this program with `unsafe`: no safe wrapper for reading `TCP_INFO` exists in
//! the libraries it uses, and the call is a plain `getsockopt` into a buffer whose size the kernel is told.

#![allow(unsafe_code)]

use relay_core::Path;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Whether the peer's kernel still acknowledges what is sent to it.
///
/// [`Path::Silent`] means that bytes are on their way unacknowledged and that not a single
/// acknowledgement arrived for the given time. [`Path::Unknown`] where the system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn path(socket: BorrowedFd<'_>) -> Path {
    // Zeroed first: an older kernel fills only the fields it knows.
    let mut info = [0u32; 64];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
    // SAFETY: the pointer and the length describe `info`, which outlives the call and is valid
    // for any bit pattern; the descriptor is borrowed, so it is open.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    // struct tcp_info: eight bytes of small fields, then u32s; `tcpi_unacked` is the fifth of
    // them and `tcpi_last_ack_recv` (milliseconds) the thirteenth (linux/tcp.h, fixed ABI).
    const UNACKED: usize = 2 + 4;
    const LAST_ACK_RECV: usize = 2 + 12;
    if result != 0 || (length as usize) < (LAST_ACK_RECV + 1) * 4 {
        return Path::Unknown;
    }
    if info[UNACKED] == 0 {
        return Path::Acknowledged;
    }
    Path::Silent {
        for_ms: u64::from(info[LAST_ACK_RECV]),
    }
}

/// Elsewhere nothing is known, and only the probe's timeout runs.
#[cfg(not(target_os = "linux"))]
pub(crate) fn path(_socket: BorrowedFd<'_>) -> Path {
    Path::Unknown
}
