//! How fast tile programs run, beside a plain copy loop: `cargo run --release -p etude-kernels --example tile`.

use etude_kernels::tile::{BinaryOp, Input, Instruction, Prepared, Program, ReduceOp, Scalar, Source, UnaryOp};
use etude_kernels::{Buffer, DType};
use std::time::Instant;

/// A program under construction: every method returns the register it wrote.
struct Chain(Program, u16);

impl Chain {
    fn new() -> Chain {
        Chain(Program { instructions: Vec::new(), inputs: Vec::new(), outputs: Vec::new() }, 0)
    }

    fn next(&mut self, make: impl FnOnce(u16) -> Instruction) -> u16 {
        let to = self.1;
        self.0.instructions.push(make(to));
        self.1 += 1;
        to
    }

    fn load(&mut self) -> u16 {
        let input = self.0.inputs.len();
        self.0.inputs.push(DType::F32);
        self.next(|to| Instruction::Load { to, input })
    }

    fn scalar(&mut self, index: usize) -> u16 {
        self.next(|to| Instruction::Scalar { to, index, dtype: DType::F32 })
    }

    fn unary(&mut self, op: UnaryOp, from: u16) -> u16 {
        self.next(|to| Instruction::Unary { op, dtype: DType::F32, to, from })
    }

    fn binary(&mut self, op: BinaryOp, a: u16, b: u16) -> u16 {
        self.next(|to| Instruction::Binary { op, dtype: DType::F32, to, a, b })
    }

    fn store(&mut self, from: u16) {
        let output = self.0.outputs.len();
        self.0.outputs.push(DType::F32);
        self.0.instructions.push(Instruction::Store { output, from });
    }

    fn sum(&mut self, from: u16) {
        let output = self.0.outputs.len();
        self.0.outputs.push(DType::F32);
        self.0.instructions.push(Instruction::Reduce { op: ReduceOp::Sum, dtype: DType::F32, output, from });
    }

    fn prepare(self) -> Prepared {
        self.0.prepare().unwrap_or_else(|message| panic!("{message}"))
    }
}

/// The shortest time of a call in seconds, over about a third of a second: what others on the machine disturb least.
fn shortest(mut call: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || (begin.elapsed().as_secs_f64() < 0.3 && times.len() < 20_000) {
        let start = Instant::now();
        call();
        times.push(start.elapsed().as_secs_f64());
    }
    times.into_iter().fold(f64::INFINITY, f64::min)
}

fn report(name: &str, bytes: usize, elements: usize, seconds: f64) {
    let (rate, each) = (bytes as f64 / seconds / 1e9, seconds / elements as f64 * 1e9);
    println!("{name:44} {:10.2} us {rate:8.2} GB/s {each:7.3} ns/element", seconds * 1e6);
}

/// `m += (g−m)·c0; v += (g²−v)·c1; p −= lr·m / (√(v·c)+ε)`, all in place.
fn adam() -> Prepared {
    use BinaryOp::*;
    let mut chain = Chain::new();
    let (p, g, m, v) = (chain.load(), chain.load(), chain.load(), chain.load());
    let constants: Vec<u16> = (0..5).map(|index| chain.scalar(index)).collect();
    let change = chain.binary(Sub, g, m);
    let change = chain.binary(Mul, change, constants[0]);
    let m = chain.binary(Add, m, change);
    let square = chain.binary(Mul, g, g);
    let change = chain.binary(Sub, square, v);
    let change = chain.binary(Mul, change, constants[1]);
    let v = chain.binary(Add, v, change);
    let scaled = chain.binary(Mul, v, constants[2]);
    let root = chain.unary(UnaryOp::Sqrt, scaled);
    let bottom = chain.binary(Add, root, constants[3]);
    let top = chain.binary(Mul, m, constants[4]);
    let step = chain.binary(Div, top, bottom);
    let p = chain.binary(Sub, p, step);
    chain.store(p);
    chain.store(m);
    chain.store(v);
    chain.prepare()
}

fn run_adam(elements: usize) -> f64 {
    let adam = adam();
    let numbers = [0.1, 0.001, 1.2, 1e-8, 1e-3].map(Scalar::Float);
    let values: Vec<f32> = (0..elements).map(|i| (i % 1000) as f32 * 1e-3).collect();
    let grad = Buffer::from_slice(&values);
    let (mut p, mut m, mut v) = (grad.clone(), grad.clone(), grad.clone());
    shortest(|| {
        let at = |source| Input { source, offset: 0, strides: &[1] };
        let inputs = [at(Source::Output(0)), at(Source::Buffer(&grad)), at(Source::Output(1)), at(Source::Output(2))];
        adam.run(&[elements], &[], &inputs, &numbers, &mut [&mut p, &mut m, &mut v]);
    })
}

