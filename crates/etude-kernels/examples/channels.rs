//! Times the convolutions of ResNet-50 on images with sixteen channels side by side, as shares of this machine's
//! multiply-add peak, in operations of the plain sum.
//!
//! `cargo run --release -p etude-kernels --example channels -- [batch] [seconds a case] [part of a name]`

use etude_kernels::conv::ConvGeometry;
use etude_kernels::conv::channels::{self, Tail, winograd};
use etude_kernels::cpu;
use etude_kernels::threads::{parallel, threads};
use std::hint::black_box;
use std::time::Instant;

/// How often the network has it, channels, size of the input, kernel, stride.
type Layer = (usize, [usize; 2], usize, usize, usize);

const LAYERS: &[Layer] = &[
    (1, [3, 64], 224, 7, 2),
    (1, [64, 64], 56, 1, 1),
    (3, [64, 64], 56, 3, 1),
    (4, [64, 256], 56, 1, 1),
    (2, [256, 64], 56, 1, 1),
    (1, [256, 128], 56, 1, 1),
    (1, [128, 128], 56, 3, 2),
    (1, [256, 512], 56, 1, 2),
    (3, [128, 128], 28, 3, 1),
    (4, [128, 512], 28, 1, 1),
    (3, [512, 128], 28, 1, 1),
    (1, [512, 256], 28, 1, 1),
    (1, [256, 256], 28, 3, 2),
    (1, [512, 1024], 28, 1, 2),
    (5, [256, 256], 14, 3, 1),
    (6, [256, 1024], 14, 1, 1),
    (5, [1024, 256], 14, 1, 1),
    (1, [1024, 512], 14, 1, 1),
    (1, [512, 512], 14, 3, 2),
    (1, [1024, 2048], 14, 1, 2),
    (2, [512, 512], 7, 3, 1),
    (3, [512, 2048], 7, 1, 1),
    (2, [2048, 512], 7, 1, 1),
];

fn geometry(batch: usize, &(_, [inputs, outputs], size, kernel, stride): &Layer) -> ConvGeometry {
    let output = (size + 2 * (kernel / 2) - kernel) / stride + 1;
    ConvGeometry {
        batch,
        groups: 1,
        in_channels: inputs,
        out_channels: outputs,
        input: [1, size, size],
        kernel: [1, kernel, kernel],
        stride: [1, stride, stride],
        padding: [0, kernel / 2, kernel / 2],
        dilation: [1; 3],
        output: [1, output, output],
    }
}

/// The median of repeated timings, in seconds. Other memory is read between, as other layers would.
fn median(seconds: f64, elsewhere: &mut [f32], mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut times) = (Instant::now(), vec![]);
    while times.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        elsewhere.iter_mut().for_each(|value| *value += 1.0);
        let one = Instant::now();
        work();
        times.push(one.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn peak() -> f64 {
    const ROUNDS: usize = 1 << 20;
    let rate = || {
        let start = Instant::now();
        parallel(threads(), |_| {
            black_box(cpu::multiply_adds(ROUNDS));
        });
        (threads() * ROUNDS * cpu::OPERATIONS_PER_ROUND) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| rate()).fold(0.0, f64::max)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let batch = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(1);
    let seconds = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(0.1);
    let part = arguments.next().unwrap_or_default();
    let (peak, mut total, mut work) = (peak(), 0.0, 0);
    println!("{} threads, multiply-add peak {peak:.1} GFLOP/s, batch {batch}", threads());
    let mut elsewhere = vec![0.0; 12 << 20];
    for layer in LAYERS {
        let g = geometry(batch, layer);
        let (times, [inputs, outputs], size, kernel, stride) = *layer;
        let name = format!("{inputs}→{outputs} {kernel}×{kernel}/{stride} {size}×{size}");
        if !name.contains(&part) {
            continue;
        }
        let values = |n: usize| (0..n).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<f32>>();
        let (x, w, bias) = (values(g.input_size()), values(g.weight_size()), values(outputs));
        let residual = values(g.output_size());
        let mut y = vec![0.0; g.output_size()];
        let residual = (kernel == 1 && outputs == 4 * inputs).then_some(&residual[..]);
        let tail = Tail { bias: Some(&bias), residual, relu: true };
        let y = black_box(&mut y);
        let fast = winograd::is_faster(&g);
        let took = if fast {
            let mut points = vec![0.0; 4 * w.len()];
            winograd::weights(outputs, inputs, &w, &mut points);
            median(seconds, &mut elsewhere, || winograd::forward(&g, &x, &points, &tail, y))
        } else {
            let forward = if inputs < channels::BLOCK { channels::forward_planes } else { channels::forward };
            median(seconds, &mut elsewhere, || forward(&g, &x, &w, &tail, y))
        };
        let name = if fast { name + " W" } else { name };
        let rate = 2.0 * g.multiply_adds() as f64 / took / 1e9;
        println!("{times} × {name:24} {:9.1} µs {rate:8.1} GFLOP/s {:6.1} %", took * 1e6, 100.0 * rate / peak);
        total += times as f64 * took;
        work += times * g.multiply_adds();
    }
    let rate = 2.0 * work as f64 / total / 1e9;
    println!("all {:28} {:9.1} µs {rate:8.1} GFLOP/s {:6.1} %", "", total * 1e6, 100.0 * rate / peak);
}
