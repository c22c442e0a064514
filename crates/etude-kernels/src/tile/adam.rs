//! A step of Adam as one loop. As a general program its seven streams and dozen instructions cost three times what memory
//! does; here each element is read once, worked on in registers and written once. Every operation is rounded as the
//! program's own would be, so the bits are the same.

use super::{BinaryOp, Input, Instruction, Prepared, Program, Scalar, Source, UnaryOp};
use crate::cpu::{self, Vector, Work, caches};
use crate::threads::{SendPointer, even, parallel};
use crate::{Buffer, DType};
use std::marker::PhantomData;

/// Elements of a task, about: by size only.
const TASK: usize = 1 << 14;
/// Elements of a line of memory.
const LINE: usize = caches::LINE / size_of::<f32>();

/// Where a program that is a step of Adam finds its numbers:
/// `m ← m·b1 + g·c1`, `v ← v·b2 + g²·c2`, `w ← w·keep − m·stride / (√v·correction + ε)`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Adam {
    /// Inputs w, g, m, v.
    inputs: [usize; 4],
    /// Outputs w, m, v.
    outputs: [usize; 3],
    /// Scalars b1, c1, b2, c2, stride, correction, ε.
    scalars: [usize; 7],
    /// What w is multiplied by first, in AdamW.
    keep: Option<usize>,
}

/// What a register holds; equal expressions have equal numbers.
#[derive(Clone, Copy, PartialEq)]
enum Expression {
    Load(usize),
    Scalar(usize),
    Binary(BinaryOp, usize, usize),
    Sqrt(usize),
}

#[derive(Default)]
struct Expressions(Vec<Expression>);

impl Expressions {
    fn number(&mut self, expression: Expression) -> usize {
        self.0.iter().position(|&known| known == expression).unwrap_or_else(|| {
            self.0.push(expression);
            self.0.len() - 1
        })
    }

    fn load(&self, at: usize) -> Option<usize> {
        if let Expression::Load(input) = self.0[at] { Some(input) } else { None }
    }

    fn scalar(&self, at: usize) -> Option<usize> {
        if let Expression::Scalar(index) = self.0[at] { Some(index) } else { None }
    }

    fn binary(&self, at: usize, op: BinaryOp) -> Option<(usize, usize)> {
        match self.0[at] {
            Expression::Binary(found, a, b) if found == op => Some((a, b)),
            _ => None,
        }
    }

    /// `x · scalar`, in either order, as x and the scalar's index.
    fn scaled(&self, at: usize) -> Option<(usize, usize)> {
        let (a, b) = self.binary(at, BinaryOp::Mul)?;
        self.scalar(b).map(|index| (a, index)).or_else(|| Some((b, self.scalar(a)?)))
    }

    /// `load · old + x · new`: the input, the index of old, x, and the index of new.
    fn average(&self, at: usize) -> Option<(usize, usize, usize, usize)> {
        let (a, b) = self.binary(at, BinaryOp::Add)?;
        let ((state, old), (x, new)) = (self.scaled(a)?, self.scaled(b)?);
        Some((self.load(state)?, old, x, new))
    }
}

