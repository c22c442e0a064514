//! Convolutions against the definition as loops in f64.

use super::*;
use crate::cpu::{InstructionSet, forced};
use crate::threads::set_threads;

fn value<T: Float>(i: usize) -> T {
    T::from_f64(((i as u64 * 2654435761 % 1009) as f64 / 504.0) - 1.0)
}

/// Calls `visit(x index, w index, y index)` for every product of the definition.
pub(super) fn products(g: &ConvGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let (channels, rows) = (g.in_channels / g.groups, g.out_channels / g.groups);
    let [inside, pixels] = [g.input, g.output].map(|size| size.iter().product::<usize>());
    for pixel in 0..pixels {
        let p = [pixel / g.output[2] / g.output[1], pixel / g.output[2] % g.output[1], pixel % g.output[2]];
        let reaches = |k: [usize; 3]| {
            let at = [0, 1, 2].map(|a| (p[a] * g.stride[a] + k[a] * g.dilation[a]).checked_sub(g.padding[a]));
            match at {
                [Some(z), Some(y), Some(x)] if z < g.input[0] && y < g.input[1] && x < g.input[2] => {
                    Some((z * g.input[1] + y) * g.input[2] + x)
                }
                _ => None,
            }
        };
        // Which taps reach into a plane of the input, and where.
        let taps: Vec<_> = g.positions().enumerate().filter_map(|(t, k)| Some((t, reaches(k)?))).collect();
        for (b, o) in (0..g.batch).flat_map(|b| (0..g.out_channels).map(move |o| (b, o))) {
            for c in 0..channels {
                let plane = (b * g.in_channels + o / rows * channels + c) * inside;
                for &(t, at) in &taps {
                    visit(plane + at, (o * channels + c) * g.taps() + t, (b * g.out_channels + o) * pixels + pixel);
                }
            }
        }
    }
}

fn compare<T: Float>(g: &ConvGeometry, set: InstructionSet, what: &str, got: &[T], expected: &[(f64, f64)]) {
    let epsilon = if size_of::<T>() == 4 { f32::EPSILON as f64 } else { f64::EPSILON };
    for (i, (got, &(sum, size))) in got.iter().zip(expected).enumerate() {
        // A few roundings of the absolute sum: sums are short or made of short blocks.
        let bound = 24.0 * epsilon * size;
        assert!((got.to_f64() - sum).abs() <= bound, "{set}: {what} of {g:?}, element {i}: {got}, not {sum}");
    }
}

fn check<T: Float>(g: &ConvGeometry) {
    let x: Vec<T> = (0..g.input_size()).map(value).collect();
    let w: Vec<T> = (0..g.weight_size()).map(|i| value(i + 77)).collect();
    let gy: Vec<T> = (0..g.output_size()).map(|i| value(i + 501)).collect();
    let zero = |n: usize| vec![(0.0f64, 0.0, 0.0); n];
    let (mut y, mut gx, mut gw) = (zero(gy.len()), zero(x.len()), zero(w.len()));
    products(g, |i, j, o| {
        let (xv, wv, gv) = (x[i].to_f64(), w[j].to_f64(), gy[o].to_f64());
        for (sum, term) in [(&mut y[o], xv * wv), (&mut gx[i], gv * wv), (&mut gw[j], gv * xv)] {
            // What is rounded off is kept: a long sum in f64 would be less exact than what is tested.
            let total = sum.0 + term;
            sum.2 += if sum.0.abs() < term.abs() { (term - total) + sum.0 } else { (sum.0 - total) + term };
            sum.0 = total;
            sum.1 += term.abs();
        }
    });
    let rounded = |sums: Vec<(f64, f64, f64)>| sums.into_iter().map(|sum| (sum.0 + sum.2, sum.1)).collect::<Vec<_>>();
    let (y, gx, gw) = (rounded(y), rounded(gx), rounded(gw));
    forced::on_each_set(|set| {
        let mut out = vec![T::from_f64(f64::NAN); y.len()];
        forward(g, &x, &w, &mut out);
        compare(g, set, "y", &out, &y);
        let mut out = vec![T::from_f64(f64::NAN); gx.len()];
        input_gradient(g, &gy, &w, &mut out);
        compare(g, set, "gx", &out, &gx);
        let mut out = vec![T::from_f64(f64::NAN); gw.len()];
        weight_gradient(g, &x, &gy, &mut out);
        compare(g, set, "gw", &out, &gw);
    });
}

