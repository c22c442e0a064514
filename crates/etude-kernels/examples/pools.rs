//! Times pools against the bytes they move.
//!
//! `cargo run --release -p etude-kernels --example pools`

use etude_kernels::pool::{self, PoolGeometry};
use std::hint::black_box;
use std::time::Instant;

/// The median of repeated timings, in seconds.
fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..50)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    for (name, planes, size, kernel, stride, padding) in [
        ("2×2 of 28×28", 64 * 32, [28, 28], [2, 2], [2, 2], [0, 0]),
        ("2×2 of 14×14", 64 * 64, [14, 14], [2, 2], [2, 2], [0, 0]),
        ("2×2 of 224×224", 64, [224, 224], [2, 2], [2, 2], [0, 0]),
        ("2×1 of 8×40", 16 * 128, [8, 40], [2, 1], [2, 1], [0, 0]),
        ("3×3/2 of 112×112", 64, [112, 112], [3, 3], [2, 2], [1, 1]),
    ] {
        let output = [0, 1].map(|a| (size[a] + 2 * padding[a] - kernel[a]) / stride[a] + 1);
        let g = PoolGeometry {
            planes,
            input: [1, size[0], size[1]],
            kernel: [1, kernel[0], kernel[1]],
            stride: [1, stride[0], stride[1]],
            padding: [0, padding[0], padding[1]],
            dilation: [1; 3],
            output: [1, output[0], output[1]],
        };
        let (from, to) = (planes * g.input_size(), planes * g.output_size());
        let mut state = 1u32;
        let mut value = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 - 8e6
        };
        // As after a ReLU: half of it zeros.
        let x: Vec<f32> = (0..from).map(|_| value().max(0.0)).collect();
        let (mut y, mut positions, mut gx) = (vec![0.0; to], vec![0; to], vec![0.0; from]);
        let forward = median(|| pool::max_forward(&g, &x, black_box(&mut y), &mut positions));
        let backward = median(|| pool::scatter_plane(planes, g.input_size(), &positions, &y, black_box(&mut gx)));
        let rate = |seconds: f64| (4 * from + 12 * to) as f64 / seconds / 1e9;
        println!(
            "{name:20} forward {:7.1} µs {:5.1} GB/s   backward {:7.1} µs {:5.1} GB/s",
            forward * 1e6,
            rate(forward),
            backward * 1e6,
            rate(backward)
        );
    }
}
