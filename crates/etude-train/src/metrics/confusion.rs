//! The confusion matrix and the scores read off it.

use crate::report::Table;
use crate::units;

/// Counts of (true class, predicted class).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

/// Scores of one class, or of all classes averaged.
///
/// With `tp` right, `fp` wrongly given this class and `fn` missed: precision `tp / (tp + fp)`, recall
/// `tp / (tp + fn)`, F1 their harmonic mean. A ratio over nothing is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScores {
    /// Of those given this class, the share that belongs to it.
    pub precision: f64,
    /// Of those that belong to this class, the share that was given it.
    pub recall: f64,
    /// `2 · precision · recall / (precision + recall)`.
    pub f1: f64,
    /// Examples that belong to this class.
    pub support: u64,
}

impl Confusion {
    /// An empty matrix.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// The matrix of whole slices of predictions and true classes.
    #[track_caller]
    pub fn of(classes: usize, predicted: &[usize], actual: &[usize]) -> Self {
        super::same_length("confusion", predicted.len(), actual.len());
        let mut made = Self::new(classes);
        for (&predicted, &actual) in predicted.iter().zip(actual) {
            made.add(predicted, actual);
        }
        made
    }

    /// Counts one example.
    #[track_caller]
    pub fn add(&mut self, predicted: usize, actual: usize) {
        let classes = self.classes;
        assert!(
            predicted < classes && actual < classes,
            "confusion: predicted {predicted}, true {actual}, of {classes} classes"
        );
        self.counts[actual * classes + predicted] += 1;
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How often `actual` was taken for `predicted`.
    #[track_caller]
    pub fn count(&self, actual: usize, predicted: usize) -> u64 {
        assert!(predicted < self.classes, "confusion: class {predicted} of {}", self.classes);
        self.counts[actual * self.classes + predicted]
    }

    /// All counts, a row for each true class.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Examples counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share on the diagonal; NaN over nothing. It is also micro-averaged precision, recall and F1, since each
    /// example has one class and is given one.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes).map(|c| self.count(c, c)).sum();
        right as f64 / self.total() as f64
    }

    /// Scores of one class against the rest.
    pub fn class(&self, class: usize) -> ClassScores {
        let right = self.count(class, class);
        let support: u64 = (0..self.classes).map(|p| self.count(class, p)).sum();
        let given: u64 = (0..self.classes).map(|a| self.count(a, class)).sum();
        let ratio = |part: f64, whole: f64| if whole == 0.0 { 0.0 } else { part / whole };
        ClassScores {
            precision: ratio(right as f64, given as f64),
            recall: ratio(right as f64, support as f64),
            // The harmonic mean with its two divisions cancelled.
            f1: ratio(2.0 * right as f64, (support + given) as f64),
            support,
        }
    }

    /// Every class counts the same: the mean of the classes' scores.
    pub fn macro_average(&self) -> ClassScores {
        self.average(|_| 1.0)
    }

    /// Every example counts the same: the mean of the classes' scores, weighted by support.
    pub fn weighted_average(&self) -> ClassScores {
        self.average(|scores| scores.support as f64)
    }

    fn average(&self, weight: impl Fn(&ClassScores) -> f64) -> ClassScores {
        let all: Vec<ClassScores> = (0..self.classes).map(|c| self.class(c)).collect();
        let total: f64 = all.iter().map(&weight).sum();
        let mean = |pick: fn(&ClassScores) -> f64| all.iter().map(|s| pick(s) * weight(s)).sum::<f64>() / total;
        ClassScores {
            precision: mean(|s| s.precision),
            recall: mean(|s| s.recall),
            f1: mean(|s| s.f1),
            support: self.total(),
        }
    }

    /// The pairs taken for one another most: (true, predicted, count), most frequent first.
    pub fn worst(&self, most: usize) -> Vec<(usize, usize, u64)> {
        let cells = (0..self.classes).flat_map(|a| (0..self.classes).map(move |p| (a, p)));
        let off = cells.filter(|(a, p)| a != p).map(|(a, p)| (a, p, self.count(a, p)));
        let mut pairs: Vec<_> = off.filter(|(_, _, count)| *count > 0).collect();
        pairs.sort_by_key(|&(a, p, count)| (std::cmp::Reverse(count), a, p));
        pairs.truncate(most);
        pairs
    }