fn plain(batch: usize, channels: [usize; 2], input: [usize; 2], kernel: [usize; 2]) -> ConvGeometry {
    ConvGeometry {
        batch,
        groups: 1,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [1, input[0], input[1]],
        kernel: [1, kernel[0], kernel[1]],
        stride: [1; 3],
        padding: [0; 3],
        dilation: [1; 3],
        output: [1, 1, 1],
    }
}

/// The geometry with the usual output size.
fn sized(mut g: ConvGeometry) -> ConvGeometry {
    for a in 0..3 {
        let reach = (g.kernel[a] - 1) * g.dilation[a] + 1;
        g.output[a] = (g.input[a] + 2 * g.padding[a] + 1).saturating_sub(reach).div_ceil(g.stride[a]);
    }
    g
}

fn geometries() -> Vec<ConvGeometry> {
    let base = plain(3, [5, 17], [9, 11], [3, 3]);
    let mut all = vec![
        base,
        plain(1, [1, 1], [1, 1], [1, 1]),
        plain(2, [3, 6], [5, 7], [2, 3]),
        ConvGeometry { padding: [0, 1, 1], ..base },
        ConvGeometry { padding: [0, 2, 1], dilation: [1, 2, 3], ..base },
        ConvGeometry { padding: [0, 1, 2], stride: [1, 2, 2], ..base },
        ConvGeometry { stride: [1, 3, 2], dilation: [1, 2, 2], padding: [0, 2, 2], ..base },
        // A stride beyond the kernel leaves elements that nothing reads.
        ConvGeometry { stride: [1, 4, 5], kernel: [1, 2, 1], ..base },
        // Depthwise, with and without a multiplier; groups.
        ConvGeometry { groups: 6, in_channels: 6, out_channels: 6, padding: [0, 1, 1], ..base },
        ConvGeometry { groups: 6, in_channels: 6, out_channels: 12, stride: [1, 2, 2], ..base },
        ConvGeometry { groups: 3, in_channels: 6, out_channels: 9, ..base },
        ConvGeometry { groups: 2, in_channels: 10, out_channels: 28, padding: [0, 1, 1], ..base },
        // One and three spatial axes.
        ConvGeometry { input: [1, 1, 40], kernel: [1, 1, 5], padding: [0, 0, 2], stride: [1, 1, 2], ..base },
        ConvGeometry { input: [4, 5, 6], kernel: [2, 3, 2], padding: [1, 1, 0], stride: [2, 1, 2], ..base },
        ConvGeometry {
            input: [5, 4, 6],
            kernel: [3, 1, 2],
            dilation: [2, 1, 1],
            in_channels: 2,
            out_channels: 2,
            ..base
        },
        ConvGeometry { groups: 5, input: [3, 4, 9], kernel: [2, 3, 3], out_channels: 5, padding: [1; 3], ..base },
        // Several depth blocks, row blocks and bands.
        ConvGeometry { batch: 2, in_channels: 83, out_channels: 101, padding: [0, 1, 1], input: [1, 7, 7], ..base },
        plain(2, [3, 20], [30, 37], [3, 3]),
        plain(1, [12, 20], [30, 37], [3, 3]),
        ConvGeometry { in_channels: 24, out_channels: 19, stride: [1, 3, 2], dilation: [1, 2, 1], ..base },
        ConvGeometry {
            in_channels: 16,
            out_channels: 13,
            input: [4, 5, 6],
            kernel: [2, 3, 2],
            padding: [1; 3],
            ..base
        },
        plain(1, [2, 4], [41, 23], [5, 2]),
        // Weights that are summed without packing: of long rows, in tiles of eight, six, four, two and one.
        ConvGeometry { stride: [1, 2, 2], padding: [0, 1, 1], ..plain(3, [3, 61], [5, 197], [3, 3]) },
        plain(3, [1, 6], [13, 21], [5, 5]),
        plain(3, [2, 15], [9, 22], [2, 5]),
        plain(2, [5, 11], [9, 17], [1, 2]),
        // A residual network's first layer, whose taps are many.
        ConvGeometry { stride: [1, 2, 2], padding: [0, 3, 3], ..plain(1, [3, 64], [15, 201], [7, 7]) },
        // One tap, whose weights' rows are neighbours.
        ConvGeometry { stride: [1, 2, 2], ..plain(2, [37, 29], [7, 9], [1, 1]) },
        // The same, and with all four ways a stride of two can fall, in gradients of inputs that no cache of a test has room for.
        ConvGeometry { stride: [1, 2, 2], ..plain(2, [14, 5], [31, 34], [1, 1]) },
        ConvGeometry { stride: [1, 2, 2], padding: [0, 1, 1], ..plain(2, [14, 5], [30, 31], [3, 3]) },
        // More positions than are summed at a time, in two groups.
        ConvGeometry { groups: 2, ..plain(3, [14, 18], [35, 41], [1, 1]) },
        plain(1, [2, 3], [61, 47], [3, 3]),
        plain(9, [7, 13], [2, 3], [2, 2]),
        plain(33, [4, 16], [3, 3], [1, 1]),
        ConvGeometry { batch: 2, in_channels: 4, input: [1, 20, 20], kernel: [1, 8, 8], stride: [1, 4, 4], ..base },
        ConvGeometry { batch: 0, ..base },
    ];
    all.iter_mut().for_each(|g| *g = sized(*g));
    // More outputs than the input reaches (output padding of a transposed convolution), fewer, and none.
    let shape = all[5].output;
    all.push(ConvGeometry { output: [1, shape[1] + 1, shape[2] + 2], ..all[5] });
    all.push(ConvGeometry { output: [1, shape[1] - 1, shape[2] - 2], ..all[5] });
    all.push(ConvGeometry { output: [1, 0, 3], ..all[0] });
    all.push(ConvGeometry { output: [1, 12, 13], padding: [0, 4, 5], ..all[0] });
    all
}

