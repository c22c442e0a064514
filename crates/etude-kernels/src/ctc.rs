//! Connectionist temporal classification (Graves et al., 2006): the loss of a sequence of labels without alignment.

use crate::Float;
use crate::threads::{SendPointer, parallel};
use std::fmt;

/// What is wrong with the labels or lengths given to [`ctc`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtcError {
    /// A label outside `0..classes`.
    Label {
        /// Row of the batch.
        row: usize,
        /// Place in the row's labels.
        position: usize,
        /// The label.
        label: i64,
        /// How many classes there are.
        classes: usize,
    },
    /// An input length outside `0..=steps`.
    InputLength {
        /// Row of the batch.
        row: usize,
        /// The length.
        length: i64,
        /// How many steps there are.
        steps: usize,
    },
    /// A target length outside `0..=target_width`.
    TargetLength {
        /// Row of the batch.
        row: usize,
        /// The length.
        length: i64,
        /// How many labels a row has room for.
        width: usize,
    },
}

impl fmt::Display for CtcError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            CtcError::Label { row, position, label, classes } => {
                write!(f, "row {row}, label {position} is {label}; labels are 0 to {classes} exclusive")
            }
            CtcError::InputLength { row, length, steps } => {
                write!(f, "row {row} has input length {length}; there are {steps} steps")
            }
            CtcError::TargetLength { row, length, width } => {
                write!(f, "row {row} has target length {length}; there is room for {width} labels")
            }
        }
    }
}

impl std::error::Error for CtcError {}

/// `losses[b] = −ln Σ_paths Π_t p(path_t)` over all paths of row b that become its labels once repeats are merged and
/// blanks removed, and the loss's gradient.
///
/// `log_probs` is `[T, B, C]`; `targets` is `[B, target_width]`, of which row b uses the first `target_lengths[b]`; it has
/// `input_lengths[b]` steps. `gradient[T, B, C]` is `∂losses[b]/∂log_probs[t, b, k]` with every log-probability free, that
/// is minus the probability of being in class k at step t: no softmax is folded in. Labels that fit into the steps on no
/// path give loss ∞ and gradient 0. Sums are made in f64 from logarithms.
pub fn ctc<T: Float>(
    steps: usize,
    batch: usize,
    classes: usize,
    blank: usize,
    log_probs: &[T],
    targets: &[i64],
    target_width: usize,
    input_lengths: &[i64],
    target_lengths: &[i64],
    losses: &mut [T],
    gradient: &mut [T],
) -> Result<(), CtcError> {
    (T::floats().ctc)(
        steps,
        batch,
        classes,
        blank,
        log_probs,
        targets,
        target_width,
        input_lengths,
        target_lengths,
        losses,
        gradient,
    )
}

/// The body of [`ctc`], compiled once for each type in this crate.
pub(crate) fn ctc_body<T: Float>(
    steps: usize,
    batch: usize,
    classes: usize,
    blank: usize,
    log_probs: &[T],
    targets: &[i64],
    target_width: usize,
    input_lengths: &[i64],
    target_lengths: &[i64],
    losses: &mut [T],
    gradient: &mut [T],
) -> Result<(), CtcError> {
    assert!(log_probs.len() == steps * batch * classes && gradient.len() == log_probs.len(), "log_probs is [T, B, C]");
    assert!(targets.len() == batch * target_width && losses.len() == batch, "targets is [B, target_width]");
    assert!(input_lengths.len() == batch && target_lengths.len() == batch, "lengths are [B]");
    assert!(blank < classes || batch == 0, "blank is a class");
    for row in 0..batch {
        let (length, count) = (input_lengths[row], target_lengths[row]);
        if !usize::try_from(length).is_ok_and(|length| length <= steps) {
            return Err(CtcError::InputLength { row, length, steps });
        }
        if !usize::try_from(count).is_ok_and(|count| count <= target_width) {
            return Err(CtcError::TargetLength { row, length: count, width: target_width });
        }
        let labels = &targets[row * target_width..][..count as usize];
        if let Some(position) = labels.iter().position(|&label| !usize::try_from(label).is_ok_and(|l| l < classes)) {
            return Err(CtcError::Label { row, position, label: labels[position], classes });
        }
    }
    gradient.fill(T::ZERO);
    let (losses, gradient) = (SendPointer(losses.as_mut_ptr()), SendPointer(gradient.as_mut_ptr()));
    parallel(batch, |row| {
        let labels = &targets[row * target_width..][..target_lengths[row] as usize];
        let lattice = Lattice::new(labels, blank, input_lengths[row] as usize);
        let loss = lattice.run(
            |t, class| log_probs[(t * batch + row) * classes + class].to_f64(),
            |t, class, value| {
                // SAFETY: t < steps and class < classes were checked; each task writes its own row of the batch.
                unsafe { *gradient.at((t * batch + row) * classes + class) += T::from_f64(value) };
            },
        );
        // SAFETY: row < batch; each task writes its own.
        unsafe { *losses.at(row) = T::from_f64(loss) };
    });
    Ok(())
}

