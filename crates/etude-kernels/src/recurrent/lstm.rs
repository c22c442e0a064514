//! The LSTM's steps, forwards and backwards.

use super::{
    Order, Panels, SIDE, Weights, four, part, put, run_steps, sigmoid, state_at, take, tanh, will_read, will_write,
    with_products,
};
use crate::Float;
use crate::cpu::{self, Vector, Work};
use crate::threads::SendPointer;

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
    let weights = Weights::new(w_hh, 4, hidden, steps);
    let [h, c, gates] = [h, c, gates].map(|out| SendPointer(out.as_mut_ptr()));
    run_steps(steps, batch, hidden, 4, |step, rows, units| {
        let (t, before) = (order.time(step), order.before(step));
        let (count, width) = (rows.len(), units.len());
        with_products(4, count, width, |products, stride| {
            // SAFETY: the states before this step are complete, and this step's tasks write other places.
            let previous = unsafe { state_at(&h, h0, before, state, rows.start * hidden, count * hidden) };
            for (gate, products) in products.chunks_exact_mut(count * stride).enumerate() {
                for line in rows.clone().map(|b| t * batch + b) {
                    let at = (line * 4 + gate) * hidden + units.start;
                    will_read(&x_gates[at..][..width]);
                    will_write(&gates, at, width);
                    if gate < 2 {
                        will_write([&h, &c][gate], line * hidden + units.start, width);
                    }
                }
                if gate == 3 {
                    for b in rows.clone() {
                        // SAFETY: as above.
                        will_read(unsafe { state_at(&c, c0, before, state, b * hidden + units.start, width) });
                    }
                }
                weights.multiply(previous, count, gate, units.clone(), products, stride);
            }
            for (row, b) in rows.enumerate() {
                let place = b * hidden + units.start;
                let at = |gate: usize| ((t * batch + b) * 4 + gate) * hidden + units.start;
                // SAFETY: these units of this row and step belong to this task alone; the state before is only read.
                unsafe {
                    cpu::run(Forward {
                        x: four(|gate| &x_gates[at(gate)..][..width]),
                        products: four(|gate| &products[(gate * count + row) * stride..][..width]),
                        c_before: state_at(&c, c0, before, state, place, width),
                        gates: four(|gate| part(&gates, at(gate), width)),
                        c: part(&c, t * state + place, width),
                        h: part(&h, t * state + place, width),
                    });
                }
            }
        });
    });
}

/// The gates of some units of one row, and the states after them.
struct Forward<'a, T> {
    x: [&'a [T]; 4],
    products: [&'a [T]; 4],
    c_before: &'a [T],
    gates: [&'a mut [T]; 4],
    c: &'a mut [T],
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
            let mut gates = [[T::ZERO; SIDE]; 4];
            for g in 0..4 {
                let (x, products) = (take(self.x[g], at), take(self.products[g], at));
                for j in 0..SIDE {
                    let sum = x[j] + products[j];
                    gates[g][j] = if g == 2 { tanh::<T, FMA>(sum) } else { sigmoid::<T, FMA>(sum) };
                }
            }
            let (mut c, mut h) = (take(self.c_before, at), [T::ZERO; SIDE]);
            for j in 0..SIDE {
                c[j] = gates[1][j] * c[j] + gates[0][j] * gates[2][j];
                h[j] = tanh::<T, FMA>(c[j]) * gates[3][j];
            }
            for g in 0..4 {
                put(gates[g], self.gates[g], at);
            }
            put(c, self.c, at);
            put(h, self.h, at);
        }
    }
}

