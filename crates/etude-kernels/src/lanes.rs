//! Rows in whole vectors: sums and maxima that stay in registers until they are folded, and exponentials.

use crate::cpu::{TileShape, Vector};
use crate::{DType, Float, math};

/// Independent partial sums of a row: enough to hide the latency of an addition.
const CHAINS: usize = 4;

/// Reads `lanes` elements; the lanes behind them are 0.
///
/// # Safety
/// `from` must be valid for `lanes` elements, at most [`Vector::LANES`], and the machine must have `V`.
#[inline(always)]
unsafe fn read<T: Float, V: Vector<T>>(from: *const T, lanes: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if lanes == V::LANES { V::load(from) } else { V::load_part(from, lanes) } }
}

/// `value` in the first `lanes` lanes, 0 in the others.
///
/// # Safety
/// The machine must have `V`.
#[inline(always)]
unsafe fn some_of<T: Float, V: Vector<T>>(value: V, lanes: usize) -> V {
    if lanes == V::LANES {
        return value;
    }
    let mut room = [T::ZERO; SIDE];
    // SAFETY: the room holds any vector.
    unsafe {
        value.store(room.as_mut_ptr());
        V::load_part(room.as_ptr(), lanes)
    }
}

/// `N` sums over a row. A trait and no closure: a closure would be compiled without the instruction set.
pub(crate) trait Sums<T: Float, const N: usize> {
    /// Adds elements `at..at + lanes` to the sums. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The elements must be there to read, and the machine must have `V`.
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; N], at: usize, lanes: usize);
}

/// The sums over `count` elements; their order depends on `count` and the size of a vector alone.
///
/// # Safety
/// They must be there to read, and the machine must have `V`.
#[inline(always)]
pub(crate) unsafe fn sums<T: Float, V: Vector<T>, const N: usize>(count: usize, of: impl Sums<T, N>) -> [T; N] {
    // SAFETY: elements up to `count` alone are asked for; the rest is the caller's promise.
    unsafe {
        let mut sums = [[V::splat(T::ZERO); N]; CHAINS];
        let mut at = 0;
        while at + CHAINS * V::LANES <= count {
            for chain in 0..CHAINS {
                of.add(&mut sums[chain], at + chain * V::LANES, V::LANES);
            }
            at += CHAINS * V::LANES;
        }
        for chain in 0..CHAINS - 1 {
            if at + V::LANES <= count {
                of.add(&mut sums[chain], at, V::LANES);
                at += V::LANES;
            }
        }
        if at < count {
            of.add(&mut sums[CHAINS - 1], at, count - at);
        }
        let mut totals = [T::ZERO; N];
        for n in 0..N {
            totals[n] = sums[0][n].add(sums[1][n]).add(sums[2][n].add(sums[3][n])).sum();
        }
        totals
    }
}

/// `Σ x`.
pub(crate) struct Sum<T>(pub *const T);

impl<T: Float> Sums<T, 1> for Sum<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 1], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe { sums[0] = sums[0].add(read(self.0.add(at), lanes)) }
    }
}

/// `Σ a·b`.
pub(crate) struct Dot<T>(pub *const T, pub *const T);

impl<T: Float> Sums<T, 1> for Dot<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 1], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, b): (V, V) = (read(self.0.add(at), lanes), read(self.1.add(at), lanes));
            sums[0] = a.mul_add(b, sums[0]);
        }
    }
}

/// `Σ (x − centre)` and `Σ (x − centre)²`.
pub(crate) struct Deviations<T>(pub *const T, pub T);

impl<T: Float> Sums<T, 2> for Deviations<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 2], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let deviation = read::<T, V>(self.0.add(at), lanes).sub(some_of(V::splat(self.1), lanes));
            sums[0] = sums[0].add(deviation);
            sums[1] = deviation.mul_add(deviation, sums[1]);
        }
    }
}

/// `Σ g` and `Σ g·(x − centre)`, with g, x and the centre.
pub(crate) struct Moments<T>(pub *const T, pub *const T, pub T);

impl<T: Float> Sums<T, 2> for Moments<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 2], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let (g, x): (V, V) = (read(self.0.add(at), lanes), read(self.1.add(at), lanes));
            sums[0] = sums[0].add(g);
            sums[1] = g.mul_add(x.sub(some_of(V::splat(self.2), lanes)), sums[1]);
        }
    }
}

/// Elements whose exponentials are computed at once: as many as the widest vector holds.
pub(crate) const SIDE: usize = TileShape::MAX_LANES;

