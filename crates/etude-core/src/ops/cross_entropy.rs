//! Cross-entropy of logits against classes, as one operation each way: the last few nodes of every classifier's step.

use super::softmax::{chosen, log_softmax_gradient, rows_and_width};
use crate::node::Source;
use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::{Buffer, Float, softmax as kernel};

/// The mean of `−log softmax(x)[target]` over the rows of x whose target is not the one to ignore, and the
/// log-probabilities, which the gradient wants. Inputs are x `[rows, classes]`, targets `[rows]`, and the one to ignore.
#[derive(Debug)]
struct CrossEntropy;

static CROSS_ENTROPY: CrossEntropy = CrossEntropy;

/// The gradient of [`CrossEntropy`] by x: `(softmax(x) − onehot(target)) · g / rows that count`, 0 for those that do not. Inputs are the
/// log-probabilities, targets, the one to ignore, and g.
#[derive(Debug)]
struct CrossEntropyGradient;

static CROSS_ENTROPY_GRADIENT: CrossEntropyGradient = CrossEntropyGradient;

impl Operation for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let [x, target] = [inputs[0], inputs[1]];
        if !x.dtype.is_float() {
            return Err(format!("logits must be of a floating dtype, not {}", x.dtype));
        }
        if target.dtype != DType::I64 {
            return Err(format!("classes must be i64, not {}; convert with .to(DType::I64)", target.dtype));
        }
        if x.shape.rank() != 2 || target.shape[..] != x.shape[..1] {
            return Err("logits [rows, classes] and one class a row are needed".into());
        }
        Ok(vec![Meta::new(Shape::scalar(), x.dtype), x])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [x, target, ignored] = inputs else { return None };
        let log = x.log_softmax(-1);
        let here = chosen(target, ignored, x.size(-1));
        let sum = here.select(&-&log, &Tensor::scalar(0.0, x.dtype())).sum(..);
        Some(vec![sum / target.not_equal(ignored).to(x.dtype()).sum(..), log])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let log = &step.outputs[1];
        let of_loss = step.gradients[0].as_ref().map(|g| {
            let inputs = [log, &step.inputs[1], &step.inputs[2], g];
            Tensor::record_source(Source::Table(&CROSS_ENTROPY_GRADIENT), &inputs)
        });
        // The log-probabilities are read by the gradient of the loss, so something arrives there in second gradients.
        let of_log = step.gradients[1].as_ref().map(|g| log_softmax_gradient(log, g));
        let by_x = match (of_loss, of_log) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        Ok(vec![by_x, None, None])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => fill::<f32>(call),
            _ => fill::<f64>(call),
        }
    }
}

fn fill<T: Float>(call: &mut Call) -> Result<(), String> {
    let ((rows, classes), x, targets) = (rows_and_width(&call.shape(0)), call.input::<T>(0), call.input::<i64>(1));
    let ignored = call.int(2);
    let [loss, log]: [&mut Buffer; 2] = call.outputs();
    let log = log.as_mut_slice::<T>();
    kernel::log_softmax(rows, classes, x, log);
    let (mut sum, mut count) = (0.0, 0usize);
    for (row, &target) in targets.iter().enumerate().filter(|(_, target)| **target != ignored) {
        let class = usize::try_from(target).ok().filter(|&class| class < classes);
        let class =
            class.ok_or_else(|| format!("target {row} is class {target}; there are {classes} classes, from 0 on"))?;
        sum -= log[row * classes + class].to_f64();
        count += 1;
    }
    loss.as_mut_slice::<T>()[0] = T::from_f64(sum / count as f64);
    Ok(())
}

impl Operation for CrossEntropyGradient {
    fn name(&self) -> &'static str {
        "cross_entropy_gradient"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![inputs[0]])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [log, target, ignored, g] = inputs else { return None };
        let kept = target.not_equal(ignored);
        let share = g / kept.to(log.dtype()).sum(..).maximum(1.0);
        let wanted = chosen(target, ignored, log.size(-1)).to(log.dtype());
        let by_x = (log.exp() - wanted) * share;
        Some(vec![kept.unsqueeze(-1).select(&by_x, &Tensor::scalar(0.0, log.dtype()))])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => fill_gradient::<f32>(call),
            _ => fill_gradient::<f64>(call),
        }
        Ok(())
    }
}

