//! What becomes of several values of one thing.

/// The value in the middle; the mean of the two in the middle when they are even in number.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
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

/// The smallest value that `percent` of them do not exceed (nearest rank).
pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    match sorted.len() {
        0 => f64::NAN,
        count => sorted[rank.clamp(1, count) - 1],
    }
}

/// The first over the second, pair by pair: of runs that followed each other.
pub(crate) fn ratios(values: &[f64], others: &[f64]) -> Vec<f64> {
    let pairs = values.iter().zip(others);
    pairs.map(|(value, other)| value / other).collect()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
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
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&values, 50.0), 100.0);
        assert_eq!(percentile(&values, 99.0), 198.0);
        assert_eq!(percentile(&values, 100.0), 200.0);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
        assert_eq!(percentile(&[7.0], 0.0), 7.0);
        assert!(percentile(&[], 50.0).is_nan());
    }

    #[test]
    fn ratios_pair_the_runs() {
        assert_eq!(ratios(&[2.0, 9.0], &[1.0, 3.0]), [2.0, 3.0]);
        assert!(ratios(&[2.0], &[]).is_empty());
    }
}
