//! Programs against an evaluator that knows nothing of tiles: one position at a time, wide numbers, no strides tricks.

use super::*;
use crate::cpu::forced;
use crate::threads::set_threads;
use std::sync::{Mutex, MutexGuard};
use {BinaryOp::*, DType::*, UnaryOp::*};

/// Tests that set the number of threads take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// One element: floats as f64, the rest as i64.
#[derive(Clone, Copy, Debug)]
enum Cell {
    F(f64),
    I(i64),
}

impl Cell {
    fn float(self) -> f64 {
        match self {
            Cell::F(x) => x,
            Cell::I(x) => x as f64,
        }
    }

    fn int(self) -> i64 {
        match self {
            Cell::F(x) => x as i64,
            Cell::I(x) => x,
        }
    }

    /// Rounded or wrapped to the dtype, as arithmetic in it does.
    fn fit(self, dtype: DType) -> Cell {
        match (self, dtype) {
            (Cell::F(x), F32) => Cell::F(x as f32 as f64),
            (Cell::I(x), I32) => Cell::I(x as i32 as i64),
            (Cell::I(x), U8) => Cell::I(x as u8 as i64),
            (cell, _) => cell,
        }
    }

    /// Converted as `as` does.
    fn cast(self, to: DType) -> Cell {
        match (self, to) {
            (Cell::F(x), F32) => Cell::F(x as f32 as f64),
            (Cell::I(x), F32) => Cell::F(x as f32 as f64),
            (cell, F64) => Cell::F(cell.float()),
            (Cell::F(x), I32) => Cell::I(x as i32 as i64),
            (Cell::F(x), U8) => Cell::I(x as u8 as i64),
            (Cell::F(x), Bool) => Cell::I((x != 0.0) as i64),
            (Cell::I(x), Bool) => Cell::I((x != 0) as i64),
            (cell, I64) => Cell::I(cell.int()),
            (cell, _) => cell.fit(to),
        }
    }

