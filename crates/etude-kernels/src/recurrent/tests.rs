//! Tests of `recurrent.rs`, against plain loops in f64 and two-sided differences.

use super::*;
use crate::cpu::forced;
use crate::random::testing::{normals, on_any_threads};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Σ_k h[k]·w[row, k].
fn dot(h: &[f64], w: &[f64], row: usize) -> f64 {
    h.iter().zip(&w[row * h.len()..]).map(|(h, w)| h * w).sum()
}

/// Sizes: steps, batch, hidden.
type Sizes = (usize, usize, usize);

/// A sequence's inputs: x_gates, w_hh, h0, and c0 or b_hn.
struct Inputs {
    sizes: Sizes,
    reverse: bool,
    x: Vec<f64>,
    w: Vec<f64>,
    h0: Vec<f64>,
    /// c0 of an LSTM; its first H elements are b_hn of a GRU.
    extra: Vec<f64>,
}

impl Inputs {
    fn new((steps, batch, hidden): Sizes, gates: usize, reverse: bool) -> Inputs {
        let scaled =
            |seed, count: usize, by: f64| normals(seed, count).iter().map(|v| (v * by) as f32 as f64).collect();
        Inputs {
            sizes: (steps, batch, hidden),
            reverse,
            x: scaled(1, steps * batch * gates * hidden, 1.0),
            w: scaled(2, gates * hidden * hidden, 1.0 / (hidden.max(1) as f64).sqrt()),
            h0: scaled(3, batch * hidden, 0.5),
            extra: scaled(4, (batch * hidden).max(hidden), 0.5),
        }
    }

    fn times(&self) -> Vec<usize> {
        let steps = self.sizes.0;
        if self.reverse { (0..steps).rev().collect() } else { (0..steps).collect() }
    }

    fn c0(&self) -> &[f64] {
        &self.extra[..self.h0.len()]
    }

    fn b_hn(&self) -> &[f64] {
        &self.extra[..self.sizes.2]
    }

    /// h, c and gates of an LSTM by the definition.
    fn lstm(&self) -> [Vec<f64>; 3] {
        let (steps, batch, hidden) = self.sizes;
        let mut all = [1, 1, 4].map(|n| vec![0.0; steps * batch * hidden * n]);
        for b in 0..batch {
            let (mut h, mut c) = (self.h0[b * hidden..][..hidden].to_vec(), self.c0()[b * hidden..][..hidden].to_vec());
            for t in self.times() {
                let line = t * batch + b;
                let before = h.clone();
                for j in 0..hidden {
                    let gate = |g: usize| self.x[(line * 4 + g) * hidden + j] + dot(&before, &self.w, g * hidden + j);
                    let gates = [sigmoid(gate(0)), sigmoid(gate(1)), gate(2).tanh(), sigmoid(gate(3))];
                    c[j] = gates[1] * c[j] + gates[0] * gates[2];
                    h[j] = gates[3] * c[j].tanh();
                    (0..4).for_each(|g| all[2][(line * 4 + g) * hidden + j] = gates[g]);
                    (all[0][line * hidden + j], all[1][line * hidden + j]) = (h[j], c[j]);
                }
            }
        }
        all
    }

    /// h and gates of a GRU by the definition.
    fn gru(&self) -> [Vec<f64>; 2] {
        let (steps, batch, hidden) = self.sizes;
        let mut all = [1, 4].map(|n| vec![0.0; steps * batch * hidden * n]);
        for b in 0..batch {
            let mut h = self.h0[b * hidden..][..hidden].to_vec();
            for t in self.times() {
                let line = t * batch + b;
                let before = h.clone();
                for j in 0..hidden {
                    let x = |g: usize| self.x[(line * 3 + g) * hidden + j];
                    let m = dot(&before, &self.w, 2 * hidden + j) + self.extra[j];
                    let r = sigmoid(x(0) + dot(&before, &self.w, j));
                    let z = sigmoid(x(1) + dot(&before, &self.w, hidden + j));
                    let n = (x(2) + r * m).tanh();
                    h[j] = (1.0 - z) * n + z * before[j];
                    [r, z, n, m].iter().enumerate().for_each(|(g, &v)| all[1][(line * 4 + g) * hidden + j] = v);
                    all[0][line * hidden + j] = h[j];
                }
            }
        }
        all
    }

