//! The snapshot: plain text, no escape codes, for a pipe or a ticket.

use super::api::{Page, Slot, Summary, Text};
use super::figures::{LABEL, figures};
use super::units::{age, bytes, count, date_and_time};
use std::fmt::Write as _;

/// What is shown of a slot: its heading, whether it is a number, and how it is read from the slot.
type Column = (&'static str, bool, fn(&Slot) -> String);

const COLUMNS: [Column; 8] = [
    ("SLOT", false, |slot| slot.name().to_string()),
    ("STATE", false, |slot| slot.state.to_string()),
    ("PHONES", true, |slot| count(slot.phones as f64)),
    ("WAITING", true, |slot| count(slot.parked as f64)),
    ("AGE", true, |slot| age(slot.since_seconds)),
    ("QUEUED", true, |slot| bytes(slot.queue_bytes)),
    ("VERSION", false, |slot| cut(slot.version.as_ref())),
    ("REMOTE", false, |slot| cut(slot.remote.as_ref())),
];

/// The figures, and the slots of `page`, which are those with the most phones.
pub(super) fn snapshot(source: &str, summary: &Summary, page: &Page) -> String {
    let mut text = format!(
        "pyrycode-relay {} at {source}: {}, up {}, {}\n\n",
        summary.version,
        summary.phase,
        age(summary.uptime_seconds),
        date_and_time(summary.now_ms / 1000)
    );
    for figure in figures(summary) {
        let mark = if figure.alarming { "  (!)" } else { "" };
        line(
            &mut text,
            &format!("{:LABEL$}  {}{mark}", figure.label, figure.text),
        );
    }
    text.push('\n');
    match page.slots.len() {
        0 => text.push_str("no slots\n"),
        n if n < page.matching => {
            table(&mut text, &page.slots);
            line(
                &mut text,
                &format!(
                    "({n} of {} slots, those with the most phones)",
                    count(page.matching as f64)
                ),
            );
        }
        _ => table(&mut text, &page.slots),
    }
    text
}

fn table(text: &mut String, slots: &[Slot]) {
    let cells = slots
        .iter()
        .map(|slot| COLUMNS.map(|(_, _, cell)| cell(slot)));
    let rows: Vec<[String; COLUMNS.len()]> =
        std::iter::once(COLUMNS.map(|(name, ..)| name.to_owned()))
            .chain(cells)
            .collect();
    let width = |i: usize| {
        rows.iter()
            .map(|row| row[i].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).zip(COLUMNS);
        let cells = cells.map(|((cell, width), (_, number, _))| match number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        });
        line(text, &cells.collect::<Vec<_>>().join("  "));
    }
}

/// Peers choose their version: no more of it than leaves the table readable.
fn cut(text: Option<&Text>) -> String {
    text.map_or("–".to_owned(), |text| format!("{text:.40}"))
}

fn line(text: &mut String, line: &str) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fixture;

    #[test]
    fn a_snapshot_is_aligned_text() {
        let text = snapshot(
            "http://127.0.0.1:9090",
            &fixture::summary(),
            &fixture::page(0, 3, 200),
        );
        let expected = [
            "pyrycode-relay 0.1.0 at http://127.0.0.1:9090: ready, up 2h 3m, 2026-09-25T04:20:00Z",
            "",
            "peers        3 daemons, 12 phones; 1 phone waiting",
            "slots        3 live, 1 in grace, 0 waiting",
            "connections  15 of 20,000; 0 of 1,000 unanswered; 1/s let in, 0/s refused",
            "frames       12/s up, 1,456/s down; 2.0 KiB/s in, 3.0 MiB/s out",
            "latency      p50 40 µs, p99 1.2 ms; heartbeat p50 –, p99 –",
            "since start  3,345 frames, 4.8 MiB in, 5.7 MiB out; 40 let in, 2 refused",
            "changes      takeovers 1, reclaims 5, resumes 3, evictions 0, graces over 1",
            "buffers      0 B of 1.0 GiB queued (highest 12 KiB); 0 B of 32 MiB kept for waiting phones",
            "certificate  valid until 2026-10-31 (36d 4h); acme for relay.example.com",
            "push         off",
            "process      45 MiB, 3.2 % of a processor, 32 of 20,480 descriptors",
            "",
            "SLOT          STATE  PHONES  WAITING     AGE   QUEUED  VERSION  REMOTE",
            "000000000000  live       16        0  1m 15s      0 B  1.2.3    192.0.2.0",
            "000000000001  live       15        1  2m 30s  1.5 KiB  1.2.3    192.0.2.1",
            "000000000002  grace      14        2  3m 45s  3.0 KiB  1.2.3    192.0.2.2",
            "(3 of 200 slots, those with the most phones)",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        assert!(text.lines().all(|line| line.trim_end() == line));
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_relay_without_slots_says_so() {
        let text = snapshot("http://h:1", &fixture::summary(), &Page::default());
        assert!(text.ends_with("\nno slots\n"), "{text}");
    }

    #[test]
    fn a_long_or_evil_version_keeps_the_table_in_shape() {
        let mut page = fixture::page(0, 2, 2);
        page.slots[0].version = Some(Text::new(&"v\u{1b}[31m\n".repeat(100)));
        let text = snapshot("http://h:1", &fixture::summary(), &page);
        assert!(!text.contains('\u{1b}'));
        let rows: Vec<_> = text
            .lines()
            .rev()
            .take(3)
            .map(|line| line.find("192.0.2.").or(line.find("REMOTE")))
            .collect();
        assert!(
            rows[0].is_some() && rows[0] == rows[1] && rows[1] == rows[2],
            "{text}"
        );
    }
}
