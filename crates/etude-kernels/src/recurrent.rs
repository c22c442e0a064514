//! LSTM (Hochreiter and Schmidhuber, 1997) and GRU (Cho et al., 2014) over whole sequences, in PyTorch's forms.
//!
//! Everything is time-major and contiguous. The products with the inputs are made outside, over all steps at once; what is
//! left to the step is the product of the previous state with the recurrent weights, and the gates, in one pass: a task
//! computes all gates of some units for some rows of the batch. Large weights are cut by units, so that each step streams
//! them through memory once for the whole batch; small weights stay in the cache, and tasks take rows through all steps.
//! The bits do not depend on the cut: a product's terms are always added in the same order.

use crate::copy;
use crate::softmax::{Real, has_avx2_fma};
use crate::threads::{SendPointer, parallel};
use crate::{DType, Float};
use bytemuck::{cast_slice, cast_slice_mut};
use std::ops::Range;

/// LSTM over `steps` steps. With `[i f g o] = x_gates[t] + h·w_hhᵀ`: `c ← σ(f)·c + σ(i)·tanh(g)`, `h ← σ(o)·tanh(c)`.
///
/// `x_gates[T, B, 4H]` holds the input's products and both biases, `w_hh` is `[4H, H]`, `h0` and `c0` are `[B, H]`. Gives
/// every state, `h` and `c` `[T, B, H]`, and the gates after their activations, `gates[T, B, 4H]`. `reverse` runs from the
/// last step to the first; state t stays at place t.
pub fn lstm_forward<T: Float>(
    steps: usize,
    batch: usize,
    hidden: usize,
    reverse: bool,
    x_gates: &[T],
    w_hh: &[T],
    h0: &[T],
    c0: &[T],
    h: &mut [T],
    c: &mut [T],
    gates: &mut [T],
) {
    (T::floats().recurrent_lstm_forward)(steps, batch, hidden, reverse, x_gates, w_hh, h0, c0, h, c, gates)
}

/// The body of [`lstm_forward`], compiled once for each type in this crate.
pub(crate) fn lstm_forward_body<T: Float>(
    steps: usize,
    batch: usize,
    hidden: usize,
    reverse: bool,
    x_gates: &[T],
    w_hh: &[T],
    h0: &[T],
    c0: &[T],
    h: &mut [T],
    c: &mut [T],
    gates: &mut [T],
) {
    let state = batch * hidden;
    assert!(x_gates.len() == 4 * steps * state && gates.len() == x_gates.len(), "gates are [T, B, 4H]");
    assert!(w_hh.len() == 4 * hidden * hidden && h0.len() == state && c0.len() == state, "w_hh is [4H, H], h0 [B, H]");
    assert!(h.len() == steps * state && c.len() == h.len(), "h and c are [T, B, H]");
    let order = Order { steps, reverse };
    let [h, c, gates] = [h, c, gates].map(|out| SendPointer(out.as_mut_ptr()));
    run_steps(steps, batch, hidden, 4, |step, rows, units| {
        let (t, before) = (order.time(step), order.before(step));
        let (count, width) = (rows.len(), units.len());
        let mut products = vec![T::ZERO; 4 * count * width];
        // SAFETY: the states before this step are complete, and this step's tasks write other places.
        let previous = unsafe { state_at(&h, h0, before, state, rows.start * hidden, count * hidden) };
        for gate in 0..4 {
            let w = &w_hh[(gate * hidden + units.start) * hidden..][..width * hidden];
            product(previous, w, hidden, &mut products[gate * count * width..][..count * width]);
        }
        for (row, b) in rows.enumerate() {
            let place = b * hidden + units.start;
            // SAFETY: these units of this row and step belong to this task alone; the state before is only read.
            let (c_before, h, c) = unsafe {
                let c_before = state_at(&c, c0, before, state, place, width);
                (c_before, part(&h, t * state + place, width), part(&c, t * state + place, width))
            };
            let [i, f, g, o] = std::array::from_fn(|gate| {
                let at = ((t * batch + b) * 4 + gate) * hidden + units.start;
                // SAFETY: as above.
                let out = unsafe { part(&gates, at, width) };
                let products = &products[(gate * count + row) * width..][..width];
                for j in 0..width {
                    out[j] = x_gates[at + j] + products[j];
                }
                activate(out, gate == 2);
                out
            });
            for j in 0..width {
                c[j] = f[j] * c_before[j] + i[j] * g[j];
            }
            h.copy_from_slice(c);
            activate(h, true);
            for j in 0..width {
                h[j] = h[j] * o[j];
            }
        }
    });
}

