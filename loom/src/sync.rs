//! `crate::sync` of the relay, made of loom's parts, each as strong as the real one or weaker.

use std::cell::Cell;

pub(crate) use loom::sync::{Mutex, MutexGuard};

/// A mistake in every use of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weakness {
    /// None: the relay as it is.
    #[default]
    None,
    /// A read-modify-write is a read and a write.
    Torn,
    /// Every order is `Relaxed`.
    Relaxed,
    /// Nobody is woken.
    Silent,
}

// loom runs all threads of a scenario on the one that called it.
thread_local!(static WEAKNESS: Cell<Weakness> = const { Cell::new(Weakness::None) });

pub(crate) fn weaken(weakness: Weakness) {
    WEAKNESS.set(weakness);
}

fn is(weakness: Weakness) -> bool {
    WEAKNESS.get() == weakness
}

/// Has the interface of the `atomic_waker` crate.
#[derive(Debug, Default)]
pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.0.register_by_ref(waker);
    }

    pub(crate) fn wake(&self) {
        if !is(Weakness::Silent) {
            self.0.wake();
        }
    }
}

pub(crate) mod atomic {
    use super::{Weakness, is};
    pub(crate) use loom::sync::atomic::Ordering;

    fn order(strong: Ordering) -> Ordering {
        if is(Weakness::Relaxed) {
            Ordering::Relaxed
        } else {
            strong
        }
    }

    macro_rules! atomic {
        ($name:ident $value:ty { $($change:ident $after:expr;)* }) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            #[allow(dead_code, reason = "not each of them is used in each way")]
            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn load(&self, ordering: Ordering) -> $value {
                    self.0.load(order(ordering))
                }

                pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                    self.0.store(value, order(ordering));
                }

                /// Both halves of a torn change, one after the other.
                fn torn(&self, change: impl FnOnce($value) -> Option<$value>) -> Result<$value, $value> {
                    let before = self.0.load(Ordering::Acquire);
                    let after = change(before).ok_or(before)?;
                    self.0.store(after, Ordering::Release);
                    Ok(before)
                }

                $(pub(crate) fn $change(&self, value: $value, ordering: Ordering) -> $value {
                    if is(Weakness::Torn) {
                        let change: fn($value, $value) -> $value = $after;
                        return self.torn(|before| Some(change(before, value))).unwrap_or_else(|before| before);
                    }
                    self.0.$change(value, order(ordering))
                })*
            }
        };
    }

    atomic!(AtomicBool bool {
        swap |_, new| new;
    });
    atomic!(AtomicU64 u64 {
        fetch_add |before, more| before + more;
        fetch_max |before, other| before.max(other);
    });
    atomic!(AtomicUsize usize {
        fetch_add |before, more| before + more;
        fetch_sub |before, less| before.wrapping_sub(less);
        fetch_min |before, other| before.min(other);
        fetch_or |before, bits| before | bits;
        fetch_and |before, bits| before & bits;
    });

    impl AtomicUsize {
        pub(crate) fn fetch_update(
            &self,
            set: Ordering,
            fetch: Ordering,
            change: impl FnMut(usize) -> Option<usize>,
        ) -> Result<usize, usize> {
            if is(Weakness::Torn) {
                return self.torn(change);
            }
            self.0.fetch_update(order(set), order(fetch), change)
        }
    }
}
