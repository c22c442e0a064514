//! Measures this machine's multiply-add peak and prints products and convolutions as a share of it.
//!
//! `cargo run --release -p etude-kernels --example heavy -- [seconds a case] [part of a name] [threads]`

use etude_kernels::conv::{self, ConvGeometry};
use etude_kernels::cpu;
use etude_kernels::matmul::{Operand, matmul};
use etude_kernels::threads::{parallel, set_threads, threads};
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Seconds: of this thread's processor time where only one thread works and the system can tell, else of the clock.
/// On a shared machine the clock counts the neighbours too.
fn now(alone: bool) -> f64 {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    if alone {
        unsafe extern "C" {
            fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
        }
        const THREAD_CPU_TIME: i32 = 3;
        let mut time = [0; 2];
        // SAFETY: the C library's function; on 64-bit Linux its structure is two 64-bit integers, seconds and nanoseconds.
        if unsafe { clock_gettime(THREAD_CPU_TIME, &mut time) } == 0 {
            return time[0] as f64 + time[1] as f64 * 1e-9;
        }
    }
    let _ = alone;
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64()
}

/// The best of repeated timings, in seconds.
fn best(limit: Duration, mut work: impl FnMut()) -> f64 {
    work();
    let alone = threads() == 1;
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < limit {
        let one = now(alone);
        work();
        best = best.min(now(alone) - one);
    }
    best
}

fn peak(limit: Duration) -> f64 {
    const ROUNDS: usize = 1 << 18;
    let tasks = threads();
    let seconds = best(limit, || {
        parallel(tasks, |_| {
            black_box(cpu::multiply_adds(ROUNDS));
        });
    });
    (tasks * ROUNDS * cpu::OPERATIONS_PER_ROUND) as f64 / seconds / 1e9
}

struct Report {
    limit: Duration,
    filter: String,
    peak: f64,
}

impl Report {
    fn line(&self, name: &str, multiply_adds: usize, work: impl FnMut()) {
        if name.contains(&self.filter) {
            let seconds = best(self.limit, work);
            let rate = 2.0 * multiply_adds as f64 / seconds / 1e9;
            println!("{name:44} {:10.1} µs {rate:8.2} GFLOP/s {:6.1} %", seconds * 1e6, 100.0 * rate / self.peak);
        }
    }

    fn product(&self, batch: usize, m: usize, k: usize, n: usize, turned: [bool; 2]) {
        let mark = |turned| if turned { "ᵀ" } else { " " };
        let name = format!("product {batch} × {m}×{k}{} {k}×{n}{}", mark(turned[0]), mark(turned[1]));
        if !name.contains(&self.filter) {
            return;
        }
        let values = |n: usize| (0..n).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<f32>>();
        let (a, b) = (values(batch * m * k), values(batch * k * n));
        let mut out = vec![0.0; batch * m * n];
        let side = |turned: bool, rows: usize, columns: usize| {
            if turned { (1, rows as isize) } else { (columns as isize, 1) }
        };
        let ((ar, ac), (br, bc)) = (side(turned[0], m, k), side(turned[1], k, n));
        let offsets = |size: usize| (0..batch).map(|i| i * size).collect::<Vec<_>>();
        let (ao, bo) = (offsets(m * k), offsets(k * n));
        self.line(&name, batch * m * k * n, || {
            let a = Operand { data: &a, offsets: &ao, row_stride: ar, column_stride: ac };
            let b = Operand { data: &b, offsets: &bo, row_stride: br, column_stride: bc };
            matmul(m, k, n, a, b, black_box(&mut out));
        });
    }

    fn convolution(&self, name: &str, g: ConvGeometry) {
        if !["  y", " gx", " gw"].iter().any(|part| format!("{name}{part}").contains(&self.filter)) {
            return;
        }
        let work = g.multiply_adds();
        let values = |n: usize| (0..n).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<f32>>();
        let (mut x, mut w, mut y) = (values(g.input_size()), values(g.weight_size()), values(g.output_size()));
        self.line(&format!("{name}  y"), work, || conv::forward(&g, &x, &w, black_box(&mut y)));
        self.line(&format!("{name} gx"), work, || conv::input_gradient(&g, &y, &w, black_box(&mut x)));
        self.line(&format!("{name} gw"), work, || conv::weight_gradient(&g, &x, &y, black_box(&mut w)));
    }
}

