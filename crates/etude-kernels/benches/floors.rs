//! Products, attention, norms, softmax and fused chains against their floor, as tables for docs/kernels.md:
//! `cargo bench -p etude-kernels --bench floors`. Each figure is the share of the roof that was reached (`roof/mod.rs`).
//! Words after `--` choose the tables whose name contains one of them, as `rows`; `--one` measures one thread alone.

mod roof;

use etude_kernels::attention::{self, Attention, AttentionGradients, AttentionMask, AttentionSizes, Heads};
use etude_kernels::matmul::{Operand, matmul};
use etude_kernels::threads::{parallel_chunks, threads};
use etude_kernels::tile::{BinaryOp, Input, Instruction, Prepared, Program, Source};
use etude_kernels::{Buffer, Cost, DType, Peak, norm, softmax};
use roof::values;
use std::hint::black_box;

/// Where it is from, and rows, depth and columns of the forward product.
const PRODUCTS: [(&str, [usize; 3]); 18] = [
    ("square", [64, 64, 64]),
    ("square", [128, 128, 128]),
    ("square", [256, 256, 256]),
    ("square", [512, 512, 512]),
    ("square", [1024, 1024, 1024]),
    ("square", [2048, 2048, 2048]),
    ("mlp", [128, 784, 512]),
    ("mlp", [128, 512, 512]),
    ("gpt, attention", [1024, 256, 768]),
    ("gpt, attention", [1024, 256, 256]),
    ("gpt, dense", [1024, 256, 1024]),
    ("gpt, dense", [1024, 1024, 256]),
    ("vit, dense", [2080, 192, 768]),
    ("vit, dense", [2080, 768, 192]),
    ("lstm, inputs", [800, 256, 4096]),
    ("lstm, states", [800, 1024, 4096]),
    ("lstm, output", [800, 1024, 83]),
    ("textcnn, words", [2560, 128, 100]),
];

type Table = fn(&[Peak]);

const TABLES: [(&str, Table); 5] =
    [("products", products), ("attention", attentions), ("rows", rows), ("channels", channels), ("chains", chains)];

fn main() {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let parts: Vec<&String> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let peaks = roof::measure(words.iter().any(|word| word == "--one"));
    for (name, table) in TABLES {
        if parts.is_empty() || parts.iter().any(|part| name.contains(*part)) {
            table(&peaks);
            println!();
        }
    }
}

fn products(peaks: &[Peak]) {
    println!("| product | m × k × n | MFLOP | y = x·wᵀ | gradient of x = g·w | gradient of w = gᵀ·x |");
    println!("|---|---|---|---|---|---|");
    for (name, [m, k, n]) in PRODUCTS {
        let (x, w, g) = (values(m * k), values(n * k), values(m * n));
        let plain = |columns: usize| [columns as isize, 1];
        let turned = |rows: usize| [1, rows as isize];
        let cells = [
            product(peaks, [m, k, n], (&x, plain(k)), (&w, turned(k))),
            product(peaks, [m, n, k], (&g, plain(n)), (&w, plain(k))),
            product(peaks, [n, m, k], (&g, turned(n)), (&x, plain(k))),
        ];
        println!("| {name} | {m} × {k} × {n} | {:.1} | {} |", 2e-6 * (m * k * n) as f64, cells.join(" | "));
    }
}

/// A side of a product, with the strides of its rows and columns.
type Side<'a> = (&'a [f32], [isize; 2]);

fn product(peaks: &[Peak], [m, k, n]: [usize; 3], a: Side, b: Side) -> String {
    let mut out = values(m * n);
    let cost = Cost { operations: 2 * (m * k * n) as u64, bytes: 4 * (m * k + k * n + m * n) as u64 };
    roof::shares(peaks, cost, || matmul(m, k, n, operand(a), operand(b), black_box(&mut out)))
}

fn operand((data, [row_stride, column_stride]): Side) -> Operand<f32> {
    Operand { data, offsets: &[0], row_stride, column_stride }
}

