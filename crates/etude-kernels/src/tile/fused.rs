//! Pairs of f32 arithmetic in one loop: `(a ∘ b) • c` without the trip of the middle value through the cache, which
//! otherwise is most of what such a pair costs. Rounded twice, as the two instructions would be.

use super::BinaryOp;
use super::kernels::{Kernel, Kernels};
use crate::cpu::{self, InstructionSet, Vector, Work};

/// The operations that may come first, and those that may follow: on (first, third), then on (third, first).
const FIRST: [BinaryOp; 3] = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul];
const SECOND: [(BinaryOp, bool); 5] = [
    (BinaryOp::Add, false),
    (BinaryOp::Sub, false),
    (BinaryOp::Sub, true),
    (BinaryOp::Mul, false),
    (BinaryOp::Div, false),
];

/// The kernels of `first(a, b)` followed by `second` of that and `c`; `swapped` if `c` is `second`'s first argument.
pub(super) fn fused_kernels(first: BinaryOp, second: BinaryOp, swapped: bool) -> Option<Kernels> {
    if cpu::instruction_set() == InstructionSet::Scalar {
        return None; // The compiler's own loops are better there.
    }
    let inner = FIRST.iter().position(|&op| op == first)?;
    let swapped = swapped && !matches!(second, BinaryOp::Add | BinaryOp::Mul);
    let outer = SECOND.iter().position(|&pair| pair == (second, swapped))?;
    let forms = match inner {
        0 => by_outer::<0>(outer),
        1 => by_outer::<1>(outer),
        _ => by_outer::<2>(outer),
    };
    Some(Kernels { tiles: forms[0], uniform: Some(forms), in_place: true })
}

fn by_outer<const INNER: u8>(outer: usize) -> [Kernel; 8] {
    match outer {
        0 => forms::<INNER, 0>(),
        1 => forms::<INNER, 1>(),
        2 => forms::<INNER, 2>(),
        3 => forms::<INNER, 3>(),
        _ => forms::<INNER, 4>(),
    }
}

/// One kernel for each pattern of uniform arguments; the last, all uniform, is never asked for.
fn forms<const INNER: u8, const OUTER: u8>() -> [Kernel; 8] {
    [
        pair::<INNER, OUTER, 0>,
        pair::<INNER, OUTER, 1>,
        pair::<INNER, OUTER, 2>,
        pair::<INNER, OUTER, 3>,
        pair::<INNER, OUTER, 4>,
        pair::<INNER, OUTER, 5>,
        pair::<INNER, OUTER, 6>,
        pair::<INNER, OUTER, 0>,
    ]
}

/// A kernel as `Kernel` says, uniform arguments the set bits of `UNIFORM`.
unsafe fn pair<const INNER: u8, const OUTER: u8, const UNIFORM: u8>(
    to: *mut u8,
    a: *const u8,
    b: *const u8,
    c: *const u8,
    count: usize,
) {
    let work = Pair::<INNER, OUTER, UNIFORM> { to: to.cast(), from: [a.cast(), b.cast(), c.cast()], count };
    // SAFETY: passed on.
    unsafe { cpu::run(work) }
}

/// One tile of a pair. Each vector is read before it is written, so `to` may equal any of the others.
struct Pair<const INNER: u8, const OUTER: u8, const UNIFORM: u8> {
    to: *mut f32,
    from: [*const f32; 3],
    count: usize,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl<const INNER: u8, const OUTER: u8, const UNIFORM: u8> Work<f32> for Pair<INNER, OUTER, UNIFORM> {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        let Pair { to, from: [a, b, c], count } = self;
        // SAFETY: varying arguments are valid for `count` elements, uniform ones for one.
        unsafe {
            let first = [V::splat(a.read()), V::splat(b.read()), V::splat(c.read())];
            let whole = count / V::LANES * V::LANES;
            for i in (0..whole).step_by(V::LANES) {
                let x = if UNIFORM & 1 != 0 { first[0] } else { V::load(a.add(i)) };
                let y = if UNIFORM & 2 != 0 { first[1] } else { V::load(b.add(i)) };
                let z = if UNIFORM & 4 != 0 { first[2] } else { V::load(c.add(i)) };
                both::<V, INNER, OUTER>(x, y, z).store(to.add(i));
            }
            let left = count - whole;
            if left > 0 {
                let x = if UNIFORM & 1 != 0 { first[0] } else { V::load_part(a.add(whole), left) };
                let y = if UNIFORM & 2 != 0 { first[1] } else { V::load_part(b.add(whole), left) };
                let z = if UNIFORM & 4 != 0 { first[2] } else { V::load_part(c.add(whole), left) };
                both::<V, INNER, OUTER>(x, y, z).store_part(to.add(whole), left);
            }
        }
    }
}

/// One vector of the pair.
#[inline(always)]
unsafe fn both<V: Vector<f32>, const INNER: u8, const OUTER: u8>(a: V, b: V, c: V) -> V {
    // SAFETY: the caller has `V`'s instruction set.
    unsafe {
        let x = match INNER {
            0 => a.add(b),
            1 => a.sub(b),
            _ => a.mul(b),
        };
        match OUTER {
            0 => x.add(c),
            1 => x.sub(c),
            2 => c.sub(x),
            3 => x.mul(c),
            _ => x.div(c),
        }
    }
}