/// The gradients of [`lstm_forward`], from what it was given and gave.
///
/// `gh[T, B, H]` is the gradient into every h (of the last state too), `gc_last[B, H]` that into the last c. Gives the
/// gradients before the activations, `g_x_gates[T, B, 4H]`, which are those of x_gates, `gc0` and, if it is asked for, `gh0`,
/// `[B, H]`. The gradient of w_hh is the product of g_x_gates, transposed, with the states before each step, made outside.
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
    gh0: Option<&mut [T]>,
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
    gh0: Option<&mut [T]>,
    gc0: &mut [T],
) {
    let state = batch * hidden;
    assert!(gates.len() == 4 * steps * state && g_x_gates.len() == gates.len(), "gates are [T, B, 4H]");
    assert!([h, c, gh].iter().all(|s| s.len() == steps * state), "h, c and gh are [T, B, H]");
    assert!(gh0.as_ref().is_none_or(|gh0| gh0.len() == state), "the gradient of h0 is [B, H]");
    assert!([h0, c0, gc_last, gc0].iter().all(|s| s.len() == state), "h0, c0 and their gradients are [B, H]");
    assert_eq!(w_hh.len(), 4 * hidden * hidden, "w_hh is [4H, H]");
    let depth = 4 * hidden;
    let weights = Panels::of_columns(w_hh, hidden, depth);
    let order = Order { steps, reverse };
    // gc0 carries the gradient into c from step to step.
    gc0.copy_from_slice(gc_last);
    let [g_gates, carry] = [g_x_gates, gc0].map(|out| SendPointer(out.as_mut_ptr()));
    let gh0 = gh0.map(|out| SendPointer(out.as_mut_ptr()));
    // One step more gives h0's gradient.
    run_steps(steps + usize::from(gh0.is_some()), batch, hidden, 4, |back, rows, units| {
        let (count, width) = (rows.len(), units.len());
        with_products(1, count, width, |from_later, stride| {
            if back > 0 {
                let later = (order.time(steps - back) * batch + rows.start) * depth;
                // SAFETY: the step after this one is complete, and nobody writes its gates any more.
                let later = unsafe { &*part(&g_gates, later, count * depth) };
                if back < steps {
                    let step = steps - 1 - back;
                    for b in rows.clone() {
                        let line = order.time(step) * batch + b;
                        for gate in 0..4 {
                            let at = (line * 4 + gate) * hidden + units.start;
                            will_read(&gates[at..][..width]);
                            will_write(&g_gates, at, width);
                        }
                        for x in [gh, c] {
                            will_read(&x[line * hidden + units.start..][..width]);
                        }
                        will_write(&carry, b * hidden + units.start, width);
                        if let Some(before) = order.before(step) {
                            will_read(&c[(before * batch + b) * hidden + units.start..][..width]);
                        }
                    }
                }
                weights.multiply(later, count, 0, units.clone(), from_later, stride);
            } else {
                from_later.fill(T::ZERO);
            }
            for (row, b) in rows.enumerate() {
                let (place, from_later) = (b * hidden + units.start, &from_later[row * stride..][..width]);
                if let (true, Some(gh0)) = (back == steps, &gh0) {
                    // SAFETY: these units of this row belong to this task alone.
                    unsafe { part(gh0, place, width) }.copy_from_slice(from_later);
                    continue;
                }
                let step = steps - 1 - back;
                let t = order.time(step);
                let c_before = match order.before(step) {
                    Some(before) => &c[before * state + place..][..width],
                    None => &c0[place..][..width],
                };
                let at = |gate: usize| ((t * batch + b) * 4 + gate) * hidden + units.start;
                // SAFETY: as above.
                unsafe {
                    cpu::run(Backward {
                        gh: &gh[t * state + place..][..width],
                        from_later,
                        c_before,
                        c: &c[t * state + place..][..width],
                        gates: four(|gate| &gates[at(gate)..][..width]),
                        g_gates: four(|gate| part(&g_gates, at(gate), width)),
                        carry: part(&carry, place, width),
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
    c_before: &'a [T],
    c: &'a [T],
    gates: [&'a [T]; 4],
    g_gates: [&'a mut [T]; 4],
    carry: &'a mut [T],
}

// SAFETY: everything is inlined.
unsafe impl<T: Float> Work<T> for Backward<'_, T> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        if V::FUSED { self.compute::<true>() } else { self.compute::<false>() }
    }
}

impl<T: Float> Backward<'_, T> {
    #[inline(always)]
    fn compute<const FMA: bool>(self) {
        for at in (0..self.gh.len()).step_by(SIDE) {
            let (direct, later) = (take(self.gh, at), take(self.from_later, at));
            let (c_before, mut carry) = (take(self.c_before, at), take(self.carry, at));
            let c = take(self.c, at);
            let (i, f) = (take(self.gates[0], at), take(self.gates[1], at));
            let (g, o) = (take(self.gates[2], at), take(self.gates[3], at));
            let mut found = [[T::ZERO; SIDE]; 4];
            for j in 0..SIDE {
                let (gh, tanh_c) = (direct[j] + later[j], tanh::<T, FMA>(c[j]));
                let gc = carry[j] + gh * o[j] * (T::ONE - tanh_c * tanh_c);
                found[0][j] = gc * g[j] * i[j] * (T::ONE - i[j]);
                found[1][j] = gc * c_before[j] * f[j] * (T::ONE - f[j]);
                found[2][j] = gc * i[j] * (T::ONE - g[j] * g[j]);
                found[3][j] = gh * tanh_c * o[j] * (T::ONE - o[j]);
                carry[j] = gc * f[j];
            }
            for gate in 0..4 {
                put(found[gate], self.g_gates[gate], at);
            }
            put(carry, self.carry, at);
        }
    }
}
