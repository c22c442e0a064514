//! The convolutions of known networks against their floor, as a table for docs/kernels.md:
//! `cargo bench -p etude-kernels --bench convolutions -- [--exact] [--one] [--forward] [--input] [--weight] [part of a name …]`.
//!
//! Each figure is the share of the roof that was reached (`roof/mod.rs`) on one thread and on all. Operations are those of the
//! direct convolution, so Winograd's way can be above 100 %. `--exact` does without it, `--one` leaves out the figures of all
//! threads, and the others choose what is measured: the forward pass, the gradient of the input, the gradient of the weights;
//! all of them otherwise.

mod roof;

use etude_kernels::conv::{self, ConvGeometry};
use etude_kernels::{Cost, Peak};
use roof::values;

/// Name, batch, channels in and out, groups, size of the (square) input, kernel, stride.
type Row = (&'static str, usize, [usize; 2], usize, usize, usize, usize);

#[rustfmt::skip]
const ROWS: [Row; 52] = [
    ("ResNet 7×7 s2", 16, [3, 64], 1, 224, 7, 2),
    ("ResNet 3×3", 16, [64, 64], 1, 56, 3, 1),
    ("ResNet 3×3", 16, [128, 128], 1, 28, 3, 1),
    ("ResNet 3×3", 16, [256, 256], 1, 14, 3, 1),
    ("ResNet 3×3", 16, [512, 512], 1, 7, 3, 1),
    ("ResNet-50 3×3 s2", 16, [128, 128], 1, 56, 3, 2),
    ("ResNet-50 3×3 s2", 16, [256, 256], 1, 28, 3, 2),
    ("ResNet-50 3×3 s2", 16, [512, 512], 1, 14, 3, 2),
    ("ResNet-50 1×1", 16, [64, 64], 1, 56, 1, 1),
    ("ResNet-50 1×1", 16, [64, 256], 1, 56, 1, 1),
    ("ResNet-50 1×1", 16, [256, 64], 1, 56, 1, 1),
    ("ResNet-50 1×1", 16, [128, 512], 1, 28, 1, 1),
    ("ResNet-50 1×1", 16, [512, 128], 1, 28, 1, 1),
    ("ResNet-50 1×1", 16, [256, 1024], 1, 14, 1, 1),
    ("ResNet-50 1×1", 16, [1024, 256], 1, 14, 1, 1),
    ("ResNet-50 1×1", 16, [512, 2048], 1, 7, 1, 1),
    ("ResNet-50 1×1", 16, [2048, 512], 1, 7, 1, 1),
    ("ResNet-50 1×1 s2", 16, [256, 512], 1, 56, 1, 2),
    ("ResNet-50 1×1 s2", 16, [512, 1024], 1, 28, 1, 2),
    ("ResNet-50 1×1 s2", 16, [1024, 2048], 1, 14, 1, 2),
    ("ResNet-18 3×3 s2", 16, [64, 128], 1, 56, 3, 2),
    ("ResNet-18 3×3 s2", 16, [128, 256], 1, 28, 3, 2),
    ("ResNet-18 3×3 s2", 16, [256, 512], 1, 14, 3, 2),
    ("ResNet-18 1×1 s2", 16, [64, 128], 1, 56, 1, 2),
    ("ResNet-18 1×1 s2", 16, [128, 256], 1, 28, 1, 2),
    ("ResNet-18 1×1 s2", 16, [256, 512], 1, 14, 1, 2),
    ("small ResNet-18 3×3", 32, [64, 64], 1, 32, 3, 1),
    ("small ResNet-18 3×3 s2", 32, [64, 128], 1, 32, 3, 2),
    ("small ResNet-18 3×3 s2", 32, [128, 256], 1, 16, 3, 2),
    ("small ResNet-18 3×3 s2", 32, [256, 512], 1, 8, 3, 2),
    ("small ResNet-18 1×1 s2", 32, [64, 128], 1, 32, 1, 2),
    ("small ResNet-18 1×1 s2", 32, [256, 512], 1, 8, 1, 2),
    ("VGG-16 3×3", 8, [3, 64], 1, 224, 3, 1),
    ("VGG-16 3×3", 8, [64, 64], 1, 224, 3, 1),
    ("VGG-16 3×3", 8, [128, 256], 1, 56, 3, 1),
    ("VGG-16 3×3", 8, [512, 512], 1, 14, 3, 1),
    ("MobileNet 3×3 s2", 16, [3, 32], 1, 224, 3, 2),
    ("MobileNet 1×1", 16, [32, 64], 1, 112, 1, 1),
    ("MobileNet 1×1", 16, [128, 128], 1, 56, 1, 1),
    ("MobileNet 1×1", 16, [512, 512], 1, 14, 1, 1),
    ("MobileNet depthwise 3×3", 16, [32, 32], 32, 112, 3, 1),
    ("MobileNet depthwise 3×3", 16, [128, 128], 128, 56, 3, 1),
    ("MobileNet depthwise 3×3", 16, [512, 512], 512, 14, 3, 1),
    ("MobileNet depthwise 3×3 s2", 16, [64, 64], 64, 112, 3, 2),
    ("MobileNet depthwise 3×3 s2", 16, [256, 256], 256, 28, 3, 2),
    ("few channels 3×3", 64, [1, 32], 1, 28, 3, 1),
    ("few channels 3×3", 64, [16, 16], 1, 28, 3, 1),
    ("few channels 3×3", 64, [32, 16], 1, 28, 3, 1),
    ("few channels 3×3", 64, [16, 16], 1, 14, 3, 1),
    ("few channels 3×3 s2", 64, [16, 32], 1, 28, 3, 2),
    ("few channels 1×1", 64, [32, 16], 1, 28, 1, 1),
    ("few channels 1×1", 64, [16, 16], 1, 14, 1, 1),
];

fn geometry((_, batch, channels, groups, size, kernel, stride): Row) -> ConvGeometry {
    let plane = |side: usize| [1, side, side];
    let padding = (kernel - 1) / 2;
    ConvGeometry {
        batch,
        groups,
        in_channels: channels[0],
        out_channels: channels[1],
        input: plane(size),
        kernel: plane(kernel),
        stride: plane(stride),
        padding: [0, padding, padding],
        dilation: [1; 3],
        output: plane((size + 2 * padding - kernel) / stride + 1),
    }
}

fn main() {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let has = |flag: &str| words.iter().any(|word| word == flag);
    conv::set_exact(has("--exact").then_some(true));
    let parts: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let chosen = ["--forward", "--input", "--weight"].map(has);
    let chosen = if chosen.contains(&true) { chosen } else { [true; 3] };
    let peaks = roof::measure(has("--one"));
    println!("| convolution | batch | channels | size | GFLOP | floor | forward | input gradient | weight gradient |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in ROWS {
        let line = format!("{} | {} | {} → {} | {}²", row.0, row.1, row.2[0], row.2[1], row.4);
        if parts.is_empty() || parts.iter().any(|part| line.contains(*part)) {
            measure(&line, &geometry(row), &peaks, chosen);
        }
    }
}

/// Prints one line of the table: in each cell the shares of the roof on one thread and on all.
fn measure(line: &str, g: &ConvGeometry, peaks: &[Peak], chosen: [bool; 3]) {
    let (x, w, gy) = (values(g.input_size()), values(g.weight_size()), values(g.output_size()));
    let (mut y, mut gx, mut gw) = (values(gy.len()), values(x.len()), values(w.len()));
    let cost = Cost { operations: 2 * g.multiply_adds() as u64, bytes: 4 * (x.len() + w.len() + y.len()) as u64 };
    let mut cells = [String::new(), String::new(), String::new()];
    let works: [&mut dyn FnMut(); 3] =
        [&mut || conv::forward(g, &x, &w, &mut y), &mut || conv::input_gradient(g, &gy, &w, &mut gx), &mut || {
            conv::weight_gradient(g, &x, &gy, &mut gw)
        }];
    for ((cell, work), chosen) in cells.iter_mut().zip(works).zip(chosen) {
        if chosen {
            *cell = roof::shares(peaks, cost, work);
        }
    }
    let arithmetic = cost.operations as f64 / peaks[0].arithmetic;
    let bound = if peaks[0].floor(cost) > arithmetic { "bytes" } else { "arithmetic" };
    println!("| {line} | {:.2} | {bound} | {} |", cost.operations as f64 / 1e9, cells.join(" | "));
}
