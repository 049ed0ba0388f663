//! How numbers are written.

use std::time::{Duration, UNIX_EPOCH};

/// `12,345`. Fractions are rounded.
pub(super) fn count(n: f64) -> String {
    let digits = format!("{:.0}", n.max(0.0));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 phone`, `12 phones`.
pub(super) fn counted(n: u64, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(n as f64))
}

/// `99,999`, then `100 k`, `1.2 M`: six characters at most.
pub(super) fn short(n: f64) -> String {
    match n {
        n if n < 99_999.5 => count(n),
        n if n < 999_500.0 => scaled(n / 1e3, "k", false),
        n if n < 999_500_000.0 => scaled(n / 1e6, "M", true),
        n => scaled(n / 1e9, "G", true),
    }
}

/// `1.5 MiB`.
pub(super) fn bytes(n: f64) -> String {
    let mut n = n.max(0.0);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        // What would be written as 1024 belongs to the next unit.
        if n < 1023.5 {
            return scaled(n, unit, unit != "B");
        }
        n /= 1024.0;
    }
    scaled(n, "TiB", true)
}

/// `120 µs`, `1.2 ms`, `3.0 s`; a dash when nothing was measured.
pub(super) fn micros(n: Option<f64>) -> String {
    match n {
        None => "–".to_owned(),
        Some(n) if n < 999.5 => scaled(n, "µs", n < 10.0),
        Some(n) if n < 999_500.0 => scaled(n / 1e3, "ms", true),
        Some(n) => scaled(n / 1e6, "s", true),
    }
}

/// As [`micros`], of milliseconds.
pub(super) fn millis(n: Option<f64>) -> String {
    micros(n.map(|n| n * 1e3))
}

/// Up to 10 with a digit after the point, if `fractions` mean anything.
fn scaled(n: f64, unit: &str, fractions: bool) -> String {
    match fractions && n < 9.95 {
        true => format!("{n:.1} {unit}"),
        false => format!("{n:.0} {unit}"),
    }
}

/// The two largest units of a time: `42s`, `3m 5s`, `2d 4h`.
pub(super) fn age(seconds: f64) -> String {
    // Saturates, also for what is no number.
    let s = seconds as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

/// The time of day of a Unix time in milliseconds, in UTC: `14:03:59`.
pub(super) fn clock(unix_ms: u64) -> String {
    let s = unix_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// `2026-01-31T14:03:59Z`.
pub(super) fn date_and_time(unix_s: u64) -> String {
    // The year 9999, beyond which a date cannot be written.
    let time = UNIX_EPOCH + Duration::from_secs(unix_s.min(253_402_300_799));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// `2026-01-31`.
pub(super) fn date(unix_s: u64) -> String {
    date_and_time(unix_s).chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!(count(0.0), "0");
        assert_eq!(count(999.4), "999");
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(count(-1.0), "0");
        assert_eq!(counted(1, "phone"), "1 phone");
        assert_eq!(counted(1_200, "phone"), "1,200 phones");
        let shorts = [99_999.0, 99_999.6, 999_600.0, 1_234_567.0, 45.6e9].map(short);
        assert_eq!(shorts, ["99,999", "100 k", "1.0 M", "1.2 M", "46 G"]);
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1023.0), "1023 B");
        assert_eq!(bytes(1024.0), "1.0 KiB");
        assert_eq!(bytes(1_048_000.0), "1023 KiB");
        assert_eq!(bytes(1_048_570.0), "1.0 MiB");
        assert_eq!(bytes(3.3e15), "3001 TiB");
        assert_eq!(micros(None), "–");
        assert_eq!(micros(Some(4.25)), "4.2 µs");
        assert_eq!(micros(Some(999.7)), "1.0 ms");
        assert_eq!(millis(Some(1500.0)), "1.5 s");
    }

    #[test]
    fn times_have_two_units_at_most() {
        assert_eq!(age(0.9), "0s");
        assert_eq!(age(185.0), "3m 5s");
        assert_eq!(age(3_660.0), "1h 1m");
        assert_eq!(age(2.0 * 86_400.0 + 4.0 * 3600.0), "2d 4h");
        assert_eq!(age(f64::NAN), "0s");
        assert_eq!(clock(86_399_999), "23:59:59");
        assert_eq!(date_and_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(u64::MAX), "9999-12-31");
    }
}