/// A square two-dimensional convolution with the usual output size.
fn square(
    batch: usize,
    channels: [usize; 2],
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> ConvGeometry {
    let output = (size + 2 * padding - kernel) / stride + 1;
    ConvGeometry {
        batch,
        groups: 1,
        in_channels: channels[0],
        out_channels: channels[1],
        input: [1, size, size],
        kernel: [1, kernel, kernel],
        stride: [1, stride, stride],
        padding: [0, padding, padding],
        dilation: [1; 3],
        output: [1, output, output],
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let limit = Duration::from_secs_f64(arguments.next().and_then(|a| a.parse().ok()).unwrap_or(0.1));
    let filter = arguments.next().unwrap_or_default();
    let only: Option<usize> = arguments.next().and_then(|a| a.parse().ok());
    for count in only.map_or(vec![1, threads()], |n| vec![n]) {
        set_threads(count);
        let report = Report { limit, filter: filter.clone(), peak: peak(Duration::from_millis(300)) };
        println!("\n{count} threads, multiply-add peak {:.1} GFLOP/s", report.peak);
        let (no, yes) = (false, true);
        for n in [32, 64, 128, 256, 512, 1024] {
            report.product(1, n, n, n, [no, no]);
        }
        for n in [64, 128, 512] {
            report.product(1, n, n, n, [no, yes]);
            report.product(1, n, n, n, [yes, no]);
        }
        report.product(1, 4, 64, 64, [no, yes]);
        report.product(1, 32, 64, 64, [no, no]);
        report.product(1, 32, 64, 64, [no, yes]);
        report.product(1, 64, 400, 120, [no, yes]);
        report.product(1, 400, 64, 120, [yes, no]);
        report.product(1, 64, 784, 10, [no, yes]);
        report.product(1, 1, 1024, 4096, [no, no]);
        report.product(1, 1, 1024, 4096, [no, yes]);
        report.product(1, 4096, 1024, 1, [no, no]);
        report.product(1, 8, 1024, 4096, [no, no]);
        report.product(1, 8, 1024, 4096, [no, yes]);
        report.product(1, 1024, 8, 4096, [yes, no]);
        // Layers of the training workloads: forward, gradient of the weights, gradient of the input.
        let layers = [
            [128, 784, 512],
            [128, 512, 512],
            [128, 512, 10],
            [1024, 256, 768],
            [1024, 256, 1024],
            [1024, 1024, 256],
            [800, 1024, 83],
            [2080, 192, 576],
            [800, 256, 4096],
        ];
        for [m, k, n] in layers {
            report.product(1, m, k, n, [no, yes]);
            report.product(1, n, m, k, [yes, no]);
            report.product(1, m, n, k, [no, no]);
        }
        for [batch, m, k, n] in [[96, 65, 64, 65], [32, 128, 64, 128], [64, 128, 64, 128]] {
            report.product(batch, m, k, n, [no, yes]);
            report.product(batch, m, n, k, [no, no]);
            report.product(batch, n, m, k, [yes, no]);
        }
        report.product(64, 64, 32, 64, [no, yes]);
        report.product(64, 128, 128, 64, [no, no]);
        report.convolution("1→32 3×3 28×28 ×64", square(64, [1, 32], 28, 3, 1, 1));
        report.convolution("32→64 3×3 14×14 ×64", square(64, [32, 64], 14, 3, 1, 1));
        report.convolution("64→64 3×3 32×32 ×32", square(32, [64, 64], 32, 3, 1, 1));
        report.convolution("128→128 3×3 16×16 ×32", square(32, [128, 128], 16, 3, 1, 1));
        report.convolution("256→256 3×3 8×8 ×32", square(32, [256, 256], 8, 3, 1, 1));
        report.convolution("512→512 3×3 4×4 ×32", square(32, [512, 512], 4, 3, 1, 1));
        report.convolution("64→128 3×3/2 32×32 ×32", square(32, [64, 128], 32, 3, 2, 1));
        report.convolution("64→128 1×1/2 32×32 ×32", square(32, [64, 128], 32, 1, 2, 0));
        report.convolution("64→256 1×1 32×32 ×32", square(32, [64, 256], 32, 1, 1, 0));
        report.convolution("1→6 5×5 28×28 ×64", square(64, [1, 6], 28, 5, 1, 2));
        report.convolution("6→16 5×5 14×14 ×64", square(64, [6, 16], 14, 5, 1, 0));
        report.convolution("4→32 8×8/4 80×80 ×32", square(32, [4, 32], 80, 8, 4, 0));
        let depthwise = ConvGeometry { groups: 128, ..square(32, [128, 128], 16, 3, 1, 1) };
        report.convolution("128 depthwise 3×3 16×16 ×32", depthwise);
    }
}
