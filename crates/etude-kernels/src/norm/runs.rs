//! A channel's sums over runs of memory, for batch normalisation: added in the element type for some vectors at a time, and
//! those sums without a loss. To convert each element to f64 takes longer than all the rest: twice what it takes to read it
//! from the second-level cache.

use super::layer::Deviations;
use crate::Float;
use crate::cpu::{TileShape, Vector, Work};
use crate::lanes::{CHAINS, Chains, Sums, gather, join, read};
use std::ops::Range;

/// Vectors that are added in the element type: four side by side, four times.
const BLOCK: usize = 16;

/// `[Σ w, Σ w·(x − centre)]` of some elements of a channel, with w = g or x − centre.
#[derive(Clone, Copy, Default)]
pub(super) struct Moments {
    pub(super) centre: f64,
    pub(super) sums: [f64; 2],
}

/// The moments of some channels over some examples of `[batch, channels, spatial]`, `spatial` at least a vector.
pub(super) struct Runs<'a, T, const GRADIENT: bool> {
    pub(super) channels: usize,
    pub(super) spatial: usize,
    pub(super) x: &'a [T],
    pub(super) g: &'a [T],
    /// The centres; without a gradient they are chosen here.
    pub(super) means: &'a [T],
    pub(super) examples: Range<usize>,
    /// Of channels `first..`, as many as there are.
    pub(super) first: usize,
    /// Room for [`ROOM`] elements a channel.
    pub(super) totals: &'a mut [T],
    pub(super) out: &'a mut [Moments],
}

/// Elements of a channel's two [`Total`]s, whatever the vectors.
pub(super) const ROOM: usize = 4 * TileShape::MAX_LANES;

// SAFETY: everything that uses `V` is inlined.
unsafe impl<T: Float, const GRADIENT: bool> Work<T> for Runs<'_, T, GRADIENT> {
    #[inline(always)]
    unsafe fn run<V: Vector<T>>(self) {
        let Runs { channels, spatial, x, g, means, examples, first, totals, out } = self;
        let start = |example: usize, channel: usize| (example * channels + first + channel) * spatial;
        let elements = (examples.len() * spatial) as f64;
        // SAFETY: there are vectors of totals for each channel, and what is read lies inside a run.
        unsafe {
            let totals = totals[..out.len() * ROOM].as_mut_ptr();
            for channel in 0..out.len() {
                let run = |example: usize| x[start(example, channel)..][..spatial].as_ptr();
                let centre = if GRADIENT { means[first + channel] } else { near_mean::<T, V>(&examples, spatial, run) };
                out[channel].centre = centre.to_f64();
                let zero = Total { high: V::splat(T::ZERO), low: V::splat(T::ZERO) };
                zero.store(totals.add(channel * ROOM));
                zero.store(totals.add(channel * ROOM + ROOM / 2));
            }
            // Of short runs a few examples' make a block.
            let together = (BLOCK * V::LANES / spatial).clamp(1, 4);
            for example in examples.clone().step_by(together) {
                let together = together.min(examples.end - example);
                for channel in 0..out.len() {
                    let (centre, totals) = (T::from_f64(out[channel].centre), totals.add(channel * ROOM));
                    let mut sums = [Total::<V>::load(totals), Total::<V>::load(totals.add(ROOM / 2))];
                    for at in (0..spatial).step_by(BLOCK * V::LANES) {
                        let count = (BLOCK * V::LANES).min(spatial - at);
                        let mut chains: Chains<V, 2> = [[V::splat(T::ZERO); 2]; CHAINS];
                        for example in example..example + together {
                            let at = start(example, channel) + at;
                            let (x, g) = (x[at..][..count].as_ptr(), g[at..][..count].as_ptr());
                            match GRADIENT {
                                true => gather(&mut chains, count, &Weighted { x, g, centre }),
                                false => gather(&mut chains, count, &Deviations { x, centre }),
                            }
                        }
                        let block = join::<T, V, 2>(chains);
                        sums[0].add(block[0]);
                        sums[1].add(block[1]);
                    }
                    sums[0].store(totals);
                    sums[1].store(totals.add(ROOM / 2));
                }
            }
            for (channel, out) in out.iter_mut().enumerate() {
                let totals = totals.add(channel * ROOM);
                out.sums = [Total::<V>::sum(totals), Total::<V>::sum(totals.add(ROOM / 2))];
                let [plain, squares] = out.sums;
                // From a centre farther away than the deviation, squares would lose digits; and they may have overflowed.
                if !GRADIENT && (!squares.is_finite() || 2.0 * plain * plain > squares * elements) {
                    *out = wide(examples.clone().map(|e| &x[start(e, channel)..][..spatial]), *out, elements);
                }
            }
        }
    }
}

