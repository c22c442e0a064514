//! Reading what a network trained with [`ctc`](crate::loss::ctc) says: from log-probabilities to labels.

use etude_core::{DType, Tensor};

/// The labels of the likeliest path of each row of log-probabilities `[steps, batch, classes]`: the likeliest class of each
/// step, repeats merged, blanks removed. Many paths give the same labels, so the likeliest labels may be others; see
/// [`ctc_beam`].
#[track_caller]
pub fn ctc_greedy(log_probabilities: &Tensor, blank: usize) -> Vec<Vec<usize>> {
    let (rows, classes) = rows(log_probabilities, blank);
    let likeliest =
        |step: &[f64]| (0..classes).fold(0, |best, class| if step[class] > step[best] { class } else { best });
    let read = |row: &Vec<f64>| {
        let mut path: Vec<usize> = row.chunks_exact(classes).map(likeliest).collect();
        path.dedup();
        path.retain(|&class| class != blank);
        path
    };
    rows.iter().map(read).collect()
}

/// The likeliest labels of each row of log-probabilities `[steps, batch, classes]`, at most `width` of them, best first,
/// with `ln p`: prefix beam search (Hannun, Maas, Jurafsky and Ng, 2014) without a language model. The mass of all paths
/// that give the same labels is added up; after each step only the `width` prefixes with the largest mass are kept. Where
/// none had to be dropped `ln p` is exact, otherwise a lower bound.
///
/// # Panics
/// If the shape does not fit, the blank is no class or `width` is 0.
#[track_caller]
pub fn ctc_beam(log_probabilities: &Tensor, blank: usize, width: usize) -> Vec<Vec<(Vec<usize>, f64)>> {
    assert!(width > 0, "ctc_beam: a beam of width 0 keeps nothing");
    let (rows, classes) = rows(log_probabilities, blank);
    rows.iter().map(|row| search(row.chunks_exact(classes), blank, width)).collect()
}

/// The log-probabilities row by row, `steps·classes` numbers each, and the number of classes.
#[track_caller]
fn rows(log_probabilities: &Tensor, blank: usize) -> (Vec<Vec<f64>>, usize) {
    let shape = log_probabilities.shape();
    let &[steps, batch, classes] = &shape[..] else {
        panic!("ctc: log-probabilities must be [steps, batch, classes], not {shape}");
    };
    assert!(blank < classes, "ctc: the blank, {blank}, is none of the {classes} classes");
    let values = log_probabilities.to(DType::F64).to_vec::<f64>();
    let step = |t: usize, row: usize| &values[(t * batch + row) * classes..][..classes];
    let row = |row: usize| (0..steps).flat_map(|t| step(t, row)).copied().collect();
    ((0..batch).map(row).collect(), classes)
}

/// Labels read so far, and the mass of the paths that give them, apart by whether they end in a blank: only after a blank
/// is the same label again a second one.
#[derive(Clone)]
struct Prefix {
    labels: Vec<usize>,
    after_blank: f64,
    after_label: f64,
}

impl Prefix {
    fn mass(&self) -> f64 {
        add(self.after_blank, self.after_label)
    }
}

/// `ln(eᵃ + eᵇ)`.
fn add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