    fn lstm_kernel<T: Float>(&self) -> [Vec<T>; 3] {
        let (steps, batch, hidden) = self.sizes;
        let [x, w, h0, c0] = [&self.x[..], &self.w, &self.h0, self.c0()].map(cast::<T>);
        let [mut h, mut c, mut gates] = [1, 1, 4].map(|n| vec![T::ONE; steps * batch * hidden * n]);
        lstm_forward(steps, batch, hidden, self.reverse, &x, &w, &h0, &c0, &mut h, &mut c, &mut gates);
        [h, c, gates]
    }

    fn gru_kernel<T: Float>(&self) -> [Vec<T>; 2] {
        let (steps, batch, hidden) = self.sizes;
        let [x, w, h0, bias] = [&self.x[..], &self.w, &self.h0, self.b_hn()].map(cast::<T>);
        let [mut h, mut gates] = [1, 4].map(|n| vec![T::ONE; steps * batch * hidden * n]);
        gru_forward(steps, batch, hidden, self.reverse, &x, &w, &bias, &h0, &mut h, &mut gates);
        [h, gates]
    }

    /// g_x_gates, gh0 and gc0 of an LSTM for gradients `gh` and `gc_last`.
    fn lstm_gradients<T: Float>(&self, gh: &[f64], gc_last: &[f64]) -> [Vec<T>; 3] {
        let (steps, batch, hidden) = self.sizes;
        let [h, c, gates] = self.lstm_kernel::<T>();
        let [w, h0, c0, gh, gc_last] = [&self.w[..], &self.h0, self.c0(), gh, gc_last].map(cast::<T>);
        let mut out = [gates.len(), h0.len(), h0.len()].map(|n| vec![T::ONE; n]);
        let [gx, gh0, gc0] = &mut out;
        let back = |gx: &mut [T], gh0: Option<&mut [T]>, gc0: &mut [T]| {
            lstm_backward(steps, batch, hidden, self.reverse, &w, &h0, &c0, &h, &c, &gates, &gh, &gc_last, gx, gh0, gc0)
        };
        back(gx, Some(gh0), gc0);
        let mut others = [gx.clone(), gc0.clone()];
        let [gx_alone, gc0_alone] = &mut others;
        back(gx_alone, None, gc0_alone);
        assert!(
            gx == gx_alone && gc0 == gc0_alone,
            "the other gradients are the same where that of h0 is not asked for"
        );
        out
    }

    /// g_x_gates, g_h_gates and gh0 of a GRU for the gradient `gh`.
    fn gru_gradients<T: Float>(&self, gh: &[f64]) -> [Vec<T>; 3] {
        let (steps, batch, hidden) = self.sizes;
        let [h, gates] = self.gru_kernel::<T>();
        let [w, h0, gh] = [&self.w[..], &self.h0, gh].map(cast::<T>);
        let mut out = [self.x.len(), self.x.len(), h0.len()].map(|n| vec![T::ONE; n]);
        let [gx, gates_h, gh0] = &mut out;
        gru_backward(steps, batch, hidden, self.reverse, &w, &h0, &h, &gates, &gh, true, gx, gates_h, gh0);
        out
    }

    /// Σ over time and batch of `g[t, b, row]·(state before t)[b, k]`: the gradient of w_hh.
    fn weight_gradient(&self, g: &[f64], h: &[f64]) -> Vec<f64> {
        let (_, batch, hidden) = self.sizes;
        let rows = self.w.len() / hidden;
        let mut out = vec![0.0; self.w.len()];
        let mut before = &self.h0[..];
        for t in self.times() {
            for b in 0..batch {
                for row in 0..rows {
                    for k in 0..hidden {
                        out[row * hidden + k] += g[(t * batch + b) * rows + row] * before[b * hidden + k];
                    }
                }
            }
            before = &h[t * batch * hidden..][..batch * hidden];
        }
        out
    }
}

fn cast<T: Float>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&v| T::from_f64(v)).collect()
}

