use super::*;
use crate::json::MAX_DEPTH;
use EnvelopeError::{Malformed as Bad, MissingConnId, MissingFrame};

fn error(message: &str) -> EnvelopeError {
    parse(message.as_bytes()).unwrap_err()
}

fn frame<'a>(conn_id: &'a str, frame: &'a str) -> Result<Directive<'a>, EnvelopeError> {
    Ok(Directive::Frame {
        conn_id: conn_id.into(),
        frame: frame.as_bytes(),
    })
}

fn close<'a>(frame: Option<&'a str>, code: u16) -> Result<Directive<'a>, EnvelopeError> {
    Ok(Directive::Close {
        conn_id: "c".into(),
        frame: frame.map(str::as_bytes),
        code,
    })
}

#[test]
fn a_frame_is_found_byte_for_byte() {
    for value in [
        "{ \"v\" : 2,\t\"a\":\"\\u003c<\" }",
        "[1, 2]",
        "\"x\"",
        "-1.0e5",
        "true",
        "\"null\"",
    ] {
        for message in [
            format!("{{\"conn_id\":\"c\",\"frame\":{value}}}"),
            format!(" {{ \"frame\" :\r\n{value} , \"token\":{{}}, \"conn_id\" : \"c\" }} \n"),
            format!("{{\"frame\":0,\"conn_id\":\"b\",\"conn_id\":\"c\",\"frame\":{value}}}"),
            format!("{{\"conn_id\":\"c\",\"close_code\":0,\"frame\":{value},\"push_wake\":7}}"),
            format!(
                "{{\"\\u0063onn_i\\u0064\":\"\\u0063\",\"frame\":{value},\"close_code\":null}}"
            ),
        ] {
            assert_eq!(parse(message.as_bytes()), frame("c", value), "{message}");
        }
    }
}

