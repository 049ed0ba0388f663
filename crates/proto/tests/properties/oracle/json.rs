//! `serde_json` as the judge of JSON.

use relay_proto::json::{JsonErrorKind, validate};

/// How deep arrays and objects may be nested.
const MAX_DEPTH: usize = 10_000;

/// How many levels the deepest place has, in a document or the front of one.
fn depth(document: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in document {
        match (in_string, byte) {
            _ if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Panics unless both give the same verdict, and we refuse as too deep what is. The library has no limit of depth.
pub(crate) fn compare(document: &[u8]) {
    let ours = validate(document);
    let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(document).map(|_| ());
    let too_deep = matches!(ours, Err(e) if e.kind == JsonErrorKind::Depth);
    match (&ours, &theirs) {
        (Ok(()), Ok(())) => assert!(depth(document) <= MAX_DEPTH),
        (Err(_), Err(_)) => {}
        (Err(_), Ok(())) if too_deep => {}
        _ => panic!("{}: {ours:?}, but {theirs:?}", document.escape_ascii()),
    }
    if let Err(e) = ours {
        assert!(e.offset <= document.len());
        match too_deep {
            true => assert_eq!(depth(&document[..=e.offset]), MAX_DEPTH + 1),
            false => assert!(depth(&document[..e.offset]) <= MAX_DEPTH),
        }
    }
}
