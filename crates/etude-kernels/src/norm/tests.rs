//! Tests of the norms, against plain loops in f64 and two-sided differences.

use super::*;
use crate::Float;
use crate::random::testing::{normals, normals_f32, on_any_threads};

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| v as f64).collect()
}

/// Mean and biased variance in two passes.
fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    (mean, x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64)
}

const ROWS: [(usize, usize); 8] = [(0, 5), (1, 1), (3, 2), (5, 16), (7, 17), (2, 101), (3000, 10), (67, 1009)];

#[test]
fn layer_norm_statistics_follow_their_definition() {
    for (rows, width) in ROWS {
        let x: Vec<f32> = normals_f32(1, rows * width).iter().map(|v| v * 0.7 + 30.0).collect();
        let all = on_any_threads(|| {
            let (mut mean, mut inverse) = (vec![9.0; rows], vec![9.0; rows]);
            layer_norm_statistics(rows, width, 1e-5, &x, &mut mean, &mut inverse);
            [mean, inverse].concat()
        });
        let wide = widen(&x);
        for r in 0..rows {
            let (mean, variance) = moments(&wide[r * width..][..width]);
            let inverse = 1.0 / (variance + 1e-5).sqrt();
            // Half an ulp of values near 30 is 1e-6.
            assert!((all[r] as f64 - mean).abs() < 2e-6);
            assert!((all[rows + r] as f64 / inverse - 1.0).abs() < 1e-6);
        }
    }
}

/// `(x − mean)·inverse·gamma + beta` of rows, and the statistics.
fn layer_norm<T: Float>(
    (rows, width): (usize, usize),
    x: &[T],
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let (mut mean, mut inverse) = (vec![T::ZERO; rows], vec![T::ZERO; rows]);
    layer_norm_statistics(rows, width, 0.1, x, &mut mean, &mut inverse);
    let y = x.iter().enumerate().map(|(i, &x)| {
        let normal = (x - mean[i / width]) * inverse[i / width];
        gamma.map_or(normal, |gamma| normal * gamma[i % width]) + beta.map_or(T::ZERO, |beta| beta[i % width])
    });
    (y.collect(), mean, inverse)
}

/// Checks every gradient in `got` against two-sided differences of `value` at `at`.
fn check_differences(at: &[f64], got: &[f64], value: impl Fn(&[f64]) -> f64) {
    for i in 0..at.len() {
        let (mut up, mut down) = (at.to_vec(), at.to_vec());
        up[i] += 1e-5;
        down[i] -= 1e-5;
        let difference = (value(&up) - value(&down)) / 2e-5;
        assert!((got[i] - difference).abs() < 1e-7 * (1.0 + difference.abs()), "{i}: {} {difference}", got[i]);
    }
}

#[test]
fn layer_norm_gradients_agree_with_differences() {
    for (rows, width) in [(1, 2), (3, 3), (5, 8), (2, 19)] {
        let (x, gy) = (normals(1, rows * width), normals(2, rows * width));
        let (gamma, beta) = (normals(3, width), normals(4, width));
        for affine in [false, true] {
            let forward = |x: &[f64], gamma: &[f64], beta: &[f64]| {
                let (gamma, beta) = if affine { (Some(gamma), Some(beta)) } else { (None, None) };
                let (y, mean, inverse) = layer_norm((rows, width), x, gamma, beta);
                (y.iter().zip(&gy).map(|(y, g)| y * g).sum::<f64>(), mean, inverse)
            };
            let (_, mean, inverse) = forward(&x, &gamma, &beta);
            let (mut gx, mut ggamma, mut gbeta) = (vec![9.0; x.len()], vec![9.0; width], vec![9.0; width]);
            let weights = affine.then_some(&gamma[..]);
            let gradients = affine.then_some([&mut ggamma[..], &mut gbeta]);
            layer_norm_backward(rows, width, &x, weights, &mean, &inverse, &gy, &mut gx, gradients);
            check_differences(&x, &gx, |x| forward(x, &gamma, &beta).0);
            if affine {
                check_differences(&gamma, &ggamma, |gamma| forward(&x, gamma, &beta).0);
                check_differences(&beta, &gbeta, |beta| forward(&x, &gamma, beta).0);
            }
        }
    }
}