/// The gradients of [`lstm_forward`], from what it was given and gave.
///
/// `gh[T, B, H]` is the gradient into every h (of the last state too), `gc_last[B, H]` that into the last c. Gives the
/// gradients before the activations, `g_x_gates[T, B, 4H]`, which are those of x_gates, and `gh0`, `gc0` `[B, H]`. The
/// gradient of w_hh is the product of g_x_gates, transposed, with the states before each step, made outside.
pub fn lstm_backward<T: Float>(
    steps: usize,
    batch: usize,
    hidden: usize,
    reverse: bool,
    w_hh: &[T],
    h0: &[T],
    c0: &[T],
    h: &[T],
    c: &[T],
    gates: &[T],
    gh: &[T],
    gc_last: &[T],
    g_x_gates: &mut [T],
    gh0: &mut [T],
    gc0: &mut [T],
) {
    (T::floats().recurrent_lstm_backward)(
        steps, batch, hidden, reverse, w_hh, h0, c0, h, c, gates, gh, gc_last, g_x_gates, gh0, gc0,
    )
}

/// The body of [`lstm_backward`], compiled once for each type in this crate.
pub(crate) fn lstm_backward_body<T: Float>(
    steps: usize,
    batch: usize,
    hidden: usize,
    reverse: bool,
    w_hh: &[T],
    h0: &[T],
    c0: &[T],
    h: &[T],
    c: &[T],
    gates: &[T],
    gh: &[T],
    gc_last: &[T],
    g_x_gates: &mut [T],
    gh0: &mut [T],
    gc0: &mut [T],
) {
    let state = batch * hidden;
    assert!(gates.len() == 4 * steps * state && g_x_gates.len() == gates.len(), "gates are [T, B, 4H]");
    assert!([h, c, gh].iter().all(|s| s.len() == steps * state), "h, c and gh are [T, B, H]");
    assert!([h0, c0, gc_last, gh0, gc0].iter().all(|s| s.len() == state), "h0, c0 and their gradients are [B, H]");
    let transposed = transpose(w_hh, 4 * hidden, hidden);
    let order = Order { steps, reverse };
    // gc0 carries the gradient into c from step to step.
    gc0.copy_from_slice(gc_last);
    let [g_gates, gh0, carry] = [g_x_gates, gh0, gc0].map(|out| SendPointer(out.as_mut_ptr()));
    let depth = 4 * hidden;
    run_steps(steps + 1, batch, hidden, 4, |back, rows, units| {
        let (count, width) = (rows.len(), units.len());
        let mut from_later = vec![T::ZERO; count * width];
        if back > 0 {
            let later = (order.time(steps - back) * batch + rows.start) * depth;
            // SAFETY: the step after this one is complete, and nobody writes its gates any more.
            let later = unsafe { &*part(&g_gates, later, count * depth) };
            product(later, &transposed[units.start * depth..][..width * depth], depth, &mut from_later);
        }
        let mut tanh_c = vec![T::ZERO; width];
        for (row, b) in rows.enumerate() {
            let (place, from_later) = (b * hidden + units.start, &from_later[row * width..][..width]);
            if back == steps {
                // SAFETY: these units of this row belong to this task alone.
                unsafe { part(&gh0, place, width) }.copy_from_slice(from_later);
                continue;
            }
            let step = steps - 1 - back;
            let t = order.time(step);
            let gh = &gh[t * state + place..][..width];
            let c_before = match order.before(step) {
                Some(before) => &c[before * state + place..][..width],
                None => &c0[place..][..width],
            };
            tanh_c.copy_from_slice(&c[t * state + place..][..width]);
            activate(&mut tanh_c, true);
            let at = |gate: usize| ((t * batch + b) * 4 + gate) * hidden + units.start;
            let [i, f, g, o] = std::array::from_fn(|gate| &gates[at(gate)..][..width]);
            // SAFETY: as above.
            let [gi, gf, gg, go] = std::array::from_fn(|gate| unsafe { part(&g_gates, at(gate), width) });
            // SAFETY: as above.
            let carry = unsafe { part(&carry, place, width) };
            for j in 0..width {
                let gh = gh[j] + from_later[j];
                let gc = carry[j] + gh * o[j] * (T::ONE - tanh_c[j] * tanh_c[j]);
                go[j] = gh * tanh_c[j] * o[j] * (T::ONE - o[j]);
                gi[j] = gc * g[j] * i[j] * (T::ONE - i[j]);
                gf[j] = gc * c_before[j] * f[j] * (T::ONE - f[j]);
                gg[j] = gc * i[j] * (T::ONE - g[j] * g[j]);
                carry[j] = gc * f[j];
            }
        }
    });
}

