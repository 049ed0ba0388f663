//! An attacker: threads that do something again and again, each with a runtime of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// An attack that goes on until it is told to end.
pub struct Attack {
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Attack {
    /// `act` is called again and again with the number of the call, over all `threads`.
    pub fn start<F: Future<Output = ()>>(
        threads: usize,
        act: impl Fn(usize) -> F + Send + Clone + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicUsize::new(0));
        let threads = (0..threads).map(|_| {
            let (stop, begun, act) = (stop.clone(), begun.clone(), act.clone());
            std::thread::spawn(move || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                let runtime = builder.enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    while !stop.load(Ordering::Relaxed) {
                        act(begun.fetch_add(1, Ordering::Relaxed)).await;
                    }
                });
            })
        });
        Self {
            threads: threads.collect(),
            stop,
            begun,
        }
    }

    /// How often `act` has been called so far.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Ends it. Returns how often it was called.
    ///
    /// # Panics
    /// When `act` did.
    pub fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("the attacker is well");
        }
        self.begun.load(Ordering::Relaxed)
    }
}
