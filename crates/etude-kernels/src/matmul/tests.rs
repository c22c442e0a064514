//! Every way through the products against the definition, in f64, at odd sizes and with odd strides.

use super::*;
use crate::cpu::forced;
use crate::threads::set_threads;
use crate::tile::{BinaryOp, Input, Instruction, Prepared, Program, Scalar, Source, Tail};
use crate::{Buffer, DType};

/// A matrix in its own storage with the given layout.
struct Matrix<T> {
    data: Vec<T>,
    offsets: Vec<usize>,
    row: isize,
    column: isize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Plain,
    Transposed,
    Spaced,
    Reversed,
    Broadcast,
}

const LAYOUTS: [Layout; 5] = [Layout::Plain, Layout::Transposed, Layout::Spaced, Layout::Reversed, Layout::Broadcast];

fn value<T: Float>(i: usize) -> T {
    T::from_f64(((i as u64 * 2654435761 % 1009) as f64 / 504.0) - 1.0)
}

fn matrix<T: Float>(layout: Layout, batch: usize, rows: usize, columns: usize) -> Matrix<T> {
    let (r, c) = (rows as isize, columns as isize);
    let size = rows * columns;
    let (length, row, column, start, step) = match layout {
        Layout::Plain => (size * batch, c, 1, 0, size),
        Layout::Transposed => (size * batch, 1, r, 0, size),
        Layout::Spaced => (6 * size * batch + 3, 3 * c, 2, 3, 6 * size),
        Layout::Reversed => (size * batch, -c, -1, size.saturating_sub(1), size),
        Layout::Broadcast => (columns, 0, 1, 0, 0),
    };
    Matrix {
        data: (0..length.max(1)).map(value).collect(),
        offsets: (0..batch).map(|i| start + i * step).collect(),
        row,
        column,
    }
}

impl<T: Float> Matrix<T> {
    fn operand(&self) -> Operand<'_, T> {
        Operand { data: &self.data, offsets: &self.offsets, row_stride: self.row, column_stride: self.column }
    }

    fn at(&self, item: usize, i: usize, j: usize) -> f64 {
        let index = self.offsets[item] as isize + i as isize * self.row + j as isize * self.column;
        self.data[index as usize].to_f64()
    }
}

fn check<T: Float>(batch: usize, m: usize, k: usize, n: usize, la: Layout, lb: Layout) {
    let (a, b) = (matrix::<T>(la, batch, m, k), matrix::<T>(lb, batch, k, n));
    let epsilon = if size_of::<T>() == 4 { f32::EPSILON as f64 } else { f64::EPSILON };
    let mut outs = vec![];
    forced::on_each_set(|set| {
        let mut out = vec![T::from_f64(f64::NAN); batch * m * n];
        matmul(m, k, n, a.operand(), b.operand(), &mut out);
        outs.push((set, out));
    });
    for item in 0..batch {
        for i in 0..m {
            for j in 0..n {
                let (mut sum, mut size) = (0.0, 0.0);
                for p in 0..k {
                    let term = a.at(item, i, p) * b.at(item, p, j);
                    sum += term;
                    size += term.abs();
                }
                // Rounding errors of a sum are at most its length times epsilon times its absolute sum; blocks of
                // sums have far fewer in a row, so a fraction of the length does.
                let bound = (4.0 + k as f64 / 8.0) * epsilon * size;
                for (set, out) in &outs {
                    let got = out[(item * m + i) * n + j].to_f64();
                    assert!(
                        (got - sum).abs() <= bound,
                        "{set}: {la:?} {lb:?} batch {batch}, {m}×{k}×{n}, element {item} {i} {j}: {got}, not {sum}"
                    );
                }
            }
        }
    }
}

#[test]
fn small_products_of_all_layouts() {
    for (m, k, n) in [(1, 1, 1), (2, 3, 5), (7, 1, 17), (6, 16, 16), (13, 9, 31), (17, 33, 8), (5, 7, 2), (1, 40, 23)] {
        for la in LAYOUTS {
            for lb in LAYOUTS {
                check::<f32>(3, m, k, n, la, lb);
                check::<f64>(2, m, k, n, la, lb);
            }
        }
    }
}

#[test]
fn empty_products() {
    for (m, k, n) in [(0, 3, 4), (3, 4, 0), (2, 0, 3), (0, 0, 0)] {
        check::<f32>(2, m, k, n, Layout::Plain, Layout::Plain);
        check::<f64>(0, m, k, n, Layout::Plain, Layout::Transposed);
    }
}

#[test]
fn thin_and_large_products() {
    let shapes = [
        (12, 300, 531),
        (8, 257, 1100),
        (1100, 259, 3),
        (1, 2000, 300),
        (3000, 70, 1),
        (131, 270, 149),
        (16, 700, 331),
        (37, 1101, 45),
    ];
    for (m, k, n) in shapes {
        for la in [Layout::Plain, Layout::Transposed, Layout::Spaced] {
            for lb in [Layout::Plain, Layout::Transposed, Layout::Reversed] {
                check::<f32>(1, m, k, n, la, lb);
            }
        }
        check::<f64>(1, m, k, n, Layout::Transposed, Layout::Plain);
        check::<f64>(1, m, k, n, Layout::Plain, Layout::Transposed);
    }
    check::<f32>(1, 97, 520, 1061, Layout::Plain, Layout::Plain);
    // Turned.
    check::<f32>(1, 137, 1024, 33, Layout::Plain, Layout::Transposed);
    check::<f32>(1, 30, 1100, 4001, Layout::Transposed, Layout::Plain);
}

