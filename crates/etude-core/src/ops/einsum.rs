//! Sums of products written with letters: `bthd,bshd->bhts`.

use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};

/// What stands for one axis: a letter, or the axis of `...` that lies so far from its right end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label {
    Dots(usize),
    Letter(char),
}

/// An operand on the way: its axes have these labels, all different.
#[derive(Clone)]
struct Term {
    x: Tensor,
    labels: Vec<Label>,
}

/// The sum of products that `equation` says, Einstein's convention with NumPy's spelling: `ij,jk->ik` is the matrix
/// product, `ii->` a trace, `i,j->ij` the outer product, `...ij,...jk->...ik` works on any leading axes, which
/// broadcast. Without `->`, the result has the letters that occur once, in alphabetical order.
///
/// Operands are multiplied from left to right, two at a time, as batched matrix products where that fits, and letters
/// are summed away as soon as nobody needs them; so the order of the operands decides the cost, not the result.
///
/// # Panics
/// If the equation cannot be read, or if a letter stands for two sizes.
#[track_caller]
pub fn einsum(equation: &str, operands: &[&Tensor]) -> Tensor {
    let fail = |message: String| -> ! {
        let shapes: Vec<String> = operands.iter().map(|x| x.shape().to_string()).collect();
        panic!("einsum: \"{equation}\" with {}: {message}", shapes.join(" × "))
    };
    match read(equation, operands) {
        Ok((terms, wanted)) => contract(terms, &wanted),
        Err(message) => fail(message),
    }
}

/// Operands with their labels, broadcast axes of size 1 and doubled letters resolved, and the labels of the result.
#[track_caller]
fn read(equation: &str, operands: &[&Tensor]) -> Result<(Vec<Term>, Vec<Label>), String> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (&text[..], None),
    };
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != operands.len() {
        return Err(format!("it names {} operands, {} are given", parts.len(), operands.len()));
    }
    let mut all = Vec::with_capacity(parts.len());
    for (number, (part, x)) in parts.iter().zip(operands).enumerate() {
        let named = part.chars().filter(|&c| c != '.').count();
        let dots = x.rank().saturating_sub(named);
        let labels = labels(part, dots)?;
        if labels.len() != x.rank() {
            let shape = x.shape();
            return Err(format!("`{part}` names {named} axes, operand {} is {shape}", number + 1));
        }
        if x.dtype() != operands[0].dtype() || x.dtype() == DType::Bool {
            return Err(format!("needs numbers of one dtype, not {} and {}", operands[0].dtype(), x.dtype()));
        }
        all.push(labels);
    }
    let sizes = sizes(&all, operands)?;
    let dots = sizes.iter().filter(|(label, _)| matches!(label, Label::Dots(_))).count();
    let wanted = match right {
        Some(right) => {
            let wanted = labels(right, dots)?;
            for (i, label) in wanted.iter().enumerate() {
                let Label::Letter(letter) = label else { continue };
                if wanted[..i].contains(label) {
                    return Err(format!("`{letter}` occurs twice in the result"));
                }
                if !sizes.iter().any(|(known, _)| known == label) {
                    return Err(format!("`{letter}` of the result occurs in no operand"));
                }
            }
            wanted
        }
        None => {
            let count = |label: &Label| all.iter().flatten().filter(|&other| other == label).count();
            let mut once: Vec<Label> = all.iter().flatten().copied().filter(|label| count(label) == 1).collect();
            once.retain(|label| matches!(label, Label::Letter(_)));
            once.sort_unstable();
            (0..dots).rev().map(Label::Dots).chain(once).collect()
        }
    };
    let terms = all.into_iter().zip(operands).map(|(labels, &x)| plain(x, labels, &sizes)).collect();
    Ok((terms, wanted))
}

