//! A daemon's push wake up to the message that would be sent, and the reading of Google's answers.

use super::call::{Reply, retry_after_ms as read_retry_after};
use super::{DeviceToken, fcm, token};
use hyper::StatusCode;
use relay_core::wake::{Admission, Failure, Refusal};
use relay_core::{Millis, ServerId};
use relay_proto::envelope::PushWake;
use std::time::{Duration, SystemTime};

/// A wake that is sent.
pub struct Admitted {
    /// Whom to wake.
    pub token: String,
    /// What the log knows it by.
    pub fingerprint: String,
    /// What is posted to FCM.
    pub body: Vec<u8>,
}

/// What becomes of the first wake of a daemon.
///
/// # Errors
/// Why it is not sent.
pub fn wake(wake: &PushWake<'_>) -> Result<Admitted, Refusal> {
    let admitted = Admission::default().admit(Millis(0), &ServerId::new("s"), wake)?;
    let device = DeviceToken(admitted.token.clone());
    Ok(Admitted {
        token: admitted.token,
        fingerprint: device.fingerprint(),
        body: fcm::body(&device),
    })
}

/// What is told of an error answer of FCM. `None`: no such status.
pub fn failure(status: u16, body: &[u8]) -> Option<Failure> {
    Some(fcm::failure(&Reply {
        status: StatusCode::from_u16(status).ok()?,
        retry_after_ms: None,
        body: body.to_vec(),
    }))
}

/// What is told of FCM's answer to a message it took.
pub fn message_id(body: &[u8]) -> Option<String> {
    fcm::read_message_id(body)
}

/// The value for `Authorization` in the token endpoint's answer, and for how long it is good.
pub fn access_token(body: &[u8]) -> Option<(Vec<u8>, Duration)> {
    let (token, lives) = token::read(body)?;
    Some((token.header().as_bytes().to_vec(), lives))
}

/// How long an answer asks to be left alone, in milliseconds.
pub fn retry_after_ms(text: &str, now: SystemTime) -> Option<u64> {
    read_retry_after(text, now)
}
