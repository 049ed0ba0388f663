//! The last minutes, as bars.

use super::theme::Theme;
use crate::top::api::Sample;
use crate::top::model::Model;
use crate::top::units::{bytes, count, micros};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, SparklineBar};

/// How much is shown, in seconds.
const SPAN_S: u64 = 300;

/// A label and a value beside the bars.
const LABEL: u16 = 13;
const VALUE: u16 = 11;

/// What is drawn: its label, its value in a second, if there is one, and how the value is written.
type Series = (&'static str, fn(&Sample) -> Option<f64>, fn(f64) -> String);

const SERIES: [[Series; 2]; 2] = [
    [
        ("frames/s", |s| Some(s.frames_up + s.frames_down), count),
        ("bytes/s", |s| Some(s.received_bytes + s.sent_bytes), bytes),
    ],
    [
        ("latency p99", |s| s.latency_p99_us, |n| micros(Some(n))),
        ("connections", |s| Some(s.binaries + s.phones), count),
    ],
];

/// The least width at which there are two beside each other.
const WIDE: u16 = 60;

/// Two rows of two series; only the first of each on a narrow screen.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: &Theme) {
    if area.is_empty() {
        return;
    }
    let columns = if area.width < WIDE { 1 } else { 2 };
    let samples: Vec<&Sample> = model.samples.iter().collect();
    let rows = Layout::vertical([Constraint::Fill(1); 2]).split(area);
    for (row, series) in rows.iter().zip(SERIES) {
        let places = Layout::horizontal(vec![Constraint::Fill(1); columns]).spacing(2);
        for (place, one) in places.split(*row).iter().zip(series) {
            draw_one(frame, *place, &samples, one, theme);
        }
    }
}

fn draw_one(
    frame: &mut Frame<'_>,
    area: Rect,
    samples: &[&Sample],
    (label, value, write): Series,
    theme: &Theme,
) {
    let parts = [
        Constraint::Length(LABEL),
        Constraint::Fill(1),
        Constraint::Length(VALUE),
    ];
    let [left, middle, right] = Layout::horizontal(parts).areas(area);
    frame.render_widget(Span::styled(label, theme.dim), left);
    let bars = bars(samples, middle.width.into(), value);
    let most = bars
        .iter()
        .flatten()
        .copied()
        .max()
        .unwrap_or_default()
        .max(1);
    let bars = bars.into_iter().map(SparklineBar::from);
    let sparkline = Sparkline::default()
        .data(bars.collect::<Vec<_>>())
        .max(most)
        .style(theme.bar);
    frame.render_widget(sparkline.absent_value_symbol(" "), middle);
    let now = samples.last().and_then(|sample| value(sample));
    let now = Line::raw(now.map_or("–".to_owned(), write)).right_aligned();
    frame.render_widget(now, right);
}

/// One bar for every few seconds up to the newest sample: the most that was in them. `None`: nothing is known.
///
/// A bar begins at a multiple of its length, so that the bars move, and do not change, as time goes on.
fn bars(samples: &[&Sample], width: usize, value: fn(&Sample) -> Option<f64>) -> Vec<Option<u64>> {
    let (Some(newest), Ok(columns @ 1..)) = (samples.last(), u64::try_from(width)) else {
        return Vec::new();
    };
    let length_ms = SPAN_S.div_ceil(columns) * 1000;
    let last = newest.t / length_ms;
    let mut bars = vec![None; width];
    for sample in samples {
        let ago = last.saturating_sub(sample.t / length_ms);
        let place = usize::try_from(ago)
            .ok()
            .and_then(|ago| (width - 1).checked_sub(ago));
        if let (Some(place), Some(value)) = (place, value(sample)) {
            // Rates and microseconds: whole numbers are fine enough, and saturate.
            bars[place] = bars[place].max(Some(value as u64));
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[(u64, Option<f64>)]) -> Vec<Sample> {
        let sample = |&(s, latency_p99_us): &(u64, Option<f64>)| Sample {
            t: s * 1000,
            latency_p99_us,
            ..Sample::default()
        };
        values.iter().map(sample).collect()
    }

    fn of(values: &[(u64, Option<f64>)], width: usize) -> Vec<Option<u64>> {
        let samples = samples(values);
        bars(&samples.iter().collect::<Vec<_>>(), width, |s| {
            s.latency_p99_us
        })
    }

    #[test]
    fn a_bar_is_the_most_of_its_seconds_and_a_gap_stays_one() {
        // 30 columns of 10 s.
        let seen = of(
            &[
                (1000, Some(5.0)),
                (1003, Some(9.0)),
                (1012, None),
                (1025, Some(2.0)),
            ],
            30,
        );
        assert_eq!(seen.len(), 30);
        assert_eq!(&seen[26..], [None, Some(9), None, Some(2)]);
    }

    #[test]
    fn bars_move_as_a_whole() {
        let before = of(
            &[(1000, Some(1.0)), (1013, Some(3.0)), (1019, Some(2.0))],
            30,
        );
        let after = of(
            &[
                (1000, Some(1.0)),
                (1013, Some(3.0)),
                (1019, Some(2.0)),
                (1020, Some(7.0)),
            ],
            30,
        );
        assert_eq!(before[1..], after[..29]);
    }

    #[test]
    fn no_width_no_samples_and_clocks_that_go_backwards_are_fine() {
        assert!(of(&[], 30).is_empty());
        assert!(of(&[(1, Some(1.0))], 0).is_empty());
        assert_eq!(of(&[(900, Some(4.0)), (5, Some(1.0))], 2), [None, Some(4)]);
    }
}