/// One input channel a group: every kernel with rows of its own, both strides, and what is at the borders.
fn depthwise_geometries() -> Vec<ConvGeometry> {
    let base = ConvGeometry {
        groups: 5,
        in_channels: 5,
        out_channels: 5,
        padding: [0, 1, 1],
        ..plain(2, [5, 5], [9, 19], [3, 3])
    };
    let mut all = vec![];
    for side in 1..=7 {
        let square = ConvGeometry { kernel: [1, side, side], padding: [0, side / 2, side / 2], ..base };
        all.push(square);
        all.push(ConvGeometry { stride: [1, 2, 2], ..square });
        all.push(ConvGeometry { stride: [1, 2, 2], padding: [0, 0, 0], input: [1, 13, 36], ..square });
        all.push(ConvGeometry {
            kernel: [1, side, 3],
            padding: [0, 0, 1],
            dilation: [1, 2, 3],
            input: [1, 17, 21],
            ..square
        });
        all.push(ConvGeometry { kernel: [1, side, 4], padding: [0, 3, 2], stride: [1, 2, 2], ..square });
    }
    all.extend([
        // Planes of one column or row, and smaller than the kernel.
        ConvGeometry { input: [1, 23, 1], ..base },
        ConvGeometry { input: [1, 23, 1], stride: [1, 2, 2], ..base },
        ConvGeometry { input: [1, 1, 37], ..base },
        ConvGeometry { input: [1, 2, 3], kernel: [1, 7, 7], padding: [0, 3, 3], ..base },
        ConvGeometry { input: [1, 3, 2], kernel: [1, 5, 5], padding: [0, 4, 5], stride: [1, 2, 2], ..base },
        ConvGeometry { input: [1, 1, 60], kernel: [1, 1, 9], padding: [0, 0, 4], ..base },
        ConvGeometry { input: [1, 1, 60], kernel: [1, 1, 9], padding: [0, 0, 4], stride: [1, 1, 2], ..base },
        // Multipliers of channels, and one example.
        ConvGeometry { batch: 1, out_channels: 10, input: [1, 7, 33], ..base },
        ConvGeometry { batch: 1, out_channels: 15, input: [1, 8, 34], stride: [1, 2, 2], ..base },
        ConvGeometry { out_channels: 10, kernel: [1, 3, 2], stride: [1, 2, 2], ..base },
        // Strides that go another way.
        ConvGeometry { stride: [1, 3, 3], ..base },
        ConvGeometry { stride: [1, 2, 1], ..base },
        ConvGeometry { stride: [1, 2, 2], dilation: [1, 2, 2], ..base },
        // Many small planes in a task, several bands of a plane, and parts of the batch.
        ConvGeometry { batch: 3, groups: 40, in_channels: 40, out_channels: 40, input: [1, 7, 7], ..base },
        ConvGeometry { batch: 7, groups: 2, in_channels: 2, out_channels: 2, input: [1, 75, 90], ..base },
        ConvGeometry { groups: 2, in_channels: 2, out_channels: 4, input: [1, 151, 97], stride: [1, 2, 2], ..base },
        ConvGeometry { groups: 2, in_channels: 2, out_channels: 2, input: [1, 83, 70], dilation: [1, 3, 2], ..base },
        // Planes that come from memory and go past the caches, every second line on the border of two.
        ConvGeometry {
            batch: 3,
            groups: 2,
            in_channels: 2,
            out_channels: 2,
            input: [1, 99, 83],
            stride: [1, 2, 2],
            ..base
        },
        ConvGeometry { groups: 2, in_channels: 2, out_channels: 2, input: [1, 57, 56], ..base },
    ]);
    all.iter_mut().for_each(|g| *g = sized(*g));
    // Fewer outputs than the input has room for, and more.
    let (plain, strided) = (all[10], all[11]);
    for g in [plain, strided] {
        all.push(ConvGeometry { output: [1, g.output[1] - 2, g.output[2] - 1], ..g });
        all.push(ConvGeometry { output: [1, g.output[1] + 1, g.output[2] + 3], ..g });
    }
    all
}

