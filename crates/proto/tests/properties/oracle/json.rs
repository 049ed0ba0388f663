//! `serde_json` as the judge of JSON.

use relay_proto::json::{JsonErrorKind, validate};

/// Panics unless both give the same verdict. The library has no limit of depth.
pub(crate) fn compare(document: &[u8]) {
    let ours = validate(document);
    let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(document).map(|_| ());
    match (&ours, &theirs) {
        (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
        (Err(e), Ok(())) if e.kind == JsonErrorKind::Depth => {}
        _ => panic!("{}: {ours:?}, but {theirs:?}", document.escape_ascii()),
    }
    if let Err(e) = ours {
        assert!(e.offset <= document.len());
    }
}
