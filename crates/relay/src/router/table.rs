//! The phones of one server-id, as its holder finds them.

use super::SlotHash;
use crate::session::peer::{Leg, Peer};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use relay_core::{Conn, ServerId, phone_suffix};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// One server-id's registered phones by the last part of their conn_id, and who may address them.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) server: ServerId,
    /// Of the server-id.
    pub(super) hash: SlotHash,
    inner: Mutex<Inner>,
    /// Frames written to binaries that may resume, over all of them.
    written: AtomicU64,
    /// How many of these are known to have arrived.
    proven: AtomicU64,
    /// Frames were dropped, nobody knows whose.
    lost: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    holder: Option<Conn>,
    phones: HashMap<u32, Arc<Peer>>,
}

impl Table {
    pub(crate) fn new(server: ServerId, hash: SlotHash) -> Self {
        Self {
            server,
            hash,
            inner: Mutex::default(),
            written: AtomicU64::new(0),
            proven: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock; if one did, the state is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The phone with this conn_id, for the present holder only: a displaced one reaches nobody.
    pub(crate) fn phone(&self, binary: Conn, conn_id: &str) -> Option<Arc<Peer>> {
        let suffix = phone_suffix(self.server.as_str(), conn_id)?;
        let inner = self.lock();
        if inner.holder != Some(binary) {
            return None;
        }
        inner.phones.get(&suffix).cloned()
    }

    /// Numbers a frame of this phone that was written to a binary that may resume. Its credit is given back afterwards.
    pub(crate) fn number(&self, phone: &Peer) -> u64 {
        let number = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        phone.last_written.store(number, Ordering::SeqCst);
        number
    }

    /// All frames up to this number have arrived.
    pub(crate) fn prove(&self, number: u64) {
        self.proven.fetch_max(number, Ordering::SeqCst);
    }

    /// Frames for the holder were dropped.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    /// Forgets that frames were dropped, and says whether they were.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::SeqCst)
    }

    /// Up to which number all frames are known to have arrived.
    pub(crate) fn proven(&self) -> u64 {
        self.proven.load(Ordering::SeqCst)
    }

    /// Oldest first.
    pub(super) fn phones(&self) -> Vec<Arc<Peer>> {
        let mut phones: Vec<_> = self.lock().phones.values().cloned().collect();
        phones.sort_unstable_by_key(|phone| phone.conn);
        phones
    }

    pub(crate) fn is_holder(&self, binary: Conn) -> bool {
        self.lock().holder == Some(binary)
    }

    pub(crate) fn set_holder(&self, holder: Option<Conn>) {
        self.lock().holder = holder;
    }

    pub(super) fn insert(&self, phone: &Arc<Peer>) {
        if let Leg::Phone { suffix } = phone.leg {
            self.lock().phones.insert(suffix, phone.clone());
        }
    }

    pub(super) fn remove(&self, phone: &Peer) {
        if let Leg::Phone { suffix } = phone.leg {
            let mut inner = self.lock();
            inner.phones.remove(&suffix);
            if inner.phones.is_empty() {
                inner.phones.shrink_to_fit();
            }
        }
    }

    pub(super) fn has_phone(&self, suffix: u32) -> bool {
        self.lock().phones.contains_key(&suffix)
    }
}