#[test]
fn same_bits_on_any_number_of_threads() {
    for (batch, m, k, n) in
        [(1, 131, 270, 300), (40, 33, 65, 47), (1, 8, 300, 2000), (1, 3000, 200, 2), (1, 37, 2081, 45)]
    {
        let (a, b) = (matrix::<f32>(Layout::Plain, batch, m, k), matrix::<f32>(Layout::Plain, batch, k, n));
        let run = |threads| {
            set_threads(threads);
            let mut out = vec![0.0f32; batch * m * n];
            matmul(m, k, n, a.operand(), b.operand(), &mut out);
            set_threads(0);
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        forced::on_each_set(|set| {
            let one = run(1);
            assert!(one == run(2) && one == run(5), "{set}: {batch} × {m}×{k}×{n}");
        });
    }
}

#[test]
#[should_panic(expected = "the right side")]
fn a_side_that_leaves_its_data_is_refused() {
    let data = [1.0f32; 4];
    let side = Operand { data: &data, offsets: &[0], row_stride: 2, column_stride: 1 };
    matmul(2, 2, 3, side, side, &mut [0.0; 6]);
}

/// b `[k, n]` in panels.
fn panels<T: Float>(k: usize, n: usize, b: &[T]) -> Vec<T> {
    let element = |panel: usize, p: usize, j: usize| match panel * PANEL + j {
        column if column < n => b[p * n + column],
        _ => T::from_f64(f64::NAN),
    };
    let columns = |panel: usize| (0..k).flat_map(move |p| (0..PANEL).map(move |j| (panel, p, j)));
    (0..n.div_ceil(PANEL)).flat_map(columns).map(|(panel, p, j)| element(panel, p, j)).collect()
}

/// `max(x + bias, 0) + beside`, x in place.
fn tail_program(dtype: DType) -> Prepared {
    let binary = |op, to, a, b| Instruction::Binary { op, dtype, to, a, b };
    let program = Program {
        instructions: vec![
            Instruction::Load { to: 0, input: 0 },
            Instruction::Load { to: 1, input: 1 },
            binary(BinaryOp::Add, 2, 0, 1),
            Instruction::Scalar { to: 3, index: 0, dtype },
            binary(BinaryOp::Max, 2, 2, 3),
            Instruction::Load { to: 1, input: 2 },
            binary(BinaryOp::Add, 2, 2, 1),
            Instruction::Store { output: 0, from: 2 },
        ],
        inputs: vec![dtype; 3],
        outputs: vec![dtype],
    };
    program.prepare().expect("the program is right")
}

fn check_packed<T: Float>(m: usize, k: usize, n: usize) {
    let (a, b): (Vec<T>, Vec<T>) = ((0..m * k).map(value).collect(), (0..k * n).map(|i| value(i + 5)).collect());
    let packed = panels(k, n, &b);
    let epsilon = if size_of::<T>() == 4 { f32::EPSILON as f64 } else { f64::EPSILON };
    let [bias, beside] = [n, m * n].map(|count| Buffer::from_slice(&(0..count).map(value::<T>).collect::<Vec<T>>()));
    let prepared = tail_program(T::DTYPE);
    let lines = [[n as isize, 1], [0, 1], [n as isize, 1]];
    let input = |source, line: usize| Input { source, offset: 0, strides: &lines[line] };
    let inputs = [input(Source::Output(0), 0), input(Source::Buffer(&bias), 1), input(Source::Buffer(&beside), 2)];
    let scalars = [Scalar::Float(0.0)];
    let tail = Tail { prepared: &prepared, inputs: &inputs, scalars: &scalars };
    let run = |tail: Option<&Tail>| {
        let mut out = Buffer::from_slice(&vec![T::from_f64(f64::NAN); m * n]);
        matmul_packed([m, k, n], &a, &packed, &mut out, tail);
        out
    };
    forced::on_each_set(|set| {
        let mut plain = run(None);
        for (at, &found) in plain.as_slice::<T>().iter().enumerate() {
            let terms = (0..k).map(|p| (a[at / n * k + p] * b[p * n + at % n]).to_f64());
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
            let bound = (4.0 + k as f64 / 8.0) * epsilon * size;
            assert!((found.to_f64() - sum).abs() <= bound, "{set:?} {m} {k} {n}, element {at}: {found:?}, not {sum}");
        }
        let whole = run(Some(&tail));
        prepared.run(&[m, n], &[], &inputs, &scalars, &mut [&mut plain]);
        assert_eq!(whole.as_slice::<T>(), plain.as_slice::<T>(), "{set:?} {m} {k} {n}: the tail after and between");
        for threads in [1, 2, 5] {
            set_threads(threads);
            assert_eq!(run(Some(&tail)).as_slice::<T>(), whole.as_slice::<T>(), "{m} {k} {n} on {threads} threads");
        }
        set_threads(0);
    });
}

#[test]
fn packed_products_are_right_with_and_without_a_tail() {
    let sizes = [
        (1, 1, 1),
        (1, 600, 70),
        (3, 5, 33),
        (24, 7, 64),
        (25, 31, 45),
        (130, 520, 100),
        (1200, 9, 31),
        (2, 0, 3),
        (0, 2, 3),
    ];
    for (m, k, n) in sizes {
        check_packed::<f32>(m, k, n);
        check_packed::<f64>(m, k, n);
    }
}

#[test]
#[should_panic(expected = "matmul_packed: the panels of 4 × 5")]
fn panels_too_small_are_refused() {
    matmul_packed([2, 4, 5], &[0f32; 8], &[0f32; 20], &mut Buffer::zeroed(40), None);
}