/// GRU over `steps` steps. With `[r z n] = x_gates[t]` and `[r' z' n'] = h·w_hhᵀ`: `r ← σ(r + r')`, `z ← σ(z + z')`,
/// `m = n' + b_hn`, `n ← tanh(n + r·m)`, `h ← (1 − z)·n + z·h`.
///
/// `x_gates[T, B, 3H]` holds the input's products, its biases, and the recurrent biases of r and z; that of n, `b_hn[H]`,
/// stands apart because r scales it. `w_hh` is `[3H, H]`, `h0` `[B, H]`. Gives every state, `h[T, B, H]`, and
/// `gates[T, B, 4H]`: r, z, n after their activations, and m. `reverse` as in [`lstm_forward`].
pub fn gru_forward<T: Float>(
    steps: usize,
    batch: usize,
    hidden: usize,
    reverse: bool,
    x_gates: &[T],
    w_hh: &[T],
    b_hn: &[T],
    h0: &[T],
    h: &mut [T],
    gates: &mut [T],
) {
    (T::floats().recurrent_gru_forward)(steps, batch, hidden, reverse, x_gates, w_hh, b_hn, h0, h, gates)
}

/// The body of [`gru_forward`], compiled once for each type in this crate.
pub(crate) fn gru_forward_body<T: Float>(
    steps: usize,
    batch: usize,
    hidden: usize,
    reverse: bool,
    x_gates: &[T],
    w_hh: &[T],
    b_hn: &[T],
    h0: &[T],
    h: &mut [T],
    gates: &mut [T],
) {
    let state = batch * hidden;
    assert!(x_gates.len() == 3 * steps * state, "x_gates is [T, B, 3H]");
    assert!(w_hh.len() == 3 * hidden * hidden && b_hn.len() == hidden && h0.len() == state, "w_hh is [3H, H]");
    assert!(h.len() == steps * state && gates.len() == 4 * h.len(), "h is [T, B, H], gates is [T, B, 4H]");
    let order = Order { steps, reverse };
    let [h, gates] = [h, gates].map(|out| SendPointer(out.as_mut_ptr()));
    run_steps(steps, batch, hidden, 3, |step, rows, units| {
        let (t, before) = (order.time(step), order.before(step));
        let (count, width) = (rows.len(), units.len());
        let mut products = vec![T::ZERO; 3 * count * width];
        // SAFETY: the states before this step are complete, and this step's tasks write other places.
        let previous = unsafe { state_at(&h, h0, before, state, rows.start * hidden, count * hidden) };
        for gate in 0..3 {
            let w = &w_hh[(gate * hidden + units.start) * hidden..][..width * hidden];
            product(previous, w, hidden, &mut products[gate * count * width..][..count * width]);
        }
        for (row, b) in rows.enumerate() {
            let line = t * batch + b;
            let h_before = &previous[row * hidden + units.start..][..width];
            let [pr, pz, pn] = std::array::from_fn(|gate| &products[(gate * count + row) * width..][..width]);
            let [xr, xz, xn] =
                std::array::from_fn(|gate| &x_gates[(line * 3 + gate) * hidden + units.start..][..width]);
            // SAFETY: these units of this row and step belong to this task alone.
            let [r, z, n, m] =
                std::array::from_fn(|gate| unsafe { part(&gates, (line * 4 + gate) * hidden + units.start, width) });
            // SAFETY: as above.
            let h = unsafe { part(&h, line * hidden + units.start, width) };
            let bias = &b_hn[units.clone()];
            for j in 0..width {
                r[j] = xr[j] + pr[j];
                z[j] = xz[j] + pz[j];
                m[j] = pn[j] + bias[j];
            }
            activate(r, false);
            activate(z, false);
            for j in 0..width {
                n[j] = xn[j] + r[j] * m[j];
            }
            activate(n, true);
            for j in 0..width {
                h[j] = (T::ONE - z[j]) * n[j] + z[j] * h_before[j];
            }
        }
    });
}

