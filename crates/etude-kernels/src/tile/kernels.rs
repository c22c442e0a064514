//! The loops behind instructions: one function per operation, dtype and pattern of uniform arguments, compiled for
//! AVX2+FMA and portably. Which is decided once, when a program is prepared.

use crate::math::SIN_LIMIT;

/// One instruction over a tile: `to`, up to three arguments, element count.
///
/// Every pointer is valid for `count` elements of its dtype (uniform arguments: for one). `to` may equal an argument of
/// the same element size, and overlaps no argument otherwise.
pub(super) type Kernel = unsafe fn(*mut u8, *const u8, *const u8, *const u8, usize);

/// A kernel for each pattern of uniform arguments: bit 0 for the first, bit 1 for the second. Where both are, a tile is
/// one element and any kernel will do; of `Select` these are the two it chooses from.
pub(super) type Kernels = [Kernel; 4];

/// Whether the kernels compiled for AVX2 and FMA may run.
pub(super) fn vector_unit() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
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
    let to = to as *mut U;
    if size_of::<T>() == size_of::<U>() && to as *const u8 == a {
        for i in 0..count {
            // SAFETY: in place, elements of one size: each is read before it is overwritten.
            unsafe { to.add(i).write(f((to as *const T).add(i).read())) };
        }
        return;
    }
    // SAFETY: the caller's promise: valid for `count` and without overlap, since the addresses differ.
    let (to, a) =
        unsafe { (std::slice::from_raw_parts_mut(to, count), std::slice::from_raw_parts(a as *const T, count)) };
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
    if a == b {
        // SAFETY: passed on.
        unsafe { map(to, a, count, |x| f(x, x)) };
        return;
    }
    // SAFETY: the arguments are valid for `count` elements, and those read below as slices overlap nothing written:
    // `to` equals neither of them.
    unsafe {
        let out = to as *mut U;
        let same = size_of::<T>() == size_of::<U>();
        if same && to as *const u8 == a {
            let b = std::slice::from_raw_parts(b as *const T, count);
            for i in 0..count {
                out.add(i).write(f((out as *const T).add(i).read(), b[i]));
            }
        } else if same && to as *const u8 == b {
            let a = std::slice::from_raw_parts(a as *const T, count);
            for i in 0..count {
                out.add(i).write(f(a[i], (out as *const T).add(i).read()));
            }
        } else {
            let (a, b) =
                (std::slice::from_raw_parts(a as *const T, count), std::slice::from_raw_parts(b as *const T, count));
            let out = std::slice::from_raw_parts_mut(out, count);
            for i in 0..count {
                out[i] = f(a[i], b[i]);
            }
        }
    }
}

/// The body of a unary kernel.
///
/// # Safety
/// As [`Kernel`] says.
#[inline(always)]
unsafe fn unary_body<T: Copy, U: Copy, F: Fn(T) -> U + Copy>(to: *mut u8, a: *const u8, count: usize) {
    // SAFETY: `unary` was given an `F`; the rest is passed on.
    unsafe { map(to, a, count, conjure::<F>()) }
}

/// The body of a binary kernel whose uniform arguments are the set bits of `UNIFORM`.
///
/// # Safety
/// As [`Kernel`] says.
#[inline(always)]
unsafe fn binary_body<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy, const UNIFORM: u8>(
    to: *mut u8,
    a: *const u8,
    b: *const u8,
    count: usize,
) {
    // SAFETY: `binary` was given an `F`; uniform arguments hold one element; the rest is passed on.
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
/// As [`Kernel`] says.
#[inline(always)]
unsafe fn limited_body<F: Fn(f32) -> f32 + Copy, H: Fn(f32) -> f32 + Copy>(to: *mut u8, a: *const u8, count: usize) {
    // SAFETY: `limited` was given an `F` and an `H`; the rest is passed on.
    unsafe {
        let (near, far) = (conjure::<F>(), conjure::<H>());
        let beyond = (0..count).fold(false, |any, i| any | ((a as *const f32).add(i).read().abs() > SIN_LIMIT));
        if beyond {
            map(to, a, count, |x: f32| if x.abs() > SIN_LIMIT { far(x) } else { near(x) });
        } else {
            map(to, a, count, near);
        }
    }
}

// The pairs of entry points: the same body inside and outside of `target_feature`. Their safety is that of `Kernel`,
// and for the fast ones that `vector_unit()` holds.

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
    unsafe { unary_body::<T, U, F>(to, a, count) }
}

