//! Connectionist temporal classification: how unlikely a sequence of labels is, without knowing where each stands.

use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor};
use etude_kernels::{Buffer, Float, ctc as kernel};
use std::hash::Hasher;

/// The loss of each row, and its gradient by the log-probabilities, which falls off on the way.
#[derive(Debug)]
struct Ctc {
    blank: usize,
}

impl Operation for Ctc {
    fn name(&self) -> &'static str {
        "ctc"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.blank);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let [log_probabilities, targets, input_lengths, target_lengths] = inputs else {
            return Err("takes log-probabilities, targets, input lengths and target lengths".into());
        };
        let &[steps, batch, classes] = &log_probabilities.shape[..] else {
            return Err("log-probabilities must be [steps, batch, classes]".into());
        };
        if !log_probabilities.dtype.is_float() {
            return Err(format!("log-probabilities must be of a floating dtype, not {}", log_probabilities.dtype));
        }
        let lengths = Shape::from(batch);
        if targets.shape.rank() != 2 || targets.shape[0] != batch {
            return Err(format!("targets must be [{batch}, labels], padded to one length"));
        }
        if input_lengths.shape != lengths || target_lengths.shape != lengths {
            return Err(format!("lengths must be {lengths}, one for each row of the batch"));
        }
        if let Some(other) = inputs[1..].iter().find(|input| input.dtype != DType::I64) {
            return Err(format!("targets and lengths must be i64, not {}; convert with .to(DType::I64)", other.dtype));
        }
        if self.blank >= classes {
            return Err(format!("the blank, {}, is none of the {classes} classes", self.blank));
        }
        let dtype = log_probabilities.dtype;
        Ok(vec![Meta::new(lengths, dtype), Meta::new(Shape::from([steps, batch, classes]), dtype)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        if step.gradients[1].is_some() {
            return Err("ctc has no second gradient".into());
        }
        let by_log_probabilities = step.gradient(0).unsqueeze(-1) * &step.outputs[1];
        Ok(vec![Some(by_log_probabilities), None, None, None])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
    }
}

impl Ctc {
    fn fill<T: Float>(&self, call: &mut Call) -> Result<(), String> {
        let (shape, width) = (call.shape(0), call.shape(1)[1]);
        let (log_probabilities, targets) = (call.input::<T>(0), call.input::<i64>(1));
        let (input_lengths, target_lengths) = (call.input::<i64>(2), call.input::<i64>(3));
        let [losses, gradient]: [&mut Buffer; 2] = call.outputs();
        let [steps, batch, classes] = [shape[0], shape[1], shape[2]];
        kernel::ctc(
            steps,
            batch,
            classes,
            self.blank,
            log_probabilities,
            targets,
            width,
            input_lengths,
            target_lengths,
            losses.as_mut_slice::<T>(),
            gradient.as_mut_slice::<T>(),
        )
        .map_err(|error| error.to_string())
    }
}

impl Tensor {
    /// `−ln p(labels)` for each row of log-probabilities `[steps, batch, classes]`, `[batch]`: the probability of all ways
    /// to go through the steps that give the row's labels once repeats are merged and blanks removed (Graves et al., 2006).
    /// `targets[batch, labels]` is padded; row b uses its first `target_lengths[b]` labels and `input_lengths[b]` steps.
    /// Labels that fit into the steps in no way give ∞ and no gradient. Differentiable once.
    ///
    /// # Panics
    /// If shapes or dtypes (i64 for all but the first) do not fit, or if the blank is no class.
    ///
    /// # Errors
    /// On evaluation, if a label is no class or a length reaches beyond what is there.
    #[track_caller]
    pub fn ctc(&self, targets: &Tensor, input_lengths: &Tensor, target_lengths: &Tensor, blank: usize) -> Tensor {
        Tensor::record_many(Ctc { blank }, &[self, targets, input_lengths, target_lengths]).swap_remove(0)
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let whole = |values: &[i64], shape: &[usize]| Tensor::from_slice(values, shape);
    let one = move |x: &[Tensor]| {
        x[0].log_softmax(-1).ctc(&whole(&[1, 1], &[1, 2]), &whole(&[4], &[1]), &whole(&[2], &[1]), 0)
    };
    let several = move |x: &[Tensor]| {
        let targets = whole(&[1, 2, 2, 3, 0, 0, 0, 0, 0], &[3, 3]);
        x[0].ctc(&targets, &whole(&[5, 3, 2], &[3]), &whole(&[3, 1, 0], &[3]), 4)
    };
    let cases = vec![
        Case::new("two equal labels in four steps", &[&[4, 1, 3]], one).once().reference(|x| {
            let p: Vec<f64> = x[0]
                .chunks(3)
                .flat_map(|row| {
                    let sum: f64 = row.iter().map(|v| v.exp()).sum();
                    row.iter().map(move |v| v.exp() / sum).collect::<Vec<_>>()
                })
                .collect();
            // Every way through four steps of three classes, one after the other.
            let mut total = 0.0;
            for code in 0..81usize {
                let path: Vec<usize> = (0..4).map(|t| code / 3usize.pow(t) % 3).collect();
                let mut merged = path.clone();
                merged.dedup();
                merged.retain(|&class| class != 0);
                if merged == [1, 1] {
                    total += (0..4).map(|t| p[3 * t + path[t]]).product::<f64>();
                }
            }
            vec![-total.ln()]
        }),
        Case::new("rows of different lengths, free inputs", &[&[5, 3, 5]], several).once(),
        Case::new("nothing", &[&[2, 0, 3]], move |x| {
            x[0].ctc(&whole(&[], &[0, 1]), &whole(&[], &[0]), &whole(&[], &[0]), 0)
        })
        .once(),
    ];
    vec![Row { name: "ctc", cases }]
}
