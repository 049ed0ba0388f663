//! What an operator may do: close a phone, or a slot with everything in it. Every close is a full handshake.

use super::reply::{Reply, error, json};
use crate::config::AdminToken;
use crate::router::{Router, SlotHash};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName};
use serde::Serialize;
use std::time::Duration;

/// A header of our own: a browser asks before it sends it to another site, and is never allowed to.
const TOKEN: HeaderName = HeaderName::from_static("x-pyrycode-admin-token");

/// What a wrong token costs: guessing one of 16 characters takes for ever, and so does a shorter dictionary.
const PENALTY: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Closed {
    closed: usize,
}

/// Refuses who does not know the token.
pub(super) async fn authorized(token: &AdminToken, headers: &HeaderMap) -> Result<(), Reply> {
    const FIX: &str = "send the token in X-Pyrycode-Admin-Token; it is on the relay's standard output, in the line \
                       that starts with \"admin page:\", unless PYRYCODE_RELAY_ADMIN_TOKEN sets it";
    match headers.get(TOKEN) {
        Some(sent) if token.is(sent.as_bytes()) => Ok(()),
        Some(_) => {
            tokio::time::sleep(PENALTY).await;
            let wrong = format!("the token is not right; {FIX}");
            Err(error(StatusCode::UNAUTHORIZED, &wrong))
        }
        None => {
            let missing = format!("closing takes a token; {FIX}");
            Err(error(StatusCode::UNAUTHORIZED, &missing))
        }
    }
}

/// Closes a slot's binary and its phones.
pub(super) fn close_slot(router: &Router, hash: SlotHash) -> Option<Reply> {
    let closed = router.slot(hash)?.close();
    Some(json(StatusCode::ACCEPTED, &Closed { closed }))
}

/// Closes one phone.
pub(super) fn close_phone(router: &Router, hash: SlotHash, suffix: u32) -> Option<Reply> {
    let closed = router.slot(hash)?.close_phone(suffix);
    closed.then(|| json(StatusCode::ACCEPTED, &Closed { closed: 1 }))
}
