//! What a daemon says to wake a phone, and what the relay tells about it.

use serde_json::json;

use crate::log::Record;
use crate::relay::Relay;
use crate::wire::PUSH_TOKEN;

/// The envelope that asks for a wake of `device`, whose token has a mark in it by which it would be found anywhere.
pub fn envelope(device: &str) -> String {
    let token = format!("{PUSH_TOKEN}-{device}");
    json!({"push_wake": {"platform": "fcm", "token": token}}).to_string()
}

/// The event of a wake that is refused.
pub const DROPPED: &str = "binary_forwarder_push_wake_dropped";
/// The event of a wake that FCM took.
pub const SENT: &str = "push_wake_sent";
/// The event of one that it did not get, or take.
pub const FAILED: &str = "push_wake_send_failed";

/// The labels of the counter.
const OUTCOMES: [&str; 5] = [
    "sent",
    "unregistered",
    "send_failed",
    "token_fetch_failed",
    "dropped",
];

/// Waits until exactly these outcomes have been counted.
pub async fn expect_outcomes(relay: &Relay, expected: &[(&str, u32)]) {
    for outcome in OUTCOMES {
        let n = expected.iter().find(|(o, _)| *o == outcome);
        let n = n.map_or(0, |(_, n)| *n);
        let series = format!("pyrycode_relay_push_wakes_total{{outcome=\"{outcome}\"}}");
        relay.expect_metric(&series, n.into()).await;
    }
}

/// The lines about the outcomes of wakes.
pub fn outcomes(relay: &Relay) -> Vec<Record> {
    let mut records = relay.log.records();
    records.retain(|record| [SENT, FAILED].contains(&&*record.msg));
    records
}

/// The `err` of the `n`th failure, for which it waits.
///
/// # Panics
/// When its line is not as it should be.
pub async fn failure(relay: &Relay, n: usize) -> String {
    let line = relay.log.wait_nth(n, FAILED, &[]).await;
    assert_eq!(line.level, "WARN");
    assert_shape(&line);
    line.get("err")
        .expect("every failure has its err")
        .to_owned()
}

/// That the line of an outcome has its keys and no others, and what they look like.
///
/// # Panics
/// When it has not.
pub fn assert_shape(line: &Record) {
    let keys: Vec<&str> = line.fields.iter().map(|(key, _)| &**key).collect();
    let last = match &*line.msg {
        SENT => "fcm_message_id",
        _ => "err",
    };
    let all = ["time", "server_id", "token_fp", "duration", last];
    assert!(
        keys == all || line.msg == SENT && keys == all[..4],
        "{line:?}"
    );
    let fingerprint = line.get("token_fp").expect("a fingerprint");
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    assert!(
        fingerprint.len() == 8 && fingerprint.bytes().all(hex),
        "{line:?}"
    );
    let duration = line.get("duration").expect("a duration");
    let number = duration.strip_suffix("ms").or(duration.strip_suffix('s'));
    assert!(
        number.unwrap_or_default().parse::<f64>().is_ok(),
        "{line:?}"
    );
}