#[test]
fn layer_norm_gradients_in_f32_follow_those_in_f64() {
    for (rows, width) in ROWS {
        let (x, gy, gamma) = (normals_f32(1, rows * width), normals_f32(2, rows * width), normals_f32(3, width));
        let (_, mean, inverse) = layer_norm((rows, width), &x, None, None);
        let got = on_any_threads(|| {
            let (mut gx, mut ggamma, mut gbeta) = (vec![9.0; x.len()], vec![9.0; width], vec![9.0; width]);
            let affine = Some([&mut ggamma[..], &mut gbeta]);
            layer_norm_backward(rows, width, &x, Some(&gamma), &mean, &inverse, &gy, &mut gx, affine);
            [gx, ggamma, gbeta].concat()
        });
        let (mut gx, mut ggamma, mut gbeta) = (vec![9.0; x.len()], vec![9.0; width], vec![9.0; width]);
        let [x, gy, gamma, mean, inverse] = [&x, &gy, &gamma, &mean, &inverse].map(|v| widen(v));
        let affine = Some([&mut ggamma[..], &mut gbeta]);
        layer_norm_backward(rows, width, &x, Some(&gamma), &mean, &inverse, &gy, &mut gx, affine);
        // Sums of up to 3000 terms of magnitude 1, in blocks: the error grows with their root.
        let bound = 1e-6 * (4.0 + (rows as f64).sqrt());
        for (got, expected) in got.iter().zip([gx, ggamma, gbeta].concat()) {
            assert!((*got as f64 - expected).abs() < bound * (1.0 + expected.abs()), "{got} {expected}");
        }
    }
}

#[test]
fn both_orders_of_layer_norm_gradients_give_the_same_bits() {
    crate::cpu::forced::on_each_set(|_| {
        for (rows, width) in ROWS {
            let (x, gy) = (normals_f32(1, rows * width), normals_f32(2, rows * width));
            let gamma = normals_f32(3, width);
            let (_, mean, inverse) = layer_norm((rows, width), &x, None, None);
            for gamma in [None, Some(&gamma[..])] {
                let [one, other] = [true, false].map(|cached| {
                    let (mut gx, mut ggamma, mut gbeta) = (vec![9.0; x.len()], vec![9.0; width], vec![9.0; width]);
                    let affine = Some([&mut ggamma[..], &mut gbeta]);
                    layer::backward(cached, rows, width, &x, gamma, &mean, &inverse, &gy, &mut gx, affine);
                    [gx, ggamma, gbeta].concat()
                });
                assert!(one.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()), "{rows} {width}");
            }
        }
    });
}

const SHAPES: [(usize, usize, usize); 15] = [
    (1, 1, 1),
    (2, 3, 1),
    (5, 1, 7),
    (3, 33, 5),
    (4, 3, 127),
    (2, 4, 128),
    (2, 5, 101),
    (1031, 67, 1),
    (700, 3, 15),
    (2, 3, 20_011),
    (301, 2, 197),
    (13, 5, 64),
    (37, 70, 16),
    (6, 2, 1031),
    (3, 0, 4),
];

/// The elements of channel `c`.
fn channel(x: &[f64], channels: usize, spatial: usize, c: usize) -> Vec<f64> {
    x.iter().enumerate().filter(|(i, _)| i / spatial % channels == c).map(|(_, &v)| v).collect()
}

