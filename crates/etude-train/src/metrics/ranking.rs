//! Measures of a score that ranks positives above negatives: ROC, area under it, average precision.

/// A receiver operating characteristic: one point for each distinct score, from (0, 0) to (1, 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Roc {
    /// Of the negatives, the share at or above the threshold.
    pub false_positive_rate: Vec<f64>,
    /// Of the positives, the share at or above the threshold.
    pub true_positive_rate: Vec<f64>,
    /// The threshold of each point, falling; the first is infinite.
    pub thresholds: Vec<f64>,
}

/// For each distinct score, from the highest: the score, and the positives and negatives at or above it.
#[track_caller]
fn cumulate(what: &str, scores: &[f64], positive: &[bool]) -> Vec<(f64, u64, u64)> {
    super::same_length(what, scores.len(), positive.len());
    assert!(scores.iter().all(|s| !s.is_nan()), "{what}: a score is NaN, which ranks nowhere");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let (mut yes, mut no) = (0, 0);
    let mut points: Vec<(f64, u64, u64)> = Vec::new();
    for i in order {
        if positive[i] {
            yes += 1
        } else {
            no += 1
        }
        // Equal scores cannot be told apart, so they make one step together.
        match points.last_mut() {
            Some(last) if last.0 == scores[i] => *last = (scores[i], yes, no),
            _ => points.push((scores[i], yes, no)),
        }
    }
    points
}

/// The curve of `scores` against whether each example is positive. All NaN where one of the kinds is missing.
#[track_caller]
pub fn roc(scores: &[f64], positive: &[bool]) -> Roc {
    let points = cumulate("roc", scores, positive);
    let (positives, negatives) = points.last().map_or((0, 0), |&(_, yes, no)| (yes, no));
    let with_start = std::iter::once((f64::INFINITY, 0, 0)).chain(points);
    let mut made = Roc { false_positive_rate: vec![], true_positive_rate: vec![], thresholds: vec![] };
    for (threshold, yes, no) in with_start {
        made.thresholds.push(threshold);
        made.true_positive_rate.push(yes as f64 / positives as f64);
        made.false_positive_rate.push(no as f64 / negatives as f64);
    }
    made
}

/// Area under the ROC: the chance that a positive scores above a negative, ties counting half. NaN where one of the
/// kinds is missing.
#[track_caller]
pub fn auc(scores: &[f64], positive: &[bool]) -> f64 {
    let points = cumulate("auc", scores, positive);
    let (positives, negatives) = points.last().map_or((0, 0), |&(_, yes, no)| (yes, no));
    // Trapezes in whole numbers, doubled, so that no rounding comes in before the last division.
    let (mut doubled, mut before) = (0u128, (0, 0));
    for &(_, yes, no) in &points {
        doubled += (no - before.1) as u128 * (yes + before.0) as u128;
        before = (yes, no);
    }
    doubled as f64 / (2 * positives as u128 * negatives as u128) as f64
}

/// Average precision, `Σ (Rₙ − Rₙ₋₁) Pₙ` over falling thresholds. NaN without positives.
#[track_caller]
pub fn average_precision(scores: &[f64], positive: &[bool]) -> f64 {
    let points = cumulate("average_precision", scores, positive);
    let positives = points.last().map_or(0, |&(_, yes, _)| yes);
    let mut before = 0;
    let mut sum = 0.0;
    for &(_, yes, no) in &points {
        sum += (yes - before) as f64 * yes as f64 / (yes + no) as f64;
        before = yes;
    }
    if positives == 0 { f64::NAN } else { sum / positives as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn textbook_example() {
        let (scores, positive) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        let curve = roc(&scores, &positive);
        assert_eq!(curve.false_positive_rate, [0.0, 0.0, 0.5, 0.5, 1.0]);
        assert_eq!(curve.true_positive_rate, [0.0, 0.5, 0.5, 1.0, 1.0]);
        assert_eq!(curve.thresholds, [f64::INFINITY, 0.8, 0.4, 0.35, 0.1]);
        assert_eq!(auc(&scores, &positive), 0.75);
        assert!((average_precision(&scores, &positive) - 5.0 / 6.0).abs() < 1e-15);
    }

    #[test]
    fn auc_is_the_chance_of_a_right_order() {
        let scores: Vec<f64> = (0..60).map(|i| ((i * 37) % 11) as f64).collect();
        let positive: Vec<bool> = (0..60).map(|i| (i * 7) % 5 < 2).collect();
        let (mut wins, mut pairs) = (0.0, 0.0);
        for i in 0..60 {
            for j in 0..60 {
                if positive[i] && !positive[j] {
                    pairs += 1.0;
                    wins += if scores[i] > scores[j] { 1.0 } else { 0.5 * f64::from(scores[i] == scores[j]) };
                }
            }
        }
        assert_eq!(auc(&scores, &positive), wins / pairs);
        assert_eq!(auc(&[1.0; 4], &[true, false, true, false]), 0.5);
        assert_eq!(auc(&[2.0, 1.0], &[true, false]), 1.0);
    }

    #[test]
    fn one_kind_only_has_no_area() {
        assert!(auc(&[1.0, 2.0], &[true, true]).is_nan());
        assert!(auc(&[], &[]).is_nan());
        assert!(average_precision(&[1.0], &[false]).is_nan());
    }
}
