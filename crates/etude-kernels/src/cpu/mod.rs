//! Instruction sets, chosen at run time. A kernel is written once against `Vector` and compiled for each set; `run`
//! picks the best this machine has, or the one `ETUDE_SIMD` names.
//!
//! A vector of f32 is 512 bits with AVX-512, 256 with AVX2 and in plain Rust, 128 with NEON. f64 has AVX2 and plain Rust
//! only: it serves gradient checks, and each version costs compile time.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod caches;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod vector;

pub(crate) use vector::{Dispatch, Vector, Work};

use crate::Float;
use std::fmt;
use std::sync::OnceLock;

/// A set of vector instructions that kernels are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InstructionSet {
    /// Plain Rust, for every machine.
    Scalar,
    /// ARM's 128-bit vectors.
    Neon,
    /// 256-bit vectors with fused multiply-add: AVX2 and FMA.
    Avx2,
    /// 512-bit vectors: AVX-512 F, VL, DQ and BW.
    Avx512,
}

impl InstructionSet {
    /// Every set, the better ones last.
    pub const ALL: [InstructionSet; 4] =
        [InstructionSet::Scalar, InstructionSet::Neon, InstructionSet::Avx2, InstructionSet::Avx512];

    /// The word `ETUDE_SIMD` knows it by.
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Scalar => "scalar",
            InstructionSet::Neon => "neon",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Avx512 => "avx512",
        }
    }

    /// Whether this machine has it.
    pub fn is_available(self) -> bool {
        match self {
            InstructionSet::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => {
                InstructionSet::Avx2.is_available()
                    && std::is_x86_feature_detected!("avx512f")
                    && std::is_x86_feature_detected!("avx512vl")
                    && std::is_x86_feature_detected!("avx512dq")
                    && std::is_x86_feature_detected!("avx512bw")
            }
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The sets this machine has, the best last; plain Rust is always there.
    pub fn available() -> impl DoubleEndedIterator<Item = InstructionSet> {
        Self::ALL.into_iter().filter(|set| set.is_available())
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The set kernels use in this process: the best there is, or what the environment variable `ETUDE_SIMD` asks for
/// (`scalar`, `avx2`, `avx512` or `neon`), decided at the first call.
#[inline]
pub fn instruction_set() -> InstructionSet {
    #[cfg(test)]
    if let Some(set) = forced::get() {
        return set;
    }
    static CHOSEN: OnceLock<InstructionSet> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let (set, complaint) = choose(std::env::var("ETUDE_SIMD").ok().as_deref());
        if let Some(complaint) = complaint {
            eprintln!("{complaint}");
        }
        set
    })
}

/// The set for a wish, and what to say about a wish that can't be granted.
fn choose(wish: Option<&str>) -> (InstructionSet, Option<String>) {
    let best = InstructionSet::available().next_back().unwrap_or(InstructionSet::Scalar);
    let Some(wish) = wish.map(str::trim).filter(|wish| !wish.is_empty()) else { return (best, None) };
    let found = InstructionSet::ALL.into_iter().find(|set| set.name().eq_ignore_ascii_case(wish));
    match found {
        Some(set) if set.is_available() => (set, None),
        _ => {
            let here: Vec<_> = InstructionSet::available().map(InstructionSet::name).collect();
            let fault = if found.is_some() { "this machine has not got it" } else { "there is no such set" };
            (best, Some(format!("ETUDE_SIMD={wish}: {fault}; using {best} (there are {})", here.join(", "))))
        }
    }
}

/// Whether kernels compiled for AVX2 and FMA run here: the chosen set is AVX2 or better.
#[inline]
pub fn has_avx2() -> bool {
    matches!(instruction_set(), InstructionSet::Avx2 | InstructionSet::Avx512)
}

/// Does `work` with the chosen instruction set.
///
/// # Safety
/// The pointers inside `work` must be valid as it documents.
#[inline]
pub(crate) unsafe fn run<T: Float, W: Work<T>>(work: W) {
    // SAFETY: the chosen set is there; the pointers are the caller's promise.
    unsafe { T::dispatch(instruction_set(), work) }
}

impl Dispatch for f32 {
    #[inline]
    fn shape(set: InstructionSet) -> TileShape {
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => const { TileShape::with::<f32, avx512::Avx512>() },
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => const { TileShape::with::<f32, avx2::Avx2<f32>>() },
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => const { TileShape::with::<f32, neon::Neon>() },
            _ => const { TileShape::with::<f32, portable::Portable<f32>>() },
        }
    }
    #[inline]
    unsafe fn dispatch<W: Work<f32>>(set: InstructionSet, work: W) {
        // SAFETY: the caller has found the set; the pointers are its promise.
        unsafe {
            match set {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 => avx512::run(work),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 => avx2::run(work),
                #[cfg(target_arch = "aarch64")]
                InstructionSet::Neon => neon::run(work),
                _ => work.run::<portable::Portable<f32>>(),
            }
        }
    }
}