fn search<'a>(steps: impl Iterator<Item = &'a [f64]>, blank: usize, width: usize) -> Vec<(Vec<usize>, f64)> {
    const NOTHING: f64 = f64::NEG_INFINITY;
    let mut beam = vec![Prefix { labels: Vec::new(), after_blank: 0.0, after_label: NOTHING }];
    for step in steps {
        // Each prefix stays as it is, by a blank or by its last label once more.
        let stay = |prefix: &Prefix| Prefix {
            labels: prefix.labels.clone(),
            after_blank: prefix.mass() + step[blank],
            after_label: prefix.labels.last().map_or(NOTHING, |&last| prefix.after_label + step[last]),
        };
        let mut next: Vec<Prefix> = beam.iter().map(stay).collect();
        // Each prefix grows by a label. A longer one has one parent only: it is in the beam already, or it is new.
        let mut grown: Vec<(f64, usize, usize)> = Vec::new();
        for (parent, prefix) in beam.iter().enumerate() {
            let is_child = |other: &Prefix| other.labels.split_last().is_some_and(|(_, rest)| rest == prefix.labels);
            let children: Vec<usize> = (0..beam.len()).filter(|&i| is_child(&beam[i])).collect();
            for label in (0..step.len()).filter(|&label| label != blank) {
                let again = prefix.labels.last() == Some(&label);
                let mass = step[label] + if again { prefix.after_blank } else { prefix.mass() };
                match children.iter().find(|&&i| beam[i].labels.last() == Some(&label)) {
                    Some(&child) => next[child].after_label = add(next[child].after_label, mass),
                    None if mass > NOTHING => grown.push((mass, parent, label)),
                    None => {}
                }
            }
        }
        // Of the new ones only the best `width` can stay; equals keep their order.
        grown.sort_by(|a, b| b.0.total_cmp(&a.0));
        next.extend(grown.into_iter().take(width).map(|(mass, parent, label)| {
            let labels = [&beam[parent].labels[..], &[label]].concat();
            Prefix { labels, after_blank: NOTHING, after_label: mass }
        }));
        next.sort_by(|a, b| b.mass().total_cmp(&a.mass()));
        next.truncate(width);
        beam = next;
    }
    beam.into_iter().map(|prefix| (prefix.mass(), prefix.labels)).map(|(mass, labels)| (labels, mass)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etude_core::randn;
    use std::collections::BTreeMap;

    /// Every path through `[steps, classes]` log-probabilities, one after the other: labels and `ln p`, best first.
    fn all(values: &[f64], steps: usize, classes: usize, blank: usize) -> Vec<(Vec<usize>, f64)> {
        let mut mass: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
        for code in 0..classes.pow(steps as u32) {
            let path: Vec<usize> = (0..steps).map(|t| code / classes.pow(t as u32) % classes).collect();
            let p: f64 = path.iter().enumerate().map(|(t, &class)| values[t * classes + class]).sum();
            let mut labels = path;
            labels.dedup();
            labels.retain(|&class| class != blank);
            *mass.entry(labels).or_default() += p.exp();
        }
        let mut found: Vec<(Vec<usize>, f64)> = mass.into_iter().map(|(labels, p)| (labels, p.ln())).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found
    }

    #[test]
    fn a_wide_beam_finds_what_trying_all_paths_finds() {
        etude_core::random::seed(3);
        for (steps, classes, blank) in [(1, 2, 0), (4, 3, 0), (5, 3, 2), (6, 4, 1), (3, 5, 0)] {
            let batch = 4;
            let log_probabilities = (randn([steps, batch, classes]).to(DType::F64) * 2.0).log_softmax(-1);
            let found = ctc_beam(&log_probabilities, blank, 10_000);
            let narrow = ctc_beam(&log_probabilities, blank, 2);
            let greedy = ctc_greedy(&log_probabilities, blank);
            for row in 0..batch {
                let values = log_probabilities.narrow(1, row, 1).to_vec::<f64>();
                let wanted = all(&values, steps, classes, blank);
                assert_eq!(found[row].len(), wanted.len());
                for ((labels, mass), (wanted, exact)) in found[row].iter().zip(&wanted) {
                    assert_eq!(labels, wanted);
                    assert!((mass - exact).abs() < 1e-12, "{mass} {exact}");
                }
                let exact: BTreeMap<&Vec<usize>, f64> = wanted.iter().map(|(labels, mass)| (labels, *mass)).collect();
                assert!(narrow[row].iter().all(|(labels, mass)| *mass <= exact[labels] + 1e-12), "a lower bound");
                assert!(exact[&greedy[row]] <= wanted[0].1, "the greedy labels are no likelier than the likeliest");
            }
        }
    }

    #[test]
    fn the_likeliest_labels_are_not_those_of_the_likeliest_path() {
        // Two steps, blank 0.6 and label 0.4 each: the path of blanks has 0.36, the three that say the label 0.64.
        let log_probabilities = Tensor::from_slice(&[0.6f64, 0.4, 0.6, 0.4], [2, 1, 2]).ln();
        assert!(ctc_greedy(&log_probabilities, 0)[0].is_empty());
        let best = &ctc_beam(&log_probabilities, 0, 3)[0];
        assert_eq!(best[0].0, [1]);
        assert!((best[0].1 - 0.64f64.ln()).abs() < 1e-15 && (best[1].1 - 0.36f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn a_blank_between_makes_two_of_one() {
        let sure = |path: &[usize]| {
            let mut values = vec![-20.0f64; path.len() * 3];
            path.iter().enumerate().for_each(|(t, &class)| values[t * 3 + class] = -1e-9);
            Tensor::from_slice(&values, [path.len(), 1, 3])
        };
        for (path, labels) in [(&[1, 1, 0, 1, 2][..], vec![1, 1, 2]), (&[2, 2, 2], vec![2]), (&[0, 0], vec![])] {
            assert_eq!(ctc_greedy(&sure(path), 0)[0], labels);
            assert_eq!(ctc_beam(&sure(path), 0, 4)[0][0].0, labels);
        }
    }
}
