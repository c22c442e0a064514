//! The GRU's steps, forwards and backwards.

use super::{
    Order, Panels, SIDE, Weights, four, part, put, run_steps, sigmoid, state_at, take, tanh, will_read, will_write,
    with_products,
};
use crate::Float;
use crate::cpu::{self, Vector, Work};
use crate::threads::SendPointer;

/// GRU over `steps` steps. With `[r z n] = x_gates[t]` and `[r' z' n'] = h·w_hhᵀ`: `r ← σ(r + r')`, `z ← σ(z + z')`,
/// `m = n' + b_hn`, `n ← tanh(n + r·m)`, `h ← (1 − z)·n + z·h`.
///
/// `x_gates[T, B, 3H]` holds the input's products, its biases, and the recurrent biases of r and z; that of n, `b_hn[H]`,
/// stands apart because r scales it. `w_hh` is `[3H, H]`, `h0` `[B, H]`. Gives every state, `h[T, B, H]`, and
/// `gates[T, B, 4H]`: r, z, n after their activations, and m. `reverse` as in [`super::lstm_forward`].
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
    let weights = Weights::new(w_hh, 3, hidden, steps);
    let [h, gates] = [h, gates].map(|out| SendPointer(out.as_mut_ptr()));
    run_steps(steps, batch, hidden, 3, |step, rows, units| {
        let (t, before) = (order.time(step), order.before(step));
        let (count, width) = (rows.len(), units.len());
        with_products(3, count, width, |products, stride| {
            // SAFETY: the states before this step are complete, and this step's tasks write other places.
            let previous = unsafe { state_at(&h, h0, before, state, rows.start * hidden, count * hidden) };
            for (gate, products) in products.chunks_exact_mut(count * stride).enumerate() {
                for line in rows.clone().map(|b| t * batch + b) {
                    will_read(&x_gates[(line * 3 + gate) * hidden + units.start..][..width]);
                    will_write(&gates, (line * 4 + gate) * hidden + units.start, width);
                    if gate == 0 {
                        will_write(&gates, (line * 4 + 3) * hidden + units.start, width);
                        will_write(&h, line * hidden + units.start, width);
                    }
                }
                weights.multiply(previous, count, gate, units.clone(), products, stride);
            }
            for (row, b) in rows.enumerate() {
                let line = t * batch + b;
                let at = |of: usize, gate: usize| (line * of + gate) * hidden + units.start;
                // SAFETY: these units of this row and step belong to this task alone.
                unsafe {
                    cpu::run(Forward {
                        x: [0, 1, 2].map(|gate| &x_gates[at(3, gate)..][..width]),
                        products: [0, 1, 2].map(|gate| &products[(gate * count + row) * stride..][..width]),
                        bias: &b_hn[units.clone()],
                        h_before: &previous[row * hidden + units.start..][..width],
                        gates: four(|gate| part(&gates, at(4, gate), width)),
                        h: part(&h, line * hidden + units.start, width),
                    });
                }
            }
        });
    });
}

/// The gates of some units of one row, and the state after them.
struct Forward<'a, T> {
    x: [&'a [T]; 3],
    products: [&'a [T]; 3],
    bias: &'a [T],
    h_before: &'a [T],
    gates: [&'a mut [T]; 4],
    h: &'a mut [T],
}

// SAFETY: everything is inlined.
unsafe impl<T: Float> Work<T> for Forward<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        if V::FUSED { self.compute::<true>() } else { self.compute::<false>() }
    }
}

impl<T: Float> Forward<'_, T> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        for at in (0..self.h.len()).step_by(SIDE) {
            let (xr, xz, xn) = (take(self.x[0], at), take(self.x[1], at), take(self.x[2], at));
            let (pr, pz, pn) = (take(self.products[0], at), take(self.products[1], at), take(self.products[2], at));
            let (bias, h_before) = (take(self.bias, at), take(self.h_before, at));
            let [mut r, mut z, mut n, mut m, mut h] = [[T::ZERO; SIDE]; 5];
            for j in 0..SIDE {
                m[j] = pn[j] + bias[j];
                r[j] = sigmoid::<T, FMA>(xr[j] + pr[j]);
                z[j] = sigmoid::<T, FMA>(xz[j] + pz[j]);
                n[j] = tanh::<T, FMA>(xn[j] + r[j] * m[j]);
                h[j] = (T::ONE - z[j]) * n[j] + z[j] * h_before[j];
            }
            put(r, self.gates[0], at);
            put(z, self.gates[1], at);
            put(n, self.gates[2], at);
            put(m, self.gates[3], at);
            put(h, self.h, at);
        }
    }
}