/// The mean of four vectors of a channel's elements, from as many examples as there are.
///
/// # Safety
/// Runs must have `spatial` elements, at least a vector, and the machine must have `V`.
#[inline(always)]
unsafe fn near_mean<T: Float, V: Vector<T>>(
    examples: &Range<usize>,
    spatial: usize,
    run: impl Fn(usize) -> *const T,
) -> T {
    // SAFETY: the caller's promise.
    unsafe {
        let one = *run(examples.start);
        let mut sum = V::splat(T::ZERO);
        for i in 0..4 {
            let run = run(examples.start + i * examples.len() / 4);
            // From one of them, so that the mean of equal numbers is what they are.
            sum = sum.add(V::load(run.add((spatial - V::LANES) * i / 3)).sub(V::splat(one)));
        }
        one + sum.sum() * T::from_f64(0.25 / V::LANES as f64)
    }
}

/// Deviations from near the mean and their squares, all of it in f64.
#[cold]
#[inline(never)]
fn wide<'a, T: Float>(runs: impl Iterator<Item = &'a [T]> + Clone, near: Moments, elements: f64) -> Moments {
    let mean = near.centre + near.sums[0] / elements;
    let one = runs.clone().next().map_or(0.0, |run| run[0].to_f64());
    let centre = if mean.is_finite() { mean } else { one };
    let mut sums = [0.0; 2];
    for value in runs.flatten() {
        let deviation = value.to_f64() - centre;
        sums[0] += deviation;
        sums[1] += deviation * deviation;
    }
    Moments { centre, sums }
}

/// A sum in each lane, and what its roundings have left (Knuth's and Møller's sum of two numbers without a loss).
#[derive(Clone, Copy)]
struct Total<V> {
    high: V,
    low: V,
}

impl<V: Copy> Total<V> {
    /// # Safety
    /// The machine must have `V`.
    #[inline(always)]
    unsafe fn add<T: Float>(&mut self, term: V)
    where
        V: Vector<T>,
    {
        // SAFETY: the caller's promise.
        unsafe {
            let high = self.high.add(term);
            let added = high.sub(self.high);
            let lost = self.high.sub(high.sub(added)).add(term.sub(added));
            *self = Total { high, low: self.low.add(lost) };
        }
    }

    /// # Safety
    /// The machine must have `V`, and there must be two vectors at `from`.
    #[inline(always)]
    unsafe fn load<T: Float>(from: *const T) -> Self
    where
        V: Vector<T>,
    {
        // SAFETY: the caller's promise.
        unsafe { Total { high: V::load(from), low: V::load(from.add(V::LANES)) } }
    }

    /// # Safety
    /// As for [`Total::load`].
    #[inline(always)]
    unsafe fn store<T: Float>(self, to: *mut T)
    where
        V: Vector<T>,
    {
        // SAFETY: the caller's promise.
        unsafe {
            self.high.store(to);
            self.low.store(to.add(V::LANES));
        }
    }

    /// All lanes of what was stored.
    ///
    /// # Safety
    /// As for [`Total::load`].
    #[inline(always)]
    unsafe fn sum<T: Float>(from: *const T) -> f64
    where
        V: Vector<T>,
    {
        let mut sums = [0.0; TileShape::MAX_LANES];
        // SAFETY: the caller's promise.
        unsafe {
            (0..V::LANES).for_each(|i| sums[i] = (*from.add(i)).to_f64() + (*from.add(V::LANES + i)).to_f64());
        }
        for half in [8, 4, 2, 1] {
            (0..half).for_each(|i| sums[i] += sums[i + half]);
        }
        sums[0]
    }
}

/// `Σ g` and `Σ g·(x − centre)`.
struct Weighted<T> {
    x: *const T,
    g: *const T,
    centre: T,
}

impl<T: Float> Sums<T, 2> for Weighted<T> {
    #[inline(always)]
    unsafe fn add<V: Vector<T>>(&self, sums: &mut [V; 2], at: usize, lanes: usize) {
        // SAFETY: the caller's promise. Behind the last element g is 0, and the centre is finite unless all is lost.
        unsafe {
            let (x, g): (V, V) = (read(self.x.add(at), lanes), read(self.g.add(at), lanes));
            sums[0] = sums[0].add(g);
            sums[1] = g.mul_add(x.sub(V::splat(self.centre)), sums[1]);
        }
    }
}
