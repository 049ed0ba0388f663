//! From repeated runs to a table and a JSON file.

use serde_json::{Value, json};

use crate::machine::Load;
use crate::stats::{median, ratios, spread};

/// What a figure must reach. Less is better in all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    /// Which number is judged.
    pub(crate) of: Judged,
    /// It may be this at most.
    pub(crate) at_least: f64,
    /// It should be this.
    pub(crate) aim: Option<f64>,
}

/// Which number of a row a [`Target`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The median itself.
    Median,
    /// How many times the floor's.
    TimesFloor,
}

impl Target {
    /// A bound on the median.
    pub(crate) fn median(at_least: f64, aim: Option<f64>) -> Self {
        let of = Judged::Median;
        Self { of, at_least, aim }
    }

    /// A bound on the median in multiples of the floor's.
    pub(crate) fn times_floor(at_least: f64, aim: f64) -> Self {
        let (of, aim) = (Judged::TimesFloor, Some(aim));
        Self { of, at_least, aim }
    }
}

/// How a figure did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Better than was asked.
    Aim,
    Met,
    Missed,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Aim => "aim reached",
            Self::Met => "met",
            Self::Missed => "missed",
        }
    }
}

/// Why a row has no values.
#[derive(Clone, Debug)]
pub(crate) enum Absent {
    /// This relay cannot be measured so.
    LeftOut(String),
    Failed(String),
}

/// One figure, measured several times.
#[derive(Debug)]
pub(crate) struct Row {
    /// The part of the bench it belongs to, as `--only` calls it.
    pub(crate) part: &'static str,
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
    /// The same from the floor.
    pub(crate) floor: Vec<f64>,
    /// Values of the Go relay that were measured elsewhere, as a range.
    pub(crate) published: Option<(f64, f64)>,
    pub(crate) target: Option<Target>,
    /// The generator was the bottleneck, as this tells.
    pub(crate) limited: Option<String>,
    /// Anything else the reader must know.
    pub(crate) note: Option<String>,
    pub(crate) absent: Option<Absent>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self {
            part: "",
            name: name.into(),
            unit,
            values,
            floor: Vec::new(),
            published: None,
            target: None,
            limited: None,
            note: None,
            absent: None,
        }
    }

    /// A row that says why there are no figures.
    pub(crate) fn absent(name: impl Into<String>, why: Absent) -> Self {
        Self {
            absent: Some(why),
            ..Self::new(name, "", Vec::new())
        }
    }

    pub(crate) fn floor(mut self, floor: Vec<f64>) -> Self {
        self.floor = floor;
        self
    }

    pub(crate) fn published(mut self, low: f64, high: f64) -> Self {
        self.published = Some((low, high));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Says so if the generator, and not the server, limited these runs.
    pub(crate) fn loads(mut self, loads: impl IntoIterator<Item = Load>) -> Self {
        self.limited = Load::limited(&loads.into_iter().collect::<Vec<_>>());
        self
    }

    /// Ours over the floor's; the median of that.
    pub(crate) fn times_floor(&self) -> Option<f64> {
        let ratios = ratios(&self.values, &self.floor);
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// How many times less than the published best.
    fn published_over_ours(&self) -> Option<f64> {
        self.published.map(|(low, _)| low / median(&self.values))
    }

    /// The number its target is about.
    pub(crate) fn judged(&self) -> Option<f64> {
        let value = match self.target?.of {
            Judged::Median => Some(median(&self.values)),
            Judged::TimesFloor => self.times_floor(),
        };
        value.filter(|value| value.is_finite())
    }

    /// How it did; `None` without a target, or without a figure.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let (value, target) = (self.judged()?, self.target?);
        Some(match target.aim {
            Some(aim) if value <= aim => Verdict::Aim,
            _ if value <= target.at_least => Verdict::Met,
            _ => Verdict::Missed,
        })
    }

    /// The target and how it was met, in words.
    pub(crate) fn judgement(&self) -> String {
        let Some(target) = self.target else {
            return String::new();
        };
        let times = match target.of {
            Judged::Median => "",
            Judged::TimesFloor => "x",
        };
        let aim = target
            .aim
            .map_or(String::new(), |aim| format!(", aim {}{times}", plain(aim)));
        let word = self.verdict().map_or("no figure", Verdict::word);
        format!("{word} (<= {}{times}{aim})", plain(target.at_least))
    }

    /// A line of the table, and one more for each thing to know.
    pub(crate) fn line(&self) -> String {
        match &self.absent {
            Some(Absent::LeftOut(why)) => return format!("{:<40}left out: {why}", self.name),
            Some(Absent::Failed(why)) => return format!("{:<40}FAILED: {why}", self.name),
            None => {}
        }
        let (low, high) = spread(&self.values);
        let value = format!(
            "{} [{}..{}]",
            short(median(&self.values)),
            short(low),
            short(high)
        );
        let floor = self.times_floor().map_or(String::new(), |ratio| {
            format!("{} ({}x)", short(median(&self.floor)), short(ratio))
        });
        let published = self
            .published
            .zip(self.published_over_ours())
            .map_or(String::new(), |((low, high), times)| {
                format!("{} ({}x)", range(low, high), short(times))
            });
        let mut line = format!(
            "{:<40}{:<6}{value:<24}{floor:<18}{published:<18}{}",
            self.name,
            self.unit,
            self.judgement()
        );
        for remark in self.limited.iter().chain(&self.note) {
            line.push_str("\n    ");
            line.push_str(remark);
        }
        line.trim_end().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        let (left_out, failed) = match &self.absent {
            None => (None, None),
            Some(Absent::LeftOut(why)) => (Some(why), None),
            Some(Absent::Failed(why)) => (None, Some(why)),
        };
        let measured = !self.values.is_empty();
        let (low, high) = spread(&self.values);
        json!({
            "part": self.part, "name": self.name, "unit": self.unit,
            "median": measured.then(|| median(&self.values)),
            "min": measured.then_some(low), "max": measured.then_some(high),
            "values": self.values,
            "floor_values": self.floor,
            "floor_median": (!self.floor.is_empty()).then(|| median(&self.floor)),
            "times_the_floor": self.times_floor(),
            "reference_published": self.published.map(|(low, high)| [low, high]),
            "reference_over_ours": self.published_over_ours(),
            "target": self.target.map(|target| json!({
                "of": match target.of { Judged::Median => "median", Judged::TimesFloor => "times_the_floor" },
                "at_least": target.at_least, "aim": target.aim,
            })),
            "verdict": self.verdict().map(Verdict::word),
            "limited_by_the_generator": self.limited,
            "note": self.note, "left_out": left_out, "failed": failed,
        })
    }
}

