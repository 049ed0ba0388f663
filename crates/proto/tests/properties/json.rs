//! The JSON check.

use crate::documents::{edited, value};
use crate::oracle;
use proptest::prelude::*;
use relay_proto::json::validate;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn accepts_every_document(document in value()) {
        prop_assert_eq!(validate(document.as_bytes()), Ok(()));
        oracle::json::compare(document.as_bytes());
    }

    #[test]
    fn gives_the_library_s_verdict(document in edited(value())) {
        oracle::json::compare(&document);
    }

    #[test]
    fn every_proper_front_of_an_object_is_incomplete(document in value()) {
        let document = document.trim_end();
        if document.ends_with(['}', ']', '"']) {
            for end in 0..document.len() {
                prop_assert!(validate(&document.as_bytes()[..end]).is_err());
            }
        }
    }
}

#[test]
fn gives_the_library_s_verdict_on_every_short_document() {
    // All strings of up to four of these bytes: every place where the grammar can branch.
    const BYTES: &[u8] = b"\"\\{}[],:-.e01 \nau\xff";
    let mut documents = vec![vec![]];
    for _ in 0..4 {
        let longer = documents.iter().flat_map(|document: &Vec<u8>| {
            BYTES
                .iter()
                .map(|byte| [document.as_slice(), &[*byte]].concat())
        });
        documents = longer.collect();
        documents
            .iter()
            .for_each(|document| oracle::json::compare(document));
    }
    assert_eq!(documents.len(), BYTES.len().pow(4));
}