    /// Precision, recall, F1 and support of every class, and the averages.
    #[track_caller]
    pub fn scores_table(&self, names: &[impl AsRef<str>]) -> Table {
        self.check_names(names.len());
        let mut table = Table::new("per class", ["class", "precision", "recall", "F1", "examples"]);
        let averages = [("macro average", self.macro_average()), ("weighted average", self.weighted_average())];
        let classes = names.iter().enumerate().map(|(c, name)| (name.as_ref(), self.class(c)));
        for (name, s) in classes.chain(averages) {
            let [precision, recall, f1] = [s.precision, s.recall, s.f1].map(units::percent);
            table.row([name.to_string(), precision, recall, f1, units::grouped(s.support)]);
        }
        table
    }

    /// The counts themselves: a row for each true class, a column for each predicted one.
    #[track_caller]
    pub fn counts_table(&self, names: &[impl AsRef<str>]) -> Table {
        self.check_names(names.len());
        let head = std::iter::once("true \\ predicted").chain(names.iter().map(AsRef::as_ref));
        let mut table = Table::new("confusion matrix", head);
        for (a, name) in names.iter().enumerate() {
            let counts =
                (0..self.classes).map(|p| self.count(a, p)).map(|n| if n == 0 { "·".into() } else { n.to_string() });
            table.row(std::iter::once(name.as_ref().to_string()).chain(counts));
        }
        table
    }

    #[track_caller]
    fn check_names(&self, names: usize) {
        assert!(names == self.classes, "confusion: {names} names for {} classes", self.classes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Confusion {
        // True 0: two right, one taken for 1. True 1: one right, one taken for 2. Nothing belongs to 2.
        Confusion::of(3, &[0, 0, 1, 1, 2], &[0, 0, 0, 1, 1])
    }

    #[test]
    fn per_class_scores() {
        let m = example();
        assert_eq!(m.counts(), [2, 1, 0, 0, 1, 1, 0, 0, 0]);
        assert_eq!(m.accuracy(), 0.6);
        assert_eq!(m.class(0), ClassScores { precision: 1.0, recall: 2.0 / 3.0, f1: 0.8, support: 3 });
        assert_eq!(m.class(1), ClassScores { precision: 0.5, recall: 0.5, f1: 0.5, support: 2 });
        assert_eq!(m.class(2), ClassScores { precision: 0.0, recall: 0.0, f1: 0.0, support: 0 });
        let mean = m.macro_average();
        assert!((mean.f1 - 1.3 / 3.0).abs() < 1e-15 && mean.precision == 0.5 && mean.support == 5);
        let weighted = m.weighted_average();
        assert!((weighted.recall - 0.6).abs() < 1e-15, "weighted recall is accuracy");
        assert_eq!(m.worst(5), [(0, 1, 1), (1, 2, 1)]);
        assert_eq!(m.worst(1), [(0, 1, 1)]);
        assert!(Confusion::new(2).accuracy().is_nan());
    }

    #[test]
    fn tables_are_aligned() {
        let text = example().scores_table(&["cat", "dog", "a long name"]).to_string();
        let expected = "\
class              precision   recall       F1   examples
cat                  100.0 %   66.7 %   80.0 %          3
dog                   50.0 %   50.0 %   50.0 %          2
a long name            0.0 %    0.0 %    0.0 %          0
macro average         50.0 %   38.9 %   43.3 %          5
weighted average      80.0 %   60.0 %   68.0 %          5
";
        assert_eq!(text, expected);
        let text = example().counts_table(&["a", "b", "c"]).to_string();
        assert!(text.contains("\na                  2   1   ·\n"), "{text}");
    }

    #[test]
    #[should_panic(expected = "predicted 3, true 0, of 3 classes")]
    fn a_class_that_is_not_there() {
        Confusion::new(3).add(3, 0);
    }
}
