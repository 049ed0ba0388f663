//! From repeated runs to a table and a JSON file.

use serde_json::{Value, json};

/// Values of the Go relay that were measured elsewhere, as a range.
pub(crate) type Published = Option<(f64, f64)>;

/// One figure, measured several times.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
    /// The same from the floor.
    pub(crate) floor: Vec<f64>,
    pub(crate) reference: Published,
    /// Anything the reader must know about this row.
    pub(crate) note: Option<String>,
}

/// The value in the middle; the mean of the two in the middle when they are even in number.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest and the largest value.
pub(crate) fn spread(values: &[f64]) -> (f64, f64) {
    let pair = (f64::INFINITY, f64::NEG_INFINITY);
    values.iter().fold(pair, |(low, high), value| {
        (low.min(*value), high.max(*value))
    })
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            unit,
            values,
            floor: Vec::new(),
            reference: None,
            note: None,
        }
    }

    pub(crate) fn floor(mut self, floor: Vec<f64>) -> Self {
        self.floor = floor;
        self
    }

    pub(crate) fn reference(mut self, low: f64, high: f64) -> Self {
        self.reference = Some((low, high));
        self
    }

    pub(crate) fn note(mut self, note: Option<String>) -> Self {
        self.note = note;
        self
    }

    /// Ours over the floor's, pair by pair of the runs that followed each other; the median of that.
    fn to_floor(&self) -> Option<f64> {
        let ratios: Vec<f64> = self
            .values
            .iter()
            .zip(&self.floor)
            .map(|(v, f)| v / f)
            .collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// How many times less than the reference's best.
    fn to_reference(&self) -> Option<f64> {
        self.reference.map(|(low, _)| low / median(&self.values))
    }

    /// A line of the table.
    pub(crate) fn line(&self) -> String {
        let (low, high) = spread(&self.values);
        let value = format!(
            "{} [{}..{}]",
            short(median(&self.values)),
            short(low),
            short(high)
        );
        let floor = self.to_floor().map_or(String::new(), |ratio| {
            format!("{} ({}x)", short(median(&self.floor)), short(ratio))
        });
        let reference = self.reference.zip(self.to_reference()).map_or(
            String::new(),
            |((low, high), times)| {
                let range = if low < high {
                    format!("{low}-{high}")
                } else {
                    low.to_string()
                };
                format!("{range} ({}x)", short(times))
            },
        );
        let note = self
            .note
            .as_deref()
            .map_or(String::new(), |note| format!("\n    {note}"));
        format!(
            "{:<34}{:<8}{value:<26}{floor:<18}{reference}{note}",
            self.name, self.unit
        )
    }

    pub(crate) fn json(&self) -> Value {
        let (low, high) = spread(&self.values);
        json!({
            "name": self.name, "unit": self.unit, "median": median(&self.values),
            "min": low, "max": high, "values": self.values,
            "floor_median": (!self.floor.is_empty()).then(|| median(&self.floor)),
            "times_the_floor": self.to_floor(),
            "reference_published": self.reference.map(|(low, high)| [low, high]),
            "reference_over_ours": self.to_reference(),
            "note": self.note,
        })
    }
}

/// The table's head.
pub(crate) fn head() -> String {
    format!(
        "{:<34}{:<8}{:<26}{:<18}{}\n{}",
        "",
        "unit",
        "median [min..max]",
        "floor (ours/it)",
        "Go relay* (it/ours)",
        "-".repeat(106)
    )
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_spread() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }

    #[test]
    fn a_row_tells_both_ratios() {
        let row = Row::new("x", "µs", vec![2.0, 4.0, 3.0]).floor(vec![1.0, 1.0, 1.0]);
        let row = row.reference(24.0, 37.0);
        assert_eq!(row.json()["times_the_floor"], 3.0);
        assert_eq!(row.json()["reference_over_ours"], 8.0);
        let line = row.line();
        assert!(
            line.contains("3.00 [2.00..4.00]") && line.contains("24-37 (8.00x)"),
            "{line}"
        );
    }
}