/// The forward pass has checked the targets.
fn fill_gradient<T: Float>(call: &mut Call) {
    let ((_, classes), log, targets) = (rows_and_width(&call.shape(0)), call.input::<T>(0), call.input::<i64>(1));
    let (ignored, g) = (call.int(2), call.float(3));
    let count = targets.iter().filter(|&&target| target != ignored).count();
    let share = T::from_f64(g / count.max(1) as f64);
    let by_x = call.output::<T>(0);
    kernel::scaled_exponentials(log, share, by_x);
    for (row, &target) in targets.iter().enumerate() {
        let row = &mut by_x[row * classes..][..classes];
        if target == ignored {
            row.fill(T::ZERO);
        } else if let Some(place) = usize::try_from(target).ok().and_then(|class| row.get_mut(class)) {
            *place = *place - share;
        }
    }
}

impl Tensor {
    /// The cross-entropy `−log softmax(x)[target]` of logits `[rows, classes]` against classes `[rows]` (i64), the mean
    /// over the rows whose target is not `ignored`; without any it is NaN.
    ///
    /// # Errors
    /// On evaluation, if another target is outside `0 .. classes`.
    #[track_caller]
    pub fn cross_entropy(&self, target: &Tensor, ignored: i64) -> Tensor {
        Tensor::record_source(Source::Table(&CROSS_ENTROPY), &[self, target, &Tensor::scalar_int(ignored)])
    }
}

pub(crate) fn rows() -> Vec<Row> {
    // Targets that fit any number of rows and classes; every third is left out if `some` is set.
    let targets = |x: &Tensor, some: bool| {
        let (rows, classes) = (x.size(0), x.size(1));
        let of = |row: usize| if some && row % 3 == 1 { -100 } else { (row * 5 % classes) as i64 };
        Tensor::from_slice(&(0..rows).map(of).collect::<Vec<i64>>(), [rows])
    };
    let less_meaning = move |x: &[Tensor]| {
        let inputs = [x[0].clone(), targets(&x[0], true), Tensor::scalar_int(-100)];
        let meaning = CrossEntropy.meaning(&inputs).expect("it has a meaning").remove(0);
        x[0].cross_entropy(&inputs[1], -100) - meaning
    };
    let gradient = move |x: &[Tensor], kernel: bool| {
        let log = x[0].log_softmax(-1);
        let inputs = [log, targets(&x[0], true), Tensor::scalar_int(-100), x[1].clone()];
        match kernel {
            true => Tensor::record_source(Source::Table(&CROSS_ENTROPY_GRADIENT), &inputs.each_ref()),
            false => CrossEntropyGradient.meaning(&inputs).expect("it has a meaning").remove(0),
        }
    };
    let loss = vec![
        Case::new("rows", &[&[3, 4]], move |x| x[0].cross_entropy(&targets(&x[0], false), -100)).reference(|x| {
            let row = |row: usize| {
                let of = &x[0][4 * row..][..4];
                of.iter().map(|v| v.exp()).sum::<f64>().ln() - of[row * 5 % 4]
            };
            vec![(0..3).map(row).sum::<f64>() / 3.0]
        }),
        Case::new("some ignored", &[&[5, 3]], move |x| x[0].square().cross_entropy(&targets(&x[0], true), -100)),
        Case::new("one class", &[&[2, 1]], move |x| x[0].square().cross_entropy(&targets(&x[0], false), -100)),
        Case::new("sums of nothing", &[&[2, 3, 0]], move |x| {
            let x = x[0].sum(-1);
            x.cross_entropy(&targets(&x, false), -100)
        }),
        Case::new("squared", &[&[4, 3]], move |x| x[0].cross_entropy(&targets(&x[0], false), -100).square()),
        Case::new("less its meaning", &[&[4, 7]], less_meaning).reference(|_| vec![0.0]),
    ];
    let gradients = vec![
        Case::new("less its meaning", &[&[4, 7], &[]], move |x| gradient(x, true) - gradient(x, false))
            .reference(|x| vec![0.0; x[0].len()]),
        Case::new("rows", &[&[3, 5], &[]], move |x| gradient(x, true)),
        Case::new("one class", &[&[2, 1], &[]], move |x| gradient(x, true)),
        Case::new("nothing", &[&[0, 2], &[]], move |x| gradient(x, true)),
    ];
    vec![Row { name: "cross_entropy", cases: loss }, Row { name: "cross_entropy_gradient", cases: gradients }]
}
