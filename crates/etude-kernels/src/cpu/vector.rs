//! What a kernel may ask of a vector, and how it is compiled for each kind.

use super::{InstructionSet, TileShape};
use crate::{Float, lanes};

/// A vector of `T`.
///
/// # Safety
/// Every method needs the implementing type's instruction set; pointers must be valid for [`Vector::LANES`] elements
/// (any alignment). Inside [`Work::run`] the first holds by construction.
pub trait Vector<T: Float>: Copy {
    /// Elements of one vector.
    const LANES: usize;
    /// Rows of a tile of sums, two vectors wide, that stays in the registers together with its operands.
    const ROWS: usize;
    /// Whether the machine rounds a multiply-add once: what functions of [`crate::math`] take as their `FMA`.
    const FUSED: bool;
    /// Every lane `value`.
    unsafe fn splat(value: T) -> Self;
    /// Reads `LANES` elements.
    unsafe fn load(from: *const T) -> Self;
    /// Reads the first `count` elements, at most `LANES`, and nothing behind them; the other lanes are zero.
    unsafe fn load_part(from: *const T, count: usize) -> Self;
    /// Reads elements `begin..end` of a vector, `end` at most `LANES`, and no others; the other lanes are zero.
    #[inline(always)]
    unsafe fn load_between(from: *const T, begin: usize, end: usize) -> Self {
        let mut lanes = [T::ZERO; TileShape::MAX_LANES];
        // SAFETY: the caller's promise; there is room for all lanes.
        unsafe {
            for i in begin..end {
                lanes[i] = *from.wrapping_add(i);
            }
            Self::load(lanes.as_ptr())
        }
    }
    /// Writes `LANES` elements.
    unsafe fn store(self, to: *mut T);
    /// Writes `LANES` elements at an aligned place, past the caches where the machine can: what is written is not read
    /// first, and takes no other lines' place. [`super::fence`] makes it visible in order.
    #[inline(always)]
    unsafe fn store_past_caches(self, to: *mut T) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to) }
    }
    /// Writes the first `count` elements, at most `LANES`, and touches nothing behind them.
    unsafe fn store_part(self, to: *mut T, count: usize);
    /// `self · a + b`, rounded once where the machine can.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// Lanewise sum.
    unsafe fn add(self, other: Self) -> Self;
    /// Lanewise difference.
    unsafe fn sub(self, other: Self) -> Self;
    /// Lanewise product.
    unsafe fn mul(self, other: Self) -> Self;
    /// Lanewise quotient.
    unsafe fn div(self, other: Self) -> Self;
    /// The larger of the two in each lane; NaN where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// As `max`, but where either is NaN, any of the two: what a machine does in one step.
    #[inline(always)]
    unsafe fn larger(self, other: Self) -> Self {
        // SAFETY: the machine has `Self`'s instruction set.
        unsafe { self.max(other) }
    }
    /// The first `count` lanes, at most `LANES`; zero in the others.
    #[inline(always)]
    unsafe fn first(self, count: usize) -> Self {
        let mut lanes = [T::ZERO; TileShape::MAX_LANES];
        // SAFETY: there is room for all lanes.
        unsafe {
            self.store(lanes.as_mut_ptr());
            Self::load_part(lanes.as_ptr(), count)
        }
    }
    /// Lanewise `eˣ`: for f32 [`crate::math::exp`], to the bit.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        let mut lanes = [T::ZERO; TileShape::MAX_LANES];
        // SAFETY: there is room for all lanes.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for lane in &mut lanes[..Self::LANES] {
                *lane = lanes::exp::<T, Self>(*lane);
            }
            Self::load(lanes.as_ptr())
        }
    }
    /// Lanewise square root.
    unsafe fn sqrt(self) -> Self;
    /// The sum of all lanes, folded in halves.
    unsafe fn sum(self) -> T;
    /// The largest of all lanes; where one is NaN, any.
    #[inline(always)]
    unsafe fn largest(self) -> T {
        let mut lanes = [T::NEG_INFINITY; TileShape::MAX_LANES];
        // SAFETY: there is room for all lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes.into_iter().fold(T::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }
    /// Every second element of two vectors that lie one after the other, and the elements between them.
    #[inline(always)]
    unsafe fn deinterleave(self, other: Self) -> (Self, Self) {
        let (mut both, mut halves) = ([T::ZERO; 2 * TileShape::MAX_LANES], [[T::ZERO; TileShape::MAX_LANES]; 2]);
        // SAFETY: there is room for all lanes.
        unsafe {
            self.store(both.as_mut_ptr());
            other.store(both.as_mut_ptr().add(Self::LANES));
            for i in 0..Self::LANES {
                (halves[0][i], halves[1][i]) = (both[2 * i], both[2 * i + 1]);
            }
            (Self::load(halves[0].as_ptr()), Self::load(halves[1].as_ptr()))
        }
    }
    /// The reverse of [`Vector::deinterleave`]: two vectors' elements by turns, as two vectors.
    #[inline(always)]
    unsafe fn interleave(self, other: Self) -> (Self, Self) {
        let (mut both, mut halves) = ([T::ZERO; 2 * TileShape::MAX_LANES], [[T::ZERO; TileShape::MAX_LANES]; 2]);
        // SAFETY: there is room for all lanes.
        unsafe {
            self.store(halves[0].as_mut_ptr());
            other.store(halves[1].as_mut_ptr());
            for i in 0..Self::LANES {
                (both[2 * i], both[2 * i + 1]) = (halves[0][i], halves[1][i]);
            }
            (Self::load(both.as_ptr()), Self::load(both.as_ptr().add(Self::LANES)))
        }
    }
    /// Every lane takes the value of the lane behind it; the last is 0.
    #[inline(always)]
    unsafe fn next(self) -> Self {
        let mut lanes = [T::ZERO; 2 * TileShape::MAX_LANES];
        // SAFETY: there is room for two vectors.
        unsafe {
            self.store(lanes.as_mut_ptr());
            Self::load(lanes.as_ptr().add(1))
        }
    }
    /// Transposes a `LANES` × `LANES` block: row `i` is read at `row(i)`, column `j` of the block is written to
    /// `to + j·to_stride`, in ascending `j`.
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const T, to: *mut T, to_stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { Self::transpose_first(Self::LANES, row, to, to_stride) }
    }
    /// The first `columns` columns of [`Vector::transpose`], at most `LANES`. As many more as fill up four may be read and
    /// written too.
    #[inline(always)]
    unsafe fn transpose_first(columns: usize, row: impl Fn(usize) -> *const T, to: *mut T, to_stride: usize) {
        for j in 0..columns {
            for i in 0..Self::LANES {
                // SAFETY: the caller's promise covers these columns on both sides.
                unsafe { *to.add(j * to_stride + i) = *row(i).add(j) };
            }
        }
    }
    /// Whether [`Vector::strip`] is better than transposing blocks of a vector each way.
    const STRIPS: bool = false;
    /// Four columns of `ROWS` rows without a gap: element `j` of row `i`, read at `row(i)`, is written to
    /// `to + j · ROWS + i`.
    #[inline(always)]
    unsafe fn strip(row: impl Fn(usize) -> *const T, to: *mut T) {
        for j in 0..4 {
            for i in 0..Self::ROWS {
                // SAFETY: the caller's promise covers four columns on both sides.
                unsafe { *to.add(j * Self::ROWS + i) = *row(i).add(j) };
            }
        }
    }
}

/// A piece of work that is compiled once for each instruction set.
///
/// # Safety
/// `run` must be `#[inline(always)]`, and so must everything it calls that uses `V`: code that is not inlined into
/// the set's entry point would be compiled without the instruction set.
pub unsafe trait Work<T: Float> {
    /// Does the work with vectors of type `V`.
    ///
    /// # Safety
    /// The machine must have `V`'s instruction set, and the work's own pointers must be valid as it documents.
    unsafe fn run<V: Vector<T>>(self);
}

/// An element type's vectors.
pub trait Dispatch: Sized {
    /// How the tile kernel cuts its work with the vectors that `set` has for this type.
    fn shape(set: InstructionSet) -> TileShape;
    /// Does `work` with the vectors that `set` has for this type.
    ///
    /// # Safety
    /// The machine must have `set`, and the pointers inside `work` must be valid as it documents.
    unsafe fn dispatch<W: Work<Self>>(set: InstructionSet, work: W)
    where
        Self: Float;
}