/// Kernels of one element, whose gradients take tiles of every size, parts and pieces of planes.
fn pointwise_geometries() -> Vec<ConvGeometry> {
    let mut all = vec![
        plain(3, [6, 4], [7, 11], [1, 1]),
        plain(2, [13, 9], [3, 5], [1, 1]),
        plain(1, [4, 3], [1, 1], [1, 1]),
        plain(9, [16, 16], [14, 14], [1, 1]),
        plain(1, [5, 7], [40, 41], [1, 1]),
        plain(2, [32, 11], [25, 23], [1, 1]),
        plain(1, [39, 41], [9, 9], [1, 1]),
        plain(1, [61, 65], [9, 9], [1, 1]),
        ConvGeometry { groups: 3, ..plain(2, [12, 15], [9, 9], [1, 1]) },
        ConvGeometry { input: [3, 4, 5], ..plain(2, [7, 8], [1, 1], [1, 1]) },
        // Too many weights for that: planes packed where they lie, in pieces, several at a time, and too small for it.
        plain(3, [65, 67], [5, 9], [1, 1]),
        plain(2, [67, 71], [25, 23], [1, 1]),
        plain(5, [103, 45], [3, 3], [1, 1]),
        plain(1, [67, 71], [39, 13], [1, 1]),
        ConvGeometry { groups: 2, ..plain(2, [134, 126], [4, 7], [1, 1]) },
        ConvGeometry { input: [3, 5, 4], ..plain(2, [65, 67], [1, 1], [1, 1]) },
        // With a stride, whose rows between are left out.
        ConvGeometry { stride: [1, 2, 2], ..plain(3, [41, 43], [9, 11], [1, 1]) },
        ConvGeometry { stride: [1, 3, 1], ..plain(2, [41, 43], [8, 19], [1, 1]) },
        ConvGeometry { stride: [1, 2, 2], padding: [0, 1, 1], ..plain(2, [43, 40], [37, 70], [1, 1]) },
        ConvGeometry { stride: [2, 2, 1], input: [5, 7, 6], ..plain(2, [41, 43], [1, 1], [1, 1]) },
        ConvGeometry { stride: [1, 2, 3], ..plain(1, [31, 29], [9, 17], [1, 3]) },
        ConvGeometry { stride: [1, 3, 2], ..plain(1, [31, 29], [9, 19], [3, 1]) },
    ];
    all.iter_mut().for_each(|g| *g = sized(*g));
    all
}

