//! A refusal to start: what is wrong, and how to mend it.

use crate::observe::log::{Event, Key, Log};
use std::fmt;
use std::process::ExitCode;

/// Why the relay does not start. Shown as one log line, or as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    event: Event,
    fields: Vec<(Key, String)>,
}

impl Refusal {
    pub(crate) fn new(event: Event) -> Self {
        Self {
            event,
            fields: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, key: Key, value: impl fmt::Display) -> Self {
        self.fields.push((key, value.to_string()));
        self
    }

    /// What to do about it; comes last.
    pub(crate) fn fix(self, fix: impl fmt::Display) -> Self {
        self.with(Key::Fix, fix)
    }

    /// Which refusal it is.
    #[cfg(test)]
    pub(crate) fn event(&self) -> Event {
        self.event
    }

    /// Writes it as an error-level line.
    pub(crate) fn log(&self, log: &Log) {
        let fields = self.fields.iter();
        let fields: Vec<(Key, &dyn fmt::Display)> = fields
            .map(|(key, value)| (*key, value as &dyn fmt::Display))
            .collect();
        log.write(self.event, &fields);
    }

    /// The exit code: 1 for the certificate cache, as in the Go relay, and 2 for every other setting.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.event {
            Event::AutocertSetupFailed => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }
}

/// Without what would begin another line, or could command a terminal: values come from files.
fn in_one_line(value: &str) -> String {
    let mut line = String::with_capacity(value.len());
    for c in value.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

impl fmt::Display for Refusal {
    /// The event, then every field, the fix last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.event.name())?;
        for (key, value) in &self.fields {
            let value = in_one_line(value);
            match key {
                Key::Err => write!(f, ": {value}")?,
                Key::Fix => write!(f, "; {value}")?,
                key => write!(f, " ({} {value})", key.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_in_its_line() {
        let refusal = Refusal::new(Event::RefusedSettings)
            .with(Key::Err, "no\nname")
            .with(Key::Value, "\u{1b}[2Jé");
        let shown = refusal.to_string();
        assert!(
            shown.ends_with(": no\\nname (value \\u{1b}[2Jé)"),
            "{shown}"
        );
    }
}
