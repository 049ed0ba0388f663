//! A daemon's push wake up to the message that is sent, and what is told of the answers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oracle::Members;
use pyrycode_relay::fuzzing::{access_token, failure, message_id, retry_after_ms, wake};
use relay_core::wake::Refusal;
use relay_proto::envelope::{Directive, PushWake, parse};
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

#[allow(dead_code, reason = "the envelope's target has use for the rest")]
#[path = "../../crates/proto/tests/properties/oracle/envelope.rs"]
mod oracle;

fuzz_target!(|data: &[u8]| {
    // A daemon's message; behind a byte that is in no text, an answer.
    let mut parts = data.splitn(2, |b| *b == 0xff);
    let message = parts.next().unwrap_or_default();
    let message = relay_fuzz::stretch(message);
    if let Ok(Directive::PushWake(asked)) = parse(&message) {
        check_parsed(&asked, &message);
        check_wake(&asked);
    }
    if let Some([high, low, body @ ..]) = parts.next() {
        check_answer(u16::from_be_bytes([*high, *low]), body);
    }
});

/// It is read as the model reads it, where the library can: not other than UTF-8, nor lone surrogates.
fn check_parsed(asked: &PushWake<'_>, message: &[u8]) {
    let ours = asked.parse().ok().map(|wake| (wake.platform, wake.token));
    let Ok(text) = std::str::from_utf8(message) else {
        return;
    };
    let theirs = model(text);
    if theirs.is_some() || !text.to_ascii_lowercase().contains("\\ud") {
        assert_eq!(ours, theirs, "{text}");
    }
}

/// Platform and token. Of members of one name the last counts, and `null` is an empty text.
fn model(message: &str) -> Option<(String, String)> {
    let Members(members) = serde_json::from_str(message).ok()?;
    let (_, raw) = members.iter().rfind(|(name, _)| name == "push_wake")?;
    let Members(members) = serde_json::from_str(raw.get()).ok()?;
    let (mut platform, mut token) = (None, None);
    for (name, raw) in members {
        let field: &mut Option<String> = match name.as_str() {
            "platform" => &mut platform,
            "token" => &mut token,
            _ => continue,
        };
        *field = serde_json::from_str(raw.get()).ok()?;
    }
    Some((platform.unwrap_or_default(), token.unwrap_or_default()))
}

fn check_wake(asked: &PushWake<'_>) {
    assert_eq!(format!("{asked:?}"), "PushWake(..)");
    let parsed = asked.parse();
    let (platform, token) = match &parsed {
        Ok(wake) => (wake.platform.as_str(), wake.token.as_str()),
        Err(error) => {
            assert_eq!(error.to_string(), "malformed push_wake");
            ("", "")
        }
    };
    if let Ok(wake) = &parsed {
        let shown = format!("{wake:?}");
        assert_eq!(shown, format!("Wake {{ platform: {platform:?}, .. }}"));
    }
    let expected = match (parsed.is_ok(), platform, token) {
        (false, ..) => Err(Refusal::Malformed),
        (_, "fcm", "") => Err(Refusal::EmptyToken),
        (_, "fcm", token) => Ok(token),
        _ => Err(Refusal::Platform),
    };
    let admitted = wake(asked);
    assert_eq!(
        admitted.as_ref().map(|a| &*a.token).map_err(|e| *e),
        expected
    );
    let Ok(admitted) = admitted else { return };
    let body: Value = serde_json::from_slice(&admitted.body).expect("JSON");
    let message = json!({"message": {"token": token, "android": {"priority": "HIGH"}}});
    assert_eq!(body, message);
    assert!(admitted.body.len() <= 64 + 6 * token.len());
    let hex = admitted.fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(hex && admitted.fingerprint.len() == 8);
}

fn check_answer(status: u16, body: &[u8]) {
    if let Some(failure) = failure(status, body) {
        // Of the answer only what looks like the name of an enum's value.
        let told = failure.to_string();
        let fixed = format!("status {status}");
        let reasons = told.strip_prefix(&fixed).expect("the status");
        let inner = reasons.strip_prefix(" (").and_then(|r| r.strip_suffix(')'));
        let codes = inner.map(|inner| inner.split(", ")).into_iter().flatten();
        assert!(codes.clone().count() <= 2 && (inner.is_some() || reasons.is_empty()));
        for code in codes {
            let looks = |b: u8| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_');
            assert!((1..=64).contains(&code.len()) && code.bytes().all(looks));
        }
    }
    if let Some(id) = message_id(body) {
        assert!(id.len() <= 256 && relay_fuzz::is_one_line(&id) && !id.contains(' '));
    }
    if let Some((header, lives)) = access_token(body) {
        let token = header.strip_prefix(b"Bearer ").expect("a bearer's token");
        assert!(!token.is_empty() && !token.contains(&b'\n'));
        let reply: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(
            token,
            reply["access_token"]
                .as_str()
                .unwrap_or_default()
                .as_bytes()
        );
        let seconds = reply["expires_in"].as_u64().unwrap_or_default();
        assert_eq!(lives, Duration::from_secs(seconds));
    }
    if let Ok(text) = std::str::from_utf8(body) {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let wait = retry_after_ms(text, now);
        if let Ok(seconds) = text.trim().parse::<u32>() {
            assert_eq!(wait, Some(u64::from(seconds) * 1000));
        }
    }
}