    fn same(self, other: Cell) -> bool {
        match (self, other) {
            (Cell::F(a), Cell::F(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Cell::I(a), Cell::I(b)) => a == b,
            _ => false,
        }
    }
}

fn cells(buffer: &Buffer, dtype: DType) -> Vec<Cell> {
    match dtype {
        F32 => buffer.as_slice::<f32>().iter().map(|&x| Cell::F(x as f64)).collect(),
        F64 => buffer.as_slice::<f64>().iter().map(|&x| Cell::F(x)).collect(),
        I32 => buffer.as_slice::<i32>().iter().map(|&x| Cell::I(x as i64)).collect(),
        I64 => buffer.as_slice::<i64>().iter().map(|&x| Cell::I(x)).collect(),
        U8 | Bool => buffer.as_slice::<u8>().iter().map(|&x| Cell::I(x as i64)).collect(),
    }
}

fn buffer(values: &[Cell], dtype: DType) -> Buffer {
    match dtype {
        F32 => Buffer::from_slice(&values.iter().map(|c| c.float() as f32).collect::<Vec<_>>()),
        F64 => Buffer::from_slice(&values.iter().map(|c| c.float()).collect::<Vec<_>>()),
        I32 => Buffer::from_slice(&values.iter().map(|c| c.int() as i32).collect::<Vec<_>>()),
        I64 => Buffer::from_slice(&values.iter().map(|c| c.int()).collect::<Vec<_>>()),
        U8 | Bool => Buffer::from_slice(&values.iter().map(|c| c.int() as u8).collect::<Vec<_>>()),
    }
}

/// Random elements, mostly small, some awkward.
fn random_buffer(random: &mut Random, count: usize, dtype: DType) -> Buffer {
    let values: Vec<Cell> = (0..count)
        .map(|_| {
            let small = random.below(2001) as i64 - 1000;
            match dtype {
                Bool => Cell::I(small & 1),
                U8 => Cell::I(small & 255),
                I32 | I64 => Cell::I(if random.below(50) == 0 { i32::MIN as i64 + small.abs() } else { small / 50 }),
                _ => match random.below(40) {
                    0 => Cell::F(random.pick(&[0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e30, -1e-30])),
                    _ => Cell::F(small as f64 / 256.0),
                },
            }
        })
        .collect();
    buffer(&values, dtype)
}

fn unary_cell(op: UnaryOp, x: Cell, dtype: DType) -> Cell {
    if let Cell::I(x) = x {
        let y = match op {
            Neg => x.wrapping_neg(),
            Abs if dtype != U8 => x.wrapping_abs(),
            Sign => x.signum(),
            Not => (x == 0) as i64,
            _ => x,
        };
        return Cell::I(y).fit(dtype);
    }
    let x = x.float();
    if op == IsNan {
        return Cell::I(x.is_nan() as i64);
    }
    let y = match op {
        Neg => -x,
        Abs => x.abs(),
        Sign => {
            if x.is_nan() || x == 0.0 {
                x
            } else {
                x.signum()
            }
        }
        Floor => x.floor(),
        Ceil => x.ceil(),
        Round => x.round_ties_even(),
        Exp => x.exp(),
        Expm1 => x.exp_m1(),
        Ln => x.ln(),
        Log1p => x.ln_1p(),
        Sqrt => x.sqrt(),
        // The f32 form rounds the root first; within an ulp of this.
        Rsqrt => 1.0 / x.sqrt(),
        Reciprocal => 1.0 / x,
        Sin => x.sin(),
        Cos => x.cos(),
        Tan => x.tan(),
        Asin => x.asin(),
        Acos => x.acos(),
        Atan => x.atan(),
        Sinh => x.sinh(),
        Cosh => x.cosh(),
        Tanh => x.tanh(),
        Asinh => x.asinh(),
        Acosh => x.acosh(),
        Atanh => x.atanh(),
        Erf => crate::math::erf_f64(x),
        _ => 1.0 / (1.0 + (-x).exp()),
    };
    Cell::F(y).fit(dtype)
}

fn binary_cell(op: BinaryOp, a: Cell, b: Cell, dtype: DType) -> Cell {
    if let (Cell::I(a), Cell::I(b)) = (a, b) {
        let y = match op {
            Add => a.wrapping_add(b),
            Sub => a.wrapping_sub(b),
            Mul => a.wrapping_mul(b),
            Div => {
                if b == 0 {
                    0
                } else {
                    a.wrapping_div(b)
                }
            }
            Rem => {
                if b == 0 {
                    0
                } else {
                    a - b * (a as f64 / b as f64).floor() as i64
                }
            }
            Pow if b < 0 => {
                if a.abs() == 1 {
                    if b % 2 == 0 { 1 } else { a }
                } else {
                    0
                }
            }
            Pow => (0..b.min(300)).fold(1i64, |y, _| y.wrapping_mul(a)),
            Min => a.min(b),
            Max => a.max(b),
            Equal => return Cell::I((a == b) as i64),
            NotEqual => return Cell::I((a != b) as i64),
            Less => return Cell::I((a < b) as i64),
            LessEqual => return Cell::I((a <= b) as i64),
            Greater => return Cell::I((a > b) as i64),
            GreaterEqual => return Cell::I((a >= b) as i64),
            And => a & b,
            Or => a | b,
            _ => a ^ b,
        };
        return Cell::I(y).fit(dtype);
    }
    let (a, b) = (a.float(), b.float());
    let truth = |t: bool| Cell::I(t as i64);
    let nan = a.is_nan() || b.is_nan();
    Cell::F(match op {
        Add => a + b,
        Sub => a - b,
        Mul => a * b,
        Div => a / b,
        Rem => {
            let r = a % b;
            if r != 0.0 && r.signum() != b.signum() { r + b } else { r }
        }
        Pow => a.powf(b),
        Atan2 => a.atan2(b),
        Min | Max if nan => f64::NAN,
        Min => a.min(b),
        Max => a.max(b),
        Equal => return truth(a == b),
        NotEqual => return truth(a != b),
        Less => return truth(a < b),
        LessEqual => return truth(a <= b),
        Greater => return truth(a > b),
        _ => return truth(a >= b),
    })
    .fit(dtype)
}

/// What the evaluator knows of an input: elements, offset, strides.
type Plain = (Vec<Cell>, usize, Vec<isize>);

/// Runs a program one position at a time. Also gives, for each output, the sum of magnitudes that a float sum's error
/// is measured against.
fn evaluate(
    program: &Program,
    kept: &[usize],
    reduced: &[usize],
    inputs: &[Plain],
    scalars: &[Scalar],
) -> Vec<(Vec<Cell>, Vec<f64>)> {
    let shape: Vec<usize> = kept.iter().chain(reduced).copied().collect();
    let total: usize = shape.iter().product();
    let outer: usize = kept.iter().product();
    let inner: usize = reduced.iter().product();
    let mut outputs = vec![(Vec::new(), Vec::new()); program.outputs.len()];
    for instruction in &program.instructions {
        match *instruction {
            Instruction::Store { output, .. } => outputs[output].0 = vec![Cell::I(-99); total],
            Instruction::Reduce { op, dtype, output, .. } => {
                let identity = match op {
                    ReduceOp::Sum => Cell::F(0.0),
                    ReduceOp::Prod => Cell::F(1.0),
                    ReduceOp::Max => Cell::F(f64::NEG_INFINITY),
                    ReduceOp::Min => Cell::F(f64::INFINITY),
                };
                // Saturates for integers.
                let identity = if dtype.is_float() { identity } else { Cell::I(identity.int()) };
                let identity = match (op, dtype) {
                    (ReduceOp::Max, I32) => Cell::I(i32::MIN as i64),
                    (ReduceOp::Min, I32) => Cell::I(i32::MAX as i64),
                    (ReduceOp::Max, U8 | Bool) => Cell::I(0),
                    (ReduceOp::Min, U8) => Cell::I(255),
                    (ReduceOp::Min, Bool) => Cell::I(1),
                    _ => identity,
                };
                outputs[output] = (vec![identity; outer], vec![0.0; outer]);
            }
            _ => {}
        }
    }
    let mut registers = [Cell::I(0); MAX_REGISTERS];
    for position in 0..total {
        let (mut rest, mut index) = (position, vec![0; shape.len()]);
        for axis in (0..shape.len()).rev() {
            index[axis] = rest % shape[axis];
            rest /= shape[axis];
        }
        for instruction in &program.instructions {
            match *instruction {
                Instruction::Load { to, input } => {
                    let (values, offset, strides) = &inputs[input];
                    let at: isize = index.iter().zip(strides).map(|(&i, &s)| i as isize * s).sum();
                    registers[to as usize] = values[(*offset as isize + at) as usize];
                }
                Instruction::Scalar { to, index, dtype } => {
                    let cell = match scalars[index] {
                        Scalar::Float(x) => Cell::F(x),
                        Scalar::Int(x) => Cell::I(x),
                    };
                    registers[to as usize] = cell.cast(dtype);
                }
                Instruction::Unary { op, dtype, to, from } => {
                    registers[to as usize] = unary_cell(op, registers[from as usize], dtype);
                }
                Instruction::Binary { op, dtype, to, a, b } => {
                    registers[to as usize] = binary_cell(op, registers[a as usize], registers[b as usize], dtype);
                }
                Instruction::Select { to, condition, a, b, .. } => {
                    let chosen = if registers[condition as usize].int() != 0 { a } else { b };
                    registers[to as usize] = registers[chosen as usize];
                }
                Instruction::Cast { to_dtype, to, from, .. } => {
                    registers[to as usize] = registers[from as usize].cast(to_dtype);
                }
                Instruction::Store { output, from } => outputs[output].0[position] = registers[from as usize],
                Instruction::Reduce { op, dtype, output, from } => {
                    let x = registers[from as usize];
                    let place = position / inner;
                    let wide = if dtype == F32 { F64 } else { dtype };
                    let binary = match op {
                        ReduceOp::Sum => Add,
                        ReduceOp::Prod => Mul,
                        ReduceOp::Max => Max,
                        ReduceOp::Min => Min,
                    };
                    outputs[output].0[place] = binary_cell(binary, outputs[output].0[place], x, wide);
                    outputs[output].1[place] += x.float().abs();
                }
            }
        }
    }
    outputs
}

/// A random view: strides and offset into a buffer of the returned length, for each axis of `shape`.
fn random_view(random: &mut Random, shape: &[usize]) -> (usize, Vec<isize>, usize) {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    if random.below(3) == 0 {
        for i in (1..order.len()).rev() {
            order.swap(i, random.below(i + 1));
        }
    }
    let plain = random.below(3) == 0;
    let (mut strides, mut step, mut offset) = (vec![0isize; shape.len()], 1usize, 0);
    for &axis in order.iter().rev() {
        match if plain { 9 } else { random.below(10) } {
            0 | 1 => continue,
            2 => step *= 2,
            3 => {
                strides[axis] = -(step as isize);
                offset += step * shape[axis].saturating_sub(1);
                step *= shape[axis].max(1);
                continue;
            }
            _ => {}
        }
        strides[axis] = step as isize;
        step *= shape[axis].max(1);
    }
    let padding = random.below(3);
    (offset + padding, strides, step + padding + 1)
}

/// Runs a program and holds it to the evaluator; in-place inputs are (input, output) pairs. `tolerance` is relative to
/// the value, or for sums to the sum of magnitudes; 0 asks for equality.
fn check_run(
    program: &Program,
    kept: &[usize],
    reduced: &[usize],
    storage: &[(Buffer, usize, Vec<isize>)],
    in_place: &[(usize, usize)],
    scalars: &[Scalar],
    tolerance: f64,
) -> Vec<Buffer> {
    let plain: Vec<Plain> = storage
        .iter()
        .zip(&program.inputs)
        .map(|((data, offset, strides), &dtype)| (cells(data, dtype), *offset, strides.clone()))
        .collect();
    let expected = evaluate(program, kept, reduced, &plain, scalars);
    let mut last = vec![];
    forced::on_each_set(|set| {
        let prepared = program.clone().prepare().unwrap();
        let mut outputs: Vec<Buffer> =
            expected.iter().zip(&program.outputs).map(|(e, d)| Buffer::zeroed(e.0.len() * d.size())).collect();
        for &(input, output) in in_place {
            let bytes = outputs[output].bytes();
            outputs[output].as_mut_slice::<u8>().copy_from_slice(&storage[input].0.as_slice::<u8>()[..bytes]);
        }
        let inputs: Vec<Input> = storage
            .iter()
            .enumerate()
            .map(|(number, (data, offset, strides))| {
                let source = match in_place.iter().find(|pair| pair.0 == number) {
                    Some(&(_, output)) => Source::Output(output),
                    None => Source::Buffer(data),
                };
                Input { source, offset: *offset, strides }
            })
            .collect();
        let mut targets: Vec<&mut Buffer> = outputs.iter_mut().collect();
        prepared.run(kept, reduced, &inputs, scalars, &mut targets);
        for (number, ((want, magnitude), &dtype)) in expected.iter().zip(&program.outputs).enumerate() {
            for (position, (got, &want)) in cells(&outputs[number], dtype).into_iter().zip(want).enumerate() {
                let want = want.fit(dtype);
                let scale = want.float().abs().max(magnitude.get(position).copied().unwrap_or(0.0));
                let near = (got.float() - want.float()).abs() <= tolerance * scale;
                assert!(
                    got.same(want) || (tolerance > 0.0 && near),
                    "{set}: output {number}[{position}] = {got:?}, not {want:?}\n{program:?}\nkept {kept:?} reduced {reduced:?} \
                 views {:?} in place {in_place:?}",
                    storage.iter().map(|s| (s.1, &s.2)).collect::<Vec<_>>()
                );
            }
        }
        last = outputs;
    });
    last
}

/// A contiguous input of `count` random elements.
fn line(random: &mut Random, count: usize, dtype: DType) -> (Buffer, usize, Vec<isize>) {
    (random_buffer(random, count, dtype), 0, vec![1])
}

const LENGTHS: [usize; 10] = [0, 1, 2, 7, 31, 65, 511, 513, 1025, 4099];

const UNARY: [UnaryOp; 29] = [
    Neg, Abs, Sign, Floor, Ceil, Round, Exp, Expm1, Ln, Log1p, Sqrt, Rsqrt, Reciprocal, Sin, Cos, Tan, Asin, Acos,
    Atan, Sinh, Cosh, Tanh, Asinh, Acosh, Atanh, Erf, Sigmoid, Not, IsNan,
];

const BINARY: [BinaryOp; 18] = [
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
    Atan2,
    Min,
    Max,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Xor,
];

#[test]
fn every_unary_operation_on_every_dtype() {
    let mut random = Random(1);
    let mut found = 0;
    for dtype in DType::ALL {
        for op in UNARY {
            let program = Program {
                instructions: vec![
                    Instruction::Load { to: 0, input: 0 },
                    Instruction::Unary { op, dtype, to: 1, from: 0 },
                    Instruction::Store { output: 0, from: 1 },
                ],
                inputs: vec![dtype],
                outputs: vec![if op == IsNan { Bool } else { dtype }],
            };
            if program.check().is_err() {
                assert!(op == Not || !dtype.is_float(), "{op:?} of {dtype}");
                continue;
            }
            found += 1;
            let exact = matches!(op, Neg | Abs | Sign | Floor | Ceil | Round | Sqrt | Reciprocal | Not | IsNan);
            // Four units in the last place; the f64 functions are the reference's own, but for the sigmoid's form.
            let tolerance = if exact || !dtype.is_float() { 0.0 } else { [5e-7, 4e-16][(dtype == F64) as usize] };
            for count in LENGTHS {
                let input = line(&mut random, count, dtype);
                check_run(&program, &[count], &[], &[input], &[], &[], tolerance);
            }
        }
    }
    assert_eq!(found, 2 * 28 + 3 * 6 + 1);
}

#[test]
fn every_binary_operation_on_every_dtype_with_uniform_arguments_on_either_side() {
    let mut random = Random(2);
    let mut found = 0;
    for dtype in DType::ALL {
        for op in BINARY {
            let program = Program {
                instructions: vec![
                    Instruction::Load { to: 0, input: 0 },
                    Instruction::Load { to: 1, input: 1 },
                    Instruction::Binary { op, dtype, to: 2, a: 0, b: 1 },
                    Instruction::Store { output: 0, from: 2 },
                ],
                inputs: vec![dtype; 2],
                outputs: vec![if op.is_comparison() { Bool } else { dtype }],
            };
            if program.check().is_err() {
                continue;
            }
            found += 1;
            let inexact = dtype.is_float() && matches!(op, Pow | Atan2);
            let tolerance = if inexact { [2e-7, 4e-16][(dtype == F64) as usize] } else { 0.0 };
            for count in LENGTHS {
                for pattern in 0..4 {
                    let mut inputs = [line(&mut random, count.max(1), dtype), line(&mut random, count.max(1), dtype)];
                    inputs[0].2[0] = (pattern & 1 == 0) as isize;
                    inputs[1].2[0] = (pattern & 2 == 0) as isize;
                    check_run(&program, &[count], &[], &inputs, &[], &[], tolerance);
                }
            }
        }
    }
    // Floats: 9 and 6 comparisons; integers lack atan2; bools: min, max, and, or, xor.
    assert_eq!(found, 2 * 15 + 3 * 14 + 11);
}

#[test]
fn every_cast() {
    let mut random = Random(3);
    for from_dtype in DType::ALL {
        for to_dtype in DType::ALL {
            let program = Program {
                instructions: vec![
                    Instruction::Load { to: 0, input: 0 },
                    Instruction::Cast { from_dtype, to_dtype, to: 1, from: 0 },
                    Instruction::Store { output: 0, from: 1 },
                ],
                inputs: vec![from_dtype],
                outputs: vec![to_dtype],
            };
            for count in LENGTHS {
                let input = line(&mut random, count, from_dtype);
                check_run(&program, &[count], &[], &[input], &[], &[], 0.0);
            }
        }
    }
}

/// A program of random exact operations, with stores or reductions at its end.
fn random_program(random: &mut Random, folds: bool) -> (Program, Vec<Scalar>) {
    let mut program = Program { instructions: Vec::new(), inputs: Vec::new(), outputs: Vec::new() };
    let mut held: Vec<Option<DType>> = vec![None; 12];
    let scalars = vec![Scalar::Float(1.5), Scalar::Int(-3), Scalar::Float(-0.25)];
    for _ in 0..1 + random.below(4) {
        let (dtype, to) = (random.pick(&[F32, F32, F32, F64, I32, I64, U8, Bool]), random.below(12));
        program.instructions.push(Instruction::Load { to: to as u16, input: program.inputs.len() });
        program.inputs.push(dtype);
        held[to] = Some(dtype);
    }
    for _ in 0..random.below(12) {
        let from = loop {
            let from = random.below(12);
            if held[from].is_some() {
                break from;
            }
        };
        let dtype = held[from].unwrap();
        let of = |random: &mut Random, dtype: DType| {
            let all: Vec<usize> = (0..12).filter(|&r| held[r] == Some(dtype)).collect();
            (!all.is_empty()).then(|| random.pick(&all) as u16)
        };
        let (to, from) = (random.below(12), from as u16);
        let other = of(random, dtype).unwrap();
        let (instruction, result) = match random.below(6) {
            0 => {
                let index = random.below(scalars.len());
                (Instruction::Scalar { to: to as u16, index, dtype }, dtype)
            }
            1 => {
                let op = random.pick(&[Neg, Abs, Sign, Floor, Ceil, Round, Sqrt, Not, IsNan]);
                let result = if op == IsNan { Bool } else { dtype };
                (Instruction::Unary { op, dtype, to: to as u16, from }, result)
            }
            2 => {
                let to_dtype = random.pick(&DType::ALL);
                (Instruction::Cast { from_dtype: dtype, to_dtype, to: to as u16, from }, to_dtype)
            }
            3 => match of(random, Bool) {
                Some(condition) => (Instruction::Select { dtype, to: to as u16, condition, a: from, b: other }, dtype),
                None => continue,
            },
            _ => {
                let op = random.pick(&[Add, Sub, Mul, Div, Min, Max, Less, GreaterEqual, Equal, NotEqual, And, Xor]);
                let result = if op.is_comparison() { Bool } else { dtype };
                (Instruction::Binary { op, dtype, to: to as u16, a: from, b: other }, result)
            }
        };
        program.instructions.push(instruction);
        if program.clone().prepare().is_err_and(|message| message.contains("there is no")) {
            program.instructions.pop();
            continue;
        }
        held[to] = Some(result);
        if random.below(5) == 0 {
            program.instructions.push(Instruction::Store { output: program.outputs.len(), from: to as u16 });
            program.outputs.push(result);
        }
    }
    for _ in 0..1 + random.below(2) {
        let from = (0..12).cycle().skip(random.below(12)).find(|&r| held[r].is_some()).unwrap();
        let (dtype, output) = (held[from].unwrap(), program.outputs.len());
        let op = random.pick(&[ReduceOp::Max, ReduceOp::Min, ReduceOp::Sum]);
        let exact = !dtype.is_float() || op != ReduceOp::Sum;
        program.instructions.push(if folds && exact && !(dtype == Bool && op == ReduceOp::Sum) {
            Instruction::Reduce { op, dtype, output, from: from as u16 }
        } else {
            Instruction::Store { output, from: from as u16 }
        });
        program.outputs.push(dtype);
    }
    (program, scalars)
}

#[test]
fn random_programs_agree_with_the_evaluator() {
    let mut random = Random(4);
    for round in 0..4000 {
        let folds = round % 2 == 1;
        let (program, scalars) = random_program(&mut random, folds);
        let rank = random.below(5);
        let sizes: &[usize] = if rank <= 2 { &[1, 2, 3, 10, 17, 64, 70, 130] } else { &[1, 2, 3, 5, 10, 17] };
        let shape: Vec<usize> = (0..rank).map(|_| random.pick(sizes)).collect();
        let (kept, reduced) = shape.split_at(random.below(rank + 1));
        let mut storage = Vec::new();
        let mut in_place: Vec<(usize, usize)> = Vec::new();
        for (number, &dtype) in program.inputs.iter().enumerate() {
            let stored = program.instructions.iter().find_map(|i| match *i {
                Instruction::Store { output, .. } if program.outputs[output].size() == dtype.size() => Some(output),
                _ => None,
            });
            match stored {
                Some(output) if random.below(2) == 0 && in_place.iter().all(|pair| pair.1 != output) => {
                    let mut strides = vec![1isize; rank];
                    for axis in (1..rank).rev() {
                        strides[axis - 1] = strides[axis] * shape[axis] as isize;
                    }
                    let total = shape.iter().product();
                    storage.push((random_buffer(&mut random, total, dtype), 0, strides));
                    in_place.push((number, output));
                }
                _ => {
                    let (offset, strides, length) = random_view(&mut random, &shape);
                    storage.push((random_buffer(&mut random, length, dtype), offset, strides));
                }
            }
        }
        check_run(&program, kept, reduced, &storage, &in_place, &scalars, 0.0);
    }
}

fn sum_program(op: ReduceOp, dtype: DType) -> Program {
    Program {
        instructions: vec![
            Instruction::Load { to: 0, input: 0 },
            Instruction::Reduce { op, dtype, output: 0, from: 0 },
        ],
        inputs: vec![dtype],
        outputs: vec![dtype],
    }
}

#[test]
fn reductions_over_every_subset_of_axes() {
    let mut random = Random(5);
    for _ in 0..150 {
        let rank = 1 + random.below(4);
        let sizes: &[usize] =
            &[[1, 7, 100, 513, 2000], [1, 3, 10, 33, 70], [1, 2, 9, 14, 31], [1, 2, 5, 7, 12]][rank - 1];
        let shape: Vec<usize> = (0..rank).map(|_| random.pick(sizes)).collect();
        let mut strides = vec![1isize; rank];
        for axis in (1..rank).rev() {
            strides[axis - 1] = strides[axis] * shape[axis] as isize;
        }
        for subset in 0..1 << rank {
            let part = |side: usize| -> Vec<usize> { (0..rank).filter(|&a| (subset >> a & 1) == side).collect() };
            let (kept, reduced) = (part(0), part(1));
            let of = |axes: &[usize]| -> Vec<usize> { axes.iter().map(|&a| shape[a]).collect() };
            let view: Vec<isize> = kept.iter().chain(&reduced).map(|&a| strides[a]).collect();
            let op = random.pick(&[ReduceOp::Sum, ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min]);
            let dtype = random.pick(&[F32, F32, F64, I32, I64, U8]);
            let count: usize = shape.iter().product();
            let data = if op == ReduceOp::Prod && dtype.is_float() {
                let near: Vec<Cell> = (0..count).map(|_| Cell::F(0.9 + random.below(100) as f64 / 500.0)).collect();
                buffer(&near, dtype)
            } else if dtype.is_float() && op == ReduceOp::Sum {
                let finite: Vec<Cell> = (0..count).map(|_| Cell::F(random.below(2000) as f64 / 7.0 - 100.0)).collect();
                buffer(&finite, dtype)
            } else {
                random_buffer(&mut random, count, dtype)
            };
            let tolerance = match (dtype, op) {
                (F32, ReduceOp::Sum) => 3e-7,
                // Each factor adds half a unit.
                (F32, ReduceOp::Prod) => 6e-8 * (count as f64).max(4.0),
                (F64, ReduceOp::Sum | ReduceOp::Prod) => 1.2e-16 * (count as f64).max(4.0),
                _ => 0.0,
            };
            check_run(&sum_program(op, dtype), &of(&kept), &of(&reduced), &[(data, 0, view)], &[], &[], tolerance);
        }
    }
}

#[test]
fn long_sums_are_accurate() {
    let values: Vec<f32> = (0..1_000_003).map(|i| 1.0 + (i % 97) as f32 * 0.01).collect();
    let exact: f64 = values.iter().map(|&x| x as f64).sum();
    let data = Buffer::from_slice(&values);
    let program = sum_program(ReduceOp::Sum, F32).prepare().unwrap();
    let mut total = Buffer::zeroed(4);
    let input = Input { source: Source::Buffer(&data), offset: 0, strides: &[1] };
    program.run(&[], &[values.len()], &[input], &[], &mut [&mut total]);
    let error = (total.as_slice::<f32>()[0] as f64 - exact).abs() / exact;
    assert!(error < 1e-7, "{error}");
    // Columns of a [100000, 10] array.
    let mut columns = Buffer::zeroed(40);
    let input = Input { source: Source::Buffer(&data), offset: 0, strides: &[1, 10] };
    program.run(&[10], &[100_000], &[input], &[], &mut [&mut columns]);
    for (column, &got) in columns.as_slice::<f32>().iter().enumerate() {
        let exact: f64 = (0..100_000).map(|i| values[i * 10 + column] as f64).sum();
        assert!((got as f64 - exact).abs() / exact < 1e-7);
    }
}

#[test]
fn empty_axes_give_identities_and_store_nothing() {
    let empty = Buffer::zeroed(0);
    for (op, want) in [(ReduceOp::Sum, 0.0), (ReduceOp::Prod, 1.0), (ReduceOp::Max, f32::NEG_INFINITY)] {
        let input = Input { source: Source::Buffer(&empty), offset: 0, strides: &[0, 1] };
        let mut out = Buffer::from_slice(&[7f32; 3]);
        sum_program(op, F32).run(&[3], &[0], &[input], &[], &mut [&mut out]);
        assert_eq!(out.as_slice::<f32>(), [want; 3]);
    }
    for (op, want) in [(ReduceOp::Max, 0u8), (ReduceOp::Min, 1)] {
        let input = Input { source: Source::Buffer(&empty), offset: 0, strides: &[1] };
        let mut out = Buffer::from_slice(&[9u8]);
        sum_program(op, Bool).run(&[], &[0], &[input], &[], &mut [&mut out]);
        assert_eq!(out.as_slice::<u8>(), [want]);
    }
}

/// Large enough that work is shared: results are the same bits on any number of threads.
#[test]
fn the_same_bits_on_one_two_and_five_threads() {
    let _turn = turn();
    let mut random = Random(6);
    let shapes: [(&[usize], &[usize], &[isize]); 6] = [
        (&[300_001], &[], &[1]),
        (&[], &[500_003], &[1]),
        (&[10], &[60_000], &[1, 10]),
        (&[40], &[100, 150], &[150, 6000, 1]),
        (&[700], &[900], &[900, 1]),
        (&[600, 700], &[], &[1, 600]),
    ];
    for (kept, reduced, strides) in shapes {
        let count = kept.iter().chain(reduced).product::<usize>();
        let values: Vec<f32> = (0..count).map(|_| random.below(100_000) as f32 / 3e4 - 1.5).collect();
        let data = Buffer::from_slice(&values);
        let mut instructions = vec![
            Instruction::Load { to: 0, input: 0 },
            Instruction::Unary { op: Exp, dtype: F32, to: 1, from: 0 },
            Instruction::Binary { op: Mul, dtype: F32, to: 1, a: 1, b: 0 },
            Instruction::Store { output: 0, from: 1 },
        ];
        let mut outputs = vec![F32];
        if !reduced.is_empty() {
            instructions.push(Instruction::Reduce { op: ReduceOp::Sum, dtype: F32, output: 1, from: 1 });
            outputs.push(F32);
        }
        let prepared = Program { instructions, inputs: vec![F32], outputs }.prepare().unwrap();
        let run = |threads: usize| {
            set_threads(threads);
            let mut stored = Buffer::zeroed(count * 4);
            let mut folded = Buffer::zeroed(kept.iter().product::<usize>() * 4);
            let mut targets = vec![&mut stored, &mut folded];
            targets.truncate(prepared.program().outputs.len());
            let input = Input { source: Source::Buffer(&data), offset: 0, strides };
            prepared.run(kept, reduced, &[input], &[], &mut targets);
            (stored.as_slice::<i32>().to_vec(), folded.as_slice::<i32>().to_vec())
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "{kept:?} {reduced:?}");
    }
    set_threads(0);
}

/// An optimiser's update: everything in place, shared between threads.
#[test]
fn in_place_updates_read_before_they_write() {
    let _turn = turn();
    set_threads(2);
    let binary = |op, to, a, b| Instruction::Binary { op, dtype: F32, to, a, b };
    let program = Program {
        instructions: vec![
            Instruction::Load { to: 0, input: 0 },
            Instruction::Load { to: 1, input: 1 },
            Instruction::Load { to: 2, input: 2 },
            binary(Add, 3, 0, 1),
            Instruction::Store { output: 0, from: 3 },
            // Reads the old value of what has just been written.
            binary(Sub, 4, 0, 2),
            Instruction::Store { output: 1, from: 4 },
        ],
        inputs: vec![F32; 3],
        outputs: vec![F32; 2],
    };
    let mut random = Random(7);
    for count in [1, 7, 1025, 200_003] {
        let storage = [line(&mut random, count, F32), line(&mut random, count, F32), line(&mut random, count, F32)];
        check_run(&program, &[count], &[], &storage, &[(0, 0), (1, 1)], &[], 0.0);
    }
    set_threads(0);
}

#[test]
fn mistakes_are_named() {
    let load = Instruction::Load { to: 0, input: 0 };
    let store = Instruction::Store { output: 0, from: 0 };
    let program =
        |instructions: Vec<Instruction>, outputs: Vec<DType>| Program { instructions, inputs: vec![F32], outputs };
    let message = |p: Program| p.check().unwrap_err();
    assert!(program(vec![load, store], vec![F32]).check().is_ok());
    assert!(message(program(vec![store], vec![F32])).contains("register 0 is read before it is written"));
    assert!(message(program(vec![load, store], vec![F64])).contains("output 0 is f64, not f32"));
    assert!(message(program(vec![load], vec![F32])).contains("output 0 is never written"));
    assert!(message(program(vec![load, store, store], vec![F32])).contains("written twice"));
    assert!(message(program(vec![load, store], vec![])).contains("there is no output 0"));
    assert!(message(program(vec![Instruction::Load { to: 64, input: 0 }], vec![])).contains("only 64"));
    assert!(message(program(vec![Instruction::Load { to: 0, input: 1 }], vec![])).contains("no input 1"));
    let not = Instruction::Unary { op: Not, dtype: F32, to: 1, from: 0 };
    assert!(message(program(vec![load, not, store], vec![F32])).contains("there is no Not of f32"));
    let add = Instruction::Binary { op: Add, dtype: I32, to: 1, a: 0, b: 0 };
    assert!(message(program(vec![load, add, store], vec![F32])).contains("register 0 holds f32, not i32"));
}