/// The step that `program` is, if it is one.
pub(super) fn recognise(program: &Program) -> Option<Adam> {
    let single = |dtypes: &[DType]| dtypes.iter().all(|&dtype| dtype == DType::F32);
    if program.inputs.len() != 4 || program.outputs.len() != 3 || !single(&program.inputs) || !single(&program.outputs)
    {
        return None;
    }
    let mut known = Expressions::default();
    let mut registers = [None; super::MAX_REGISTERS];
    let mut results = [None; 3];
    for &instruction in &program.instructions {
        let read = |register: super::Register| registers.get(register as usize).copied().flatten();
        let (to, expression) = match instruction {
            Instruction::Load { to, input } => (to, Expression::Load(input)),
            Instruction::Scalar { to, index, dtype: DType::F32 } => (to, Expression::Scalar(index)),
            Instruction::Binary { op, dtype: DType::F32, to, a, b } => (to, Expression::Binary(op, read(a)?, read(b)?)),
            Instruction::Unary { op: UnaryOp::Sqrt, dtype: DType::F32, to, from } => {
                (to, Expression::Sqrt(read(from)?))
            }
            Instruction::Store { output, from } => {
                *results.get_mut(output)? = read(from);
                continue;
            }
            _ => return None,
        };
        *registers.get_mut(to as usize)? = Some(known.number(expression));
    }
    let results = [results[0]?, results[1]?, results[2]?];
    let place = |wanted: usize| results.iter().position(|&result| result == wanted);
    let new_w = *results.iter().find(|&&result| known.binary(result, BinaryOp::Sub).is_some())?;
    let (w, change) = known.binary(new_w, BinaryOp::Sub)?;
    let (w, keep) = match known.load(w) {
        Some(w) => (w, None),
        None => known.scaled(w).and_then(|(w, keep)| Some((known.load(w)?, Some(keep))))?,
    };
    let (step, spread) = known.binary(change, BinaryOp::Div)?;
    let (new_m, stride) = known.scaled(step)?;
    let (root, epsilon) = known.binary(spread, BinaryOp::Add)?;
    let (root, correction) = known.scaled(root)?;
    let Expression::Sqrt(new_v) = known.0[root] else { return None };
    let (m, b1, gradient, c1) = known.average(new_m)?;
    let (v, b2, square, c2) = known.average(new_v)?;
    let g = known.load(gradient)?;
    (known.binary(square, BinaryOp::Mul)? == (gradient, gradient)).then_some(())?;
    Some(Adam {
        inputs: [w, g, m, v],
        outputs: [place(new_w)?, place(new_m)?, place(new_v)?],
        scalars: [b1, c1, b2, c2, stride, correction, known.scalar(epsilon)?],
        keep,
    })
}

impl Adam {
    /// Takes the step for `count` elements. `bases` are the addresses of inputs, then outputs.
    ///
    /// # Safety
    /// Each address is valid for `count` f32 elements, outputs for writing; an output may be an input's place, but they
    /// do not overlap otherwise.
    pub(super) unsafe fn run(&self, bases: &[*mut u8], count: usize, scalars: &[Scalar]) {
        let numbers = self.numbers(scalars);
        let from = self.inputs.map(|input| SendPointer(bases[input].cast::<f32>()));
        let to = self.outputs.map(|output| SendPointer(bases[4 + output].cast::<f32>()));
        let share = count.div_ceil(even(count.div_ceil(TASK)).max(1)).next_multiple_of(LINE).max(LINE);
        parallel(count.div_ceil(share), |task| {
            let start = task * share;
            let length = share.min(count - start);
            // SAFETY: the task's own part of the caller's arrays.
            unsafe {
                let from = [from[0].at(start), from[1].at(start), from[2].at(start), from[3].at(start)];
                let to = [to[0].at(start), to[1].at(start), to[2].at(start)];
                cpu::run(Part { from, to, rows: 1, length, apart: [0; 2], numbers });
            }
        });
    }

    /// b1, c1, b2, c2, stride, correction, ε, and what w is multiplied by: without decay 1, which changes no bit.
    fn numbers(&self, scalars: &[Scalar]) -> [f32; 8] {
        let number = |index: usize| {
            let [a, b, c, d, ..] = scalars[index].bytes(DType::F32);
            f32::from_ne_bytes([a, b, c, d])
        };
        let [b1, c1, b2, c2, stride, correction, epsilon] = self.scalars.map(number);
        [b1, c1, b2, c2, stride, correction, epsilon, self.keep.map_or(1.0, number)]
    }
}

/// Rows of elements, each one after the other.
struct Part {
    /// w, g, m, v.
    from: [*mut f32; 4],
    /// w, m, v.
    to: [*mut f32; 3],
    rows: usize,
    length: usize,
    /// From one row to the next: in g, and in all others.
    apart: [usize; 2],
    numbers: [f32; 8],
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl Work<f32> for Part {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        let Part { from: [w, g, m, v], to, rows, length, apart: [g_row, row], numbers } = self;
        // SAFETY: each pointer is valid for `rows` runs of `length` elements; each is read before its place is written.
        unsafe {
            let splat = numbers.map(|number| V::splat(number));
            for at in 0..rows {
                let from = [w.add(at * row), g.add(at * g_row), m.add(at * row), v.add(at * row)];
                run(from, to.map(|to| to.add(at * row)), length, &splat);
            }
        }
    }
}

