//! The loops behind instructions, chosen once, when a program is prepared.
//!
//! What training spends its time in (f32 arithmetic, comparisons and functions, selection) is compiled for AVX2 with FMA
//! and for AVX-512, for each pattern of uniform arguments, and runs in place. All else, and everything on other machines,
//! is one plain loop: several hundred more of the former would cost a minute of compilation and speed up nothing that
//! matters.

use crate::cpu::{InstructionSet, instruction_set};
use crate::math::SIN_LIMIT;
use std::marker::PhantomData;

/// One instruction over a tile: `to`, up to three arguments, element count.
///
/// Every pointer is valid for `count` elements of its dtype (uniform arguments: for one). `to` overlaps no argument, but
/// that it may equal one of the same element size where [`Kernels::in_place`] holds.
pub(super) type Kernel = unsafe fn(*mut u8, *const u8, *const u8, *const u8, usize);

/// The kernels of one operation.
#[derive(Clone, Copy)]
pub(super) struct Kernels {
    /// Every argument is a tile.
    pub tiles: Kernel,
    /// One for each set of arguments that are uniform, a bit for each (of `Select`: the two it chooses from); never all.
    /// If missing, uniform arguments are spread over a tile first.
    pub uniform: Option<[Kernel; 8]>,
    /// Whether the result may be written over an argument.
    pub in_place: bool,
}

/// A value of the zero-sized closure type `F`, so that a plain function pointer can carry a closure.
///
/// # Safety
/// The caller has been given a value of `F`, which is `Copy`.
#[inline(always)]
unsafe fn conjure<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0, "kernels take functions and closures that capture nothing") };
    // SAFETY: `F` has no bytes, and the caller has shown that it is inhabited.
    unsafe { std::mem::zeroed() }
}

/// `to[i] = f(a[i])`.
///
/// # Safety
/// As [`Kernel`] says.
#[inline(always)]
unsafe fn map<T: Copy, U: Copy>(to: *mut u8, a: *const u8, count: usize, f: impl Fn(T) -> U) {
    if size_of::<T>() == size_of::<U>() && std::ptr::eq(to, a) {
        let to = to as *mut U;
        for i in 0..count {
            // SAFETY: in place, elements of one size: each is read before it is overwritten.
            unsafe { to.add(i).write(f((to as *const T).add(i).read())) };
        }
    } else {
        // SAFETY: passed on; not in place.
        unsafe { map_apart(to, a, count, f) }
    }
}

/// [`map`] for an argument that `to` does not overlap.
///
/// # Safety
/// As [`Kernel`] says, never in place.
#[inline(always)]
unsafe fn map_apart<T: Copy, U: Copy>(to: *mut u8, a: *const u8, count: usize, f: impl Fn(T) -> U) {
    // SAFETY: the caller's promise.
    let (to, a) = unsafe {
        (std::slice::from_raw_parts_mut(to as *mut U, count), std::slice::from_raw_parts(a as *const T, count))
    };
    for (to, &a) in to.iter_mut().zip(a) {
        *to = f(a);
    }
}

/// `to[i] = f(a[i], b[i])`.
///
/// # Safety
/// As [`Kernel`] says.
#[inline(always)]
unsafe fn zip<T: Copy, U: Copy>(to: *mut u8, a: *const u8, b: *const u8, count: usize, f: impl Fn(T, T) -> U) {
    // SAFETY: the arguments are valid for `count` elements, and those read as slices are not those written: `to` equals
    // at most one of them, which is then read and written through one pointer.
    unsafe {
        let out = to as *mut U;
        let same = size_of::<T>() == size_of::<U>();
        if same && std::ptr::eq(to, a) {
            let b = std::slice::from_raw_parts(b as *const T, count);
            for i in 0..count {
                out.add(i).write(f((out as *const T).add(i).read(), b[i]));
            }
        } else if same && std::ptr::eq(to, b) {
            let a = std::slice::from_raw_parts(a as *const T, count);
            for i in 0..count {
                out.add(i).write(f(a[i], (out as *const T).add(i).read()));
            }
        } else {
            zip_apart(to, a, b, count, f);
        }
    }
}

/// [`zip`] for arguments that `to` does not overlap.
///
/// # Safety
/// As [`Kernel`] says, never in place.
#[inline(always)]
unsafe fn zip_apart<T: Copy, U: Copy>(to: *mut u8, a: *const u8, b: *const u8, count: usize, f: impl Fn(T, T) -> U) {
    // SAFETY: the caller's promise.
    let (to, a, b) = unsafe {
        (
            std::slice::from_raw_parts_mut(to as *mut U, count),
            std::slice::from_raw_parts(a as *const T, count),
            std::slice::from_raw_parts(b as *const T, count),
        )
    };
    for i in 0..count {
        to[i] = f(a[i], b[i]);
    }
}

