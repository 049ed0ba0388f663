//! `pyrycode-relay check-config`: what is in force, and where each value comes from.

use super::contracts::ADMIN_TOKEN;
use super::layers::{Loaded, Value};
use super::{Certificate, Public, default_cache};
use crate::boot::Refusal;
use crate::os::rlimit;
use crate::stdout;
use std::fmt::Write as _;

/// The settings as a configuration file that says the same, each with its origin.
pub(crate) fn text(loaded: &Loaded) -> String {
    let mut text = String::new();
    let lines = loaded.values.iter().map(|setting| {
        let Value {
            name, text, origin, ..
        } = setting;
        match effective(name, text) {
            None => (format!("# {name} is not set"), origin.to_string()),
            Some((value, None)) => (format!("{name} = {value}"), origin.to_string()),
            Some((value, Some(why))) => (format!("{name} = {value}"), format!("{origin}: {why}")),
        }
    });
    let lines: Vec<(String, String)> = lines.collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    for (line, origin) in lines {
        // Writing to a String cannot fail.
        let _ = match line.starts_with('#') {
            true => writeln!(text, "{line}"),
            false => writeln!(text, "{line:width$}  # {origin}"),
        };
    }
    text
}

/// The value in TOML, and how it was found if nobody wrote it down. `None`: there is none.
fn effective(name: &str, value: &str) -> Option<(String, Option<&'static str>)> {
    if value.is_empty() && name != "metrics-listen" {
        let machine = rlimit::Machine::look();
        let here = "from this machine";
        let (derived, origin) = match name {
            "max-connections" => (machine.max_connections(), here),
            "max-handshakes" => (
                machine.max_handshakes(),
                "from this machine, and what its connections do not use yet",
            ),
            "queue-bytes" => (machine.queue_bytes(), here),
            "park-bytes" => (machine.park_bytes(), here),
            "cert-cache" => {
                let path = default_cache().display().to_string();
                return Some((quoted(&path), None));
            }
            _ => return None,
        };
        return Some((derived.to_string(), Some(origin)));
    }
    // Not every spelling of a number is one in TOML: 007 isn't, and +5 must not lose its sign.
    let number = value.parse::<i64>().map(|number| number.to_string());
    let bare = number.as_deref() == Ok(value) || matches!(value, "true" | "false");
    Some((
        if bare {
            value.to_owned()
        } else {
            quoted(value)
        },
        None,
    ))
}

fn quoted(value: &str) -> String {
    toml::Value::from(value).to_string()
}

/// What would happen with these settings, in a sentence.
fn summary(public: &Public) -> String {
    match public {
        Public::Plain { listen } => format!("plain HTTP on {listen}"),
        Public::Tls {
            listen,
            certificate,
            ..
        } => {
            let certificate = match certificate {
                Certificate::Acme(acme) => format!(
                    "a certificate for {} by ACME, kept in {}",
                    acme.domain,
                    acme.cache.display()
                ),
                Certificate::Files(files) => format!("the certificate in {}", files.cert.display()),
                Certificate::SelfSigned => "a self-signed certificate".to_owned(),
            };
            format!("TLS on {listen} with {certificate}")
        }
    }
}

/// Prints everything: settings on standard output, what is wrong on standard error.
pub(crate) fn print(loaded: &Loaded, refusals: &[Refusal]) {
    stdout::line(text(loaded).trim_end());
    if loaded.has_admin_token {
        stdout::line(format_args!("# {ADMIN_TOKEN} is set"));
    }
    for variable in &loaded.unknown_variables {
        eprintln!("warning: {variable} is set, and no setting has that name");
    }
    for refusal in refusals {
        eprintln!("{refusal}");
    }
    // That nothing is served is refused, too.
    if let (Some(public), []) = (loaded.settings.public(), refusals) {
        stdout::line(format_args!("# ok: {}", summary(&public)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_a_value_of_toml_with_the_same_text() {
        let values = [
            "0",
            "500",
            "-1",
            "007",
            "+5",
            "-0",
            "true",
            "T",
            "1e3",
            "a\"b\\\nc",
        ];
        for value in values {
            let (shown, _) = effective("cert-cache", value).unwrap();
            let table: toml::Table = format!("x = {shown}  # why").parse().unwrap();
            let text = match &table["x"] {
                toml::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(text, value, "{shown}");
        }
    }
}
