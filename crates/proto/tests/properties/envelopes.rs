//! The routing envelope.

use crate::documents::{edited, string, value};
use crate::oracle;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use relay_proto::envelope::{Directive, SUFFIX, close_notice, parse, prefix};
use serde::de::IgnoredAny;

/// What a binary makes of a data envelope.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DataEnvelope {
    conn_id: String,
    #[serde(rename = "frame")]
    _frame: IgnoredAny,
}

/// An object with members that matter, more or less as they should be, in any order and number.
fn envelope() -> impl Strategy<Value = String> {
    let conn_id = prop_oneof![
        4 => string(),
        1 => select(vec!["null", "\"\"", "1", "{}", "\"client-1\""]).prop_map(str::to_owned),
    ];
    let codes = [
        "0", "null", "1000", "4401", "65535", "65536", "-1", "-0", "1.0", "1e3", "\"1\"",
    ];
    let member = prop_oneof![
        4 => conn_id.prop_map(|v| format!("\"conn_id\":{v}")),
        4 => value().prop_map(|v| format!(" \"frame\" :{v}")),
        2 => select(codes.to_vec()).prop_map(|v| format!("\"close_code\": {v} ")),
        1 => any::<u16>().prop_map(|v| format!("\"close_code\":{v}")),
        1 => value().prop_map(|v| format!("\"push_wake\":{v}")),
        1 => Just("\"push_wake\":{\"platform\":\"fcm\",\"token\":\"t\"}".to_owned()),
        1 => (string(), value()).prop_map(|(k, v)| format!("{k}:{v}")),
        1 => Just("\"\\u0066rame\":7".to_owned()),
    ];
    vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn is_read_as_the_model_reads_it(message in envelope()) {
        oracle::envelope::compare(message.as_bytes());
    }

    #[test]
    fn damaged_is_read_as_the_model_reads_it(message in edited(envelope())) {
        oracle::envelope::compare(&message);
    }

    #[test]
    fn a_wrapped_frame_comes_out_as_it_went_in(conn_id in "\\PC{1,20}|.{1,20}", frame in value()) {
        let message = [&prefix(&conn_id)[..], frame.as_bytes(), SUFFIX].concat();
        let model: DataEnvelope = serde_json::from_slice(&message).unwrap();
        prop_assert_eq!(&model.conn_id, &conn_id);
        // Whitespace around a value isn't part of it; a null frame asks for nothing.
        match (parse(&message), frame.trim_ascii()) {
            (Ok(Directive::Frame { conn_id: id, frame: bytes }), trimmed) => {
                prop_assert_eq!(id, conn_id);
                prop_assert_eq!(bytes, trimmed.as_bytes());
            }
            (_, trimmed) => prop_assert_eq!(trimmed, "null"),
        }
    }

    #[test]
    fn a_close_notice_names_its_phone(conn_id in "\\PC{1,20}|.{1,20}", code in 1..=u16::MAX) {
        let notice = close_notice(&conn_id, code);
        let expected = Directive::Close { conn_id: conn_id.into(), frame: None, code };
        prop_assert_eq!(parse(&notice), Ok(expected));
    }
}
