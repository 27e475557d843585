//! Medians and low percentiles of short series.

/// The value below which `percent` in 100 of `values` lie; 0 for no values.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * percent.min(100) / 100]
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The median of `ours[i] / theirs[i]` over the rounds that both took part in.
pub fn paired_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| a / b).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_series() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(median(&values), 50.0);
        assert_eq!(percentile(&values, 5), 5.0);
        assert_eq!(percentile(&values, 100), 100.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_disturbed_round_does_not_move_the_paired_ratio() {
        let ours = [1.0, 1.0, 100.0, 1.0, 1.0];
        let theirs = [2.0, 2.0, 200.0, 2.0, 2.0, 7.0];
        assert_eq!(paired_ratio(&ours, &theirs), 0.5);
    }
}