impl Dispatch for f64 {
    #[inline]
    fn shape(set: InstructionSet) -> TileShape {
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Avx2 => const { TileShape::with::<f64, avx2::Avx2<f64>>() },
            _ => const { TileShape::with::<f64, portable::Portable<f64>>() },
        }
    }
    #[inline]
    unsafe fn dispatch<W: Work<f64>>(set: InstructionSet, work: W) {
        // SAFETY: the caller has found the set, and AVX-512 implies AVX2; the pointers are its promise.
        unsafe {
            match set {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512 | InstructionSet::Avx2 => avx2::run(work),
                _ => work.run::<portable::Portable<f64>>(),
            }
        }
    }
}

/// How the tile kernel of products and convolutions cuts its work with the chosen set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TileShape {
    /// Rows of a full tile: those of a strip of a packed left side.
    pub rows: usize,
    /// Columns of a full tile, two vectors: those of a strip of a packed right side.
    pub columns: usize,
    /// Elements of one vector.
    pub lanes: usize,
}

impl TileShape {
    /// No set has tiles of more columns.
    pub(crate) const MAX_COLUMNS: usize = 32;
    /// No set has vectors of more elements.
    pub(crate) const MAX_LANES: usize = 16;

    /// The shape for elements of type `T`. It stays the same for the whole process.
    #[inline]
    pub(crate) fn of<T: Float>() -> TileShape {
        T::shape(instruction_set())
    }

    const fn with<T: Float, V: Vector<T>>() -> TileShape {
        TileShape { rows: V::ROWS, columns: 2 * V::LANES, lanes: V::LANES }
    }
}

/// Asks for the line at `address` ahead of its use. The address need not be valid.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and does not fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the line at `address` long before its use: it waits in the second-level cache. The address need not be valid.
#[inline(always)]
pub(crate) fn prefetch_to_second<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the line at `address` ahead of a write, so that no other core's cache holds it then. The address need not be valid.
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above; a processor that does not know the instruction passes over it.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Orders what was written past the caches ([`Vector::store_past_caches`]) before all that this thread writes from now on.
#[inline(always)]
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this kind has it.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// How many floating-point operations [`multiply_adds`] does in a round, whatever the machine.
pub const OPERATIONS_PER_ROUND: usize = 2 * TileShape::MAX_LANES * SUMS;

/// Independent sums: enough to hide the latency of a multiply-add, and few enough for sixteen registers.
const SUMS: usize = 12;

/// `rounds` rounds of independent f32 vector multiply-adds that never leave the registers. Timed, it gives the peak of
/// the chosen instruction set. The result is meaningless but must be used, or the compiler removes the loop.
pub fn multiply_adds(rounds: usize) -> f32 {
    struct Peak<'a>(usize, &'a mut f32);
    // SAFETY: inlined, as required.
    unsafe impl Work<f32> for Peak<'_> {
        #[inline(always)]
        unsafe fn run<V: Vector<f32>>(self) {
            // SAFETY: no pointers are used, and `V`'s instruction set is there.
            unsafe {
                let (factor, step) = (V::splat(std::hint::black_box(0.999)), V::splat(std::hint::black_box(0.001)));
                let mut sums = [V::splat(1.0); SUMS];
                // Narrower vectors take more turns for the same number of operations.
                for _ in 0..self.0 * (TileShape::MAX_LANES / V::LANES) {
                    for sum in &mut sums {
                        *sum = sum.mul_add(factor, step);
                    }
                }
                let total = sums.iter().skip(1).fold(sums[0], |total, sum| total.add(*sum));
                *self.1 = total.sum() / V::LANES as f32;
            }
        }
    }
    let mut result = 0.0;
    // SAFETY: the work holds no pointers.
    unsafe { run(Peak(rounds, &mut result)) };
    result
}

/// Running a test with each set in one process. A forced set holds for the thread that forces it and for the tasks it
/// hands to the pool, so that tests running beside each other do not meet.
#[cfg(test)]
pub(crate) mod forced {
    use super::InstructionSet;
    use std::cell::Cell;

    thread_local! {
        static SET: Cell<Option<InstructionSet>> = const { Cell::new(None) };
    }

    /// What this thread is forced to use.
    pub(crate) fn get() -> Option<InstructionSet> {
        SET.get()
    }

    /// Forces `set` until the result is dropped.
    #[must_use]
    pub(crate) fn enter(set: Option<InstructionSet>) -> Restore {
        Restore(SET.replace(set))
    }