/// The table's head.
pub(crate) fn head() -> String {
    format!(
        "{:<40}{:<6}{:<24}{:<18}{:<18}target\n{}",
        "",
        "unit",
        "median [min..max]",
        "floor (it x ...)",
        "Go relay* (less)",
        "-".repeat(132)
    )
}

/// How many targets were met, in words.
pub(crate) fn summary(rows: &[Row]) -> String {
    let count = |verdict| rows.iter().filter(|row| row.verdict() == verdict).count();
    let [aim, met, missed] =
        [Verdict::Aim, Verdict::Met, Verdict::Missed].map(|verdict| count(Some(verdict)));
    let limited = rows.iter().filter(|row| row.limited.is_some()).count();
    let absent = rows.iter().filter(|row| row.absent.is_some()).count();
    format!(
        "{} of {} targets met, {aim} of them beyond the aim; {missed} missed. \
         {limited} figures limited by the generator, {absent} left out or failed.",
        aim + met,
        aim + met + missed
    )
}

/// A range as it is published.
pub(crate) fn range(low: f64, high: f64) -> String {
    if low < high {
        format!("{}-{}", plain(low), plain(high))
    } else {
        plain(low)
    }
}

/// As written in a table of targets.
fn plain(value: f64) -> String {
    format!("{value}")
}

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v < 0.1 => format!("{value:.3}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row::new("x", "µs", vec![2.0, 4.0, 3.0]).floor(vec![1.0, 1.0, 1.0])
    }

    #[test]
    fn a_row_tells_both_ratios() {
        let row = row().published(24.0, 37.0);
        assert_eq!(row.json()["times_the_floor"], 3.0);
        assert_eq!(row.json()["reference_over_ours"], 8.0);
        let line = row.line();
        assert!(
            line.contains("3.00 [2.00..4.00]") && line.contains("24-37 (8.00x)"),
            "{line}"
        );
    }

    #[test]
    fn a_target_is_judged_by_the_number_it_is_about() {
        let verdict = |target| row().target(target).verdict();
        assert_eq!(verdict(Target::times_floor(3.0, 1.0)), Some(Verdict::Met));
        assert_eq!(verdict(Target::times_floor(4.0, 3.0)), Some(Verdict::Aim));
        assert_eq!(
            verdict(Target::median(2.9, Some(1.0))),
            Some(Verdict::Missed)
        );
        assert_eq!(verdict(Target::median(3.0, None)), Some(Verdict::Met));
        assert_eq!(row().verdict(), None);
        let nothing = Row::absent("x", Absent::LeftOut("why".into()));
        assert_eq!(nothing.target(Target::median(1.0, None)).verdict(), None);
    }

    #[test]
    fn what_is_missing_says_why() {
        let row = Row::absent("storm", Absent::LeftOut("no process".into()));
        assert!(row.line().contains("left out: no process"));
        assert_eq!(row.json()["left_out"], "no process");
        assert!(row.json()["median"].is_null());
        let row = Row::absent("storm", Absent::Failed("no answer".into()));
        assert!(row.line().contains("FAILED: no answer"));
        let missed = self::row().target(Target::median(1.0, None));
        assert!(missed.line().contains("missed (<= 1)"), "{}", missed.line());
        let text = summary(&[row, missed]);
        assert!(text.starts_with("0 of 1 targets met"), "{text}");
        assert!(text.contains("1 left out or failed"), "{text}");
    }
}
