//! Rows in whole vectors: sums and maxima that stay in registers until they are folded, and what is done element by element.

use crate::cpu::Vector;
use crate::{DType, Float, math};

/// Independent partial sums of a row: enough to hide the latency of an addition.
pub(crate) const CHAINS: usize = 4;

/// Reads `lanes` elements; the lanes behind them are 0.
///
/// # Safety
/// `from` must be valid for `lanes` elements, at most [`Vector::LANES`], and the machine must have `V`.
#[inline(always)]
pub(crate) unsafe fn read<T: Float, V: Vector<T>>(from: *const T, lanes: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if lanes == V::LANES { V::load(from) } else { V::load_part(from, lanes) } }
}

/// Writes the first `lanes` elements.
///
/// # Safety
/// As for [`read`].
#[inline(always)]
pub(crate) unsafe fn write<T: Float, V: Vector<T>>(value: V, to: *mut T, lanes: usize) {
    // SAFETY: the caller's promise.
    unsafe { if lanes == V::LANES { value.store(to) } else { value.store_part(to, lanes) } }
}

/// `value` in the first `lanes` lanes, 0 in the others.
///
/// # Safety
/// The machine must have `V`.
#[inline(always)]
pub(crate) unsafe fn some_of<T: Float, V: Vector<T>>(value: V, lanes: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if lanes == V::LANES { value } else { value.first(lanes) } }
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
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[V::splat(T::ZERO); N]; CHAINS];
        gather(&mut sums, count, &of);
        let sums = join::<T, V, N>(sums);
        let mut totals = [T::ZERO; N];
        for n in 0..N {
            totals[n] = sums[n].sum();
        }
        totals
    }
}

/// Partial sums, lane by lane.
pub(crate) type Chains<V, const N: usize> = [[V; N]; CHAINS];

/// Adds `count` elements to the chains.
///
/// # Safety
/// As for [`sums`].
#[inline(always)]
pub(crate) unsafe fn gather<T: Float, V: Vector<T>, const N: usize>(
    sums: &mut Chains<V, N>,
    count: usize,
    of: &impl Sums<T, N>,
) {
    let mut at = 0;
    // SAFETY: elements up to `count` alone are asked for; the rest is the caller's promise.
    unsafe {
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
    }
}

/// The sums of the chains, lane by lane.
///
/// # Safety
/// The machine must have `V`.
#[inline(always)]
pub(crate) unsafe fn join<T: Float, V: Vector<T>, const N: usize>(sums: Chains<V, N>) -> [V; N] {
    let mut totals = sums[0];
    for n in 0..N {
        // SAFETY: the caller's promise.
        totals[n] = unsafe { sums[0][n].add(sums[1][n]).add(sums[2][n].add(sums[3][n])) };
    }
    totals
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

/// `Σ exp(x − shift)`; the terms are written to `to`, which may be x, if there is one.
pub(crate) struct Powers<T> {
    pub(crate) x: *const T,
    pub(crate) shift: T,
    pub(crate) to: Option<*mut T>,
}

impl<T: Float> Sums<T, 1> for Powers<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 1], at: usize, lanes: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let power = read::<T, V>(self.x.add(at), lanes).sub(V::splat(self.shift)).exp();
            if let Some(to) = self.to {
                write(power, to.add(at), lanes);
            }
            sums[0] = sums[0].add(some_of(power, lanes));
        }
    }
}

/// Something done to elements one by one. A trait and no closure, as above.
pub(crate) trait Pass<T: Float> {
    /// Does elements `at..at + lanes`. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// The elements must be there, and the machine must have `V`.
    unsafe fn elements<V: Vector<T>>(&self, at: usize, lanes: usize);
}

/// Does `count` elements.
///
/// # Safety
/// They must be there, and the machine must have `V`.
#[inline(always)]
pub(crate) unsafe fn pass<T: Float, V: Vector<T>>(count: usize, pass: impl Pass<T>) {
    let mut at = 0;
    // SAFETY: elements up to `count` alone are asked for; the rest is the caller's promise.
    unsafe {
        while at + V::LANES <= count {
            pass.elements::<V>(at, V::LANES);
            at += V::LANES;
        }
        if at < count {
            pass.elements::<V>(at, count - at);
        }
    }
}

/// `eˣ` for code that is compiled for `V`.
#[inline(always)]
pub(crate) fn exp<T: Float, V: Vector<T>>(x: T) -> T {
    match T::DTYPE {
        DType::F32 if V::FUSED => bytemuck::cast(math::exp::<true>(bytemuck::cast(x))),
        DType::F32 => bytemuck::cast(math::exp::<false>(bytemuck::cast(x))),
        _ => x.exp(),
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
            even = even.larger(V::load(x.add(at)));
            odd = odd.larger(V::load(x.add(at + V::LANES)));
            at += 2 * V::LANES;
        }
        if at + V::LANES < count {
            even = even.larger(V::load(x.add(at)));
        }
        even.larger(odd).largest()
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
                let squares: f64 = x.iter().map(|value| value.to_f64().powi(2)).sum();
                let plain = sums::<T, V, 1>(x.len(), Sum(x.as_ptr()))[0].to_f64();
                let dot = sums::<T, V, 1>(x.len(), Dot(x.as_ptr(), x.as_ptr()))[0].to_f64();
                assert_eq!([plain, dot], [sum, squares], "{} elements", x.len());
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