/// One run of elements.
#[inline(always)]
unsafe fn run<V: Vector<f32>>([w, g, m, v]: [*mut f32; 4], to: [*mut f32; 3], length: usize, numbers: &[V; 8]) {
    let [new_w, new_m, new_v] = to;
    // SAFETY: the caller's promise.
    unsafe {
        let whole = length / V::LANES * V::LANES;
        for i in (0..whole).step_by(V::LANES) {
            let of = [V::load(w.add(i)), V::load(g.add(i)), V::load(m.add(i)), V::load(v.add(i))];
            let [w, m, v] = step(of, numbers);
            w.store(new_w.add(i));
            m.store(new_m.add(i));
            v.store(new_v.add(i));
        }
        let (i, left) = (whole, length - whole);
        if left > 0 {
            let of = [
                V::load_part(w.add(i), left),
                V::load_part(g.add(i), left),
                V::load_part(m.add(i), left),
                V::load_part(v.add(i), left),
            ];
            let [w, m, v] = step(of, numbers);
            w.store_part(new_w.add(i), left);
            m.store_part(new_m.add(i), left);
            v.store_part(new_v.add(i), left);
        }
    }
}

/// One vector of w, g, m, v to one of w, m, v.
#[inline(always)]
unsafe fn step<V: Vector<f32>>([w, g, m, v]: [V; 4], numbers: &[V; 8]) -> [V; 3] {
    let [b1, c1, b2, c2, stride, correction, epsilon, keep] = *numbers;
    // SAFETY: the caller has `V`'s instruction set.
    unsafe {
        let m = m.mul(b1).add(g.mul(c1));
        let v = v.mul(b2).add(g.mul(g).mul(c2));
        [w.mul(keep).sub(m.mul(stride).div(v.sqrt().mul(correction).add(epsilon))), m, v]
    }
}

/// A step of Adam over a matrix whose gradient comes block by block: each is used up while it is in the core's cache, and
/// never stored whole.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    /// w, m, v, and where the new ones go.
    from: [*mut f32; 3],
    to: [*mut f32; 3],
    /// Rows, and elements of one.
    shape: [usize; 2],
    numbers: [f32; 8],
    operands: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointers are to operands borrowed for `'a`; tasks take disjoint blocks.
unsafe impl Sync for Update<'_> {}

impl Prepared {
    /// Which input is the gradient, if the program is an update that can follow it block by block.
    pub fn gradient(&self) -> Option<usize> {
        self.adam.map(|adam| adam.inputs[1])
    }

    /// The program over `[rows, columns]`, for a kernel that makes the gradient. `inputs` are all others in their order,
    /// elements one after the other.
    ///
    /// # Panics
    /// If the program is no update, an operand is too small or has other strides, or a scalar is missing.
    pub fn update<'a>(
        &self,
        shape: [usize; 2],
        inputs: &[Input<'a>],
        scalars: &[Scalar],
        outputs: &'a mut [Buffer],
    ) -> Update<'a> {
        let adam = self.adam.expect("the program is an update");
        let (count, gradient) = (shape[0] * shape[1], adam.inputs[1]);
        assert!(inputs.len() == 3 && outputs.len() == 3 && scalars.len() >= self.scalars, "an update's operands");
        let mut written = outputs.iter_mut().map(|buffer| {
            let place = buffer.as_mut_slice::<f32>();
            assert!(place.len() >= count, "an update's output has {} elements of {count}", place.len());
            place.as_mut_ptr()
        });
        let written: [*mut f32; 3] = std::array::from_fn(|_| written.next().expect("three outputs"));
        let read = |input: usize| {
            let Input { source, offset, strides } = inputs[input - usize::from(input > gradient)];
            assert!(strides == [shape[1] as isize, 1], "an update's inputs lie as its matrix does");
            match source {
                Source::Output(output) => {
                    assert!(offset == 0, "an update in place begins where its output does");
                    written[output]
                }
                // Only read.
                Source::Buffer(buffer) => buffer.as_slice::<f32>()[offset..offset + count].as_ptr().cast_mut(),
            }
        };
        let [w, _, m, v] = adam.inputs;
        Update {
            from: [w, m, v].map(read),
            to: adam.outputs.map(|output| written[output]),
            shape,
            numbers: adam.numbers(scalars),
            operands: PhantomData,
        }
    }
}