/// The states a path goes through, step by step: the labels with a blank before, between and after them.
struct Lattice {
    steps: usize,
    /// The class of each state.
    classes: Vec<usize>,
    /// Whether a path may come from two states before, leaving out the blank between: between different labels.
    skips: Vec<bool>,
}

impl Lattice {
    fn new(labels: &[i64], blank: usize, steps: usize) -> Lattice {
        let states = 2 * labels.len() + 1;
        let classes = (0..states).map(|s| if s % 2 == 0 { blank } else { labels[s / 2] as usize }).collect();
        let skips = (0..states).map(|s| s % 2 == 1 && s > 1 && labels[s / 2] != labels[s / 2 - 1]).collect();
        Lattice { steps, classes, skips }
    }

    /// Gives the loss and adds the gradient through `add(t, class, value)`.
    fn run(&self, log_prob: impl Fn(usize, usize) -> f64, mut add: impl FnMut(usize, usize, f64)) -> f64 {
        const NONE: f64 = f64::NEG_INFINITY;
        let states = self.classes.len();
        if self.steps == 0 {
            return if states == 1 { 0.0 } else { f64::INFINITY };
        }
        // alpha[t, s]: ln of the probability of all ways to be in state s at step t, step t included.
        let mut alpha = vec![NONE; self.steps * states];
        for s in 0..states.min(2) {
            alpha[s] = log_prob(0, self.classes[s]);
        }
        for t in 1..self.steps {
            let (done, row) = alpha.split_at_mut(t * states);
            let before = &done[(t - 1) * states..];
            for s in 0..states {
                let one = if s > 0 { before[s - 1] } else { NONE };
                let two = if self.skips[s] { before[s - 2] } else { NONE };
                row[s] = log_sum(before[s], one, two) + log_prob(t, self.classes[s]);
            }
        }
        let last = &alpha[(self.steps - 1) * states..];
        let total = log_sum(last[states - 1], if states > 1 { last[states - 2] } else { NONE }, NONE);
        if total == NONE {
            return f64::INFINITY;
        }
        // beta[s]: ln of the probability of all ways on from state s at step t, step t not included.
        let mut beta = vec![NONE; states];
        beta[states - 1] = 0.0;
        if states > 1 {
            beta[states - 2] = 0.0;
        }
        let mut onward = vec![NONE; states];
        for t in (0..self.steps).rev() {
            for s in 0..states {
                let here = alpha[t * states + s] + beta[s] - total;
                if here != NONE {
                    add(t, self.classes[s], -here.exp());
                }
            }
            if t > 0 {
                for s in 0..states {
                    onward[s] = beta[s] + log_prob(t, self.classes[s]);
                }
                for s in 0..states {
                    let one = if s + 1 < states { onward[s + 1] } else { NONE };
                    let two = if s + 2 < states && self.skips[s + 2] { onward[s + 2] } else { NONE };
                    beta[s] = log_sum(onward[s], one, two);
                }
            }
        }
        -total
    }
}

