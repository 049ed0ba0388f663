//! What subcommands print. Who reads it may stop before the end, as `head` does: that ends the output, and changes neither
//! what is done nor how it ends.

use std::fmt::Display;
use std::io::Write;

/// Prints this and the end of the line.
pub(crate) fn line(text: impl Display) {
    // There is nobody to tell.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