unsafe fn unary_plain<T: Copy, U: Copy, F: Fn(T) -> U + Copy>(
    to: *mut u8,
    a: *const u8,
    _: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { unary_body::<T, U, F>(to, a, count) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn binary_fast<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy, const UNIFORM: u8>(
    to: *mut u8,
    a: *const u8,
    b: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { binary_body::<T, U, F, UNIFORM>(to, a, b, count) }
}

unsafe fn binary_plain<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy, const UNIFORM: u8>(
    to: *mut u8,
    a: *const u8,
    b: *const u8,
    _: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { binary_body::<T, U, F, UNIFORM>(to, a, b, count) }
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

unsafe fn select_plain<T: Copy, const UNIFORM: u8>(
    to: *mut u8,
    condition: *const u8,
    a: *const u8,
    b: *const u8,
    count: usize,
) {
    // SAFETY: passed on.
    unsafe { select_body::<T, UNIFORM>(to, condition, a, b, count) }
}

/// The kernels of a function of one argument: `fast` is what runs inside AVX2+FMA code, `plain` elsewhere.
pub(super) fn unary_pair<T: Copy, U: Copy, F: Fn(T) -> U + Copy, G: Fn(T) -> U + Copy>(_fast: F, _plain: G) -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        return [unary_fast::<T, U, F>; 4];
    }
    [unary_plain::<T, U, G>; 4]
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

/// As [`unary_pair`], for functions that hold up to [`SIN_LIMIT`]; `far` takes what lies beyond.
pub(super) fn limited<F: Fn(f32) -> f32 + Copy, G: Fn(f32) -> f32 + Copy, H: Fn(f32) -> f32 + Copy>(
    _fast: F,
    _plain: G,
    _far: H,
) -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        return [limited_fast::<F, H>; 4];
    }
    [limited_plain::<G, H>; 4]
}

/// The kernels of a function of one argument that is the same on every instruction set.
pub(super) fn unary<T: Copy, U: Copy, F: Fn(T) -> U + Copy>(f: F) -> Kernels {
    unary_pair(f, f)
}

/// The kernels of a function of two arguments; see [`unary_pair`].
pub(super) fn binary_pair<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy, G: Fn(T, T) -> U + Copy>(
    _fast: F,
    _plain: G,
) -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        return [
            binary_fast::<T, U, F, 0>,
            binary_fast::<T, U, F, 1>,
            binary_fast::<T, U, F, 2>,
            binary_fast::<T, U, F, 0>,
        ];
    }
    [binary_plain::<T, U, G, 0>, binary_plain::<T, U, G, 1>, binary_plain::<T, U, G, 2>, binary_plain::<T, U, G, 3>]
}

/// The kernels of a function of two arguments that is the same on every instruction set.
pub(super) fn binary<T: Copy, U: Copy, F: Fn(T, T) -> U + Copy>(f: F) -> Kernels {
    binary_pair(f, f)
}

/// The kernels of `Select` on elements of `T`'s size.
pub(super) fn select<T: Copy>() -> Kernels {
    #[cfg(target_arch = "x86_64")]
    if vector_unit() {
        return [select_fast::<T, 0>, select_fast::<T, 1>, select_fast::<T, 2>, select_fast::<T, 3>];
    }
    [select_plain::<T, 0>, select_plain::<T, 1>, select_plain::<T, 2>, select_plain::<T, 3>]
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
