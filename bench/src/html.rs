//! The report as one HTML page: a plot for each figure beside its target, then all figures in a table.

use std::fmt::Write as _;

use crate::report::{Absent, Judged, Row, Verdict, range, short, summary};
use crate::stats::{median, spread};

/// The whole page; `about` says what was measured, where and when.
pub(crate) fn page(about: &[(&str, String)], rows: &[Row]) -> String {
    let mut out = String::from(HEAD);
    out.push_str("<h1>relay-bench</h1>\n<dl>");
    for (key, value) in about {
        add(
            &mut out,
            format_args!("<dt>{key}</dt><dd>{}</dd>", escaped(value)),
        );
    }
    add(
        &mut out,
        format_args!(
            "</dl>\n<p class=\"summary\">{}</p>\n",
            escaped(&summary(rows))
        ),
    );
    out.push_str(LEGEND);
    let mut part = "";
    for row in rows {
        if row.part != part {
            part = row.part;
            add(&mut out, format_args!("<h2>{}</h2>\n", escaped(part)));
        }
        figure(&mut out, row);
    }
    out.push_str("<h2>all figures</h2>\n");
    table(&mut out, rows);
    out.push_str("</main></body></html>\n");
    out
}

/// Writing to a string does not fail.
fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// The colour of a verdict.
fn class(row: &Row) -> &'static str {
    match row.verdict() {
        Some(Verdict::Aim) => "aim",
        Some(Verdict::Met) => "met",
        Some(Verdict::Missed) => "missed",
        None => "plain",
    }
}

fn figure(out: &mut String, row: &Row) {
    add(
        out,
        format_args!("<figure><figcaption><b>{}</b>", escaped(row.name.trim())),
    );
    match &row.absent {
        Some(Absent::LeftOut(why)) => add(out, format_args!(" left out: {}", escaped(why))),
        Some(Absent::Failed(why)) => {
            add(
                out,
                format_args!(" <span class=\"missed\">failed: {}</span>", escaped(why)),
            );
        }
        None => add(
            out,
            format_args!(
                " {} {} <span class=\"{}\">{}</span>",
                short(median(&row.values)),
                row.unit,
                class(row),
                escaped(&row.judgement())
            ),
        ),
    }
    out.push_str("</figcaption>\n");
    if row.absent.is_none() {
        plot(out, row);
    }
    for remark in row.limited.iter().chain(&row.note) {
        add(
            out,
            format_args!("<p class=\"note\">{}</p>\n", escaped(remark)),
        );
    }
    out.push_str("</figure>\n");
}

/// Where the plot begins, how wide it is, and how much of it the largest value takes.
const LEFT: f64 = 60.0;
const WIDTH: f64 = 520.0;

/// Bars for the medians of the relay and the floor with their spread and single runs, and lines for the targets.
fn plot(out: &mut String, row: &Row) {
    let floor = median(&row.floor);
    let targets: Vec<(f64, &str)> = row.target.map_or_else(Vec::new, |target| {
        let unit = match target.of {
            Judged::Median => 1.0,
            Judged::TimesFloor => floor,
        };
        let aim = target.aim.map(|aim| (aim * unit, "aim"));
        [(target.at_least * unit, "at least")]
            .into_iter()
            .chain(aim)
            .collect()
    });
    let ends = row.values.iter().chain(&row.floor);
    let ends = ends.copied().chain(targets.iter().map(|(at, _)| *at));
    let largest = ends.filter(|value| value.is_finite()).fold(0.0, f64::max);
    let scale = if largest > 0.0 { WIDTH / largest } else { 0.0 };
    let x = |value: f64| LEFT + value * scale;
    let bars = [
        ("relay", &row.values, class(row)),
        ("floor", &row.floor, "floor"),
    ];
    let bars: Vec<_> = bars
        .into_iter()
        .filter(|(_, values, _)| !values.is_empty())
        .collect();
    let height = 26.0 * bars.len() as f64 + 18.0;
    add(
        out,
        format_args!(
            "<svg viewBox=\"0 0 660 {height}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(row.name.trim())
        ),
    );
    for (index, (name, values, class)) in bars.into_iter().enumerate() {
        let y = 26.0 * index as f64 + 4.0;
        let (middle, (low, high)) = (median(values), spread(values));
        let bar = x(middle) - LEFT;
        add(
            out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" class=\"name\">{name}</text>\
                 <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{bar:.1}\" height=\"18\" class=\"{class}\"/>\
                 <path d=\"M{:.1} {:.1}H{:.1}\" class=\"spread\"/>\n",
                LEFT - 6.0,
                y + 13.0,
                x(low),
                y + 9.0,
                x(high)
            ),
        );
        for value in values {
            add(
                out,
                format_args!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>",
                    x(*value),
                    y + 9.0
                ),
            );
        }
        add(
            out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
                x(high) + 6.0,
                y + 13.0,
                short(middle)
            ),
        );
    }
    for (at, name) in targets.into_iter().filter(|(at, _)| at.is_finite()) {
        let at = x(at);
        add(
            out,
            format_args!(
                "<path d=\"M{at:.1} 0V{:.1}\" class=\"target\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" class=\"target\">{name}</text>\n",
                height - 14.0,
                height - 3.0
            ),
        );
    }
    out.push_str("</svg>\n");
}

