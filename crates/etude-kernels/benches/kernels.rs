//! Kernels against the machine's peak: `cargo bench -p etude-kernels --bench kernels -- [part of a name]`.
//!
//! The rate beside each time counts floating-point operations (products) or bytes moved once (the rest); `peak` and `copy`
//! measure what this machine can do with as many threads in the same run. `ETUDE_SIMD` chooses the instruction set.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use etude_kernels::matmul::{Operand, matmul};
use etude_kernels::threads::{parallel, threads};
use etude_kernels::tile::{BinaryOp, Input, Instruction, Prepared, Program, ReduceOp, Source, UnaryOp};
use etude_kernels::{Buffer, DType, cpu};
use std::sync::Mutex;

fn main() {
    println!("{} threads, {}", threads(), cpu::instruction_set());
    divan::main();
}

/// Multiply-adds that never leave the registers, on every thread.
#[divan::bench]
fn peak(bencher: Bencher) {
    const ROUNDS: usize = 1 << 16;
    let operations = threads() * ROUNDS * cpu::OPERATIONS_PER_ROUND;
    bencher.counter(ItemsCount::new(operations)).bench(|| {
        parallel(threads(), |_| {
            black_box(cpu::multiply_adds(black_box(ROUNDS)));
        });
    });
}

/// What it takes to hand out tasks that do nothing, and to know that they have ended.
#[divan::bench(args = [2, 12])]
fn hand_out(bencher: Bencher, tasks: usize) {
    bencher.bench(|| parallel(tasks, |task| _ = black_box(task)));
}

/// 6 MiB in 64 blocks, written by the core that wrote them before, or with `true` by the other of two.
#[divan::bench(args = [false, true])]
fn written_before(bencher: Bencher, by_the_other: bool) {
    const BLOCKS: usize = 64;
    let blocks: Vec<_> = (0..BLOCKS).map(|_| Mutex::new(vec![0f32; (6 << 18) / BLOCKS])).collect();
    let mut shift = 0;
    bencher.counter(BytesCount::new(6usize << 20)).bench_local(|| {
        shift = if by_the_other { BLOCKS / 2 - shift } else { 0 };
        parallel(BLOCKS, |task| blocks[(task + shift) % BLOCKS].lock().expect("no task panics").fill(shift as f32));
    });
}

fn values(count: usize) -> Buffer {
    let values: Vec<f32> = (0..count).map(|i| (i % 4001) as f32 * 1e-3 - 2.0).collect();
    Buffer::from_slice(&values)
}

/// A batch of products; `turned` says which sides lie transposed.
fn product(bencher: Bencher, batch: usize, [m, k, n]: [usize; 3], turned: [bool; 2]) {
    let (a, b) = (values(batch * m * k), values(batch * k * n));
    let mut out = values(batch * m * n);
    let offsets = |size: usize| (0..batch).map(|i| i * size).collect::<Vec<_>>();
    let (a_offsets, b_offsets) = (offsets(m * k), offsets(k * n));
    let strides = |turned: bool, rows: usize, columns: usize| match turned {
        true => (1, rows as isize),
        false => (columns as isize, 1),
    };
    let ((a_row, a_column), (b_row, b_column)) = (strides(turned[0], m, k), strides(turned[1], k, n));
    bencher.counter(ItemsCount::new(2 * batch * m * k * n)).bench_local(|| {
        let a = Operand { data: a.as_slice::<f32>(), offsets: &a_offsets, row_stride: a_row, column_stride: a_column };
        let b = Operand { data: b.as_slice::<f32>(), offsets: &b_offsets, row_stride: b_row, column_stride: b_column };
        matmul(m, k, n, a, b, black_box(out.as_mut_slice::<f32>()));
    });
}

#[divan::bench(args = [64, 128, 256, 512, 1024])]
fn square(bencher: Bencher, n: usize) {
    product(bencher, 1, [n, n, n], [false, false]);
}

/// Rows, depth and columns of layers in training: batch, inputs, outputs.
const LAYERS: [[usize; 3]; 6] =
    [[128, 784, 512], [128, 512, 10], [1024, 256, 768], [1024, 1024, 256], [800, 1024, 83], [8, 1024, 4096]];

#[divan::bench(args = LAYERS)]
fn layer(bencher: Bencher, [m, k, n]: [usize; 3]) {
    product(bencher, 1, [m, k, n], [false, true]);
}