/// The labels of one part of the equation, `...` written out as `dots` axes.
fn labels(part: &str, dots: usize) -> Result<Vec<Label>, String> {
    let mut labels = Vec::new();
    let mut rest = part;
    let mut seen = false;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            if seen {
                return Err(format!("`{part}` has `...` twice"));
            }
            seen = true;
            labels.extend((0..dots).rev().map(Label::Dots));
            rest = after;
            continue;
        }
        if !c.is_ascii_alphabetic() {
            return Err(format!("`{c}` in `{part}` is no letter; axes are letters or `...`"));
        }
        labels.push(Label::Letter(c));
        rest = &rest[1..];
    }
    Ok(labels)
}

/// The size of every label, in order of appearance. Axes of `...` broadcast, letters must agree.
fn sizes(all: &[Vec<Label>], operands: &[&Tensor]) -> Result<Vec<(Label, usize)>, String> {
    let mut sizes: Vec<(Label, usize)> = Vec::new();
    for (labels, x) in all.iter().zip(operands) {
        for (&label, &size) in labels.iter().zip(x.shape().iter()) {
            let Some((_, known)) = sizes.iter_mut().find(|(other, _)| *other == label) else {
                sizes.push((label, size));
                continue;
            };
            match label {
                _ if *known == size => (),
                Label::Dots(_) if *known == 1 => *known = size,
                Label::Dots(_) if size == 1 => (),
                Label::Dots(back) => {
                    return Err(format!(
                        "axis −{} of `...` has {known} in one operand and {size} in another",
                        back + 1
                    ));
                }
                Label::Letter(c) => return Err(format!("`{c}` has size {known} in one place and {size} in another")),
            }
        }
    }
    Ok(sizes)
}

/// The operand with every label once: diagonals taken, axes to broadcast dropped.
#[track_caller]
fn plain(x: &Tensor, mut labels: Vec<Label>, sizes: &[(Label, usize)]) -> Term {
    let mut x = x.clone();
    for axis in (0..labels.len()).rev() {
        let size = sizes.iter().find(|(label, _)| *label == labels[axis]).map_or(1, |&(_, size)| size);
        if x.size(axis as i32) == 1 && size != 1 {
            x = x.squeeze(axis as i32);
            labels.remove(axis);
        }
    }
    while let Some((first, second)) = doubled(&labels) {
        x = diagonal(&x, first, second);
        labels.remove(second);
    }
    Term { x, labels }
}

/// Two axes of one label.
fn doubled(labels: &[Label]) -> Option<(usize, usize)> {
    let second = (0..labels.len()).find(|&axis| labels[..axis].contains(&labels[axis]))?;
    Some((labels.iter().position(|label| *label == labels[second])?, second))
}

/// The elements whose places along axes `first < second`, of equal size, are equal; they stay at `first`.
#[track_caller]
fn diagonal(x: &Tensor, first: usize, second: usize) -> Tensor {
    let rank = x.rank();
    let size = x.size(first as i32);
    let others: Vec<i32> = (0..rank).filter(|&axis| axis != first && axis != second).map(|axis| axis as i32).collect();
    let order: Vec<i32> = others.iter().copied().chain([first as i32, second as i32]).collect();
    let last = rank as i32 - 2;
    let line = x.permute(&order).flatten_from(last).slice(last, 0, i64::MAX, size as i64 + 1);
    // The diagonal stands last and goes back to where the first of its two axes stood.
    let mut back: Vec<i32> = (0..last).collect();
    back.insert(first, last);
    line.permute(back)
}

/// Multiplies the terms from left to right and puts the axes of the result in order.
#[track_caller]
fn contract(terms: Vec<Term>, wanted: &[Label]) -> Tensor {
    let mut rest = terms.into_iter();
    let mut done = rest.next().expect("split gives at least one part");
    let rest: Vec<Term> = rest.collect();
    for (number, next) in rest.iter().enumerate() {
        let later =
            |label: &Label| wanted.contains(label) || rest[number + 1..].iter().any(|term| term.labels.contains(label));
        // What only one of the two has, and nobody needs later, is summed before the product.
        let left = reduce(&done, |label| later(label) || next.labels.contains(label));
        let right = reduce(next, |label| later(label) || left.labels.contains(label));
        done = multiply(&left, &right, later);
    }
    let done = reduce(&done, |label| wanted.contains(label));
    // A broadcast axis that every operand dropped cannot be; but one that is 1 everywhere is still there.
    let order: Vec<i32> = wanted.iter().map(|label| position(&done.labels, label) as i32).collect();
    done.x.permute(order)
}

