//! The terminal: a line for each thing that happens, with its time since the start.

use crate::stdout;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::Instant;

/// Who a line is about; decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Relay,
    Daemon(&'static str),
    Phone(&'static str),
}

impl Who {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Daemon(name) | Self::Phone(name) => name,
        }
    }

    /// The SGR code of its colour.
    fn colour(self) -> &'static str {
        match self {
            Self::Relay => "35",
            Self::Daemon(_) => "33",
            Self::Phone(_) => "36",
        }
    }
}

/// Prints the play. A check that failed is printed and remembered.
#[derive(Debug)]
pub(super) struct Stage {
    since: Instant,
    coloured: bool,
    checks: Mutex<Vec<(String, bool)>>,
}

impl Stage {
    pub(super) fn open() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            since: Instant::now(),
            coloured: std::io::stdout().is_terminal() && !no_color,
            checks: Mutex::default(),
        }
    }

    /// A new part of the play.
    pub(super) fn act(&self, title: &str) {
        self.print(&format!("\n{}", self.paint("1", title)));
    }

    /// Something that happened.
    pub(super) fn line(&self, who: Who, text: &str) {
        let name = self.paint(who.colour(), &format!("{:<9}", who.name()));
        self.print(&format!("{} {name} {text}", self.time()));
    }

    /// A line without a time, below the last one: what it means.
    pub(super) fn aside(&self, text: &str) {
        self.print(&self.paint("2", &format!("{:18}{text}", "")));
    }

    /// Something the demo claims, and whether it is so. `Err` says what was seen instead.
    pub(super) fn check(&self, claim: &str, seen: Result<(), String>) {
        let (mark, colour, text) = match &seen {
            Ok(()) => ("✓", "32", claim.to_owned()),
            Err(instead) => ("✗", "31;1", format!("{claim}: NO, {instead}")),
        };
        let mark = self.paint(colour, &format!("{mark}         {text}"));
        self.print(&format!("{} {mark}", self.time()));
        self.checks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push((claim.to_owned(), seen.is_ok()));
    }

    /// How many checks passed, of how many.
    pub(super) fn passed(&self) -> (usize, usize) {
        let checks = self
            .checks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        (
            checks.iter().filter(|(_, passed)| *passed).count(),
            checks.len(),
        )
    }

    /// Seconds since the start.
    pub(super) fn seconds(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }

    /// A line as it is.
    pub(super) fn print(&self, text: &str) {
        stdout::line(text);
    }

    fn time(&self) -> String {
        self.paint("2", &format!("{:7.3}", self.seconds()))
    }

    fn paint(&self, sgr: &str, text: &str) -> String {
        if self.coloured {
            format!("\x1b[{sgr}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_does_not_hold_is_remembered() {
        let stage = Stage::open();
        stage.check("water is wet", Ok(()));
        stage.check("pigs fly", Err("they walk".to_owned()));
        assert_eq!(stage.passed(), (1, 2));
    }
}
