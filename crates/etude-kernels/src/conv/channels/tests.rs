//! Images in blocks against the definition in f64.

use super::*;
use crate::conv::tests::products;
use crate::cpu::forced;
use crate::pool::{PoolGeometry, max_forward};
use crate::threads::set_threads;

pub(super) fn value<T: Float>(i: usize) -> T {
    T::from_f64(((i as u64 * 2654435761 % 1009) as f64 / 504.0) - 1.0)
}

pub(super) fn values<T: Float>(count: usize, salt: usize) -> Vec<T> {
    (0..count).map(|i| value(i + salt)).collect()
}

/// `[batch, channels, pixels]` to `[batch, channels / 16, pixels, 16]`.
pub(super) fn to_blocks<T: Float>(x: &[T], channels: usize, pixels: usize) -> Vec<T> {
    let mut blocks = vec![T::ZERO; x.len()];
    for (i, &value) in x.iter().enumerate() {
        let (plane, pixel) = (i / pixels, i % pixels);
        let (image, channel) = (plane / channels, plane % channels);
        let block = image * channels / BLOCK + channel / BLOCK;
        blocks[(block * pixels + pixel) * BLOCK + channel % BLOCK] = value;
    }
    blocks
}

/// Weights `[outputs, inputs, taps]` to `[outputs / 16, inputs / run, taps, run, 16]`.
fn weights<T: Float>(g: &ConvGeometry, w: &[T], run: usize) -> Vec<T> {
    let (taps, inputs) = (g.kernel[1] * g.kernel[2], g.in_channels);
    let mut packed = vec![T::ZERO; w.len()];
    for (i, &value) in w.iter().enumerate() {
        let (tap, input, output) = (i % taps, i / taps % inputs, i / taps / inputs);
        let at = ((output / BLOCK * (inputs / run) + input / run) * taps + tap) * run + input % run;
        packed[at * BLOCK + output % BLOCK] = value;
    }
    packed
}