#[test]
fn batch_statistics_keep_their_digits_when_the_mean_is_large() {
    for (batch, channels, spatial) in SHAPES {
        let x: Vec<f32> = normals_f32(1, batch * channels * spatial).iter().map(|v| v * 0.5 + 4000.0).collect();
        let got = on_any_threads(|| {
            let (mut mean, mut variance) = (vec![9.0; channels], vec![9.0; channels]);
            batch_norm_statistics(batch, channels, spatial, &x, &mut mean, &mut variance);
            [mean, variance].concat()
        });
        let wide = widen(&x);
        let (mut mean64, mut variance64) = (vec![9.0; channels], vec![9.0; channels]);
        batch_norm_statistics(batch, channels, spatial, &wide, &mut mean64, &mut variance64);
        for c in 0..channels {
            let (mean, variance) = moments(&channel(&wide, channels, spatial, c));
            assert!((got[c] as f64 / mean - 1.0).abs() < 6.1e-8);
            // The nearest number where short runs are added in f64, else it or the one beside it.
            let bound = if spatial < 16 { 6.1e-8 } else { 1.2e-7 };
            assert!((got[channels + c] as f64 - variance).abs() <= bound * variance + 1e-12);
            assert!((mean64[c] / mean - 1.0).abs() < 1e-14 && (variance64[c] - variance).abs() <= 1e-11 * variance);
        }
    }
    let (mut mean, mut variance) = ([0.0f32; 2], [0.0f32; 2]);
    batch_norm_statistics(0, 2, 3, &[], &mut mean, &mut variance);
    assert!(mean.iter().chain(&variance).all(|v| v.is_nan()));
    batch_norm_statistics(3, 2, 1, &[1e6, f32::NAN, 1e6, 0.0, 1e6, 0.0], &mut mean, &mut variance);
    assert!(mean[0] == 1e6 && variance[0] == 0.0 && mean[1].is_nan() && variance[1].is_nan());
}

#[test]
fn batch_statistics_are_the_nearest_numbers_or_those_beside_them() {
    // Deviations are rounded where the mean is not far larger; and some of what the first centre is made of lies far off.
    let far = |i: usize| if i.is_multiple_of(977) { 300.0 } else { 0.0 };
    let all: [(f32, fn(usize) -> f32); 5] =
        [(0.0, |_| 0.0), (0.3, |_| 0.0), (-7.0, |_| 0.0), (1e5, |_| 0.0), (0.1, far)];
    crate::cpu::forced::on_each_set(|_| {
        for (offset, far) in all {
            for (batch, channels, spatial) in [(16, 3, 3136), (32, 5, 64), (7, 3, 49), (128, 1, 196), (1, 2, 17)] {
                let x = normals_f32(5, batch * channels * spatial).into_iter().enumerate();
                let x: Vec<f32> = x.map(|(i, v)| v * 0.7 + offset + far(i)).collect();
                let (mut mean, mut variance) = (vec![9.0; channels], vec![9.0; channels]);
                batch_norm_statistics(batch, channels, spatial, &x, &mut mean, &mut variance);
                for c in 0..channels {
                    let (mean64, variance64) = moments(&channel(&widen(&x), channels, spatial, c));
                    let near = 6.1e-8 * mean64.abs() + 3e-8 * variance64.sqrt();
                    assert!((mean[c] as f64 - mean64).abs() <= near, "{} {mean64}", mean[c]);
                    let (got, wanted) = (variance[c].to_bits(), (variance64 as f32).to_bits());
                    assert!(got.abs_diff(wanted) <= 1, "{} {variance64}", variance[c]);
                }
            }
        }
    });
    // Squares that overflow, alone or added up, and numbers that are all the same.
    for (value, square) in [(3e19f32, f64::INFINITY), (1e19, 1e38), (0.1, 0.01)] {
        let mut x = vec![value; 4 * 2 * 50];
        x.iter_mut().enumerate().filter(|(i, _)| i % 100 < 50 && i % 2 == 1).for_each(|(_, v)| *v = -value);
        let (mut mean, mut variance) = ([9.0; 2], [9.0; 2]);
        batch_norm_statistics(4, 2, 50, &x, &mut mean, &mut variance);
        assert!(mean[0].abs() <= value * 1e-7 && mean[1] == value && variance[1] == 0.0, "{mean:?} {variance:?}");
        assert!(variance[0] as f64 == square || (variance[0] as f64 / square - 1.0).abs() < 1e-6, "{variance:?}");
    }
}