impl Update<'_> {
    /// Whether updates of so many bytes of parameters and their averages had better follow their gradients: those that the
    /// caches hold from step to step are taken as fast as their roots and divisions allow, in one go.
    pub fn pays(bytes: usize) -> bool {
        bytes > caches::last_level()
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Where the block from `row` and `column` begins in an operand.
    fn at(&self, operand: *mut f32, row: usize, column: usize) -> *mut f32 {
        operand.wrapping_add(row * self.shape[1] + column)
    }

    /// Asks for what the step of a block will read, to be waiting in the second-level cache.
    pub(crate) fn ask(&self, [row, column]: [usize; 2], [rows, columns]: [usize; 2]) {
        for row in row..row + rows {
            for operand in self.from {
                let from = self.at(operand, row, column);
                (0..columns).step_by(LINE).for_each(|at| cpu::prefetch_to_second(from.wrapping_add(at)));
            }
        }
    }

    /// Takes the step for a block, whose gradient has its rows `gradient_row` apart.
    ///
    /// # Safety
    /// The block lies inside the matrix, nobody else uses it meanwhile, and `gradient` is valid for all of it.
    pub(crate) unsafe fn take(
        &self,
        [row, column]: [usize; 2],
        [rows, length]: [usize; 2],
        gradient: *const f32,
        gradient_row: usize,
    ) {
        let [w, m, v] = self.from.map(|operand| self.at(operand, row, column));
        let to = self.to.map(|operand| self.at(operand, row, column));
        let from = [w, gradient.cast_mut(), m, v];
        // SAFETY: the caller's promise; the operands were checked when they were placed.
        unsafe {
            cpu::run(Part { from, to, rows, length, apart: [gradient_row, self.shape[1]], numbers: self.numbers });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::{Operand, matmul, matmul_update, takes_update};
    use crate::random::testing::{normals_f32, on_any_threads};

    /// The step as a program, with `decay` that of AdamW.
    fn program(decay: bool) -> Program {
        let binary = |op, to, a, b| Instruction::Binary { op, dtype: DType::F32, to, a, b };
        let (add, sub, mul, div) = (BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div);
        let mut instructions: Vec<Instruction> =
            (0..4).map(|input| Instruction::Load { to: input as u16, input }).collect();
        instructions.extend((0..8).map(|index| Instruction::Scalar { to: 4 + index as u16, index, dtype: DType::F32 }));
        if decay {
            instructions.push(binary(mul, 0, 0, 11));
        }
        instructions.extend([
            binary(mul, 12, 2, 4),
            binary(mul, 13, 5, 1),
            binary(add, 2, 12, 13),
            Instruction::Store { output: 1, from: 2 },
            binary(mul, 12, 3, 6),
            binary(mul, 13, 1, 1),
            binary(mul, 13, 13, 7),
            binary(add, 3, 12, 13),
            Instruction::Store { output: 2, from: 3 },
            binary(mul, 12, 2, 8),
            Instruction::Unary { op: UnaryOp::Sqrt, dtype: DType::F32, to: 13, from: 3 },
            binary(mul, 13, 13, 9),
            binary(add, 13, 13, 10),
            binary(div, 12, 12, 13),
            binary(sub, 0, 0, 12),
            Instruction::Store { output: 0, from: 0 },
        ]);
        Program { instructions, inputs: vec![DType::F32; 4], outputs: vec![DType::F32; 3] }
    }

    #[test]
    fn the_loop_has_the_bits_of_the_program() {
        let numbers = [0.9, 0.1, 0.999, 0.001, 0.01, 1.5, 1e-8, 0.99].map(Scalar::Float);
        for (decay, n) in [(false, 1), (true, 15), (false, 16), (true, 17), (false, 1000), (true, 3 * TASK + 5)] {
            let mut prepared = program(decay).prepare().expect("a program");
            assert_eq!(prepared.adam.map(|adam| adam.keep.is_some()), Some(decay));
            let arrays: Vec<Vec<f32>> = (0..4).map(|i| normals_f32(i, n).iter().map(|x| x * x).collect()).collect();
            let run = |prepared: &super::super::Prepared, in_place: bool| -> Vec<f32> {
                let buffers: Vec<Buffer> = arrays.iter().map(|array| Buffer::from_slice(array)).collect();
                // w, m and v in place of themselves.
                let mut outputs: Vec<Buffer> = [0, 2, 3].map(|i| Buffer::from_slice(&arrays[i])).into();
                let inputs: Vec<Input> = (0..4)
                    .map(|i| Input {
                        source: match [Some(0), None, Some(1), Some(2)][i] {
                            Some(output) if in_place => Source::Output(output),
                            _ => Source::Buffer(&buffers[i]),
                        },
                        offset: 0,
                        strides: &[1],
                    })
                    .collect();
                prepared.run(&[n], &[], &inputs, &numbers, &mut outputs.iter_mut().collect::<Vec<_>>());
                outputs.iter().flat_map(|output| output.as_slice::<f32>().to_vec()).collect()
            };
            let found = on_any_threads(|| run(&prepared, true));
            assert_eq!(found, run(&prepared, false));
            prepared.adam = None;
            assert!(found == run(&prepared, true), "{n} elements");
        }
    }

    #[test]
    fn a_gradient_used_up_block_by_block_has_the_bits_of_a_stored_one() {
        let numbers = [0.9, 0.1, 0.999, 0.001, 0.01, 1.5, 1e-8].map(Scalar::Float);
        let prepared = program(false).prepare().expect("a program");
        assert_eq!(prepared.gradient(), Some(1));
        // One block of the depth and two; depths cut in parts; more columns than are packed at a time; edges of all kinds.
        for (m, k, n) in [(97, 230, 97), (130, 1100, 600), (193, 129, 1031), (100, 2300, 101), (97, 8300, 300)] {
            assert!(takes_update(m, k, n), "{m} × {k} × {n}");
            let (x, dy) = (normals_f32(1, n * k), normals_f32(2, m * k));
            let state: Vec<Vec<f32>> =
                (0..3).map(|i| normals_f32(3 + i, m * n).iter().map(|x| x * x).collect()).collect();
            // The gradient's left side is a transpose, as a dense layer's is, or not; then its rows are read in place.
            for (row_stride, column_stride) in [(1, m as isize), (k as isize, 1)] {
                let a = Operand { data: &dy, offsets: &[0], row_stride, column_stride };
                let b = Operand { data: &x, offsets: &[0], row_stride: n as isize, column_stride: 1 };
                let found = on_any_threads(|| {
                    let mut outputs: Vec<Buffer> = state.iter().map(|array| Buffer::from_slice(array)).collect();
                    let strides = [n as isize, 1];
                    let inputs = [0, 1, 2].map(|i| Input { source: Source::Output(i), offset: 0, strides: &strides });
                    matmul_update(m, k, n, a, b, &prepared.update([m, n], &inputs, &numbers, &mut outputs));
                    outputs.iter().flat_map(|output| output.as_slice::<f32>().to_vec()).collect::<Vec<f32>>()
                });
                let mut gradient = vec![0.0; m * n];
                matmul(m, k, n, a, b, &mut gradient);
                let gradient = Buffer::from_slice(&gradient);
                let mut outputs: Vec<Buffer> = state.iter().map(|array| Buffer::from_slice(array)).collect();
                let sources = [Source::Output(0), Source::Buffer(&gradient), Source::Output(1), Source::Output(2)];
                let inputs = sources.map(|source| Input { source, offset: 0, strides: &[1] });
                prepared.run(&[m * n], &[], &inputs, &numbers, &mut outputs.iter_mut().collect::<Vec<_>>());
                let wanted: Vec<f32> = outputs.iter().flat_map(|output| output.as_slice::<f32>().to_vec()).collect();
                assert!(found == wanted, "{m} × {k} × {n}, rows {row_stride} apart");
            }
        }
    }

    #[test]
    fn nothing_else_is_taken_for_a_step() {
        let right = program(false);
        for at in 0..right.instructions.len() {
            let mut other = right.clone();
            match &mut other.instructions[at] {
                Instruction::Binary { op, .. } => {
                    *op = if *op == BinaryOp::Add { BinaryOp::Max } else { BinaryOp::Add }
                }
                Instruction::Unary { op, .. } => *op = UnaryOp::Exp,
                _ => continue,
            }
            assert_eq!(recognise(&other), None, "instruction {at}");
        }
    }
}