/// `ln(eᵃ + eᵇ + eᶜ)`; −∞ for nothing at all, NaN for any NaN.
fn log_sum(a: f64, b: f64, c: f64) -> f64 {
    let top = a.max(b).max(c);
    if top == f64::NEG_INFINITY {
        // −∞, or NaN, which `max` passes over.
        return a + b + c;
    }
    let power = |v: f64| if v == f64::NEG_INFINITY { 0.0 } else { (v - top).exp() };
    top + (power(a) + power(b) + power(c)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::testing::{normals, on_any_threads};
    use crate::softmax::log_softmax;

    /// The loss by its definition: every path, one after another.
    fn brute_force(
        log_prob: impl Fn(usize, usize) -> f64,
        steps: usize,
        classes: usize,
        blank: usize,
        labels: &[i64],
    ) -> f64 {
        let mut total = 0.0;
        for code in 0..classes.pow(steps as u32) {
            let path: Vec<usize> = (0..steps).map(|t| code / classes.pow(t as u32) % classes).collect();
            let read: Vec<i64> = (0..steps)
                .filter(|&t| path[t] != blank && (t == 0 || path[t] != path[t - 1]))
                .map(|t| path[t] as i64)
                .collect();
            if read == labels {
                total += path.iter().enumerate().map(|(t, &class)| log_prob(t, class)).sum::<f64>().exp();
            }
        }
        -total.ln()
    }

    fn log_probs(seed: u64, rows: usize, classes: usize) -> Vec<f64> {
        let mut out = vec![0.0; rows * classes];
        log_softmax(rows, classes, &normals(seed, rows * classes), &mut out);
        out
    }

    const TARGETS: [i64; 24] = [1, 2, 0, 3, 3, 0, 0, 0, 0, 3, 1, 3, 2, 2, 2, 1, 0, 0, 2, 1, 2, 1, 1, 0];
    const TARGET_LENGTHS: [i64; 8] = [2, 2, 0, 3, 3, 1, 3, 2];
    const INPUT_LENGTHS: [i64; 8] = [6, 3, 5, 5, 4, 1, 2, 0];

    #[test]
    fn losses_are_the_sum_over_all_paths() {
        let (steps, batch) = (6, 8);
        // Blank first and blank last; the labels of the first case are moved down by one for the second.
        for (blank, shift) in [(0, 0), (3, 1)] {
            let (classes, targets) = (4, TARGETS.map(|label| (label - shift).max(0)));
            let x = log_probs(1, steps * batch, classes);
            let (mut losses, mut gradient) = (vec![9.0; batch], vec![9.0; x.len()]);
            ctc(
                steps,
                batch,
                classes,
                blank,
                &x,
                &targets,
                3,
                &INPUT_LENGTHS,
                &TARGET_LENGTHS,
                &mut losses,
                &mut gradient,
            )
            .unwrap();
            for row in 0..batch {
                let labels = &targets[row * 3..][..TARGET_LENGTHS[row] as usize];
                let at = |t: usize, class: usize| x[(t * batch + row) * classes + class];
                let expected = brute_force(at, INPUT_LENGTHS[row] as usize, classes, blank, labels);
                assert!(losses[row] == expected || (losses[row] - expected).abs() < 1e-12, "{row}: {expected}");
            }
            // Row 4 needs a blank between each of three equal labels, row 6 has fewer steps than labels, row 7 none.
            for (row, &loss) in losses.iter().enumerate() {
                assert_eq!(loss == f64::INFINITY, [4, 6, 7].contains(&row));
                let used = (0..steps).flat_map(|t| gradient[(t * batch + row) * classes..][..classes].to_vec());
                let sum: f64 = used.sum();
                // In each step of a row one class is sure to be visited.
                let expected = if loss == f64::INFINITY { 0.0 } else { -INPUT_LENGTHS[row] as f64 };
                assert!((sum - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn gradients_agree_with_differences() {
        let (steps, batch, classes) = (6, 8, 4);
        let x = log_probs(2, steps * batch, classes);
        let run = |x: &[f64]| {
            let (mut losses, mut gradient) = (vec![9.0; batch], vec![9.0; x.len()]);
            ctc(steps, batch, classes, 0, x, &TARGETS, 3, &INPUT_LENGTHS, &TARGET_LENGTHS, &mut losses, &mut gradient)
                .unwrap();
            (losses.into_iter().filter(|l| l.is_finite()).sum::<f64>(), gradient)
        };
        let gradient = run(&x).1;
        for i in 0..x.len() {
            let (mut up, mut down) = (x.clone(), x.clone());
            up[i] += 1e-5;
            down[i] -= 1e-5;
            let difference = (run(&up).0 - run(&down).0) / 2e-5;
            assert!((gradient[i] - difference).abs() < 1e-8, "{i}: {} {difference}", gradient[i]);
        }
    }

    #[test]
    fn long_sequences_in_f32_follow_f64_on_any_threads() {
        let (steps, batch, classes, width) = (211, 13, 37, 53);
        let x = log_probs(3, steps * batch, classes);
        let narrow: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        let exact: Vec<f64> = narrow.iter().map(|&v| v as f64).collect();
        let targets: Vec<i64> = (0..batch * width).map(|i| (i * 7919 % 36) as i64 + 1).collect();
        let lengths: Vec<i64> = (0..batch as i64).map(|b| steps as i64 - 3 * b).collect();
        let target_lengths: Vec<i64> = (0..batch as i64).map(|b| width as i64 - 4 * b).collect();
        let got = on_any_threads(|| {
            let (mut losses, mut gradient) = (vec![9.0f32; batch], vec![9.0; x.len()]);
            ctc(
                steps,
                batch,
                classes,
                0,
                &narrow,
                &targets,
                width,
                &lengths,
                &target_lengths,
                &mut losses,
                &mut gradient,
            )
            .unwrap();
            [losses, gradient].concat()
        });
        let (mut losses, mut gradient) = (vec![9.0; batch], vec![9.0; x.len()]);
        ctc(steps, batch, classes, 0, &exact, &targets, width, &lengths, &target_lengths, &mut losses, &mut gradient)
            .unwrap();
        for (got, expected) in got.iter().zip([losses, gradient].concat()) {
            // One rounding of a loss; a gradient is added up in f32 from as many states as the label has places.
            assert!((*got as f64 - expected).abs() <= 1e-6 * expected.abs() + 1e-30, "{got} {expected}");
        }
    }

    #[test]
    fn impossible_steps_and_nan() {
        // Two steps, two classes; the label's probability is 0 everywhere.
        let x = [-0.1, f64::NEG_INFINITY, -0.1, f64::NEG_INFINITY];
        let (mut loss, mut gradient) = ([9.0], [9.0; 4]);
        ctc(2, 1, 2, 0, &x, &[1], 1, &[2], &[1], &mut loss, &mut gradient).unwrap();
        assert!(loss[0] == f64::INFINITY && gradient == [0.0; 4]);
        ctc(2, 1, 2, 0, &[-0.1, f64::NAN, -0.1, -2.0], &[1], 1, &[2], &[1], &mut loss, &mut gradient).unwrap();
        assert!(loss[0].is_nan());
        ctc::<f64>(0, 0, 0, 0, &[], &[], 0, &[], &[], &mut [], &mut []).unwrap();
    }

    #[test]
    fn labels_and_lengths_out_of_range_are_errors() {
        let run = |label: i64, steps: i64, count: i64| {
            ctc(2, 1, 3, 0, &[-1.0; 6], &[1, label], 2, &[steps], &[count], &mut [0.0], &mut [0.0; 6])
        };
        assert_eq!(run(2, 2, 2), Ok(()));
        for label in [3, -1, i64::MIN, i64::MAX] {
            assert_eq!(run(label, 2, 2), Err(CtcError::Label { row: 0, position: 1, label, classes: 3 }));
            assert_eq!(run(label, 2, 1), Ok(()));
        }
        for length in [3, -1, i64::MIN, i64::MAX] {
            assert_eq!(run(1, length, 2), Err(CtcError::InputLength { row: 0, length, steps: 2 }));
            assert_eq!(run(1, 2, length), Err(CtcError::TargetLength { row: 0, length, width: 2 }));
        }
    }
}
