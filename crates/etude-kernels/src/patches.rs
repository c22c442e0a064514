//! Patches of planes: windows laid out as columns (also known as im2col), and columns added back into windows.

use crate::pool::PoolGeometry;
use crate::threads::parallel_chunks;
use crate::{Element, Float};

/// Elements a task handles at least, where there are that many.
const TASK: usize = 1 << 14;

/// Elements of one plane's patches: taps times positions.
fn patches_size(g: &PoolGeometry) -> usize {
    g.kernel.iter().product::<usize>() * g.output_size()
}

/// The positions along `axis` at which tap `k` meets a real element: the first, the one after the last, and the element
/// the first one meets.
fn meeting(g: &PoolGeometry, axis: usize, k: usize) -> (usize, usize, usize) {
    let (stride, shift, padding) = (g.stride[axis], k * g.dilation[axis], g.padding[axis]);
    let end = (g.input[axis] + padding).saturating_sub(shift).div_ceil(stride).min(g.output[axis]);
    let start = padding.saturating_sub(shift).div_ceil(stride).min(end);
    (start, end, (start * stride + shift).saturating_sub(padding))
}

/// Calls `visit(start of a row of positions in the plane's patches, start of the row of the plane it meets, …)` for each
/// tap and each row of positions, with what [`meeting`] says about the last axis; `None` for a row outside the plane.
fn rows(g: &PoolGeometry, mut visit: impl FnMut(usize, Option<usize>, (usize, usize, usize))) {
    let inside = |(start, end, first): (usize, usize, usize), stride: usize, at: usize| {
        (start..end).contains(&at).then(|| first + (at - start) * stride)
    };
    let mut row = 0;
    for kz in 0..g.kernel[0] {
        let depth = meeting(g, 0, kz);
        for ky in 0..g.kernel[1] {
            let height = meeting(g, 1, ky);
            for kx in 0..g.kernel[2] {
                let width = meeting(g, 2, kx);
                for z in 0..g.output[0] {
                    for y in 0..g.output[1] {
                        let from = match (inside(depth, g.stride[0], z), inside(height, g.stride[1], y)) {
                            (Some(z), Some(y)) => Some((z * g.input[1] + y) * g.input[2]),
                            _ => None,
                        };
                        visit(row, from, width);
                        row += g.output[2];
                    }
                }
            }
        }
    }
}

/// `y[p, t, o] = x[p, o · stride + t · dilation − padding]`, 0 outside: `x [planes, input]`, `y [planes, taps, output]`.
///
/// # Panics
/// If a slice has not the size the geometry says, or a stride or dilation is 0.
pub fn unfold<T: Element>(g: &PoolGeometry, x: &[T], y: &mut [T]) {
    (T::elements().patches_unfold)(g, x, y)
}

/// The body of [`unfold`], compiled once for each type in this crate.
pub(crate) fn unfold_body<T: Element>(g: &PoolGeometry, x: &[T], y: &mut [T]) {
    let (from, to) = (g.input_size(), patches_size(g));
    check(g, x.len(), y.len());
    if to == 0 {
        return;
    }
    let group = (TASK / to).max(1);
    parallel_chunks(y, group * to, |task, y| {
        for (i, y) in y.chunks_mut(to).enumerate() {
            let x = &x[(task * group + i) * from..][..from];
            rows(g, |row, source, (start, end, first)| {
                let y = &mut y[row..][..g.output[2]];
                let Some(source) = source.filter(|_| start < end) else { return y.fill(T::default()) };
                y[..start].fill(T::default());
                y[end..].fill(T::default());
                let (y, x) = (&mut y[start..end], &x[source + first..]);
                match g.stride[2] {
                    1 => y.copy_from_slice(&x[..end - start]),
                    stride => y.iter_mut().zip(x.iter().step_by(stride)).for_each(|(y, x)| *y = *x),
                }
            });
        }
    });
}

/// The transpose of [`unfold`]: each element of `y [planes, taps, output]` is added to the element of `x [planes, input]`
/// it would have come from, in a fixed order.
///
/// # Panics
/// As [`unfold`].
pub fn fold<T: Float>(g: &PoolGeometry, y: &[T], x: &mut [T]) {
    (T::floats().patches_fold)(g, y, x)
}