fn table(out: &mut String, rows: &[Row]) {
    out.push_str(
        "<div class=\"wide\"><table><thead><tr><th>figure<th>unit<th>median<th>spread<th>floor\
         <th>times the floor<th>Go relay, published<th>target</tr></thead><tbody>\n",
    );
    for row in rows {
        let number = |value: Option<f64>| value.map_or(String::new(), short);
        let measured = !row.values.is_empty();
        let (low, high) = spread(&row.values);
        let published = row.published.map(|(low, high)| range(low, high));
        add(
            out,
            format_args!(
                "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td class=\"{}\">{}</tr>\n",
                escaped(row.name.trim()),
                row.unit,
                number(measured.then(|| median(&row.values))),
                if measured {
                    format!("{} to {}", short(low), short(high))
                } else {
                    String::new()
                },
                number((!row.floor.is_empty()).then(|| median(&row.floor))),
                number(row.times_floor()),
                published.unwrap_or_default(),
                class(row),
                escaped(&row.judgement())
            ),
        );
    }
    out.push_str("</tbody></table></div>\n");
}

const LEGEND: &str = "<p class=\"note\">Bars are medians, dots single runs, dark lines their spread. The floor is a \
bare TCP forwarder that moved the same bytes in the same run. Less is better, except for figures per second.</p>\n";

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>relay-bench</title><style>
:root { color-scheme: light dark; --back: #fff; --ink: #1c1c1e; --faint: #6b6b70; --line: #d8d8dc;
  --aim: #1f8a4c; --met: #3b78c4; --missed: #c4442e; --plain: #8a8a90; --floor: #b9b9c0; }
@media (prefers-color-scheme: dark) { :root { --back: #161618; --ink: #ececee; --faint: #9c9ca3;
  --line: #3a3a3e; --aim: #4cc27d; --met: #6ea8ee; --missed: #f0765f; --plain: #8f8f96; --floor: #55555b; } }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 720px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.summary { font-weight: 600; } .note { color: var(--faint); margin: .2rem 0; font-size: 13px; }
h2 { margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
figure { margin: 1rem 0; } svg { width: 100%; height: auto; font-size: 12px; }
svg text { fill: var(--ink); } svg .name { text-anchor: end; fill: var(--faint); }
svg text.target { text-anchor: middle; fill: var(--faint); font-size: 10px; }
svg path.target { stroke: var(--faint); stroke-dasharray: 3 3; }
svg path.spread { stroke: var(--ink); stroke-width: 1.5; } svg circle { fill: var(--ink); }
rect.aim { fill: var(--aim); } rect.met { fill: var(--met); } rect.missed { fill: var(--missed); }
rect.plain { fill: var(--plain); } rect.floor { fill: var(--floor); }
span.aim, td.aim { color: var(--aim); } span.met, td.met { color: var(--met); }
span.missed, td.missed { color: var(--missed); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; white-space: nowrap; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); }
</style></head><body><main>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Target;

    fn sample() -> Vec<Row> {
        let mut frames = Row::new("CPU per frame, <256 B>", "µs", vec![1.0, 2.0, 1.5])
            .floor(vec![1.0, 1.0, 1.0])
            .target(Target::times_floor(2.5, 1.2))
            .note("a & b");
        frames.part = "frames";
        let mut accepts = Row::new("accepts", "µs", vec![70.0]);
        accepts = accepts.target(Target::median(60.0, Some(45.0)));
        accepts.part = "accepts";
        let mut storm = Row::absent("storm", Absent::LeftOut("no process".into()));
        storm.part = "storm";
        vec![frames, accepts, storm]
    }

    #[test]
    fn the_page_stands_alone_and_says_everything() {
        let page = page(&[("Relay", "a <relay>".to_owned())], &sample());
        for part in ["frames", "accepts", "storm"] {
            assert!(page.contains(&format!("<h2>{part}</h2>")), "{part}");
        }
        for text in [
            "a &lt;relay&gt;",
            "CPU per frame, &lt;256 B&gt;",
            "a &amp; b",
            "left out: no process",
            "missed (&lt;= 60, aim 45)",
            "met (&lt;= 2.5x, aim 1.2x)",
            "prefers-color-scheme: dark",
            "1 of 2 targets met",
        ] {
            assert!(page.contains(text), "{text}");
        }
        for outside in ["http:", "https:", "<script", "<link", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<svg").count(), 2);
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn a_plot_has_room_for_its_targets() {
        let mut out = String::new();
        plot(&mut out, &sample()[0]);
        // The largest is the target, 2.5 times the floor: it is at the right edge; the median at 1.5 / 2.5 of it.
        assert!(out.contains("M580.0 0V"), "{out}");
        assert!(out.contains("width=\"312.0\""), "{out}");
        assert_eq!(out.matches("<circle").count(), 6);
    }
}
