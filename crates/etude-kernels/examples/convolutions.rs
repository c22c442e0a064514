//! Times the convolutions of well-known networks: forward, both gradients, and all three, as shares of this machine's
//! multiply-add peak, in operations of the plain sum.
//!
//! `cargo run --release -p etude-kernels --example convolutions -- [seconds a case] [part of a name]`

use etude_kernels::conv::{self, ConvGeometry};
use etude_kernels::cpu;
use etude_kernels::threads::{parallel, threads};
use std::hint::black_box;
use std::time::Instant;

/// Batch, channels, size of the input, kernel, stride, padding, groups, and whether it is a transposed convolution.
type Layer = (&'static str, usize, [usize; 2], [usize; 2], [usize; 2], usize, [usize; 2], usize, bool);

const LAYERS: &[Layer] = &[
    ("1→32 3×3 28×28 ×64", 64, [1, 32], [28, 28], [3, 3], 1, [1, 1], 1, false),
    ("32→64 3×3 14×14 ×64", 64, [32, 64], [14, 14], [3, 3], 1, [1, 1], 1, false),
    ("3→64 3×3 32×32 ×32", 32, [3, 64], [32, 32], [3, 3], 1, [1, 1], 1, false),
    ("64→64 3×3 32×32 ×32", 32, [64, 64], [32, 32], [3, 3], 1, [1, 1], 1, false),
    ("128→128 3×3 16×16 ×32", 32, [128, 128], [16, 16], [3, 3], 1, [1, 1], 1, false),
    ("256→256 3×3 8×8 ×32", 32, [256, 256], [8, 8], [3, 3], 1, [1, 1], 1, false),
    ("512→512 3×3 4×4 ×32", 32, [512, 512], [4, 4], [3, 3], 1, [1, 1], 1, false),
    ("64→128 3×3/2 32×32 ×32", 32, [64, 128], [32, 32], [3, 3], 2, [1, 1], 1, false),
    ("128→256 3×3/2 16×16 ×32", 32, [128, 256], [16, 16], [3, 3], 2, [1, 1], 1, false),
    ("256→512 3×3/2 8×8 ×32", 32, [256, 512], [8, 8], [3, 3], 2, [1, 1], 1, false),
    ("64→128 1×1/2 32×32 ×32", 32, [64, 128], [32, 32], [1, 1], 2, [0, 0], 1, false),
    ("256→512 1×1/2 8×8 ×32", 32, [256, 512], [8, 8], [1, 1], 2, [0, 0], 1, false),
    ("64→256 1×1 32×32 ×32", 32, [64, 256], [32, 32], [1, 1], 1, [0, 0], 1, false),
    ("64→64 3×3 32×32 ×16", 16, [64, 64], [32, 32], [3, 3], 1, [1, 1], 1, false),
    ("128→128 3×3 16×16 ×16", 16, [128, 128], [16, 16], [3, 3], 1, [1, 1], 1, false),
    ("128→128 3×3 8×8 ×16", 16, [128, 128], [8, 8], [3, 3], 1, [1, 1], 1, false),
    ("256→64 3×3 16×16 ×16", 16, [256, 64], [16, 16], [3, 3], 1, [1, 1], 1, false),
    ("64→64 3×3/2 32×32 ×16", 16, [64, 64], [32, 32], [3, 3], 2, [1, 1], 1, false),
    ("64→3 3×3 32×32 ×16", 16, [64, 3], [32, 32], [3, 3], 1, [1, 1], 1, false),
    ("128→384 1×1 8×8 ×16", 16, [128, 384], [8, 8], [1, 1], 1, [0, 0], 1, false),
    ("4→32 8×8/4 80×80 ×32", 32, [4, 32], [80, 80], [8, 8], 4, [0, 0], 1, false),
    ("32→64 4×4/2 19×19 ×32", 32, [32, 64], [19, 19], [4, 4], 2, [0, 0], 1, false),
    ("64→64 3×3 8×8 ×32", 32, [64, 64], [8, 8], [3, 3], 1, [0, 0], 1, false),
    ("1→32 3×3/2 28×28 ×128", 128, [1, 32], [28, 28], [3, 3], 2, [1, 1], 1, false),
    ("32→64 3×3/2 14×14 ×128", 128, [32, 64], [14, 14], [3, 3], 2, [1, 1], 1, false),
    ("64→32 4×4/2 7×7 ×128 turned", 128, [64, 32], [7, 7], [4, 4], 2, [1, 1], 1, true),
    ("32→1 4×4/2 14×14 ×128 turned", 128, [32, 1], [14, 14], [4, 4], 2, [1, 1], 1, true),
    ("1→32 3×3 32×160 ×16", 16, [1, 32], [32, 160], [3, 3], 1, [1, 1], 1, false),
    ("32→64 3×3 16×80 ×16", 16, [32, 64], [16, 80], [3, 3], 1, [1, 1], 1, false),
    ("64→128 3×3 8×40 ×16", 16, [64, 128], [8, 40], [3, 3], 1, [1, 1], 1, false),
    ("128→128 3×3 4×40 ×16", 16, [128, 128], [4, 40], [3, 3], 1, [1, 1], 1, false),
    ("128→100 ×3 200 ×64", 64, [128, 100], [1, 200], [1, 3], 1, [0, 0], 1, false),
    ("128→100 ×4 200 ×64", 64, [128, 100], [1, 200], [1, 4], 1, [0, 0], 1, false),
    ("128→100 ×5 200 ×64", 64, [128, 100], [1, 200], [1, 5], 1, [0, 0], 1, false),
    ("3→64 3×3 224×224 ×1", 1, [3, 64], [224, 224], [3, 3], 1, [1, 1], 1, false),
    ("64→64 3×3 224×224 ×1", 1, [64, 64], [224, 224], [3, 3], 1, [1, 1], 1, false),
    ("128→128 3×3 112×112 ×1", 1, [128, 128], [112, 112], [3, 3], 1, [1, 1], 1, false),
    ("256→256 3×3 56×56 ×1", 1, [256, 256], [56, 56], [3, 3], 1, [1, 1], 1, false),
    ("512→512 3×3 28×28 ×1", 1, [512, 512], [28, 28], [3, 3], 1, [1, 1], 1, false),
    ("512→512 3×3 14×14 ×1", 1, [512, 512], [14, 14], [3, 3], 1, [1, 1], 1, false),
    ("3→64 7×7/2 224×224 ×1", 1, [3, 64], [224, 224], [7, 7], 2, [3, 3], 1, false),
    ("64→64 3×3 56×56 ×1", 1, [64, 64], [56, 56], [3, 3], 1, [1, 1], 1, false),
    ("256→64 1×1 56×56 ×1", 1, [256, 64], [56, 56], [1, 1], 1, [0, 0], 1, false),
    ("512→512 3×3 7×7 ×1", 1, [512, 512], [7, 7], [3, 3], 1, [1, 1], 1, false),
    ("2048→512 1×1 7×7 ×1", 1, [2048, 512], [7, 7], [1, 1], 1, [0, 0], 1, false),
    ("3→32 3×3/2 224×224 ×1", 1, [3, 32], [224, 224], [3, 3], 2, [1, 1], 1, false),
    ("32→32 3×3 112×112 ×1 depthwise", 1, [32, 32], [112, 112], [3, 3], 1, [1, 1], 32, false),
    ("512→512 3×3 14×14 ×1 depthwise", 1, [512, 512], [14, 14], [3, 3], 1, [1, 1], 512, false),
    ("512→512 1×1 14×14 ×1", 1, [512, 512], [14, 14], [1, 1], 1, [0, 0], 1, false),
];

/// The geometry of a layer; of a transposed one, that of the convolution it is the gradient of.
fn geometry(&(_, batch, channels, size, kernel, stride, padding, groups, turned): &Layer) -> ConvGeometry {
    let per_axis = |of: [usize; 2], first: usize| [first, of[0], of[1]];
    let stride = [if kernel[0] > 1 || size[0] > 1 { stride } else { 1 }, stride];
    let other = |axis: usize| match turned {
        true => (size[axis] - 1) * stride[axis] + kernel[axis] - 2 * padding[axis],
        false => (size[axis] + 2 * padding[axis] - kernel[axis]) / stride[axis] + 1,
    };
    let (given, other) = (per_axis(size, 1), [1, other(0), other(1)]);
    let (input, output) = if turned { (other, given) } else { (given, other) };
    let [first, second] = channels;
    let (in_channels, out_channels) = if turned { (second, first) } else { (first, second) };
    ConvGeometry {
        batch,
        groups,
        in_channels,
        out_channels,
        input,
        kernel: per_axis(kernel, 1),
        stride: per_axis(stride, 1),
        padding: per_axis(padding, 0),
        dilation: [1; 3],
        output,
    }
}

/// The median of repeated timings, in seconds.
fn median(limit: f64, mut work: impl FnMut()) -> f64 {
    work();
    let (start, mut times) = (Instant::now(), vec![]);
    while start.elapsed().as_secs_f64() < limit || times.len() < 3 {
        let one = Instant::now();
        work();
        times.push(one.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn peak() -> f64 {
    const ROUNDS: usize = 1 << 18;
    let seconds = median(0.3, || {
        parallel(threads(), |_| {
            black_box(cpu::multiply_adds(ROUNDS));
        });
    });
    (threads() * ROUNDS * cpu::OPERATIONS_PER_ROUND) as f64 / seconds / 1e9
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let limit: f64 = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(0.1);
    let filter = arguments.next().unwrap_or_default();
    let peak = peak();
    println!("{} threads, multiply-add peak {peak:.1} GFLOP/s; microseconds and shares of the peak", threads());
    println!("{:36} {:>16} {:>16} {:>16} {:>16}", "", "forward", "by input", "by weight", "all three");
    for layer in LAYERS.iter().filter(|layer| layer.0.contains(&filter)) {
        let g = geometry(layer);
        let values = |n: usize| (0..n).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<f32>>();
        let (x, w, y) = (values(g.input_size()), values(g.weight_size()), values(g.output_size()));
        let (mut gx, mut gw, mut gy) = (x.clone(), w.clone(), y.clone());
        let times = [
            median(limit, || conv::forward(&g, &x, &w, black_box(&mut gy))),
            median(limit, || conv::input_gradient(&g, &y, &w, black_box(&mut gx))),
            median(limit, || conv::weight_gradient(&g, &x, &y, black_box(&mut gw))),
        ];
        let [forward, by_input, by_weight] = times;
        // A transposed convolution's forward pass is the gradient of the other's input, and the reverse.
        let times = if layer.8 { [by_input, forward, by_weight] } else { times };
        let cell = |seconds: f64, passes: usize| {
            let rate = 2.0 * (passes * g.multiply_adds()) as f64 / seconds / 1e9;
            format!("{:8.0} {:5.0} %", seconds * 1e6, 100.0 * rate / peak)
        };
        let [a, b, c] = times.map(|seconds| cell(seconds, 1));
        println!("{:36} {a:>16} {b:>16} {c:>16} {:>16}", layer.0, cell(times.iter().sum(), 3));
    }
}