#[test]
fn close_directives_may_come_with_a_frame() {
    let cases = [
        (
            r#"{"conn_id":"c","frame":{"v":2},"close_code":4401}"#,
            close(Some(r#"{"v":2}"#), 4401),
        ),
        (
            r#"{"conn_id":"c","frame":null,"close_code":4421}"#,
            close(None, 4421),
        ),
        (r#"{"conn_id":"c","close_code":65535}"#, close(None, 65535)),
        (
            r#"{"conn_id":"c","close_code":1,"close_code":4408}"#,
            close(None, 4408),
        ),
        (
            r#"{"conn_id":"c","frame":1,"frame":null,"close_code":1005}"#,
            close(None, 1005),
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(parse(message.as_bytes()), expected, "{message}");
    }
}

#[test]
fn close_codes_are_plain_integers_of_sixteen_bits() {
    for code in [
        "1.0", "1e3", "\"4401\"", "-1", "-0", "65536", "70000", "true", "[]", "{}",
    ] {
        let message = format!(r#"{{"conn_id":"c","frame":1,"close_code":{code}}}"#);
        assert_eq!(
            error(&message),
            Bad(Malformed::Member("close_code")),
            "{message}"
        );
    }
}

#[test]
fn a_conn_id_is_a_string_or_absent() {
    for id in ["1", "true", "[]", "{}", "[\"c\"]"] {
        let message = format!(r#"{{"conn_id":{id},"frame":1,"push_wake":{{}}}}"#);
        assert_eq!(
            error(&message),
            Bad(Malformed::Member("conn_id")),
            "{message}"
        );
    }
    for message in [
        r#"{"frame":1}"#,
        r#"{"conn_id":null,"frame":1}"#,
        r#"{"conn_id":"","frame":1,"push_wake":null}"#,
        r#"{"conn_id":"c","conn_id":"","frame":1}"#,
        r#"{"Conn_ID":"c","frame":1}"#,
        "{}",
    ] {
        assert_eq!(error(message), MissingConnId, "{message}");
    }
}

#[test]
fn something_must_be_asked_for() {
    for message in [
        r#"{"conn_id":"c"}"#,
        r#"{"conn_id":"c","frame":null,"close_code":0}"#,
        r#"{"conn_id":"c","frame":1,"frame":null,"close_code":null}"#,
        r#"{"conn_id":"c","push_wake":{"platform":"fcm","token":"t"}}"#,
        r#"{"conn_id":"c","Frame":1}"#,
    ] {
        assert_eq!(error(message), MissingFrame, "{message}");
    }
}

#[test]
fn what_is_not_an_object_is_malformed() {
    for message in [
        "null",
        "1",
        "\"a\"",
        "[]",
        " [{\"conn_id\":\"c\"}] ",
        "true",
    ] {
        assert_eq!(error(message), Bad(Malformed::NotAnObject), "{message}");
    }
    for message in [
        "",
        "{",
        "{}x",
        "\u{feff}{}",
        "[1",
        "nul",
        r#"{"a":1,}"#,
        r#"{"a":1 "b":2}"#,
    ] {
        assert!(
            matches!(error(message), Bad(Malformed::Json(_))),
            "{message}"
        );
    }
    let secret = error(r#"{"conn_id":"s3cret","frame":s3cret}"#).to_string();
    assert_eq!(secret, "malformed envelope: unexpected byte at byte 28");
}

#[test]
fn the_envelope_counts_as_a_level() {
    let message = |depth: usize| {
        let nested = ["[".repeat(depth), "]".repeat(depth)].concat();
        format!(r#"{{"conn_id":"c","frame":{nested}}}"#)
    };
    assert!(parse(message(MAX_DEPTH - 1).as_bytes()).is_ok());
    assert!(matches!(
        error(&message(MAX_DEPTH)),
        Bad(Malformed::Json(_))
    ));
}

#[test]
fn conn_ids_are_unescaped() {
    let cases: [(&[u8], &str); 8] = [
        (br#"a\"\\\/\b\f\n\r\tz"#, "a\"\\/\u{8}\u{c}\n\r\tz"),
        (br"\u00e9\u6f22", "é漢"),
        (br"\ud83d\ude00!", "\u{1f600}!"),
        (br"\ud83dx", "\u{fffd}x"),
        (br"\ud83d\u0041", "\u{fffd}A"),
        (br"\ude00\ud83d", "\u{fffd}\u{fffd}"),
        (br"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (b"a\xffb\\n", "a\u{fffd}b\n"),
    ];
    for (id, expected) in cases {
        let message = [br#"{"frame":1,"conn_id":""#, id, br#""}"#].concat();
        assert_eq!(
            parse(&message),
            frame(expected, "1"),
            "{}",
            id.escape_ascii()
        );
    }
}

#[test]
fn plain_conn_ids_are_borrowed() {
    let Ok(Directive::Frame { conn_id, .. }) = parse(br#"{"conn_id":"c","frame":1}"#) else {
        panic!("not a frame");
    };
    assert!(matches!(conn_id, Cow::Borrowed("c")));
}

#[test]
fn a_push_wake_has_no_conn_id() {
    for message in [
        r#"{"push_wake":{"platform":"fcm","token":"s3cret","more":[1]}}"#,
        r#"{"conn_id":null,"push_wake":{"token":"s3cret","platform":"fcm"}}"#,
        r#"{"conn_id":"","push_wake": { "platform":"fcm","token":"\u00733cret"} ,"frame":1,"close_code":5}"#,
    ] {
        let Ok(Directive::PushWake(wake)) = parse(message.as_bytes()) else {
            panic!("not a push wake: {message}");
        };
        assert!(!format!("{wake:?}").contains("cret"));
        let wake = wake.parse().unwrap();
        assert_eq!(
            (wake.platform.as_str(), wake.token.as_str()),
            ("fcm", "s3cret")
        );
        assert!(!format!("{wake:?}").contains("s3cret"));
    }
}

#[test]
fn a_push_wake_is_looked_into_later() {
    let wake = |value: &str| {
        let message = format!(r#"{{"push_wake":{value}}}"#);
        match parse(message.as_bytes()) {
            Ok(Directive::PushWake(wake)) => wake.parse().map(|w| (w.platform, w.token)),
            other => panic!("not a push wake: {other:?}"),
        }
    };
    let words = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
    assert_eq!(wake("{}"), words("", ""));
    assert_eq!(
        wake(r#"{"platform":"apns","token":null}"#),
        words("apns", "")
    );
    for bad in [
        "1",
        "\"x\"",
        "[]",
        "true",
        r#"{"platform":1}"#,
        r#"{"token":{}}"#,
    ] {
        assert_eq!(wake(bad), Err(super::super::WakeError), "{bad}");
    }
}

#[test]
fn debug_output_shows_no_frame() {
    let shown = format!(
        "{:?}",
        parse(br#"{"conn_id":"c","frame":"s3cret","close_code":1000}"#)
    );
    assert_eq!(shown, "Ok(Close(\"c\", Some(8) bytes, 1000))");
}