/// The gradients of [`gru_forward`], from what it was given and gave; `gh[T, B, H]` is the gradient into every h.
///
/// Gives `g_x_gates[T, B, 3H]`, the gradient of x_gates; `g_h_gates[T, B, 3H]`, that of `h·w_hhᵀ` (the same for r and z,
/// scaled by r for n); and `gh0[B, H]`, or only the part of it that goes past the gates if `of_h0` is false: then the product
/// with the first step's gates is not made. Made outside: w_hh's gradient, the product of g_h_gates, transposed, with the
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
    of_h0: bool,
    g_x_gates: &mut [T],
    g_h_gates: &mut [T],
    gh0: &mut [T],
) {
    (T::floats().recurrent_gru_backward)(
        steps, batch, hidden, reverse, w_hh, h0, h, gates, gh, of_h0, g_x_gates, g_h_gates, gh0,
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
    of_h0: bool,
    g_x_gates: &mut [T],
    g_h_gates: &mut [T],
    gh0: &mut [T],
) {
    let state = batch * hidden;
    assert!(gates.len() == 4 * steps * state && h.len() == steps * state && gh.len() == h.len(), "gates is [T, B, 4H]");
    assert!(g_x_gates.len() == 3 * steps * state && g_h_gates.len() == g_x_gates.len(), "gradients are [T, B, 3H]");
    assert!(h0.len() == state && gh0.len() == state, "h0 and gh0 are [B, H]");
    assert_eq!(w_hh.len(), 3 * hidden * hidden, "w_hh is [3H, H]");
    let depth = 3 * hidden;
    let weights = Panels::of_columns(w_hh, hidden, depth);
    let order = Order { steps, reverse };
    // gh0 carries the part of the gradient that goes past the gates, from step to step.
    gh0.fill(T::ZERO);
    let [g_x, g_h, carry] = [g_x_gates, g_h_gates, gh0].map(|out| SendPointer(out.as_mut_ptr()));
    // One step more adds what comes through the gates to h0's gradient.
    run_steps(steps + usize::from(of_h0), batch, hidden, 3, |back, rows, units| {
        let (count, width) = (rows.len(), units.len());
        with_products(1, count, width, |from_later, stride| {
            if back > 0 {
                let later = (order.time(steps - back) * batch + rows.start) * depth;
                // SAFETY: the step after this one is complete, and nobody writes its gates any more.
                let later = unsafe { &*part(&g_h, later, count * depth) };
                if back < steps {
                    let step = steps - 1 - back;
                    for b in rows.clone() {
                        let line = order.time(step) * batch + b;
                        for gate in 0..4 {
                            will_read(&gates[(line * 4 + gate) * hidden + units.start..][..width]);
                        }
                        for at in (0..3).map(|gate| (line * 3 + gate) * hidden + units.start) {
                            will_write(&g_x, at, width);
                            will_write(&g_h, at, width);
                        }
                        will_read(&gh[line * hidden + units.start..][..width]);
                    }
                }
                weights.multiply(later, count, 0, units.clone(), from_later, stride);
            } else {
                from_later.fill(T::ZERO);
            }
            for (row, b) in rows.enumerate() {
                let (place, from_later) = (b * hidden + units.start, &from_later[row * stride..][..width]);
                // SAFETY: these units of this row belong to this task alone.
                let carry = unsafe { part(&carry, place, width) };
                if back == steps {
                    carry.iter_mut().zip(from_later).for_each(|(sum, &value)| *sum += value);
                    continue;
                }
                let step = steps - 1 - back;
                let line = order.time(step) * batch + b;
                let h_before = match order.before(step) {
                    Some(before) => &h[before * state + place..][..width],
                    None => &h0[place..][..width],
                };
                let at = |of: usize, gate: usize| (line * of + gate) * hidden + units.start;
                // SAFETY: as above.
                unsafe {
                    cpu::run(Backward {
                        gh: &gh[line * hidden + units.start..][..width],
                        from_later,
                        h_before,
                        gates: four(|gate| &gates[at(4, gate)..][..width]),
                        g_x: [0, 1, 2].map(|gate| part(&g_x, at(3, gate), width)),
                        g_h: [0, 1, 2].map(|gate| part(&g_h, at(3, gate), width)),
                        carry,
                    });
                }
            }
        });
    });
}

/// The gradients of one step of some units of one row.
struct Backward<'a, T> {
    gh: &'a [T],
    from_later: &'a [T],
    h_before: &'a [T],
    gates: [&'a [T]; 4],
    g_x: [&'a mut [T]; 3],
    g_h: [&'a mut [T]; 3],
    carry: &'a mut [T],
}

// SAFETY: everything is inlined.
unsafe impl<T: Float> Work<T> for Backward<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        for at in (0..self.gh.len()).step_by(SIDE) {
            let (direct, later, mut carry) = (take(self.gh, at), take(self.from_later, at), take(self.carry, at));
            let h_before = take(self.h_before, at);
            let (r, z) = (take(self.gates[0], at), take(self.gates[1], at));
            let (n, m) = (take(self.gates[2], at), take(self.gates[3], at));
            let [mut gr, mut gz, mut gn, mut hn] = [[T::ZERO; SIDE]; 4];
            for j in 0..SIDE {
                let gh = direct[j] + later[j] + carry[j];
                gn[j] = gh * (T::ONE - z[j]) * (T::ONE - n[j] * n[j]);
                gr[j] = gn[j] * m[j] * r[j] * (T::ONE - r[j]);
                gz[j] = gh * (h_before[j] - n[j]) * z[j] * (T::ONE - z[j]);
                hn[j] = gn[j] * r[j];
                carry[j] = gh * z[j];
            }
            put(gr, self.g_x[0], at);
            put(gz, self.g_x[1], at);
            put(gn, self.g_x[2], at);
            put(gr, self.g_h[0], at);
            put(gz, self.g_h[1], at);
            put(hn, self.g_h[2], at);
            put(carry, self.carry, at);
        }
    }
}
