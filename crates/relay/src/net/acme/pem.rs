//! PEM as the cache files have it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Base64 characters in a line (RFC 7468, section 2).
const LINE: usize = 64;

/// One block. Nothing stands before, between or after blocks: a reader may take that for damage.
pub(super) fn block(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let base64 = STANDARD.encode(der);
    let mut rest = &*base64;
    while !rest.is_empty() {
        // Base64 is ASCII: every index is a boundary.
        let (line, further) = rest.split_at(LINE.min(rest.len()));
        text.push_str(line);
        text.push('\n');
        rest = further;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