    /// Ends a forced set.
    pub(crate) struct Restore(Option<InstructionSet>);

    impl Drop for Restore {
        fn drop(&mut self) {
            SET.set(self.0);
        }
    }

    /// Runs `check` once with each set this machine has.
    pub(crate) fn on_each_set(mut check: impl FnMut(InstructionSet)) {
        for set in InstructionSet::available() {
            let _set = enter(Some(set));
            check(set);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::marker::PhantomData;

    struct Check<T>(PhantomData<T>);
    // SAFETY: inlined, as required.
    unsafe impl<T: Float> Work<T> for Check<T> {
        #[inline(always)]
        unsafe fn run<V: Vector<T>>(self) {
            let source: Vec<T> = (0..500).map(|i| T::from_f64(i as f64)).collect();
            let mut target = vec![T::ZERO; 500];
            // SAFETY: the vectors have room for every address used.
            unsafe {
                V::transpose(|i| source.as_ptr().add(17 * i), target.as_mut_ptr(), 19);
                for i in 0..V::LANES {
                    for j in 0..V::LANES {
                        assert_eq!(target[j * 19 + i], source[17 * i + j]);
                    }
                }
                for columns in 1..=V::LANES {
                    V::transpose_first(columns, |i| source.as_ptr().add(13 * i + 1), target.as_mut_ptr(), 18);
                    for (i, j) in (0..V::LANES).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                        assert_eq!(target[j * 18 + i], source[13 * i + 1 + j]);
                    }
                }
                V::strip(|i| source.as_ptr().add(13 * i + 1), target.as_mut_ptr());
                for (i, j) in (0..V::ROWS).flat_map(|i| (0..4).map(move |j| (i, j))) {
                    assert_eq!(target[j * V::ROWS + i], source[13 * i + 1 + j]);
                }
                let (a, b) = (V::load(source.as_ptr().add(3)), V::splat(T::from_f64(2.0)));
                a.mul_add(b, a.add(b)).store(target.as_mut_ptr());
                for i in 0..V::LANES {
                    assert_eq!(target[i].to_f64(), 3.0 * (i + 3) as f64 + 2.0);
                }
                for count in 0..=V::LANES {
                    V::load_part(source.as_ptr().add(1), count).store(target.as_mut_ptr());
                    for i in 0..V::LANES {
                        assert_eq!(target[i].to_f64(), if i < count { (i + 1) as f64 } else { 0.0 });
                    }
                    V::splat(T::ONE).store(target.as_mut_ptr());
                    V::load(source.as_ptr().add(2)).store_part(target.as_mut_ptr(), count);
                    for i in 0..V::LANES {
                        assert_eq!(target[i].to_f64(), if i < count { (i + 2) as f64 } else { 1.0 });
                    }
                }
                for (begin, end) in (0..=V::LANES).flat_map(|begin| (0..=V::LANES).map(move |end| (begin, end))) {
                    V::load_between(source.as_ptr().add(1), begin, end).store(target.as_mut_ptr());
                    for i in 0..V::LANES {
                        assert_eq!(target[i].to_f64(), if begin <= i && i < end { (i + 1) as f64 } else { 0.0 });
                    }
                }
                let (even, odd) = a.deinterleave(V::load(source.as_ptr().add(3 + V::LANES)));
                even.store(target.as_mut_ptr());
                odd.store(target.as_mut_ptr().add(V::LANES));
                for i in 0..V::LANES {
                    assert_eq!(target[i].to_f64(), (2 * i + 3) as f64);
                    assert_eq!(target[V::LANES + i].to_f64(), (2 * i + 4) as f64);
                }
                let (low, high) = even.interleave(odd);
                low.store(target.as_mut_ptr());
                high.store(target.as_mut_ptr().add(V::LANES));
                for i in 0..2 * V::LANES {
                    assert_eq!(target[i].to_f64(), (i + 3) as f64);
                }
                a.next().store(target.as_mut_ptr());
                for i in 0..V::LANES {
                    assert_eq!(target[i].to_f64(), if i + 1 < V::LANES { (i + 4) as f64 } else { 0.0 });
                }
                a.sub(b).mul(a).div(b).store(target.as_mut_ptr());
                for i in 0..V::LANES {
                    assert_eq!(target[i].to_f64(), ((i + 1) * (i + 3)) as f64 / 2.0);
                }
                a.mul(a).sqrt().store(target.as_mut_ptr());
                for i in 0..V::LANES {
                    assert_eq!(target[i].to_f64(), (i + 3) as f64);
                }
                let (nan, lane) = (V::splat(T::from_f64(f64::NAN)), T::from_f64(5.0));
                a.max(V::splat(lane)).store(target.as_mut_ptr());
                for i in 0..V::LANES {
                    assert_eq!(target[i].to_f64(), (i + 3).max(5) as f64);
                }
                for max in [a.max(nan), nan.max(a)] {
                    max.store(target.as_mut_ptr());
                    assert!(target[..V::LANES].iter().all(|lane| lane.is_nan()));
                }
                a.larger(V::splat(lane)).store(target.as_mut_ptr());
                for i in 0..V::LANES {
                    assert_eq!(target[i].to_f64(), (i + 3).max(5) as f64);
                }
                for count in 0..=V::LANES {
                    a.first(count).store(target.as_mut_ptr());
                    for i in 0..V::LANES {
                        assert_eq!(target[i].to_f64(), if i < count { (i + 3) as f64 } else { 0.0 });
                    }
                }
                let lanes = V::LANES as f64;
                assert_eq!(a.sum().to_f64(), 3.0 * lanes + lanes * (lanes - 1.0) / 2.0);
                assert_eq!(a.largest().to_f64(), lanes + 2.0);
                assert_eq!(V::splat(T::ZERO).sub(a).largest().to_f64(), -3.0);
            }
            let shape = TileShape::of::<T>();
            assert_eq!(shape, TileShape { rows: V::ROWS, columns: 2 * V::LANES, lanes: V::LANES });
            assert!(shape.columns <= TileShape::MAX_COLUMNS && shape.lanes <= TileShape::MAX_LANES);
        }
    }

    struct Exponentials<'a>(&'a [f32], &'a mut [f32]);
    // SAFETY: inlined, as required.
    unsafe impl Work<f32> for Exponentials<'_> {
        #[inline(always)]
        unsafe fn run<V: Vector<f32>>(self) {
            for (x, y) in self.0.chunks_exact(V::LANES).zip(self.1.chunks_exact_mut(V::LANES)) {
                // SAFETY: a chunk is a vector.
                unsafe { V::load(x.as_ptr()).exp().store(y.as_mut_ptr()) };
            }
        }
    }

