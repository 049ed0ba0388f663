//! What others sent, made fit to be shown.

use serde::{Deserialize, Deserializer};
use std::fmt;

/// The longest text that is kept, in characters. No column and no line of ours is as wide.
const LONGEST: usize = 256;

/// A text from a relay, and so perhaps from a peer: without control characters, without characters that change
/// the direction of writing or show nothing, and of bounded length. It may be written to a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text(String);

impl Text {
    pub(crate) fn new(text: &str) -> Self {
        let kept = text.chars().filter(|&c| !c.is_control() && !invisible(c));
        Self(kept.take(LONGEST).collect())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Marks, joiners and overrides of Unicode's bidirectional algorithm, line separators, and other characters without
/// a shape.
fn invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_sent_cannot_move_the_cursor() {
        let text: Text =
            serde_json::from_str(r#""a\u001b[2J\u0007b\u009b31m\n\t\u202ec\u200b\ufeff d\u007f""#)
                .unwrap();
        assert_eq!(text.as_str(), "a[2Jb31mc d");
        assert_eq!(Text::new(&"x".repeat(9_999)).as_str().len(), LONGEST);
        assert_eq!(Text::new("Käthes 手机").as_str(), "Käthes 手机");
    }
}