/// The gradients of [`gru_forward`], from what it was given and gave; `gh[T, B, H]` is the gradient into every h.
///
/// Gives `g_x_gates[T, B, 3H]`, the gradient of x_gates; `g_h_gates[T, B, 3H]`, that of `h·w_hhᵀ` (the same for r and z,
/// scaled by r for n); and `gh0[B, H]`. Made outside: w_hh's gradient, the product of g_h_gates, transposed, with the
/// states before each step; and b_hn's, the sum of g_h_gates' last third.
pub fn gru_backward<T: Float>(
    steps: usize,
    batch: usize,
    hidden: usize,
    reverse: bool,
    w_hh: &[T],
    h0: &[T],
    h: &[T],
    gates: &[T],
    gh: &[T],
    g_x_gates: &mut [T],
    g_h_gates: &mut [T],
    gh0: &mut [T],
) {
    (T::floats().recurrent_gru_backward)(
        steps, batch, hidden, reverse, w_hh, h0, h, gates, gh, g_x_gates, g_h_gates, gh0,
    )
}

/// The body of [`gru_backward`], compiled once for each type in this crate.
pub(crate) fn gru_backward_body<T: Float>(
    steps: usize,
    batch: usize,
    hidden: usize,
    reverse: bool,
    w_hh: &[T],
    h0: &[T],
    h: &[T],
    gates: &[T],
    gh: &[T],
    g_x_gates: &mut [T],
    g_h_gates: &mut [T],
    gh0: &mut [T],
) {
    let state = batch * hidden;
    assert!(gates.len() == 4 * steps * state && h.len() == steps * state && gh.len() == h.len(), "gates is [T, B, 4H]");
    assert!(g_x_gates.len() == 3 * steps * state && g_h_gates.len() == g_x_gates.len(), "gradients are [T, B, 3H]");
    assert!(h0.len() == state && gh0.len() == state, "h0 and gh0 are [B, H]");
    let transposed = transpose(w_hh, 3 * hidden, hidden);
    let order = Order { steps, reverse };
    // gh0 carries the part of the gradient that goes past the gates, from step to step.
    gh0.fill(T::ZERO);
    let [g_x, g_h, carry] = [g_x_gates, g_h_gates, gh0].map(|out| SendPointer(out.as_mut_ptr()));
    let depth = 3 * hidden;
    run_steps(steps + 1, batch, hidden, 3, |back, rows, units| {
        let (count, width) = (rows.len(), units.len());
        let mut from_later = vec![T::ZERO; count * width];
        if back > 0 {
            let later = (order.time(steps - back) * batch + rows.start) * depth;
            // SAFETY: the step after this one is complete, and nobody writes its gates any more.
            let later = unsafe { &*part(&g_h, later, count * depth) };
            product(later, &transposed[units.start * depth..][..width * depth], depth, &mut from_later);
        }
        for (row, b) in rows.enumerate() {
            let (place, from_later) = (b * hidden + units.start, &from_later[row * width..][..width]);
            // SAFETY: these units of this row belong to this task alone.
            let carry = unsafe { part(&carry, place, width) };
            if back == steps {
                carry.iter_mut().zip(from_later).for_each(|(sum, &value)| *sum += value);
                continue;
            }
            let step = steps - 1 - back;
            let line = order.time(step) * batch + b;
            let gh = &gh[line * hidden + units.start..][..width];
            let h_before = match order.before(step) {
                Some(before) => &h[before * state + place..][..width],
                None => &h0[place..][..width],
            };
            let [r, z, n, m] = std::array::from_fn(|gate| &gates[(line * 4 + gate) * hidden + units.start..][..width]);
            let at = |gate: usize| (line * 3 + gate) * hidden + units.start;
            // SAFETY: as above.
            let [xr, xz, xn] = std::array::from_fn(|gate| unsafe { part(&g_x, at(gate), width) });
            // SAFETY: as above.
            let [hr, hz, hn] = std::array::from_fn(|gate| unsafe { part(&g_h, at(gate), width) });
            for j in 0..width {
                let gh = gh[j] + from_later[j] + carry[j];
                let gn = gh * (T::ONE - z[j]) * (T::ONE - n[j] * n[j]);
                let gr = gn * m[j] * r[j] * (T::ONE - r[j]);
                let gz = gh * (h_before[j] - n[j]) * z[j] * (T::ONE - z[j]);
                (xr[j], hr[j], xz[j], hz[j]) = (gr, gr, gz, gz);
                (xn[j], hn[j]) = (gn, gn * r[j]);
                carry[j] = gh * z[j];
            }
        }
    });
}

