//! Tests of attention, against plain loops in f64 and two-sided differences.

use super::*;
use crate::cpu::forced;
use crate::random::testing::{normals, on_any_threads};

/// A problem with its inputs: q, k, v, the gradient of the output, a mask of truth values and one of numbers.
struct Problem {
    sizes: AttentionSizes,
    scale: f64,
    causal: bool,
    /// 0: none, 1: truth values, 2: numbers.
    mask: usize,
    inputs: [Vec<f64>; 4],
    allowed: Vec<u8>,
    added: Vec<f64>,
}

/// How the inputs lie.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// `[batch, heads, length, width]`.
    Plain,
    /// `[batch, length, heads, width]`, as parts of one product do.
    Interleaved,
    /// `[batch, heads, width, length]`, as a convolution leaves them.
    Turned,
}

impl Problem {
    fn new(sizes: [usize; 6], causal: bool, mask: usize) -> Problem {
        let [batch, heads, queries, keys, width, values] = sizes;
        let n = batch * heads;
        let draw = |seed, count: usize| normals(seed, count).iter().map(|v| *v as f32 as f64).collect::<Vec<_>>();
        let scores = n * queries * keys;
        // Each query may look at its own place or the first, so that no row is empty.
        let allowed = (0..scores).map(|i| (i % 3 > 0 || i % keys.max(1) == 0) as u8).collect();
        Problem {
            sizes: AttentionSizes { batch, heads, queries, keys, width, values },
            scale: 1.0 / (width.max(1) as f64).sqrt(),
            causal,
            mask,
            inputs: [
                draw(1, n * queries * width),
                draw(2, n * keys * width),
                draw(3, n * keys * values),
                draw(4, n * queries * values),
            ],
            allowed,
            added: draw(5, scores),
        }
    }

    /// The weights of one row of one head, by the definition.
    fn weights(&self, head: usize, t: usize) -> Vec<f64> {
        let AttentionSizes { queries, keys, width, .. } = self.sizes;
        let q = &self.inputs[0][(head * queries + t) * width..][..width];
        let score = |s: usize| {
            let k = &self.inputs[1][(head * keys + s) * width..][..width];
            let at = (head * queries + t) * keys + s;
            let product = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * self.scale;
            match self.mask {
                _ if self.causal && s > t => f64::NEG_INFINITY,
                1 if self.allowed[at] == 0 => f64::NEG_INFINITY,
                2 => product + self.added[at],
                _ => product,
            }
        };
        let scores: Vec<f64> = (0..keys).map(score).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        scores.iter().map(|s| (s - top).exp() / sum).collect()
    }

    /// The output `[batch, queries, heads, values]` by the definition.
    fn output(&self) -> Vec<f64> {
        let AttentionSizes { batch, heads, queries, keys, values, .. } = self.sizes;
        let mut out = vec![0.0; batch * queries * heads * values];
        for head in 0..batch * heads {
            for t in 0..queries {
                let (b, h) = (head / heads, head % heads);
                for (s, weight) in self.weights(head, t).iter().enumerate() {
                    for e in 0..values {
                        let value = self.inputs[2][(head * keys + s) * values + e];
                        out[((b * queries + t) * heads + h) * values + e] += weight * value;
                    }
                }
            }
        }
        out
    }

    /// The gradients of q, k and v, each `[batch, length, heads, width]`, by the definition.
    fn gradients(&self) -> [Vec<f64>; 3] {
        let AttentionSizes { batch, heads, queries, keys, width, values } = self.sizes;
        let [q, k, v, g] = &self.inputs;
        let mut found =
            [(queries, width), (keys, width), (keys, values)].map(|(l, w)| vec![0.0; batch * l * heads * w]);
        for head in 0..batch * heads {
            let (b, h) = (head / heads, head % heads);
            for t in 0..queries {
                let weights = self.weights(head, t);
                let g = &g[(head * queries + t) * values..][..values];
                let of_weight = |s: usize| (0..values).map(|e| g[e] * v[(head * keys + s) * values + e]).sum::<f64>();
                let of_weights: Vec<f64> = (0..keys).map(of_weight).collect();
                let along: f64 = weights.iter().zip(&of_weights).map(|(w, g)| w * g).sum();
                for s in 0..keys {
                    let slope = weights[s] * (of_weights[s] - along) * self.scale;
                    let (query, key) = ((b * queries + t) * heads + h, (b * keys + s) * heads + h);
                    for d in 0..width {
                        found[0][query * width + d] += slope * k[(head * keys + s) * width + d];
                        found[1][key * width + d] += slope * q[(head * queries + t) * width + d];
                    }
                    (0..values).for_each(|e| found[2][key * values + e] += weights[s] * g[e]);
                }
            }
        }
        found
    }

    /// `[batch·heads, length, width]` as it lies in memory, with its strides.
    fn laid<T: Float>(&self, x: &[f64], length: usize, width: usize, lie: Lie) -> (Vec<T>, [isize; 4]) {
        let AttentionSizes { batch, heads, .. } = self.sizes;
        let [l, w, h] = [length, width, heads].map(|size| size as isize);
        let strides = match lie {
            Lie::Plain => [h * l * w, l * w, w, 1],
            Lie::Interleaved => [l * h * w, w, h * w, 1],
            Lie::Turned => [h * w * l, w * l, 1, l],
        };
        let mut out = vec![T::ZERO; x.len() + 1];
        for (i, &value) in x.iter().enumerate() {
            let index = [
                i / (heads * length * width).max(1),
                i / (length * width).max(1) % heads,
                i / width % length,
                i % width,
            ];
            let at: usize = index.iter().zip(strides).map(|(i, stride)| i * stride as usize).sum();
            // Everything lies one element into its data.
            out[1 + at] = T::from_f64(value);
        }
        assert_eq!(x.len(), batch * heads * length * width);
        (out, strides)
    }