fn assert_close<T: Float>(got: &[T], expected: &[f64], bound: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!((got.to_f64() - expected).abs() <= bound * (1.0 + expected.abs()), "{i}: {got} {expected}");
    }
}

/// Both cuts, by rows and by units, edges of the tiles, and nothing at all. 300 units are cut by units.
const SIZES: [Sizes; 11] = [
    (0, 2, 3),
    (3, 0, 3),
    (3, 2, 0),
    (1, 1, 1),
    (4, 3, 2),
    (3, 5, 8),
    (5, 9, 17),
    (3, 13, 101),
    (3, 5, 300),
    (2, 8, 521),
    (3, 17, 300),
];

#[test]
fn lstm_follows_its_definition() {
    for sizes in SIZES {
        for reverse in [false, true] {
            let inputs = Inputs::new(sizes, 4, reverse);
            let expected = inputs.lstm().concat();
            // Sums of H terms of magnitude 1/√H in f32; three steps of them.
            assert_close(&on_any_threads(|| inputs.lstm_kernel::<f32>().concat()), &expected, 2e-6);
            assert_close(&inputs.lstm_kernel::<f64>().concat(), &expected, 1e-14);
        }
    }
}

#[test]
fn gru_follows_its_definition() {
    for sizes in SIZES {
        for reverse in [false, true] {
            let inputs = Inputs::new(sizes, 3, reverse);
            let expected = inputs.gru().concat();
            assert_close(&on_any_threads(|| inputs.gru_kernel::<f32>().concat()), &expected, 2e-6);
            assert_close(&inputs.gru_kernel::<f64>().concat(), &expected, 1e-14);
        }
    }
}

/// Checks `got` against two-sided differences of `value` when the input that `pick` picks changes.
fn check_differences(
    inputs: &mut Inputs,
    pick: fn(&mut Inputs) -> &mut Vec<f64>,
    got: &[f64],
    value: impl Fn(&Inputs) -> f64,
) {
    for i in 0..got.len() {
        let was = pick(inputs)[i];
        pick(inputs)[i] = was + 1e-5;
        let up = value(inputs);
        pick(inputs)[i] = was - 1e-5;
        let difference = (up - value(inputs)) / 2e-5;
        pick(inputs)[i] = was;
        assert!((got[i] - difference).abs() < 1e-8 * (1.0 + difference.abs()), "{i}: {} {difference}", got[i]);
    }
}

#[test]
fn lstm_gradients_agree_with_differences() {
    for (sizes, reverse) in [((1, 1, 1), false), ((4, 3, 2), true), ((5, 5, 3), false), ((2, 2, 9), true)] {
        let mut inputs = Inputs::new(sizes, 4, reverse);
        let (gh, gc_last) = (normals(5, sizes.0 * sizes.1 * sizes.2), normals(6, sizes.1 * sizes.2));
        let last = if reverse { 0 } else { sizes.0 - 1 };
        let value = |inputs: &Inputs| {
            let [h, c, _] = inputs.lstm();
            let c = &c[last * gc_last.len()..];
            h.iter().zip(&gh).chain(c.iter().zip(&gc_last)).map(|(v, g)| v * g).sum::<f64>()
        };
        let [gx, gh0, gc0] = inputs.lstm_gradients::<f64>(&gh, &gc_last);
        let gw = inputs.weight_gradient(&gx, &inputs.lstm()[0]);
        check_differences(&mut inputs, |inputs| &mut inputs.x, &gx, value);
        check_differences(&mut inputs, |inputs| &mut inputs.h0, &gh0, value);
        check_differences(&mut inputs, |inputs| &mut inputs.extra, &gc0, value);
        check_differences(&mut inputs, |inputs| &mut inputs.w, &gw, value);
    }
}