/// The order of the steps.
struct Order {
    steps: usize,
    reverse: bool,
}

impl Order {
    /// The place in time of a step.
    fn time(&self, step: usize) -> usize {
        if self.reverse { self.steps - 1 - step } else { step }
    }

    /// The place in time of the step before, if there is one.
    fn before(&self, step: usize) -> Option<usize> {
        step.checked_sub(1).map(|step| self.time(step))
    }
}

/// Units a task computes where weights are cut by units: a multiple of the product's tile.
const UNITS: usize = 48;
/// Rows a task takes through all steps where the batch is cut.
const ROWS: usize = 4;
/// Weights up to this size stay in a core's cache from step to step.
const CACHED: usize = 256 << 10;

/// Runs `work(step, rows, units)` so that every step has seen all units of its rows in the step before.
fn run_steps<F: Fn(usize, Range<usize>, Range<usize>) + Sync>(
    steps: usize,
    batch: usize,
    hidden: usize,
    gates: usize,
    work: F,
) {
    if batch * hidden == 0 {
        return;
    }
    let weights = gates * hidden * hidden;
    if weights * size_of::<f32>() <= CACHED || weights * batch < 1 << 18 {
        parallel(batch.div_ceil(ROWS), |task| {
            for step in 0..steps {
                work(step, task * ROWS..batch.min((task + 1) * ROWS), 0..hidden);
            }
        });
    } else {
        for step in 0..steps {
            parallel(hidden.div_ceil(UNITS), |task| {
                work(step, 0..batch, task * UNITS..hidden.min((task + 1) * UNITS));
            });
        }
    }
}

/// Part of the state at time `before`, or of `initial` where there is none.
///
/// # Safety
/// `states` must hold complete states at `before`, and nobody may write the part while the slice lives.
unsafe fn state_at<'a, T>(
    states: &SendPointer<T>,
    initial: &'a [T],
    before: Option<usize>,
    state: usize,
    start: usize,
    length: usize,
) -> &'a [T] {
    match before {
        // SAFETY: the caller's promise.
        Some(before) => unsafe { &*part(states, before * state + start, length) },
        None => &initial[start..start + length],
    }
}

/// Elements `start..start + length` of an output that several tasks write.
///
/// # Safety
/// They must lie inside the output, and nobody else may use them while the slice lives.
unsafe fn part<'a, T>(base: &SendPointer<T>, start: usize, length: usize) -> &'a mut [T] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(base.at(start), length) }
}