#[divan::bench(args = LAYERS)]
fn layer_weight_gradient(bencher: Bencher, [m, k, n]: [usize; 3]) {
    product(bencher, 1, [n, m, k], [true, false]);
}

#[divan::bench(args = LAYERS)]
fn layer_input_gradient(bencher: Bencher, [m, k, n]: [usize; 3]) {
    product(bencher, 1, [m, n, k], [false, false]);
}

#[divan::bench(args = [[65, 64, 65], [128, 64, 128]])]
fn batch_of_96(bencher: Bencher, sizes: [usize; 3]) {
    product(bencher, 96, sizes, [false, true]);
}

/// A tile program over f32 with one input and one output.
fn program(ops: &[UnaryOp], last: impl FnOnce(u16) -> Instruction) -> Prepared {
    let mut instructions = vec![Instruction::Load { to: 0, input: 0 }];
    let unary =
        |(i, &op): (usize, &UnaryOp)| Instruction::Unary { op, dtype: DType::F32, to: i as u16 + 1, from: i as u16 };
    instructions.extend(ops.iter().enumerate().map(unary));
    instructions.push(last(ops.len() as u16));
    let program = Program { instructions, inputs: vec![DType::F32], outputs: vec![DType::F32] };
    program.prepare().unwrap_or_else(|message| panic!("{message}"))
}

const ELEMENTS: usize = 1 << 18;

/// What one pass over memory takes.
#[divan::bench]
fn copy(bencher: Bencher) {
    chain(bencher, &[]);
}

#[divan::bench(args = [UnaryOp::Exp, UnaryOp::Ln, UnaryOp::Tanh, UnaryOp::Erf, UnaryOp::Sigmoid, UnaryOp::Sqrt])]
fn function(bencher: Bencher, op: UnaryOp) {
    chain(bencher, &[op]);
}

fn chain(bencher: Bencher, ops: &[UnaryOp]) {
    let prepared = program(ops, |from| Instruction::Store { output: 0, from });
    let (x, mut y) = (values(ELEMENTS), values(ELEMENTS));
    bencher.counter(BytesCount::new(8 * ELEMENTS)).bench_local(|| {
        let input = Input { source: Source::Buffer(&x), offset: 0, strides: &[1] };
        prepared.run(&[ELEMENTS], &[], &[input], &[], &mut [black_box(&mut y)]);
    });
}

/// `x·x + x`: arithmetic whose middle value never reaches memory.
#[divan::bench(args = [32, 4096, ELEMENTS])]
fn arithmetic(bencher: Bencher, elements: usize) {
    let binary = |op, to, a, b| Instruction::Binary { op, dtype: DType::F32, to, a, b };
    let instructions = vec![
        Instruction::Load { to: 0, input: 0 },
        binary(BinaryOp::Mul, 1, 0, 0),
        binary(BinaryOp::Add, 2, 1, 0),
        Instruction::Store { output: 0, from: 2 },
    ];
    let program = Program { instructions, inputs: vec![DType::F32], outputs: vec![DType::F32] };
    let prepared = program.prepare().unwrap_or_else(|message| panic!("{message}"));
    let (x, mut y) = (values(elements), values(elements));
    bencher.counter(BytesCount::new(8 * elements)).bench_local(|| {
        let input = Input { source: Source::Buffer(&x), offset: 0, strides: &[1] };
        prepared.run(&[elements], &[], &[input], &[], &mut [black_box(&mut y)]);
    });
}

/// Sums of `[64, 64, 64]` over one axis: the strides of the two kept axes, then of the summed one.
#[divan::bench(args = [[64, 1, 4096], [4096, 1, 64], [4096, 64, 1]])]
fn sum_over_axis(bencher: Bencher, strides: [isize; 3]) {
    let prepared = program(&[], |from| Instruction::Reduce { op: ReduceOp::Sum, dtype: DType::F32, output: 0, from });
    let (x, mut y) = (values(64 * 64 * 64), values(64 * 64));
    bencher.counter(BytesCount::new(4 * 64 * 64 * 64usize)).bench_local(|| {
        let input = Input { source: Source::Buffer(&x), offset: 0, strides: &strides };
        prepared.run(&[64, 64], &[64], &[input], &[], &mut [black_box(&mut y)]);
    });
}