/// Few channels of the input, whose gradient takes the taps one by one, or is summed in registers: rings of lines, bands, both
/// strides, borders.
fn few_channel_geometries() -> Vec<ConvGeometry> {
    let base = ConvGeometry { padding: [0, 1, 1], ..plain(2, [3, 33], [9, 21], [3, 3]) };
    let mut all = vec![
        base,
        ConvGeometry { stride: [1, 2, 2], ..base },
        ConvGeometry { stride: [1, 2, 2], input: [1, 10, 68], padding: [0, 0, 0], ..base },
        ConvGeometry { stride: [1, 2, 1], in_channels: 2, ..base },
        ConvGeometry { stride: [1, 1, 2], in_channels: 4, out_channels: 35, ..base },
        ConvGeometry { stride: [1, 3, 2], kernel: [1, 2, 2], ..base },
        ConvGeometry { stride: [1, 2, 2], kernel: [1, 5, 4], padding: [0, 3, 1], ..base },
        ConvGeometry { dilation: [1, 2, 3], ..base },
        ConvGeometry { dilation: [1, 2, 3], stride: [1, 2, 2], padding: [0, 3, 2], ..base },
        ConvGeometry { groups: 3, out_channels: 27, ..base },
        ConvGeometry { in_channels: 1, out_channels: 9, kernel: [1, 7, 7], padding: [0, 3, 3], ..base },
        ConvGeometry { in_channels: 1, out_channels: 8, kernel: [1, 7, 6], stride: [1, 2, 2], ..base },
        ConvGeometry { in_channels: 1, out_channels: 8, kernel: [1, 1, 3], stride: [1, 1, 2], ..base },
        ConvGeometry { batch: 1, in_channels: 1, out_channels: 8, input: [1, 71, 67], ..base },
        ConvGeometry { batch: 1, in_channels: 1, out_channels: 8, input: [1, 133, 64], stride: [1, 2, 2], ..base },
        ConvGeometry { batch: 1, in_channels: 1, out_channels: 8, input: [1, 6, 523], ..base },
        ConvGeometry { batch: 9, in_channels: 1, out_channels: 8, input: [1, 3, 2], ..base },
    ];
    // Lines so long that sums are kept in registers: each number of channels, blocks and vectors that are not full.
    let long = ConvGeometry { out_channels: 9, ..base };
    all.extend((1..5).map(|channels| ConvGeometry { in_channels: channels, input: [1, 9 + channels, 85], ..long }));
    all.extend((1..4).map(|channels| ConvGeometry {
        in_channels: channels,
        input: [1, 9 + channels, 140 + channels],
        stride: [1, 2, 2],
        ..long
    }));
    let longest = all.len();
    all.extend([
        ConvGeometry { in_channels: 1, input: [1, 8, 66], padding: [0, 2, 0], ..long },
        ConvGeometry { in_channels: 4, input: [1, 2, 97], padding: [0, 0, 2], out_channels: 16, groups: 2, ..long },
        ConvGeometry { in_channels: 2, input: [1, 1, 129], stride: [1, 2, 2], out_channels: 16, groups: 2, ..long },
    ]);
    all.iter_mut().for_each(|g| *g = sized(*g));
    // Fewer outputs than the input has room for, and more.
    for g in [all[0], all[1], all[2], all[longest - 5]] {
        all.push(ConvGeometry { output: [1, g.output[1] - 2, g.output[2] - 1], ..g });
        all.push(ConvGeometry { output: [1, g.output[1] + 1, g.output[2] + 3], ..g });
    }
    all
}