pub(super) fn geometry(
    batch: usize,
    channels: [usize; 2],
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> ConvGeometry {
    let output = |axis: usize| (size[axis] + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1;
    ConvGeometry {
        batch,
        groups: 1,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [1, size[0], size[1]],
        kernel: [1, kernel[0], kernel[1]],
        stride: [1, stride[0], stride[1]],
        padding: [0, padding[0], padding[1]],
        dilation: [1; 3],
        output: [1, output(0), output(1)],
    }
}

fn geometries() -> Vec<ConvGeometry> {
    let dilated = geometry(2, [16, 32], [11, 9], [3, 2], [2, 1], [2, 1]);
    let wide = geometry(1, [32, 16], [6, 7], [3, 3], [1, 1], [1, 1]);
    vec![
        geometry(1, [16, 16], [1, 1], [1, 1], [1, 1], [0, 0]),
        geometry(2, [32, 48], [7, 9], [1, 1], [1, 1], [0, 0]),
        geometry(3, [16, 32], [5, 31], [3, 3], [1, 1], [1, 1]),
        geometry(1, [48, 16], [13, 15], [3, 3], [2, 2], [1, 1]),
        geometry(2, [32, 80], [9, 8], [1, 1], [2, 2], [0, 0]),
        geometry(1, [16, 64], [12, 17], [5, 4], [3, 2], [2, 3]),
        geometry(1, [16, 16], [8, 8], [2, 2], [1, 1], [0, 0]),
        geometry(1, [16, 16], [4, 4], [1, 1], [1, 1], [2, 1]),
        geometry(1, [64, 128], [30, 29], [3, 3], [1, 1], [1, 1]),
        geometry(4, [256, 96], [6, 5], [1, 1], [1, 1], [0, 0]),
        ConvGeometry { dilation: [1, 2, 3], output: [1, 6, 8], ..dilated },
        // More outputs than the input reaches, and fewer.
        ConvGeometry { output: [1, 7, 9], ..wide },
        ConvGeometry { output: [1, 4, 3], ..wide },
        ConvGeometry { batch: 0, ..wide },
        ConvGeometry { in_channels: 0, ..wide },
        // Plain images.
        geometry(2, [3, 16], [15, 17], [7, 7], [2, 2], [3, 3]),
        geometry(1, [1, 48], [9, 40], [5, 3], [1, 1], [2, 1]),
        geometry(1, [5, 32], [8, 9], [2, 3], [1, 3], [0, 0]),
    ]
}

struct Problem<T> {
    x: Vec<T>,
    w: Vec<T>,
    bias: Vec<T>,
    residual: Vec<T>,
}

impl<T: Float> Problem<T> {
    fn new(g: &ConvGeometry) -> Problem<T> {
        let [x, w, residual] = [g.input_size(), g.weight_size(), g.output_size()];
        Problem { x: values(x, 0), w: values(w, 77), bias: values(g.out_channels, 9), residual: values(residual, 501) }
    }

    /// The output, every part of the tail included that is wanted.
    fn run(&self, g: &ConvGeometry, [bias, residual, relu]: [bool; 3]) -> Vec<T> {
        let tail = Tail { bias: bias.then_some(&self.bias), residual: residual.then_some(&self.residual), relu };
        let mut y = vec![T::from_f64(f64::NAN); g.output_size()];
        let pixels = g.input[1] * g.input[2];
        match g.in_channels.is_multiple_of(BLOCK) {
            true => forward(g, &to_blocks(&self.x, g.in_channels, pixels), &weights(g, &self.w, BLOCK), &tail, &mut y),
            false => forward_planes(g, &self.x, &weights(g, &self.w, 1), &tail, &mut y),
        }
        y
    }
}

fn check<T: Float>(g: &ConvGeometry) {
    let problem = Problem::<T>::new(g);
    let mut sums = vec![(0.0, 0.0); g.output_size()];
    products(g, |i, j, o| {
        let term = problem.x[i].to_f64() * problem.w[j].to_f64();
        sums[o].0 += term;
        sums[o].1 += term.abs();
    });
    let (pixels, epsilon) =
        (g.output[1] * g.output[2], if size_of::<T>() == 4 { f32::EPSILON as f64 } else { f64::EPSILON });
    let sum = to_blocks(&sums.iter().map(|sum| sum.0).collect::<Vec<f64>>(), g.out_channels, pixels);
    let size = to_blocks(&sums.iter().map(|sum| sum.1).collect::<Vec<f64>>(), g.out_channels, pixels);
    forced::on_each_set(|set| {
        for tail in [[false; 3], [true, false, true], [true; 3], [false, true, false]] {
            let y = problem.run(g, tail);
            for (i, found) in y.iter().enumerate() {
                let channel = i / BLOCK / pixels % (g.out_channels / BLOCK) * BLOCK + i % BLOCK;
                let mut wanted = sum[i];
                wanted += if tail[0] { problem.bias[channel].to_f64() } else { 0.0 };
                wanted += if tail[1] { problem.residual[i].to_f64() } else { 0.0 };
                wanted = if tail[2] { wanted.max(0.0) } else { wanted };
                // A few roundings of the absolute sum: all sums are short.
                let bound = 24.0 * epsilon * (size[i] + 2.0);
                let apart = (found.to_f64() - wanted).abs();
                assert!(apart <= bound, "{set}: {tail:?} of {g:?}, element {i}: {found}, not {wanted}");
            }
        }
    });
}

#[test]
fn every_geometry_matches_the_definition() {
    for g in geometries() {
        check::<f32>(&g);
        check::<f64>(&g);
    }
}

#[test]
fn same_bits_on_any_number_of_threads() {
    for g in geometries() {
        let problem = Problem::<f32>::new(&g);
        let run = |threads| {
            set_threads(threads);
            let y = problem.run(&g, [true; 3]);
            set_threads(0);
            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "{g:?}");
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let g = geometry(1, [16, 16], [1, 3], [1, 1], [1, 1], [0, 0]);
    let mut x = vec![1.0f32; 48];
    x[20] = f32::NAN;
    forced::on_each_set(|_| {
        let mut y = vec![0.0; 48];
        forward(&g, &x, &[1.0; 256], &Tail { relu: true, ..Tail::default() }, &mut y);
        assert!(y[16..32].iter().all(|v| v.is_nan()) && y[..16].iter().chain(&y[32..]).all(|&v| v == 16.0));
    });
}

#[test]
fn pools_are_those_of_plain_planes() {
    let pool = |input: [usize; 2], kernel: usize, stride: usize, padding: usize, dilation: usize| {
        let reach = (kernel - 1) * dilation + 1;
        let output = |size: usize| (size + 2 * padding - reach) / stride + 1;
        PoolGeometry {
            planes: 3,
            input: [1, input[0], input[1]],
            kernel: [1, kernel, kernel],
            stride: [1, stride, stride],
            padding: [0, padding, padding],
            dilation: [1, dilation, dilation],
            output: [1, output(input[0]), output(input[1])],
        }
    };
    for g in [pool([7, 9], 3, 2, 1, 1), pool([4, 6], 2, 2, 0, 1), pool([9, 5], 2, 1, 1, 2), pool([1, 1], 1, 1, 0, 1)] {
        let mut x = values::<f32>(g.planes * BLOCK * g.input_size(), 3);
        x[BLOCK * g.input_size() / 2] = f32::NAN;
        let planes = PoolGeometry { planes: g.planes * BLOCK, ..g };
        let mut wanted = vec![0.0; planes.planes * g.output_size()];
        let mut positions = vec![0; wanted.len()];
        max_forward(&planes, &x, &mut wanted, &mut positions);
        let (x, wanted) = (to_blocks(&x, BLOCK, g.input_size()), to_blocks(&wanted, BLOCK, g.output_size()));
        forced::on_each_set(|set| {
            let mut y = vec![0.0; wanted.len()];
            max_pool(&g, &x, &mut y);
            let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
            assert!(y.iter().zip(&wanted).all(same), "{set}: {g:?}");
        });
    }
}

/// Every way of Winograd: tiles of one's own or shared, all at once or some at a time, odd everything.
fn squares() -> Vec<ConvGeometry> {
    let plain = |batch, channels, size| geometry(batch, channels, size, [3, 3], [1, 1], [1, 1]);
    vec![
        plain(1, [16, 16], [4, 4]),
        plain(2, [32, 48], [9, 7]),
        plain(3, [16, 32], [18, 21]),
        plain(2, [64, 80], [13, 14]),
        geometry(1, [16, 32], [7, 6], [3, 3], [1, 1], [0, 2]),
        geometry(1, [16, 16], [5, 5], [3, 3], [1, 1], [5, 0]),
        ConvGeometry { batch: 0, ..plain(1, [16, 16], [4, 4]) },
    ]
}

fn winograd_run(problem: &Problem<f32>, g: &ConvGeometry, tail: &Tail<f32>) -> Vec<f32> {
    let mut points = vec![0.0; problem.w.len() * 4];
    winograd::weights(g.out_channels, g.in_channels, &problem.w, &mut points);
    let mut y = vec![f32::NAN; g.output_size()];
    let x = to_blocks(&problem.x, g.in_channels, g.input[1] * g.input[2]);
    winograd::forward(g, &x, &points, tail, &mut y);
    y
}

#[test]
fn winograd_is_near_the_plain_sums() {
    for g in squares() {
        let problem = Problem::<f32>::new(&g);
        let largest = (g.in_channels * 9) as f32;
        let tails = [[false; 3], [true; 3]];
        forced::on_each_set(|set| {
            for parts in tails {
                let [bias, residual, relu] = parts;
                let tail =
                    Tail { bias: bias.then_some(&problem.bias), residual: residual.then_some(&problem.residual), relu };
                let (found, wanted) = (winograd_run(&problem, &g, &tail), problem.run(&g, parts));
                for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                    // A quarter of what absolute products can add up to, times the bound of `conv/winograd`.
                    let bound = 11.0 * f32::EPSILON * (largest / 4.0 + 2.0);
                    assert!((found - wanted).abs() <= bound, "{set}: {g:?}, element {i}: {found}, not {wanted}");
                }
            }
        });
    }
}

#[test]
fn winograd_gives_the_same_bits_on_any_number_of_threads() {
    for g in squares() {
        let problem = Problem::<f32>::new(&g);
        let tail = Tail { bias: Some(&problem.bias[..]), residual: Some(&problem.residual[..]), relu: false };
        let run = |threads| {
            set_threads(threads);
            let y = winograd_run(&problem, &g, &tail);
            set_threads(0);
            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "{g:?}");
    }
}

#[test]
fn winograd_is_chosen_where_it_is_faster() {
    let plain = |batch, channels, size| geometry(batch, [channels; 2], [size; 2], [3, 3], [1, 1], [1, 1]);
    assert!(winograd::is_faster(&plain(1, 64, 56)) && winograd::is_faster(&plain(1, 256, 14)));
    assert!(winograd::is_faster(&plain(16, 512, 7)) && !winograd::is_faster(&plain(1, 512, 7)));
    assert!(!winograd::is_faster(&geometry(1, [64, 64], [56, 56], [3, 3], [2, 2], [1, 1])));
}
