//! The loops behind instructions, chosen once, when a program is prepared.
//!
//! What training spends its time in (f32 arithmetic, comparisons and functions, selection) is compiled for AVX2 and FMA,
//! for each pattern of uniform arguments, and runs in place. All else, and everything on other machines, is one plain
//! loop: several hundred more of the former would cost a minute of compilation and speed up nothing that matters.

use crate::math::SIN_LIMIT;

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

/// Whether the kernels compiled for AVX2 and FMA may run.
pub(super) fn vector_unit() -> bool {
    crate::cpu::has_avx2()
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

// The entry points. Their safety is that of `Kernel`; the fast ones also need `vector_unit()`. A closure type comes from
// the constructor below that names the entry point, so a value of it was given.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn unary_fast<T: Copy, U: Copy, F: Fn(T) -> U + Copy>(
    to: *mut u8,
    a: *const u8,
    _: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { map(to, a, count, conjure::<F>()) }
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn binary_fast<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(
    to: *mut u8,
    a: *const u8,
    b: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { zip(to, a, b, count, conjure::<F>()) }
}

/// The first argument is uniform.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn binary_first<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(
    to: *mut u8,
    a: *const u8,
    b: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on; uniform arguments hold one element.
    unsafe {
        let a = (a as *const T).read();
        map(to, b, count, |b| conjure::<F>()(a, b));
    }
}

/// The second argument is uniform.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn binary_second<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(
    to: *mut u8,
    a: *const u8,
    b: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on; uniform arguments hold one element.
    unsafe {
        let b = (b as *const T).read();
        map(to, a, count, |a| conjure::<F>()(a, b));
    }
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn select_fast<T: Copy, const UNIFORM: u8>(
    to: *mut u8,
    condition: *const u8,
    a: *const u8,
    b: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { select_body::<T, UNIFORM>(to, condition, a, b, count) }
}

unsafe fn select_plain<T: Copy>(to: *mut u8, condition: *const u8, a: *const u8, b: *const u8, count: usize) {
    // SAFETY: passed on.
    unsafe { select_body::<T, 0>(to, condition, a, b, count) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn limited_fast<F: Fn(f32) -> f32 + Copy, H: Fn(f32) -> f32 + Copy>(
    to: *mut u8,
    a: *const u8,
    _: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { limited_body::<F, H>(to, a, count) }
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

/// The forms for two arguments, in the first places.
#[cfg(target_arch = "x86_64")]
fn of_two(forms: [Kernel; 4]) -> [Kernel; 8] {
    std::array::from_fn(|pattern| forms[pattern % 4])
}

/// A function of one argument, in plain form.
pub(super) fn unary<T: Copy, U: Copy, F: Fn(T) -> U + Copy>(_f: F) -> Kernels {
    plain(unary_plain::<T, U, F>)
}

/// A function of one argument: `fast` is what runs inside AVX2 and FMA code, `slow` elsewhere.
pub(super) fn fast_unary<T: Copy, U: Copy, F: Fn(T) -> U + Copy, G: Fn(T) -> U + Copy>(_fast: F, slow: G) -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        return Kernels { tiles: unary_fast::<T, U, F>, uniform: None, in_place: true };
    }
    unary(slow)
}

/// As [`fast_unary`], for functions that hold up to [`SIN_LIMIT`]; `far` takes what lies beyond.
pub(super) fn limited<F: Fn(f32) -> f32 + Copy, G: Fn(f32) -> f32 + Copy, H: Fn(f32) -> f32 + Copy>(
    _fast: F,
    _slow: G,
    _far: H,
) -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        return plain(limited_fast::<F, H>);
    }
    plain(limited_plain::<G, H>)
}

/// A function of two arguments, in plain form.
pub(super) fn binary<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(_f: F) -> Kernels {
    plain(binary_plain::<T, U, F>)
}

/// A function of two arguments with all fast forms.
pub(super) fn fast_binary<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(f: F) -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        let tiles = binary_fast::<T, U, F>;
        let uniform = Some(of_two([tiles, binary_first::<T, U, F>, binary_second::<T, U, F>, tiles]));
        return Kernels { tiles, uniform, in_place: true };
    }
    binary(f)
}

/// A function of two arguments that is long enough to need no forms for uniform ones.
pub(super) fn long_binary<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy, G: Fn(T, T) -> U + Copy>(
    _fast: F,
    slow: G,
) -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        return Kernels { tiles: binary_fast::<T, U, F>, uniform: None, in_place: true };
    }
    binary(slow)
}

/// `Select` on elements of `T`'s size, in plain form.
pub(super) fn select<T: Copy>() -> Kernels {
    plain(select_plain::<T>)
}

/// `Select` on elements of `T`'s size with all fast forms.
pub(super) fn fast_select<T: Copy>() -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        let tiles = select_fast::<T, 0>;
        let uniform = Some(of_two([tiles, select_fast::<T, 1>, select_fast::<T, 2>, select_fast::<T, 3>]));
        return Kernels { tiles, uniform, in_place: false };
    }
    select::<T>()
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