fn position(labels: &[Label], label: &Label) -> usize {
    labels.iter().position(|other| other == label).expect("the label is one of these")
}

/// The term summed over the axes that are not kept.
#[track_caller]
fn reduce(term: &Term, keep: impl Fn(&Label) -> bool) -> Term {
    let gone = (0..term.labels.len()).filter(|&axis| !keep(&term.labels[axis]));
    let axes: Vec<i32> = gone.map(|axis| axis as i32).collect();
    if axes.is_empty() {
        return term.clone();
    }
    let labels = term.labels.iter().copied().filter(|label| keep(label)).collect();
    Term { x: term.x.sum(axes), labels }
}

/// The product of two terms; of the labels both have, those that `keep` does not want are summed.
#[track_caller]
fn multiply(a: &Term, b: &Term, keep: impl Fn(&Label) -> bool) -> Term {
    let both = |label: &&Label| b.labels.contains(label);
    let batch: Vec<Label> = a.labels.iter().filter(both).filter(|label| keep(label)).copied().collect();
    let summed: Vec<Label> = a.labels.iter().filter(both).filter(|label| !keep(label)).copied().collect();
    let rows: Vec<Label> = a.labels.iter().filter(|label| !b.labels.contains(label)).copied().collect();
    let columns: Vec<Label> = b.labels.iter().filter(|label| !a.labels.contains(label)).copied().collect();
    let sizes = |term: &Term, labels: &[Label]| -> Vec<usize> {
        let shape = term.x.shape();
        labels.iter().map(|label| shape[position(&term.labels, label)]).collect()
    };
    let permuted = |term: &Term, labels: &[Label]| {
        let order: Vec<i32> = labels.iter().map(|label| position(&term.labels, label) as i32).collect();
        term.x.permute(order)
    };
    let shape: Vec<usize> = [sizes(a, &batch), sizes(a, &rows), sizes(b, &columns)].concat();
    let (left, right) = ([&batch[..], &rows, &summed].concat(), [&batch[..], &columns, &summed].concat());
    let (left, right) = (permuted(a, &left), permuted(b, &right));
    let matrices = !(summed.is_empty() || rows.is_empty() && columns.is_empty()) && left.dtype().is_float();
    let product = if matrices {
        let count = |sizes: Vec<usize>| sizes.iter().product::<usize>();
        let (many, inner) = (count(sizes(a, &batch)), count(sizes(a, &summed)));
        let left = left.reshape([many, count(sizes(a, &rows)), inner]);
        let right = right.reshape([many, count(sizes(b, &columns)), inner]);
        if many == 1 { left.squeeze(0).matmul(&right.squeeze(0).t()) } else { left.matmul(&right.t()) }
    } else {
        // Views and one product, which fuse with what is around them.
        let ones = |labels: &[Label]| vec![1; labels.len()];
        let left = left.reshape([sizes(a, &batch), sizes(a, &rows), ones(&columns), sizes(a, &summed)].concat());
        let right = right.reshape([sizes(b, &batch), ones(&rows), sizes(b, &columns), sizes(b, &summed)].concat());
        let last: Vec<i32> = (1..=summed.len() as i32).map(|back| -back).collect();
        if last.is_empty() { left * right } else { (left * right).sum(last) }
    };
    Term { x: product.reshape(Shape::new(&shape)), labels: [batch, rows, columns].concat() }
}