/// More rows than a tile: steps of 2 whose places are written by turns, planes that are read in place, results that are
/// written past the caches.
fn strip_geometries() -> Vec<ConvGeometry> {
    let halved = ConvGeometry { padding: [0, 1, 1], stride: [1, 2, 2], ..plain(2, [14, 17], [9, 37], [3, 3]) };
    let pointwise = ConvGeometry { padding: [0; 3], kernel: [1; 3], ..halved };
    let mut all = vec![
        halved,
        ConvGeometry { input: [1, 10, 76], padding: [0, 0, 0], ..halved },
        // Rows of positions shorter than a vector that follow one another without a gap, once with copies that overlap.
        ConvGeometry { input: [1, 28, 27], ..halved },
        ConvGeometry { input: [1, 29, 29], kernel: [1, 4, 5], padding: [0; 3], ..halved },
        ConvGeometry { input: [1, 7, 2], padding: [0, 2, 3], ..halved },
        ConvGeometry { input: [1, 5, 1], kernel: [1, 2, 2], ..halved },
        ConvGeometry { input: [1, 1, 67], kernel: [1, 1, 4], padding: [0, 0, 2], ..halved },
        ConvGeometry { input: [4, 5, 9], kernel: [2, 3, 3], padding: [1; 3], stride: [2; 3], ..halved },
        ConvGeometry { kernel: [1, 5, 3], dilation: [1, 2, 2], padding: [0, 4, 2], ..halved },
        pointwise,
        ConvGeometry { stride: [1, 2, 1], ..pointwise },
        ConvGeometry { stride: [1, 1, 2], ..pointwise },
        ConvGeometry { stride: [1, 3, 2], padding: [0, 1, 1], ..pointwise },
        ConvGeometry { input: [1, 41, 40], out_channels: 15, ..pointwise },
        plain(1, [3, 20], [32, 32], [1, 1]),
        plain(1, [3, 20], [66, 18], [3, 3]),
        plain(3, [5, 200], [14, 14], [1, 1]),
        plain(3, [5, 199], [8, 16], [1, 1]),
        ConvGeometry { padding: [0, 1, 1], ..plain(1, [2, 13], [50, 45], [3, 3]) },
    ];
    all.iter_mut().for_each(|g| *g = sized(*g));
    all
}

/// All geometries of these tests.
fn every_geometry() -> impl Iterator<Item = ConvGeometry> {
    let products = strip_geometries().into_iter().chain(few_channel_geometries());
    geometries().into_iter().chain(depthwise_geometries()).chain(pointwise_geometries()).chain(products)
}

#[test]
fn forward_and_gradients_match_the_definition() {
    for g in every_geometry() {
        check::<f32>(&g);
        check::<f64>(&g);
    }
}

#[test]
fn nothing_leaks_between_positions() {
    // An infinity reaches exactly the outputs whose windows hold it, whatever the kernels read beyond their rows.
    // Not so with Winograd, where all outputs of a tile are made of all its inputs.
    let plain = |g: &ConvGeometry| g.input_size() > 0 && g.output_size() > 0 && !winograd::is_faster(g);
    for g in every_geometry().filter(plain) {
        let mut x = vec![0.5f32; g.input_size()];
        x[g.input_size() / 2] = f32::INFINITY;
        let w = vec![1.0f32; g.weight_size()];
        let gy = vec![1.0f32; g.output_size()];
        let (mut reached_y, mut reached_w) = (vec![false; g.output_size()], vec![false; g.weight_size()]);
        products(&g, |i, j, o| {
            reached_y[o] |= x[i].is_infinite();
            reached_w[j] |= x[i].is_infinite();
        });
        forced::on_each_set(|set| {
            let (mut y, mut gw) = (vec![0.0; g.output_size()], vec![0.0; g.weight_size()]);
            forward(&g, &x, &w, &mut y);
            weight_gradient(&g, &x, &gy, &mut gw);
            assert!(
                y.iter().zip(&reached_y).all(|(v, &hit)| !v.is_nan() && v.is_infinite() == hit),
                "{set}: y of {g:?}"
            );
            assert!(
                gw.iter().zip(&reached_w).all(|(v, &hit)| !v.is_nan() && v.is_infinite() == hit),
                "{set}: gw of {g:?}"
            );
        });
    }
}

#[test]
fn same_bits_on_any_number_of_threads() {
    for g in every_geometry() {
        let x: Vec<f32> = (0..g.input_size()).map(value).collect();
        let w: Vec<f32> = (0..g.weight_size()).map(|i| value(i + 77)).collect();
        let gy: Vec<f32> = (0..g.output_size()).map(|i| value(i + 501)).collect();
        let run = |threads| {
            set_threads(threads);
            let (mut y, mut gx, mut gw) = (vec![0.0; gy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
            forward(&g, &x, &w, &mut y);
            input_gradient(&g, &gy, &w, &mut gx);
            weight_gradient(&g, &x, &gy, &mut gw);
            set_threads(0);
            [y, gx, gw].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "{g:?}");
    }
}