    /// Runs both ways by the kernel: the output, then the gradients of q, k and v.
    fn run<T: Float>(&self, lie: Lie, together: bool) -> Vec<T> {
        let AttentionSizes { batch, heads, queries, keys, width, values } = self.sizes;
        let shapes = [(queries, width), (keys, width), (keys, values), (queries, values)];
        let laid: Vec<(Vec<T>, [isize; 4])> =
            self.inputs.iter().zip(shapes).map(|(x, (l, w))| self.laid(x, l, w, lie)).collect();
        let heads_of = |i: usize| Heads { data: &laid[i].0, offset: 1, strides: laid[i].1 };
        let added: Vec<T> = self.added.iter().map(|&v| T::from_f64(v)).collect();
        let strides = [heads * queries * keys, queries * keys, keys, 1].map(|stride| stride as isize);
        let mask = match self.mask {
            0 => AttentionMask::None,
            1 => AttentionMask::Allowed(Heads { data: &self.allowed, offset: 0, strides }),
            _ => AttentionMask::Added(Heads { data: &added, offset: 0, strides }),
        };
        let what = Attention { sizes: self.sizes, scale: self.scale, causal: self.causal, mask };
        let mut out = vec![T::ONE; batch * queries * heads * values];
        let mut log_sums = vec![T::ONE; batch * heads * queries];
        let [q, k, v, g] = [0, 1, 2, 3].map(heads_of);
        forward(&what, q, k, v, &mut out, &mut log_sums);
        let mut found =
            [(queries, width), (keys, width), (keys, values)].map(|(l, w)| vec![T::ONE; batch * l * heads * w]);
        if together {
            let mut all = vec![T::ONE; 3 * found[0].len()];
            backward(&what, q, k, v, &out, &log_sums, g, AttentionGradients::Together(&mut all));
            let line = heads * width;
            for (i, row) in all.chunks(line).enumerate() {
                found[i % 3][i / 3 * line..][..line].copy_from_slice(row);
            }
        } else {
            let [gq, gk, gv] = &mut found;
            backward(&what, q, k, v, &out, &log_sums, g, AttentionGradients::Apart([gq, gk, gv]));
        }
        found.iter().for_each(|g| out.extend(g));
        out
    }

    /// What [`Problem::run`] gives, by the definition.
    fn expected(&self) -> Vec<f64> {
        let mut expected = self.output();
        self.gradients().iter().for_each(|g| expected.extend(g));
        expected
    }

    fn check<T: Float>(&self, got: &[T], expected: &[f64], bound: f64) {
        assert_eq!(got.len(), expected.len());
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let near = (got.to_f64() - expected).abs() <= bound * (1.0 + expected.abs());
            assert!(near, "{:?}, causal {}, mask {}, {i}: {got} {expected}", self.sizes, self.causal, self.mask);
        }
    }
}

/// Batch, heads, queries, keys, width, values: edges of tiles and blocks, more keys than queries and the other way round.
const SIZES: [[usize; 6]; 10] = [
    [1, 1, 1, 1, 1, 1],
    [2, 3, 5, 7, 4, 3],
    [1, 2, 48, 128, 32, 32],
    [1, 3, 65, 65, 64, 64],
    [2, 1, 49, 129, 33, 17],
    [1, 2, 130, 40, 16, 40],
    [1, 1, 300, 270, 8, 128],
    [0, 2, 3, 3, 2, 2],
    [1, 2, 0, 3, 2, 2],
    [1, 2, 3, 3, 0, 2],
];

#[test]
fn both_ways_follow_their_definition() {
    for sizes in SIZES {
        for causal in [false, true] {
            for mask in 0..3 {
                let problem = Problem::new(sizes, causal, mask);
                let expected = problem.expected();
                for lie in [Lie::Plain, Lie::Interleaved, Lie::Turned] {
                    let got = on_any_threads(|| problem.run::<f32>(lie, false));
                    // Sums of a few hundred terms of magnitude 1.
                    problem.check(&got, &expected, 1e-5);
                    problem.check(&problem.run::<f64>(lie, false), &expected, 1e-13);
                }
                if sizes[2] == sizes[3] && sizes[4] == sizes[5] {
                    let (apart, together) =
                        (problem.run::<f32>(Lie::Plain, false), problem.run::<f32>(Lie::Plain, true));
                    assert!(apart == together);
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_follows_the_definition() {
    let problem = Problem::new([1, 2, 67, 131, 24, 40], true, 1);
    let expected = problem.expected();
    forced::on_each_set(|_| problem.check(&problem.run::<f32>(Lie::Interleaved, false), &expected, 1e-5));
}

#[test]
fn a_query_that_may_look_at_nothing_is_nan_and_no_keys_give_zeros() {
    let mut problem = Problem::new([1, 1, 3, 140, 4, 4], false, 1);
    problem.allowed[140..280].fill(0);
    // The third query sees only the second block of keys.
    problem.allowed[280..280 + 128].fill(0);
    let out = problem.run::<f32>(Lie::Plain, false);
    assert!(out[4..8].iter().all(|v| v.is_nan()));
    let expected = problem.output();
    assert!((8..12).all(|i| (out[i] as f64 - expected[i]).abs() < 1e-6));
    let problem = Problem::new([1, 2, 3, 0, 4, 4], false, 0);
    assert!(problem.run::<f32>(Lie::Plain, false).iter().all(|&v| v == 0.0));
}
