//! What is shared between threads without the runtime: the standard library's, and a waker without a lock.
//!
//! The files that import from here are also compiled against loom, which tries every order in which their threads can
//! take turns: see `loom/` at the root of the repository.

pub(crate) use atomic_waker::AtomicWaker;
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