/// `eˣ` for code that is compiled for `V`.
#[inline(always)]
pub(crate) fn exp<T: Float, V: Vector<T>>(x: T) -> T {
    match T::DTYPE {
        DType::F32 if V::FUSED => bytemuck::cast(math::exp::<true>(bytemuck::cast(x))),
        DType::F32 => bytemuck::cast(math::exp::<false>(bytemuck::cast(x))),
        _ => x.exp(),
    }
}

/// `y = exp(x − shift)`, for code that is compiled for `V`.
#[inline(always)]
pub(crate) fn exponentials<T: Float, V: Vector<T>>(x: &[T], shift: T, y: &mut [T]) {
    let ((blocks, rest), (outs, out_rest)) = (x.as_chunks::<SIDE>(), y.as_chunks_mut::<SIDE>());
    for (block, out) in blocks.iter().zip(outs) {
        for j in 0..SIDE {
            out[j] = exp::<T, V>(block[j] - shift);
        }
    }
    if !rest.is_empty() {
        // A whole block is one vector's work, single elements would be as many.
        let mut block = [T::ZERO; SIDE];
        block[..rest.len()].copy_from_slice(rest);
        for value in &mut block {
            *value = exp::<T, V>(*value - shift);
        }
        out_rest.copy_from_slice(&block[..rest.len()]);
    }
}

/// The largest of `count` elements, −∞ of none. Where one is NaN, it is NaN or the largest of some of the others.
///
/// # Safety
/// They must be there to read, and the machine must have `V`.
#[inline(always)]
pub(crate) unsafe fn maximum<T: Float, V: Vector<T>>(count: usize, x: *const T) -> T {
    let mut top = T::NEG_INFINITY;
    // SAFETY: the caller's promise.
    unsafe {
        if count < V::LANES {
            for i in 0..count {
                let value = *x.add(i);
                top = if value > top { value } else { top };
            }
            return top;
        }
        // The last vectors may overlap those before.
        let (mut even, mut odd) = (V::load(x), V::load(x.add(count - V::LANES)));
        let mut at = V::LANES;
        while at + 2 * V::LANES < count {
            even = even.max(V::load(x.add(at)));
            odd = odd.max(V::load(x.add(at + V::LANES)));
            at += 2 * V::LANES;
        }
        if at + V::LANES < count {
            even = even.max(V::load(x.add(at)));
        }
        even.max(odd).largest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Work, forced, run};

    struct Check<'a, T>(&'a [T]);

    // SAFETY: inlined, as required.
    unsafe impl<T: Float> Work<T> for Check<'_, T> {
        #[inline(always)]
        unsafe fn run<V: Vector<T>>(self) {
            let x = self.0;
            let (sum, top) = x.iter().fold((0.0, f64::NEG_INFINITY), |(sum, top), value| {
                let value = value.to_f64();
                (sum + value, if value > top { value } else { top })
            });
            // SAFETY: as many elements as the slice has.
            unsafe {
                let plain = sums::<T, V, 1>(x.len(), Sum(x.as_ptr()))[0].to_f64();
                let dot = sums::<T, V, 1>(x.len(), Dot(x.as_ptr(), x.as_ptr()))[0].to_f64();
                let shifted = Deviations(x.as_ptr(), T::from_f64(-20.0));
                let moments = Moments(x.as_ptr(), x.as_ptr(), T::from_f64(-20.0));
                let n = x.len() as f64;
                let squares: f64 = x.iter().map(|value| value.to_f64().powi(2)).sum();
                assert_eq!([plain, dot], [sum, squares], "{} elements", x.len());
                let found = sums::<T, V, 2>(x.len(), shifted).map(|sum| sum.to_f64());
                assert_eq!(found, [sum + 20.0 * n, squares + 40.0 * sum + 400.0 * n]);
                let found = sums::<T, V, 2>(x.len(), moments).map(|sum| sum.to_f64());
                assert_eq!(found, [sum, squares + 20.0 * sum]);
                assert_eq!(super::maximum::<T, V>(x.len(), x.as_ptr()).to_f64(), top, "{} elements", x.len());
            }
        }
    }

    fn check<T: Float>() {
        for count in (0..150).chain([257, 1000]) {
            // Whole numbers, whose sums are exact in any order; the largest lies anywhere.
            let x: Vec<T> = (0..count).map(|i| T::from_f64(((i * 37 + count) % 101) as f64 - 120.0)).collect();
            // SAFETY: the work holds a slice alone.
            unsafe { run(Check(&x)) };
        }
    }

    #[test]
    fn rows_of_any_length_on_every_instruction_set() {
        forced::on_each_set(|_| {
            check::<f32>();
            check::<f64>();
        });
    }
}