    #[test]
    fn exponentials_are_those_of_math_to_the_bit() {
        // All of 2³² were compared once; here every 4099th, and what lies around the bounds.
        let around = |x: f32| (0..64).map(move |i| f32::from_bits(x.to_bits() - 32 + i));
        let mut x: Vec<f32> = (0..=u32::MAX).step_by(4099).map(f32::from_bits).collect();
        x.extend([-103.98, -103.972, -87.34, -0.34657, 0.34657, 88.72, 89.0].into_iter().flat_map(around));
        x.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        x.resize(x.len().next_multiple_of(TileShape::MAX_LANES), -1.0);
        forced::on_each_set(|set| {
            let mut y = vec![9.0; x.len()];
            // SAFETY: the work holds slices alone.
            unsafe { run(Exponentials(&x, &mut y)) };
            for (&x, y) in x.iter().zip(y) {
                let fused = set != InstructionSet::Scalar;
                let expected = if fused { crate::math::exp::<true>(x) } else { crate::math::exp::<false>(x) };
                assert!(y.to_bits() == expected.to_bits() || y.is_nan() && expected.is_nan(), "{set} {x} {y}");
            }
        });
    }

    #[test]
    fn vectors_do_what_they_say_on_every_instruction_set() {
        forced::on_each_set(|_| {
            // SAFETY: the work holds no pointers.
            unsafe {
                run(Check::<f32>(PhantomData));
                run(Check::<f64>(PhantomData));
            }
            assert!((multiply_adds(100_000) - SUMS as f32).abs() < 1e-2);
        });
    }

    #[test]
    fn the_environment_chooses_and_is_told_what_it_can_not_have() {
        for set in InstructionSet::available() {
            assert_eq!(choose(Some(set.name())), (set, None));
        }
        let best = InstructionSet::available().next_back().unwrap();
        assert_eq!(choose(None), (best, None));
        assert_eq!(choose(Some(" ")), (best, None));
        let (set, complaint) = choose(Some("mmx"));
        assert_eq!(set, best);
        assert!(complaint.unwrap().starts_with("ETUDE_SIMD=mmx: there is no such set; using "));
        let elsewhere = InstructionSet::ALL.into_iter().find(|set| !set.is_available()).unwrap();
        let (set, complaint) = choose(Some(elsewhere.name()));
        assert_eq!(set, best);
        assert!(complaint.unwrap().contains("this machine has not got it"));
    }

    #[test]
    fn a_forced_set_reaches_the_pool() {
        crate::threads::set_threads(2);
        forced::on_each_set(|forced| {
            crate::threads::parallel(64, |_| assert_eq!(instruction_set(), forced));
        });
        crate::threads::set_threads(0);
    }
}