fn transpose<T: Float>(w: &[T], rows: usize, columns: usize) -> Vec<T> {
    assert_eq!(w.len(), rows * columns, "w_hh is [gates·H, H]");
    let mut out = vec![T::ZERO; w.len()];
    copy::strided(w, 0, &[columns, rows], &[1, columns as isize], &mut out);
    out
}

/// Sigmoid, or `tanh` of every value, in place.
fn activate<T: Float>(values: &mut [T], tanh: bool) {
    if T::DTYPE == DType::F32 {
        let values = cast_slice_mut::<T, f32>(values);
        #[cfg(target_arch = "x86_64")]
        if has_avx2_fma() {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { activate_avx2(values, tanh) };
        }
        activate_f32::<false>(values, tanh);
    } else if tanh {
        values.iter_mut().for_each(|v| *v = v.tanh());
    } else {
        values.iter_mut().for_each(|v| *v = T::ONE / (T::ONE + (-*v).exp()));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn activate_avx2(values: &mut [f32], tanh: bool) {
    activate_f32::<true>(values, tanh);
}

#[inline(always)]
fn activate_f32<const FMA: bool>(values: &mut [f32], tanh: bool) {
    if tanh {
        for v in values {
            *v = tanh_f32::<FMA>(*v);
        }
    } else {
        for v in values {
            *v = 1.0 / (1.0 + (-*v).fast_exp::<FMA>());
        }
    }
}

/// `tanh`: near 0 Cephes' polynomial (Moshier), elsewhere `1 − 2/(e^{2|x|} + 1)` with the sign of x.
#[inline(always)]
fn tanh_f32<const FMA: bool>(x: f32) -> f32 {
    let q = x * x;
    let p = (-5.704_988_727_45e-3f32).fused::<FMA>(q, 2.063_908_879_54e-2);
    let p = p.fused::<FMA>(q, -5.373_971_555_31e-2);
    let p = p.fused::<FMA>(q, 1.333_144_220_36e-1);
    let p = p.fused::<FMA>(q, -3.333_328_194_22e-1);
    let near = (p * q).fused::<FMA>(x, x);
    let far = 1.0 - 2.0 / ((2.0 * x.abs()).fast_exp::<FMA>() + 1.0);
    (if x.abs() < 0.625 { near } else { far }).copysign(x)
}

/// `out[b, j] = Σ_k a[b, k]·w[j, k]`: a is `[rows, depth]`, w is `[columns, depth]`, out is `[rows, columns]`.
fn product<T: Float>(a: &[T], w: &[T], depth: usize, out: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if T::DTYPE == DType::F32 && has_avx2_fma() {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { avx2::product(cast_slice(a), cast_slice(w), depth, cast_slice_mut(out)) };
    }
    let columns = w.len() / depth;
    for (a, out) in a.chunks_exact(depth).zip(out.chunks_exact_mut(columns)) {
        for (w, out) in w.chunks_exact(depth).zip(out) {
            let mut lanes = [T::ZERO; 8];
            let ((a_blocks, a_rest), (w_blocks, w_rest)) = (a.as_chunks::<8>(), w.as_chunks::<8>());
            for (a, w) in a_blocks.iter().zip(w_blocks) {
                (0..8).for_each(|j| lanes[j] += a[j] * w[j]);
            }
            let rest = a_rest.iter().zip(w_rest).fold(T::ZERO, |sum, (&a, &w)| sum + a * w);
            *out = lanes.into_iter().fold(rest, |sum, lane| sum + lane);
        }
    }
}

/// The product in AVX2. Both factors are read along their rows, so nothing needs packing; each weight that comes from
/// memory meets four rows of the batch in registers and the others while it is in the first-level cache.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    /// Depth of a pass: four rows of the batch and three of weights stay in the first-level cache.
    const DEPTH: usize = 512;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn product(a: &[f32], w: &[f32], depth: usize, out: &mut [f32]) {
        let (rows, columns) = (a.len() / depth, w.len() / depth);
        assert_eq!(out.len(), rows * columns);
        out.fill(0.0);
        for start in (0..depth).step_by(DEPTH) {
            let length = DEPTH.min(depth - start);
            for j in (0..columns).step_by(3) {
                for b in (0..rows).step_by(4) {
                    let (a, w) = (&a[b * depth + start..], &w[j * depth + start..]);
                    let (high, wide) = ((columns - j).min(3), (rows - b).min(4));
                    // SAFETY: `high` rows of w from row j and `wide` rows of a from row b exist, and `length` elements of
                    // each from column `start`.
                    let sums = unsafe {
                        match wide {
                            1 => tiles::<1>(high, w.as_ptr(), a.as_ptr(), depth, length),
                            2 => tiles::<2>(high, w.as_ptr(), a.as_ptr(), depth, length),
                            3 => tiles::<3>(high, w.as_ptr(), a.as_ptr(), depth, length),
                            _ => tiles::<4>(high, w.as_ptr(), a.as_ptr(), depth, length),
                        }
                    };
                    for r in 0..high {
                        for c in 0..wide {
                            out[(b + c) * columns + j + r] += sums[r][c];
                        }
                    }
                }
            }
        }
    }

    /// [`tile`] with as many rows of weights as there are.
    ///
    /// # Safety
    /// As for [`tile`] with `R = high`.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tiles<const C: usize>(
        high: usize,
        w: *const f32,
        a: *const f32,
        stride: usize,
        length: usize,
    ) -> [[f32; 4]; 3] {
        let mut sums = [[0.0; 4]; 3];
        // SAFETY: the caller's promise.
        unsafe {
            match high {
                1 => sums[..1].copy_from_slice(&tile::<1, C>(w, a, stride, length)),
                2 => sums[..2].copy_from_slice(&tile::<2, C>(w, a, stride, length)),
                _ => sums = tile::<3, C>(w, a, stride, length),
            }
        }
        sums
    }

    /// Sums of products of `R` rows of w with `C` rows of a. An output's bits do not depend on R and C.
    ///
    /// # Safety
    /// At both addresses, `R` or `C` rows `stride` apart must have `length` readable elements.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const R: usize, const C: usize>(
        w: *const f32,
        a: *const f32,
        stride: usize,
        length: usize,
    ) -> [[f32; 4]; R] {
        let mut sums = [[_mm256_setzero_ps(); 4]; R];
        let mut k = 0;
        while k + 8 <= length {
            let mut weights = [_mm256_setzero_ps(); R];
            for r in 0..R {
                // SAFETY: elements k to k + 7 of row r exist.
                weights[r] = unsafe { _mm256_loadu_ps(w.add(r * stride + k)) };
            }
            for c in 0..C {
                // SAFETY: elements k to k + 7 of row c exist.
                let values = unsafe { _mm256_loadu_ps(a.add(c * stride + k)) };
                for r in 0..R {
                    sums[r][c] = _mm256_fmadd_ps(weights[r], values, sums[r][c]);
                }
            }
            k += 8;
        }
        if k < length {
            let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((length - k) as i32), lanes);
            for c in 0..C {
                // SAFETY: only the elements of row c before `length` are read.
                let values = unsafe { _mm256_maskload_ps(a.add(c * stride + k), mask) };
                for r in 0..R {
                    // SAFETY: only the elements of row r before `length` are read.
                    let weights = unsafe { _mm256_maskload_ps(w.add(r * stride + k), mask) };
                    sums[r][c] = _mm256_fmadd_ps(weights, values, sums[r][c]);
                }
            }
        }
        let mut out = [[0.0; 4]; R];
        for r in 0..R {
            let (low, high) = (_mm256_hadd_ps(sums[r][0], sums[r][1]), _mm256_hadd_ps(sums[r][2], sums[r][3]));
            let halves = _mm256_hadd_ps(low, high);
            let total = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
            // SAFETY: out[r] has four elements.
            unsafe { _mm_storeu_ps(out[r].as_mut_ptr(), total) };
        }
        out
    }
}

#[cfg(test)]
#[path = "recurrent_tests.rs"]
mod tests;