#[test]
fn batch_norm_gradients_agree_with_differences() {
    for (batch, channels, spatial) in [(2, 3, 1), (5, 1, 7), (3, 2, 5), (1, 2, 139), (5, 2, 19)] {
        let length = batch * channels * spatial;
        let (x, gy, gamma, beta) = (normals(1, length), normals(2, length), normals(3, channels), normals(4, channels));
        for affine in [false, true] {
            let forward = |x: &[f64], gamma: &[f64], beta: &[f64]| {
                let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
                batch_norm_statistics(batch, channels, spatial, x, &mut mean, &mut variance);
                let y = x.iter().enumerate().map(|(i, x)| {
                    let c = i / spatial % channels;
                    let normal = (x - mean[c]) / (variance[c] + 0.1).sqrt();
                    if affine { normal * gamma[c] + beta[c] } else { normal }
                });
                (y.zip(&gy).map(|(y, g)| y * g).sum::<f64>(), mean, variance)
            };
            let (_, mean, variance) = forward(&x, &gamma, &beta);
            let (mut gx, mut ggamma, mut gbeta) = (vec![9.0; length], vec![9.0; channels], vec![9.0; channels]);
            let weights = affine.then_some(&gamma[..]);
            batch_norm_backward(
                batch,
                channels,
                spatial,
                0.1,
                &x,
                &mean,
                &variance,
                weights,
                &gy,
                &mut gx,
                &mut ggamma,
                &mut gbeta,
            );
            check_differences(&x, &gx, |x| forward(x, &gamma, &beta).0);
            if affine {
                check_differences(&gamma, &ggamma, |gamma| forward(&x, gamma, &beta).0);
                check_differences(&beta, &gbeta, |beta| forward(&x, &gamma, beta).0);
            }
        }
    }
}

#[test]
fn batch_norm_gradients_in_f32_follow_those_in_f64() {
    for (batch, channels, spatial) in SHAPES {
        let length = batch * channels * spatial;
        let (x, gy, gamma) = (normals_f32(1, length), normals_f32(2, length), normals_f32(3, channels));
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        batch_norm_statistics(batch, channels, spatial, &x, &mut mean, &mut variance);
        let got = on_any_threads(|| {
            let (mut gx, mut ggamma, mut gbeta) = (vec![9.0; length], vec![9.0; channels], vec![9.0; channels]);
            batch_norm_backward(
                batch,
                channels,
                spatial,
                0.1,
                &x,
                &mean,
                &variance,
                Some(&gamma),
                &gy,
                &mut gx,
                &mut ggamma,
                &mut gbeta,
            );
            [gx, ggamma, gbeta].concat()
        });
        let (mut gx, mut ggamma, mut gbeta) = (vec![9.0; length], vec![9.0; channels], vec![9.0; channels]);
        let [x, gy, gamma, mean, variance] = [&x, &gy, &gamma, &mean, &variance].map(|v| widen(v));
        batch_norm_backward(
            batch,
            channels,
            spatial,
            0.1,
            &x,
            &mean,
            &variance,
            Some(&gamma),
            &gy,
            &mut gx,
            &mut ggamma,
            &mut gbeta,
        );
        for (got, expected) in got.iter().zip([gx, ggamma, gbeta].concat()) {
            assert!((*got as f64 - expected).abs() < 2e-6 * (1.0 + expected.abs()), "{got} {expected}");
        }
    }
}