/// Batch, heads, length and width of a head as models have them; with the causal rule, half of the scores count.
const ATTENTIONS: [(&str, bool, [usize; 4]); 4] = [
    ("gpt, causal", true, [8, 4, 128, 64]),
    ("bert", false, [16, 4, 128, 64]),
    ("vit", false, [32, 3, 65, 64]),
    ("long, causal", true, [1, 8, 1024, 64]),
];

fn attentions(peaks: &[Peak]) {
    println!("| attention | batch, heads, length, width | MFLOP | forward | gradients |");
    println!("|---|---|---|---|---|");
    for (name, causal, [batch, heads, length, width]) in ATTENTIONS {
        let count = batch * heads * length * width;
        let (all, g) = (values(3 * count), values(count));
        let line = heads * width;
        let heads_of = |part| {
            let strides = [length * 3 * line, width, 3 * line, 1].map(|stride| stride as isize);
            Heads { data: &all[..], offset: part * line, strides }
        };
        let strides = [length * line, width, line, 1].map(|stride| stride as isize);
        let slopes = Heads { data: &g[..], offset: 0, strides };
        let (mut out, mut sums, mut gradients) = (values(count), values(batch * heads * length), values(3 * count));
        let sizes = AttentionSizes { batch, heads, queries: length, keys: length, width, values: width };
        let what = Attention { sizes, scale: 1.0 / (width as f64).sqrt(), causal, mask: AttentionMask::None };
        let scores = batch * heads * if causal { length * (length + 1) / 2 } else { length * length };
        let cost = |products: usize, tensors: usize| Cost {
            operations: (2 * products * scores * width) as u64,
            bytes: 4 * (tensors * count) as u64,
        };
        let [q, k, v] = [0, 1, 2].map(heads_of);
        let forward = roof::shares(peaks, cost(2, 4), || attention::forward(&what, q, k, v, &mut out, &mut sums));
        let backward = roof::shares(peaks, cost(5, 8), || {
            attention::backward(&what, q, k, v, &out, &sums, slopes, AttentionGradients::Together(&mut gradients));
        });
        let operations = cost(2, 0).operations as f64 * 1e-6;
        println!("| {name} | {batch}, {heads}, {length}, {width} | {operations:.0} | {forward} | {backward} |");
    }
}

/// Rows and their width.
const ROWS: [[usize; 2]; 3] = [[1024, 256], [2080, 192], [65536, 256]];

/// Operations of an exponential: ten multiply-adds.
const EXPONENTIAL: usize = 20;

fn rows(peaks: &[Peak]) {
    println!(
        "| rows of | MB | softmax | its gradient | its logarithm | the logarithm's gradient \
         | layer norm's statistics | layer norm's gradient |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for [rows, width] in ROWS {
        let count = rows * width;
        let (x, g, scale) = (values(count), values(count), values(width));
        let (mut y, mut gx) = (values(count), values(count));
        let (mut mean, mut share) = (values(rows), values(rows));
        let (mut by_scale, mut by_shift) = (values(width), values(width));
        // Tensors read or written, and operations on an element.
        let cost = |tensors: usize, operations: usize| Cost {
            operations: (operations * count) as u64,
            bytes: 4 * (tensors * count) as u64,
        };
        let cells = [
            roof::shares(peaks, cost(2, EXPONENTIAL + 4), || softmax::softmax(rows, width, &x, &mut y)),
            roof::shares(peaks, cost(3, 4), || softmax::softmax_backward(rows, width, &x, &g, &mut gx)),
            roof::shares(peaks, cost(2, EXPONENTIAL + 4), || softmax::log_softmax(rows, width, &x, &mut y)),
            roof::shares(peaks, cost(3, EXPONENTIAL + 3), || {
                softmax::log_softmax_backward(rows, width, &x, &g, &mut gx)
            }),
            roof::shares(peaks, cost(1, 5), || {
                norm::layer_norm_statistics(rows, width, 1e-5, &x, &mut mean, &mut share)
            }),
            roof::shares(peaks, cost(3, 16), || {
                let affine = Some([&mut by_scale[..], &mut by_shift]);
                norm::layer_norm_backward(rows, width, &x, Some(&scale), &mean, &share, &g, &mut gx, affine);
            }),
        ];
        println!("| {rows} × {width} | {:.1} | {} |", 4e-6 * count as f64, cells.join(" | "));
    }
}

