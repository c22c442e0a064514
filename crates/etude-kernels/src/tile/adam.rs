//! A step of Adam as one loop. As a general program its seven streams and dozen instructions cost three times what memory
//! does; here each element is read once, worked on in registers and written once. Every operation is rounded as the
//! program's own would be, so the bits are the same.

use super::{BinaryOp, Instruction, Program, UnaryOp};
use crate::cpu::{self, Vector, Work, caches};
use crate::threads::{SendPointer, even, parallel};
use crate::{DType, tile::Scalar};

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
        let number = |index: usize| {
            let [a, b, c, d, ..] = scalars[index].bytes(DType::F32);
            f32::from_ne_bytes([a, b, c, d])
        };
        let numbers = self.scalars.map(number);
        let keep = self.keep.map(number);
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
                cpu::run(Part { from, to, length, numbers, keep });
            }
        });
    }
}

/// A run of elements.
struct Part {
    from: [*mut f32; 4],
    to: [*mut f32; 3],
    length: usize,
    numbers: [f32; 7],
    keep: Option<f32>,
}

// SAFETY: everything that uses `V` is inlined.
unsafe impl Work<f32> for Part {
    #[inline(always)]
    unsafe fn run<V: Vector<f32>>(self) {
        let Part { from: [w, g, m, v], to: [new_w, new_m, new_v], length, numbers, keep } = self;
        // SAFETY: all pointers are valid for `length` elements; each element is read before its place is written.
        unsafe {
            let [b1, c1, b2, c2, stride, correction, epsilon] = numbers;
            let splat = [
                V::splat(b1),
                V::splat(c1),
                V::splat(b2),
                V::splat(c2),
                V::splat(stride),
                V::splat(correction),
                V::splat(epsilon),
                V::splat(keep.unwrap_or(1.0)),
            ];
            let whole = length / V::LANES * V::LANES;
            for i in (0..whole).step_by(V::LANES) {
                let of = [V::load(w.add(i)), V::load(g.add(i)), V::load(m.add(i)), V::load(v.add(i))];
                let [w, m, v] = step(of, &splat);
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
                let [w, m, v] = step(of, &splat);
                w.store_part(new_w.add(i), left);
                m.store_part(new_m.add(i), left);
                v.store_part(new_v.add(i), left);
            }
        }
    }
}

/// One vector of w, g, m, v to one of w, m, v. Without decay w is multiplied by 1, which changes no bit.
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

#[cfg(test)]
mod tests {
    use super::super::{Input, Source};
    use super::*;
    use crate::Buffer;
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