pub(crate) fn rows() -> Vec<Row> {
    let case = |equation: &'static str, shapes: &[&[usize]]| {
        Case::new(equation, shapes, move |x| einsum(equation, &x.iter().collect::<Vec<_>>()))
    };
    let cases = vec![
        case("ij,jk->ki", &[&[2, 3], &[3, 4]]).reference(|x| {
            let sum = |i: usize, k: usize| (0..3).map(|j| x[0][3 * i + j] * x[1][4 * j + k]).sum::<f64>();
            (0..8).map(|at| sum(at % 2, at / 2)).collect()
        }),
        case("bthd,bshd->bhts", &[&[2, 3, 2, 2], &[2, 1, 2, 2]]),
        case("...ij,...jk", &[&[2, 1, 2, 3], &[4, 3, 1]]),
        case("bi,oij,bj->bo", &[&[2, 3], &[2, 3, 2], &[2, 2]]),
        case("iij->ji", &[&[3, 3, 2]]).reference(|x| [0, 8, 16, 1, 9, 17].iter().map(|&at| x[0][at]).collect()),
        case("ii", &[&[3, 3]]).reference(|x| vec![x[0][0] + x[0][4] + x[0][8]]),
        case("i,j->ji", &[&[2], &[3]]).reference(|x| (0..6).map(|at| x[0][at % 2] * x[1][at / 2]).collect()),
        case("ij,ij,ij->i", &[&[2, 3], &[2, 3], &[2, 3]]),
        case("ij,k->", &[&[2, 3], &[2]]).reference(|x| vec![x[0].iter().sum::<f64>() * x[1].iter().sum::<f64>()]),
        case("b...,b...->...b", &[&[2, 1, 3], &[2, 2, 1]]),
        case("ij,jk->ik", &[&[0, 3], &[3, 2]]),
        case("ij,jk->ik", &[&[2, 0], &[0, 2]]).reference(|_| vec![0.0; 4]),
    ];
    vec![Row { name: "einsum", cases }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{arange, tensor};

    fn message(equation: &str, operands: &[&Tensor]) -> String {
        let run = std::panic::AssertUnwindSafe(|| einsum(equation, operands));
        let payload = std::panic::catch_unwind(run).expect_err("it is refused");
        payload.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (a, b) = (tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([1.0, 2.0, 3.0]));
        for (equation, part) in [
            ("ij,j->i", "`j` has size 2 in one place and 3 in another"),
            ("ij->i", "names 1 operands, 2 are given"),
            ("ijk,j->i", "`ijk` names 3 axes, operand 1 is [2, 2]"),
            ("ij,k->ikk", "`k` occurs twice"),
            ("ij,k->x", "`x` of the result occurs in no operand"),
            ("i1,k->k", "`1` in `i1` is no letter"),
            ("...i...,k->k", "`...` twice"),
        ] {
            let found = message(equation, &[&a, &b]);
            assert!(found.contains(part), "{found}");
        }
    }

    #[test]
    fn whole_numbers_stay_whole() {
        let y = einsum("i,i->", &[&arange(4), &arange(4)]);
        assert_eq!((y.dtype(), y.item()), (DType::I64, 14.0));
        assert_eq!(einsum("i,j->ji", &[&arange(2), &arange(3)]).to_vec::<i64>(), [0, 0, 0, 1, 0, 2]);
    }

    #[test]
    fn diagonals_in_any_place_and_sums_over_all() {
        let x = arange(12).reshape([2, 3, 2]).to(DType::F32);
        assert_eq!(einsum("iji->ij", &[&x]).to_vec::<f32>(), [0.0, 2.0, 4.0, 7.0, 9.0, 11.0]);
        assert_eq!(einsum("iji->j", &[&x]).to_vec::<f32>(), [7.0, 11.0, 15.0]);
        assert_eq!(einsum("...i->...", &[&x]).shape(), Shape::new(&[2, 3]));
        assert_eq!(einsum("ijk->", &[&x]).item(), 66.0);
    }
}