/// Batch, channels and the elements of a plane.
const CHANNELS: [[usize; 3]; 2] = [[16, 64, 56 * 56], [32, 256, 8 * 8]];

/// Each tensor counted once: a channel of x and of the gradient lies in a core's cache between the sums and their use.
fn channels(peaks: &[Peak]) {
    println!("| batch norm of | MB | statistics | gradient |");
    println!("|---|---|---|---|");
    for [batch, channels, plane] in CHANNELS {
        let count = batch * channels * plane;
        let (x, g, scale, mut gx) = (values(count), values(count), values(channels), values(count));
        let (mut mean, mut variance) = (values(channels), values(channels));
        let (mut by_scale, mut by_shift) = (values(channels), values(channels));
        let bytes = |tensors: usize| Cost { operations: 0, bytes: 4 * (tensors * count) as u64 };
        let statistics = roof::shares(peaks, bytes(1), || {
            norm::batch_norm_statistics(batch, channels, plane, &x, &mut mean, &mut variance);
        });
        let gradient = roof::shares(peaks, bytes(3), || {
            norm::batch_norm_backward(
                batch,
                channels,
                plane,
                1e-5,
                &x,
                &mean,
                &variance,
                Some(&scale),
                &g,
                &mut gx,
                &mut by_scale,
                &mut by_shift,
            );
        });
        println!("| {batch} × {channels} × {plane} | {:.1} | {statistics} | {gradient} |", 4e-6 * count as f64);
    }
}

/// A fused chain, `max(x·x + x, x)`, by a tile program and by a loop written by hand for as many threads.
fn chains(_: &[Peak]) {
    println!("| chain of | fused, µs | by hand, µs | fused over by hand |");
    println!("|---|---|---|---|");
    for elements in [4096, 1 << 16, 1 << 20, 1 << 24] {
        let binary = |op, to, a, b| Instruction::Binary { op, dtype: DType::F32, to, a, b };
        let instructions = vec![
            Instruction::Load { to: 0, input: 0 },
            binary(BinaryOp::Mul, 1, 0, 0),
            binary(BinaryOp::Add, 2, 1, 0),
            binary(BinaryOp::Max, 3, 2, 0),
            Instruction::Store { output: 0, from: 3 },
        ];
        let program = Program { instructions, inputs: vec![DType::F32], outputs: vec![DType::F32] };
        let prepared: Prepared = program.prepare().unwrap_or_else(|message| panic!("{message}"));
        let (x, mut y) = (Buffer::from_slice(&values(elements)), Buffer::from_slice(&values(elements)));
        let fused = roof::median(|| {
            let input = Input { source: Source::Buffer(&x), offset: 0, strides: &[1] };
            prepared.run(&[elements], &[], &[input], &[], &mut [black_box(&mut y)]);
        });
        let (from, to) = (x.as_slice::<f32>(), y.as_mut_slice::<f32>());
        let chunk = elements.div_ceil(threads()).max(4096);
        let by_hand = roof::median(|| {
            parallel_chunks(black_box(&mut *to), chunk, |index, to| {
                for (to, x) in to.iter_mut().zip(&from[index * chunk..]) {
                    *to = (x * x + x).max(*x);
                }
            });
        });
        println!("| {elements} | {:.1} | {:.1} | {:.2} |", 1e6 * fused, 1e6 * by_hand, fused / by_hand);
    }
}
