//! Push wakes: what a binary asks for is decided at once and sent by a task of its own.
//!
//! Which wakes are sent, and what may be told of their outcome, is decided by [`relay_core::wake`].

mod call;
mod credentials;
mod fcm;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod token;

pub use credentials::ServiceAccount;
pub(crate) use fcm::{Fcm, message_uri};

use crate::clock::Clock;
use crate::observe::log::{Elapsed, Event, Key, Log};
use crate::observe::metrics::{Metrics, WakeOutcome};
use aws_lc_rs::digest::{SHA256, digest};
use relay_core::wake::{Admission, Failure, FailureKind, Refusal};
use relay_core::{ServerId, WakePolicy};
use relay_proto::envelope::PushWake;
use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The push wakes of one relay.
pub(crate) struct Push(Option<Arc<Sender>>);

/// Names a device to FCM. It has no `Debug`, so that it cannot get into a text by accident.
struct DeviceToken(String);

impl DeviceToken {
    /// What the log knows it by: the first eight hex digits of its SHA-256.
    fn fingerprint(&self) -> String {
        let hash = digest(&SHA256, self.0.as_bytes());
        let mut text = String::new();
        for byte in &hash.as_ref()[..4] {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

struct Sender {
    fcm: Fcm,
    admission: Mutex<Admission>,
    clock: Clock,
    log: Log,
    metrics: Arc<Metrics>,
    /// True once sends are to break off.
    stopping: watch::Sender<bool>,
    /// No send is under way any more.
    idle: Notify,
}

impl Push {
    /// Push with this sender; without one, every wake is refused.
    pub(crate) fn new(
        fcm: Option<Fcm>,
        policy: &WakePolicy,
        clock: Clock,
        log: Log,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(fcm.map(|fcm| {
            metrics.enable_push();
            Arc::new(Sender {
                fcm,
                admission: Mutex::new(Admission::new(policy)),
                clock,
                log,
                metrics,
                stopping: watch::Sender::new(false),
                idle: Notify::new(),
            })
        }))
    }

    /// Takes a wake that a binary of `server` asks for. It is sent by a task of its own, whatever becomes of the
    /// binary.
    ///
    /// # Errors
    /// Why it is not sent; it is counted, and not logged.
    pub(crate) fn wake(&self, server: &ServerId, wake: &PushWake<'_>) -> Result<(), Refusal> {
        let sender = self.0.as_ref().ok_or(Refusal::Off)?;
        let admitted = sender.lock().admit(sender.clock.now(), server, wake);
        if admitted.as_ref().is_err_and(|refusal| refusal.is_limit()) {
            sender.metrics.wake(WakeOutcome::dropped);
        }
        let device = DeviceToken(admitted?.token);
        // Not when its task gets to it: it shares the fetch that is under way now.
        let asked = sender.fcm.fetches();
        tokio::spawn(InFlight(sender.clone()).send(server.clone(), device, asked));
        Ok(())
    }

    /// Wakes being sent now; `None` without push.
    pub(crate) fn in_flight(&self) -> Option<usize> {
        let sender = self.0.as_ref()?;
        Some(sender.lock().in_flight() as usize)
    }

    /// Server-ids whose rate is limited now.
    pub(crate) fn limited_ids(&self) -> usize {
        let sender = self.0.as_ref();
        sender.map_or(0, |sender| sender.lock().limited_ids())
    }

    /// Refuses further wakes, breaks off those that are under way, and waits until their outcomes are logged. Takes no
    /// longer than that: nothing here waits for the network.
    pub(crate) async fn shutdown(&self) {
        let Some(sender) = &self.0 else { return };
        sender.lock().close();
        sender.stopping.send_replace(true);
        loop {
            let idle = sender.idle.notified();
            if sender.lock().in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Sender {
    fn lock(&self) -> MutexGuard<'_, Admission> {
        // Nothing panics under this lock.
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// An admitted wake. Gives its place back when dropped.
struct InFlight(Arc<Sender>);

impl InFlight {
    /// Sends it, or is stopped; says so once either way.
    async fn send(self, server: ServerId, device: DeviceToken, asked: u64) {
        let sender = &*self.0;
        let begun = Instant::now();
        let mut stopping = sender.stopping.subscribe();
        let result = tokio::select! {
            biased;
            result = sender.fcm.send(&device, asked) => result,
            // The channel's other end is in `sender`, so it does not close.
            _ = stopping.wait_for(|stop| *stop) => Err(Failure::Cancelled),
        };
        let outcome = match result.as_ref().map_err(Failure::kind) {
            Ok(_) => WakeOutcome::sent,
            Err(FailureKind::Unregistered) => WakeOutcome::unregistered,
            Err(FailureKind::SendFailed) => WakeOutcome::send_failed,
            Err(FailureKind::TokenFetchFailed) => WakeOutcome::token_fetch_failed,
        };
        sender.metrics.wake(outcome);
        let fingerprint = device.fingerprint();
        let elapsed = Elapsed(begun.elapsed());
        let mut fields: Vec<(Key, &dyn Display)> = vec![
            (Key::ServerId, &server),
            (Key::TokenFp, &fingerprint),
            (Key::Duration, &elapsed),
        ];
        let event = match &result {
            Ok(id) => {
                fields.extend(id.iter().map(|id| (Key::FcmMessageId, id as &dyn Display)));
                Event::PushWakeSent
            }
            Err(failure) => {
                fields.push((Key::Err, failure));
                Event::PushWakeSendFailed
            }
        };
        sender.log.write(event, &fields);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut admission = self.0.lock();
        admission.leave();
        if admission.in_flight() == 0 {
            self.0.idle.notify_waiters();
        }
    }
}
