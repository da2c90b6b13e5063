//! The power of a size that something grows with.

/// The slope of a straight line through the points' logarithms, by least squares: 0 is constant, 1 is in proportion, 2 is by the square.
/// What was too little to be seen is no point. `None` where there are no two sizes.
pub(super) fn exponent(points: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let seen = points.filter(|(_, y)| *y > 0.0);
    let logs: Vec<(f64, f64)> = seen.map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let sum = |value: fn(&(f64, f64)) -> f64| logs.iter().map(value).sum::<f64>() / count;
    let (x, y) = (sum(|log| log.0), sum(|log| log.1));
    let spread: f64 = logs.iter().map(|log| (log.0 - x).powi(2)).sum();
    let together: f64 = logs.iter().map(|log| (log.0 - x) * (log.1 - y)).sum();
    (spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(curve: fn(f64) -> f64) -> Option<f64> {
        let points = [8.0, 32.0, 128.0, 512.0].map(|size| (size, curve(size)));
        exponent(points.into_iter()).map(|exponent| (exponent * 1e6).round() / 1e6)
    }

    #[test]
    fn a_power_is_found_whatever_its_factor() {
        assert_eq!(of(|_| 7.0), Some(0.0));
        assert_eq!(of(|size| 0.01 * size), Some(1.0));
        assert_eq!(of(|size| 3.0 * size * size), Some(2.0));
        assert_eq!(of(|size| 5.0 / size.sqrt()), Some(-0.5));
    }

    #[test]
    fn a_point_is_no_curve_and_what_was_not_seen_is_no_point() {
        assert_eq!(exponent([(8.0, 1.0)].into_iter()), None);
        assert_eq!(exponent([(8.0, 1.0), (8.0, 2.0)].into_iter()), None);
        assert_eq!(exponent([(8.0, 0.0), (16.0, 2.0)].into_iter()), None);
        let seen = exponent([(4.0, 0.0), (1.0, 2.0), (10.0, 20.0)].into_iter()).unwrap();
        assert!((seen - 1.0).abs() < 1e-9, "{seen}");
    }
}