/// `to[i] = condition[i] ? a[i] : b[i]`, uniform arguments the set bits of `UNIFORM`. Never in place.
///
/// # Safety
/// As [`Kernel`] says, and `to` equals no argument.
#[inline(always)]
unsafe fn select_body<T: Copy, const UNIFORM: u8>(
    to: *mut u8,
    condition: *const u8,
    a: *const u8,
    b: *const u8,
    count: usize,
) {
    // A uniform argument is a slice of one element, of which only the first is read.
    let length = |bit: u8| if UNIFORM & bit != 0 { 1 } else { count };
    // SAFETY: passed on; nothing overlaps `to`.
    let (to, condition, a, b) = unsafe {
        (
            std::slice::from_raw_parts_mut(to as *mut T, count),
            std::slice::from_raw_parts(condition, count),
            std::slice::from_raw_parts(a as *const T, length(1)),
            std::slice::from_raw_parts(b as *const T, length(2)),
        )
    };
    for i in 0..count {
        let x = if UNIFORM & 1 != 0 { a[0] } else { a[i] };
        let y = if UNIFORM & 2 != 0 { b[0] } else { b[i] };
        to[i] = if condition[i] != 0 { x } else { y };
    }
}

/// The body of a unary f32 kernel that holds up to [`SIN_LIMIT`]; tiles that reach beyond ask `H` for those elements.
///
/// # Safety
/// As [`Kernel`] says, never in place.
#[inline(always)]
unsafe fn limited_body<F: Fn(f32) -> f32 + Copy, H: Fn(f32) -> f32 + Copy>(to: *mut u8, a: *const u8, count: usize) {
    // SAFETY: `limited` was given an `F` and an `H`; the rest is passed on.
    unsafe {
        let (near, far) = (conjure::<F>(), conjure::<H>());
        let beyond = (0..count).fold(false, |any, i| any | ((a as *const f32).add(i).read().abs() > SIN_LIMIT));
        if beyond {
            map_apart(to, a, count, |x: f32| if x.abs() > SIN_LIMIT { far(x) } else { near(x) });
        } else {
            map_apart(to, a, count, near);
        }
    }
}

/// The loop of a kernel, to be compiled for an instruction set. A closure type among its parameters comes from the
/// constructor below that names the body, so a value of it was given.
trait Body {
    /// # Safety
    /// As [`Kernel`] says. Inlined, as everything it calls, so that it is compiled with the entry point's instructions.
    unsafe fn run(to: *mut u8, a: *const u8, b: *const u8, c: *const u8, count: usize);
}

/// One argument.
struct Unary<T, U, F>(PhantomData<(T, U, F)>);
/// Two arguments; uniform ones are the set bits of `UNIFORM`.
struct Binary<T, U, F, const UNIFORM: u8>(PhantomData<(T, U, F)>);
/// See [`select_body`].
struct Select<T, const UNIFORM: u8>(PhantomData<T>);
/// See [`limited_body`].
struct Limited<F, H>(PhantomData<(F, H)>);

impl<T: Copy, U: Copy, F: Fn(T) -> U + Copy> Body for Unary<T, U, F> {
    #[inline(always)]
    unsafe fn run(to: *mut u8, a: *const u8, _: *const u8, _: *const u8, count: usize) {
        // SAFETY: passed on.
        unsafe { map(to, a, count, conjure::<F>()) }
    }
}

impl<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy, const UNIFORM: u8> Body for Binary<T, U, F, UNIFORM> {
    #[inline(always)]
    unsafe fn run(to: *mut u8, a: *const u8, b: *const u8, _: *const u8, count: usize) {
        // SAFETY: passed on; uniform arguments hold one element.
        unsafe {
            let f = conjure::<F>();
            match UNIFORM {
                0 => zip(to, a, b, count, f),
                1 => {
                    let a = (a as *const T).read();
                    map(to, b, count, |b| f(a, b));
                }
                _ => {
                    let b = (b as *const T).read();
                    map(to, a, count, |a| f(a, b));
                }
            }
        }
    }
}

impl<T: Copy, const UNIFORM: u8> Body for Select<T, UNIFORM> {
    #[inline(always)]
    unsafe fn run(to: *mut u8, condition: *const u8, a: *const u8, b: *const u8, count: usize) {
        // SAFETY: passed on.
        unsafe { select_body::<T, UNIFORM>(to, condition, a, b, count) }
    }
}

impl<F: Fn(f32) -> f32 + Copy, H: Fn(f32) -> f32 + Copy> Body for Limited<F, H> {
    #[inline(always)]
    unsafe fn run(to: *mut u8, a: *const u8, _: *const u8, _: *const u8, count: usize) {
        // SAFETY: passed on.
        unsafe { limited_body::<F, H>(to, a, count) }
    }
}

