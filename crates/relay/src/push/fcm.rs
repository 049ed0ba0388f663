//! One message to one device, by FCM's HTTP v1 interface.

use super::DeviceToken;
use super::call::{Calls, Reply};
use super::credentials::https;
use super::token::Tokens;
use crate::clock::Clock;
use crate::config::Push as Settings;
use crate::net::tls::roots;
use hyper::{StatusCode, Uri};
use relay_core::wake::{Code, Failure, Reasons, Retries, message_id};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// Sends wakes.
pub(crate) struct Fcm {
    tokens: Tokens,
    calls: Calls,
    uri: Uri,
    /// For one message, with its retries.
    timeout: Duration,
    clock: Clock,
}

/// A wake-up and nothing else: no notification, no data.
#[derive(Serialize)]
struct Body<'a> {
    message: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    token: &'a str,
    android: Android,
}

#[derive(Serialize)]
struct Android {
    priority: &'static str,
}

impl Fcm {
    /// A sender for `settings`, which trusts the CAs of this machine. Reads their certificates, so it blocks.
    ///
    /// # Errors
    /// What of the settings cannot be used.
    pub(crate) fn new(settings: &Settings, clock: Clock) -> Result<Self, String> {
        let uri = message_uri(&settings.endpoint, &settings.project)?;
        let tls = roots::trusting(None).map_err(|error| error.to_string())?;
        let timeout = settings.timeout;
        let calls = Calls::new(tls, timeout);
        Ok(Self {
            tokens: Tokens::new(settings.account.clone(), calls.clone(), timeout),
            calls,
            uri,
            timeout,
            clock,
        })
    }

    /// The present, in fetches of tokens.
    pub(super) fn fetches(&self) -> u64 {
        self.tokens.fetches()
    }

    /// Wakes the device, which was `asked` for in that moment, and returns the message's id, if it can be shown.
    ///
    /// Cancel-safe: dropping it breaks off what is under way.
    pub(super) async fn send(
        &self,
        device: &DeviceToken,
        asked: u64,
    ) -> Result<Option<String>, Failure> {
        let token = self.tokens.get(asked).await?;
        let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.clock.now().plus(timeout_ms);
        let mut retries = Retries::new(deadline);
        loop {
            let reply = self.calls.post(
                &self.uri,
                "application/json",
                Some(token.header()),
                body(device),
                self.clock.instant(deadline),
            );
            let reply = reply.await.map_err(Failure::Call)?;
            if reply.status.is_success() {
                return Ok(read_message_id(&reply.body));
            }
            if reply.status == StatusCode::UNAUTHORIZED {
                self.tokens.forget(&token);
            }
            let status = reply.status.as_u16();
            // Without randomness retries are only less spread.
            let random = getrandom::u32().unwrap_or(0);
            let now = self.clock.now();
            match retries.next(now, status, reply.retry_after_ms, random) {
                Some(at) => tokio::time::sleep_until(self.clock.instant(at)).await,
                None => return Err(failure(&reply)),
            }
        }
    }
}

/// Where messages of `project` are posted.
///
/// # Errors
/// Which of the two cannot be used.
pub(crate) fn message_uri(endpoint: &str, project: &str) -> Result<Uri, String> {
    let origin = https(endpoint).filter(|uri| uri.path() == "/" && uri.query().is_none());
    if origin.is_none() {
        return Err("--fcm-endpoint is no https origin".to_owned());
    }
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
    if !(1..=128).contains(&project.len()) || !project.bytes().all(inside) {
        return Err("--fcm-project is no project id".to_owned());
    }
    let origin = endpoint.trim_end_matches('/');
    let uri = format!("{origin}/v1/projects/{project}/messages:send").parse();
    uri.map_err(|_| "--fcm-endpoint is no https origin".to_owned())
}

pub(super) fn body(device: &DeviceToken) -> Vec<u8> {
    let message = Message {
        token: &device.0,
        android: Android { priority: "HIGH" },
    };
    // Serializing strings into memory cannot fail.
    serde_json::to_vec(&Body { message }).unwrap_or_default()
}

pub(super) fn read_message_id(body: &[u8]) -> Option<String> {
    let reply: Value = serde_json::from_slice(body).ok()?;
    message_id(reply.get("name")?.as_str()?).map(str::to_owned)
}

/// Of an error answer, only its status and what looks like a code.
pub(super) fn failure(reply: &Reply) -> Failure {
    let parsed: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    Failure::Status {
        status: reply.status.as_u16(),
        reasons: Reasons {
            status: parsed.pointer("/error/status").and_then(code),
            error_code: parsed.pointer("/error/details").and_then(fcm_code),
        },
    }
}

fn code(word: &Value) -> Option<Code> {
    Code::new(word.as_str()?)
}

/// The code in the detail that is FCM's own.
fn fcm_code(details: &Value) -> Option<Code> {
    const TYPE: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
    let is_ours = |detail: &&Value| detail.get("@type").and_then(Value::as_str) == Some(TYPE);
    let detail = details.as_array()?.iter().find(is_ours)?;
    detail.get("errorCode").and_then(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> String {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after_ms: None,
            body: body.as_bytes().to_vec(),
        };
        failure(&reply).to_string()
    }

    #[test]
    fn the_body_is_the_agreed_one() {
        let device = DeviceToken("a\"b".to_owned());
        let expected = r#"{"message":{"token":"a\"b","android":{"priority":"HIGH"}}}"#;
        assert_eq!(body(&device), expected.as_bytes());
    }

    #[test]
    fn of_an_error_only_codes_are_told() {
        let fcm = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
        let details = format!(
            r#"[7,{{"@type":"other","errorCode":"OTHER"}},{{"@type":"{fcm}","errorCode":"UNREGISTERED"}}]"#
        );
        for (body, text) in [
            (
                format!(
                    r#"{{"error":{{"code":404,"message":"free text","status":"NOT_FOUND","details":{details}}}}}"#
                ),
                "status 404 (NOT_FOUND, UNREGISTERED)",
            ),
            (
                r#"{"error":{"status":"free text","details":{}}}"#.to_owned(),
                "status 404",
            ),
            (r#"{"error":"free text"}"#.to_owned(), "status 404"),
            ("<html>free text".to_owned(), "status 404"),
            (String::new(), "status 404"),
        ] {
            assert_eq!(told(404, &body), text, "{body}");
        }
    }

    #[test]
    fn a_message_uri_needs_an_https_origin_and_a_project_id() {
        let uri = |endpoint, project| message_uri(endpoint, project).map(|uri| uri.to_string());
        let sends = "https://fcm.example/v1/projects/my-project/messages:send";
        for origin in ["https://fcm.example", "https://fcm.example/"] {
            assert_eq!(uri(origin, "my-project").as_deref(), Ok(sends));
        }
        assert!(uri("https://[::1]:8443", "example.com:old").is_ok());
        for bad in [
            "",
            "fcm.example",
            "http://fcm.example",
            "https://",
            "https://fcm.example/path",
            "https://fcm.example?q",
            "https://user@fcm.example",
        ] {
            assert!(
                uri(bad, "my-project").unwrap_err().contains("endpoint"),
                "{bad}"
            );
        }
        for bad in ["", "a/b", "a?b", "a b", "Ä", "../x", &"x".repeat(129)] {
            let said = uri("https://fcm.example", bad).unwrap_err();
            assert!(said.contains("project"), "{bad}");
        }
    }
}