fn main() {
    // An argument is the number of threads.
    if let Some(count) = std::env::args().nth(1).and_then(|text| text.parse().ok()) {
        etude_kernels::threads::set_threads(count);
    }
    let n = 1 << 20;
    let values: Vec<f32> = (0..16 * n).map(|i| (i % 4001) as f32 * 1e-3 - 2.0).collect();
    let big = Buffer::from_slice(&values);
    let mut out = Buffer::zeroed(big.bytes());
    println!("{} threads", etude_kernels::threads::threads());

    let seconds = shortest(|| out.as_mut_slice::<f32>().copy_from_slice(big.as_slice()));
    report("plain copy, 16M (read + write)", 128 * n, 16 * n, seconds);
    let seconds = shortest(|| out.as_mut_slice::<f32>()[..n].copy_from_slice(&big.as_slice()[..n]));
    report("plain copy, 1M", 8 * n, n, seconds);
    let seconds = shortest(|| {
        etude_kernels::threads::parallel_chunks(out.as_mut_slice::<f32>(), 1 << 16, |index, piece| {
            piece.copy_from_slice(&big.as_slice()[index << 16..][..piece.len()])
        })
    });
    report("parallel plain copy, 16M", 128 * n, 16 * n, seconds);

    let mut chain = Chain::new();
    let x = chain.load();
    chain.store(x);
    let copy = chain.prepare();
    let mut run = |program: &Prepared, kept: &[usize], reduced: &[usize], strides: &[&[isize]]| {
        let inputs: Vec<Input> =
            strides.iter().map(|strides| Input { source: Source::Buffer(&big), offset: 0, strides }).collect();
        shortest(|| program.run(kept, reduced, &inputs, &[Scalar::Float(0.5)], &mut [&mut out]))
    };
    report("tile copy, 16M", 128 * n, 16 * n, run(&copy, &[16 * n], &[], &[&[1]]));
    report("transposed copy, 2048x2048", 32 * n, 4 * n, run(&copy, &[2048, 2048], &[], &[&[1, 2048]]));
    report("transposed copy, 2000x2000", 32_000_000, 4_000_000, run(&copy, &[2000, 2000], &[], &[&[1, 2000]]));
    report(
        "NHWC to NCHW copy, [32, 64, 56*56]",
        8 * 32 * 64 * 3136,
        32 * 64 * 3136,
        run(&copy, &[32, 64, 3136], &[], &[&[64 * 3136, 1, 64]]),
    );

    let mut chain = Chain::new();
    let (a, b, c) = (chain.load(), chain.load(), chain.load());
    let ab = chain.binary(BinaryOp::Mul, a, b);
    let y = chain.binary(BinaryOp::Add, ab, c);
    chain.store(y);
    let affine = chain.prepare();
    let shape = [1024, 1024];
    report(
        "a*b+c, [1024,1024]*[1024,1024]+[1024]",
        12 * n,
        n,
        run(&affine, &shape, &[], &[&[1024, 1], &[1024, 1], &[0, 1]]),
    );
    report("a*b+c, [1024,1024]*[1024,1]+[1024]", 8 * n, n, run(&affine, &shape, &[], &[&[1024, 1], &[1, 0], &[0, 1]]));
    let shape = [n / 8, 8];
    report("a*b+c, [131072,8]*[131072,1]+[8]", 8 * n, n, run(&affine, &shape, &[], &[&[8, 1], &[1, 0], &[0, 1]]));
    let shape = [n / 2, 2];
    report("a*b+c, [524288,2]*[524288,1]+[2]", 8 * n, n, run(&affine, &shape, &[], &[&[2, 1], &[1, 0], &[0, 1]]));
    report("a*b+c, [32,64]*[64]+[64]", 8 * 2048, 2048, run(&affine, &[32, 64], &[], &[&[64, 1], &[0, 1], &[0, 1]]));
    report("a*b+c, 16 elements", 16 * 16, 16, run(&affine, &[16], &[], &[&[1], &[1], &[1]]));

    for op in [UnaryOp::Exp, UnaryOp::Ln, UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Erf, UnaryOp::Sin, UnaryOp::Sqrt] {
        let mut chain = Chain::new();
        let x = chain.load();
        let y = chain.unary(op, x);
        chain.store(y);
        report(&format!("{op:?}, 1M"), 8 * n, n, run(&chain.prepare(), &[n], &[], &[&[1]]));
    }
    let mut chain = Chain::new();
    let x = chain.load();
    let half = chain.scalar(0);
    let y = chain.binary(BinaryOp::Mul, x, half);
    let e = chain.unary(UnaryOp::Erf, y);
    let e = chain.binary(BinaryOp::Mul, e, half);
    let e = chain.binary(BinaryOp::Add, e, half);
    let y = chain.binary(BinaryOp::Mul, e, x);
    chain.store(y);
    report("gelu by erf, 1M", 8 * n, n, run(&chain.prepare(), &[n], &[], &[&[1]]));

    let mut chain = Chain::new();
    let x = chain.load();
    chain.sum(x);
    let sum = chain.prepare();
    report("sum of 1M", 4 * n, n, run(&sum, &[], &[n], &[&[1]]));
    report("row sums, [1024,1024]", 4 * n, n, run(&sum, &[1024], &[1024], &[&[1024, 1]]));
    report("row sums, [100000,10]", 4_000_000, 1_000_000, run(&sum, &[100_000], &[10], &[&[10, 1]]));
    report("column sums, [1024,1024]", 4 * n, n, run(&sum, &[1024], &[1024], &[&[1, 1024]]));
    report("column sums, [100000,10]", 4_000_000, 1_000_000, run(&sum, &[10], &[100_000], &[&[1, 10]]));
    report("column sums, [64,128]", 4 * 8192, 8192, run(&sum, &[128], &[64], &[&[1, 128]]));
    report(
        "sums of channels, [32,64,28*28]",
        4 * 32 * 64 * 784,
        32 * 64 * 784,
        run(&sum, &[64], &[32, 784], &[&[784, 64 * 784, 1]]),
    );

    for elements in [2048, 65_536, n, 4 * n] {
        report(&format!("adam, {elements}"), 28 * elements, elements, run_adam(elements));
    }
}