// The entry points. Their safety is that of `Kernel`, and the machine must have the instructions.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn with_avx2<B: Body>(to: *mut u8, a: *const u8, b: *const u8, c: *const u8, count: usize) {
    // SAFETY: passed on.
    unsafe { B::run(to, a, b, c, count) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
unsafe fn with_avx512<B: Body>(to: *mut u8, a: *const u8, b: *const u8, c: *const u8, count: usize) {
    // SAFETY: passed on.
    unsafe { B::run(to, a, b, c, count) }
}

/// The kernel of a body for the chosen instruction set, if it is one with fused multiply-add.
fn fast<B: Body>() -> Option<Kernel> {
    match instruction_set() {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => Some(with_avx512::<B>),
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => Some(with_avx2::<B>),
        _ => None,
    }
}

unsafe fn unary_plain<T: Copy, U: Copy, F: Fn(T) -> U + Copy>(
    to: *mut u8,
    a: *const u8,
    _: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { map_apart(to, a, count, conjure::<F>()) }
}

unsafe fn binary_plain<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(
    to: *mut u8,
    a: *const u8,
    b: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { zip_apart(to, a, b, count, conjure::<F>()) }
}

unsafe fn select_plain<T: Copy>(to: *mut u8, condition: *const u8, a: *const u8, b: *const u8, count: usize) {
    // SAFETY: passed on.
    unsafe { select_body::<T, 0>(to, condition, a, b, count) }
}

unsafe fn limited_plain<F: Fn(f32) -> f32 + Copy, H: Fn(f32) -> f32 + Copy>(
    to: *mut u8,
    a: *const u8,
    _: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { limited_body::<F, H>(to, a, count) }
}

/// One plain loop.
fn plain(tiles: Kernel) -> Kernels {
    Kernels { tiles, uniform: None, in_place: false }
}

/// The forms for two arguments; all of them or none are there.
fn of_two(forms: [Option<Kernel>; 4], in_place: bool) -> Option<Kernels> {
    let [tiles, first, second, both] = forms;
    let forms = [tiles?, first?, second?, both?];
    let uniform = Some(std::array::from_fn(|pattern| forms[pattern % 4]));
    Some(Kernels { tiles: forms[0], uniform, in_place })
}

/// A function of one argument, in plain form.
pub(super) fn unary<T: Copy, U: Copy, F: Fn(T) -> U + Copy>(_f: F) -> Kernels {
    plain(unary_plain::<T, U, F>)
}

/// A function of one argument: `quick` is what runs inside code with fused multiply-add, `slow` elsewhere.
pub(super) fn fast_unary<T: Copy, U: Copy, F: Fn(T) -> U + Copy, G: Fn(T) -> U + Copy>(_quick: F, slow: G) -> Kernels {
    match fast::<Unary<T, U, F>>() {
        Some(tiles) => Kernels { tiles, uniform: None, in_place: true },
        None => unary(slow),
    }
}

/// As [`fast_unary`], for functions that hold up to [`SIN_LIMIT`]; `far` takes what lies beyond.
pub(super) fn limited<F: Fn(f32) -> f32 + Copy, G: Fn(f32) -> f32 + Copy, H: Fn(f32) -> f32 + Copy>(
    _quick: F,
    _slow: G,
    _far: H,
) -> Kernels {
    plain(fast::<Limited<F, H>>().unwrap_or(limited_plain::<G, H>))
}

/// A function of two arguments, in plain form.
pub(super) fn binary<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(_f: F) -> Kernels {
    plain(binary_plain::<T, U, F>)
}

/// A function of two arguments with all fast forms.
pub(super) fn fast_binary<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(f: F) -> Kernels {
    let tiles = fast::<Binary<T, U, F, 0>>();
    let forms = [tiles, fast::<Binary<T, U, F, 1>>(), fast::<Binary<T, U, F, 2>>(), tiles];
    of_two(forms, true).unwrap_or_else(|| binary(f))
}

/// A function of two arguments that is long enough to need no forms for uniform ones.
pub(super) fn long_binary<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy, G: Fn(T, T) -> U + Copy>(
    _quick: F,
    slow: G,
) -> Kernels {
    match fast::<Binary<T, U, F, 0>>() {
        Some(tiles) => Kernels { tiles, uniform: None, in_place: true },
        None => binary(slow),
    }
}

/// `Select` on elements of `T`'s size, in plain form.
pub(super) fn select<T: Copy>() -> Kernels {
    plain(select_plain::<T>)
}

/// `Select` on elements of `T`'s size with all fast forms.
pub(super) fn fast_select<T: Copy>() -> Kernels {
    let forms = [fast::<Select<T, 0>>(), fast::<Select<T, 1>>(), fast::<Select<T, 2>>(), fast::<Select<T, 3>>()];
    of_two(forms, false).unwrap_or_else(select::<T>)
}

/// Repeats the one element at `a` over the tile.
unsafe fn fill<T: Copy>(to: *mut u8, a: *const u8, _: *const u8, _: *const u8, count: usize) {
    // SAFETY: as `Kernel` says.
    unsafe { std::slice::from_raw_parts_mut(to as *mut T, count).fill((a as *const T).read()) }
}

/// The kernel that spreads a uniform value of `size` bytes over a tile.
pub(super) fn splat(size: usize) -> Kernel {
    match size {
        1 => fill::<u8>,
        4 => fill::<u32>,
        _ => fill::<u64>,
    }
}