#[test]
fn gru_gradients_agree_with_differences() {
    for (sizes, reverse) in [((1, 1, 1), false), ((4, 3, 2), true), ((5, 5, 3), false), ((2, 2, 9), true)] {
        let mut inputs = Inputs::new(sizes, 3, reverse);
        let hidden = sizes.2;
        let gh = normals(5, sizes.0 * sizes.1 * hidden);
        let value = |inputs: &Inputs| inputs.gru()[0].iter().zip(&gh).map(|(v, g)| v * g).sum::<f64>();
        let [gx, g_h, gh0] = inputs.gru_gradients::<f64>(&gh);
        let gw = inputs.weight_gradient(&g_h, &inputs.gru()[0]);
        let mut g_bias = vec![0.0; hidden];
        g_h.chunks(3 * hidden).for_each(|line| (0..hidden).for_each(|j| g_bias[j] += line[2 * hidden + j]));
        check_differences(&mut inputs, |inputs| &mut inputs.x, &gx, value);
        check_differences(&mut inputs, |inputs| &mut inputs.h0, &gh0, value);
        check_differences(&mut inputs, |inputs| &mut inputs.w, &gw, value);
        check_differences(&mut inputs, |inputs| &mut inputs.extra, &g_bias, value);
    }
}

#[test]
fn gradients_in_f32_follow_those_in_f64() {
    for sizes in SIZES {
        for reverse in [false, true] {
            let (gh, gc_last) = (normals(5, sizes.0 * sizes.1 * sizes.2), normals(6, sizes.1 * sizes.2));
            let inputs = Inputs::new(sizes, 4, reverse);
            let got = on_any_threads(|| inputs.lstm_gradients::<f32>(&gh, &gc_last).concat());
            assert_close(&got, &inputs.lstm_gradients::<f64>(&gh, &gc_last).concat(), 4e-6);
            let inputs = Inputs::new(sizes, 3, reverse);
            let got = on_any_threads(|| inputs.gru_gradients::<f32>(&gh).concat());
            assert_close(&got, &inputs.gru_gradients::<f64>(&gh).concat(), 4e-6);
        }
    }
}

#[test]
fn states_of_zeros_multiply_nothing_and_change_nothing() {
    for sizes in SIZES {
        let mut inputs = Inputs::new(sizes, 4, false);
        inputs.h0.iter_mut().take(sizes.1 * sizes.2).for_each(|value| *value = 0.0);
        let zeros = on_any_threads(|| inputs.lstm_kernel::<f32>().concat());
        // A state of the least numbers there are takes the product, and adds nothing that shows.
        inputs.h0.iter_mut().take(sizes.1 * sizes.2).for_each(|value| *value = f32::MIN_POSITIVE as f64);
        assert_eq!(zeros, inputs.lstm_kernel::<f32>().concat(), "{sizes:?}");
    }
}

#[test]
fn packed_products_agree_with_plain_sums_at_the_edges_of_panels() {
    for (rows, columns, depth) in [
        (1, 1, 1),
        (2, 2, 7),
        (3, 5, 8),
        (4, 31, 16),
        (5, 32, 1024),
        (7, 33, 1025),
        (8, 64, 37),
        (9, 160, 129),
        (15, 65, 2055),
    ] {
        let (a, w) = (normals(1, rows * depth), normals(2, 2 * columns * depth));
        let turned: Vec<f64> = (0..columns * depth).map(|i| w[(columns + i % columns) * depth + i / columns]).collect();
        let stride = columns.next_multiple_of(BLOCK) + 3;
        forced::on_each_set(|set| {
            let by_rows = Panels::of_rows(&cast::<f32>(&w), 2, columns, depth);
            let by_columns = Panels::of_columns(&cast::<f32>(&turned), columns, depth);
            for (panels, group) in [(by_rows, 1), (by_columns, 0)] {
                let mut out = vec![9.0f32; rows * stride];
                panels.multiply(&cast::<f32>(&a), rows, group, 0..columns, &mut out, stride);
                for b in 0..rows {
                    let a = &a[b * depth..][..depth];
                    for j in 0..columns {
                        // Sums of `depth` terms one after the other.
                        let bound =
                            1e-6 * a.iter().zip(&w[(columns + j) * depth..]).map(|(a, w)| (a * w).abs()).sum::<f64>();
                        let got = out[b * stride + j] as f64;
                        assert!((got - dot(a, &w, columns + j)).abs() <= bound, "{set}: {rows} × {columns} × {depth}");
                    }
                }
            }
        });
    }
}