/// The body of [`fold`], compiled once for each type in this crate.
pub(crate) fn fold_body<T: Float>(g: &PoolGeometry, y: &[T], x: &mut [T]) {
    let (from, to) = (patches_size(g), g.input_size());
    check(g, x.len(), y.len());
    if to == 0 {
        return;
    }
    let group = (TASK / from.max(to)).max(1);
    parallel_chunks(x, group * to, |task, x| {
        x.fill(T::ZERO);
        for (i, x) in x.chunks_mut(to).enumerate() {
            let y = &y[(task * group + i) * from..][..from];
            rows(g, |row, target, (start, end, first)| {
                let Some(target) = target.filter(|_| start < end) else { return };
                let (y, x) = (&y[row + start..row + end], &mut x[target + first..]);
                y.iter().zip(x.iter_mut().step_by(g.stride[2])).for_each(|(y, x)| *x += *y);
            });
        }
    });
}

fn check(g: &PoolGeometry, x: usize, y: usize) {
    assert!(g.stride.iter().chain(&g.dilation).all(|&step| step > 0), "patches: a stride or dilation of 0: {g:?}");
    assert_eq!(x, g.planes * g.input_size(), "patches: elements of the planes of {g:?}");
    assert_eq!(y, g.planes * patches_size(g), "patches: elements of the patches of {g:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::set_threads;

    /// For each element of a plane's patches, the element of the plane it comes from.
    fn sources(g: &PoolGeometry) -> Vec<Option<usize>> {
        let place = |i: usize, sizes: [usize; 3]| [i / sizes[2] / sizes[1], i / sizes[2] % sizes[1], i % sizes[2]];
        let positions = g.output_size();
        let source = |i: usize| {
            let (k, p) = (place(i / positions, g.kernel), place(i % positions, g.output));
            let at = |a: usize| (p[a] * g.stride[a] + k[a] * g.dilation[a]).checked_sub(g.padding[a]);
            let at = |a: usize| at(a).filter(|&at| at < g.input[a]);
            Some((at(0)? * g.input[1] + at(1)?) * g.input[2] + at(2)?)
        };
        (0..patches_size(g)).map(source).collect()
    }

    fn geometries() -> Vec<PoolGeometry> {
        let plain = PoolGeometry {
            planes: 5,
            input: [1, 7, 9],
            kernel: [1, 2, 3],
            stride: [1; 3],
            padding: [0; 3],
            dilation: [1; 3],
            output: [1, 6, 7],
        };
        vec![
            plain,
            PoolGeometry { padding: [0, 2, 3], output: [1, 10, 13], ..plain },
            PoolGeometry { stride: [1, 2, 3], padding: [0, 1, 1], output: [1, 4, 3], ..plain },
            PoolGeometry { dilation: [1, 3, 2], stride: [1, 1, 2], padding: [0, 0, 4], output: [1, 4, 7], ..plain },
            PoolGeometry { input: [4, 3, 2], kernel: [2, 3, 2], padding: [1, 0, 1], output: [5, 1, 3], ..plain },
            // Windows wholly outside, planes of nothing, no positions, more than one task.
            PoolGeometry { input: [1, 1, 1], padding: [0, 4, 4], output: [1, 8, 7], ..plain },
            PoolGeometry { planes: 0, ..plain },
            PoolGeometry { output: [1, 0, 7], ..plain },
            PoolGeometry { input: [1, 0, 9], padding: [0, 1, 0], output: [1, 1, 7], ..plain },
            PoolGeometry { planes: 131, ..plain },
        ]
    }

    #[test]
    fn patches_and_their_transpose_match_the_definition() {
        for g in geometries() {
            let (planes, patches) = (g.input_size(), patches_size(&g));
            let value = |i: usize| (i * 37 % 101) as f64 - 50.0;
            let x: Vec<f64> = (0..g.planes * planes).map(value).collect();
            let gy: Vec<f64> = (0..g.planes * patches).map(value).collect();
            let (mut y, mut gx) = (vec![f64::NAN; gy.len()], vec![f64::NAN; x.len()]);
            unfold(&g, &x, &mut y);
            fold(&g, &gy, &mut gx);
            let sources = sources(&g);
            let mut sums = vec![0.0; x.len()];
            for i in 0..y.len() {
                let source = sources[i % patches].map(|at| i / patches * planes + at);
                assert_eq!(y[i], source.map_or(0.0, |at| x[at]), "{g:?} {i}");
                source.into_iter().for_each(|at| sums[at] += gy[i]);
            }
            assert_eq!(gx, sums, "{g:?}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_number_of_threads() {
        let g = geometries()[9];
        let y: Vec<f32> = (0..g.planes * patches_size(&g)).map(|i| (i as f32 * 0.7).sin()).collect();
        let results: Vec<Vec<f32>> = [1, 2, 5]
            .iter()
            .map(|&threads| {
                set_threads(threads);
                let mut x = vec![f32::NAN; g.planes * g.input_size()];
                fold(&g, &y, &mut x);
                x
            })
            .collect();
        set_threads(0);
        assert!(results.iter().all(|x| *x == results[0]));
    }
}
