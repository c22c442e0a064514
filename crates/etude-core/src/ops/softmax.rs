//! Softmax and its logarithm along an axis, and the surprise at a class, which cross-entropy is made of.

use crate::node::Source;
use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor, arange};
use etude_kernels::{Float, softmax as kernel};

/// Softmax over the last axis, or its logarithm.
#[derive(Debug)]
struct Softmax {
    log: bool,
}

static SOFTMAX: Softmax = Softmax { log: false };
static LOG_SOFTMAX: Softmax = Softmax { log: true };

/// The gradient of [`Softmax`] from its output `y` and the gradient `g` of that.
#[derive(Debug)]
struct SoftmaxGradient {
    log: bool,
}

static SOFTMAX_GRADIENT: SoftmaxGradient = SoftmaxGradient { log: false };
static LOG_SOFTMAX_GRADIENT: SoftmaxGradient = SoftmaxGradient { log: true };

/// Rows and width of a tensor taken as rows along its last axis.
pub(crate) fn rows_and_width(shape: &Shape) -> (usize, usize) {
    let (width, outer) = shape.split_last().expect("the shape rule wants an axis");
    (outer.iter().product(), *width)
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        if !inputs[0].dtype.is_float() {
            return Err(format!("takes a floating dtype, not {}; convert with .to(DType::F32)", inputs[0].dtype));
        }
        if inputs[0].shape.rank() == 0 {
            return Err("a single number has no axis to sum over".into());
        }
        Ok(vec![inputs[0]])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        // Rows of nothing have no largest element, which the sum starts from.
        if inputs[0].size(-1) == 0 {
            return Some(vec![&inputs[0] * 1.0]);
        }
        let log = &inputs[0] - inputs[0].logsumexp_keep(-1);
        Some(vec![if self.log { log } else { log.exp() }])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let operation = if self.log { &LOG_SOFTMAX_GRADIENT } else { &SOFTMAX_GRADIENT };
        let gradient = step.gradient(0);
        Ok(vec![Some(Tensor::record_source(Source::Table(operation), &[&step.outputs[0], &gradient]))])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
        Ok(())
    }
}

impl Softmax {
    fn fill<T: Float>(&self, call: &mut Call) {
        let ((rows, width), x) = (rows_and_width(&call.shape(0)), call.input::<T>(0));
        let fill = if self.log { kernel::log_softmax::<T> } else { kernel::softmax::<T> };
        fill(rows, width, x, call.output(0));
    }
}

impl Operation for SoftmaxGradient {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax_gradient" } else { "softmax_gradient" }
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![inputs[0]])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (y, g) = (&inputs[0], &inputs[1]);
        Some(vec![match self.log {
            true => g - y.exp() * g.sum_keep(-1),
            false => y * (g - (y * g).sum_keep(-1)),
        }])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
        Ok(())
    }
}

impl SoftmaxGradient {
    fn fill<T: Float>(&self, call: &mut Call) {
        let ((rows, width), y, g) = (rows_and_width(&call.shape(0)), call.input::<T>(0), call.input::<T>(1));
        let fill = if self.log { kernel::log_softmax_backward::<T> } else { kernel::softmax_backward::<T> };
        fill(rows, width, y, g, call.output(0));
    }
}

/// The gradient of log-softmax by its argument, from its result and the gradient of that.
#[track_caller]
pub(crate) fn log_softmax_gradient(log: &Tensor, g: &Tensor) -> Tensor {
    Tensor::record_source(Source::Table(&LOG_SOFTMAX_GRADIENT), &[log, g])
}

/// `−x[target]` along the last axis; 0 where the target is the one to ignore, which is an input.
#[derive(Debug)]
struct Surprise;

static SURPRISE: Surprise = Surprise;

impl Operation for Surprise {
    fn name(&self) -> &'static str {
        "surprise"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let [x, target] = [inputs[0], inputs[1]];
        if !x.dtype.is_float() {
            return Err(format!("log-probabilities must be of a floating dtype, not {}", x.dtype));
        }
        if target.dtype != DType::I64 {
            return Err(format!("classes must be i64, not {}; convert with .to(DType::I64)", target.dtype));
        }
        let Some((_, outer)) = x.shape.split_last() else { return Err("log-probabilities need a class axis".into()) };
        if target.shape[..] != *outer {
            return Err(format!("one class for each row is needed: {} for {}", Shape::new(outer), x.shape));
        }
        Ok(vec![Meta::new(target.shape, x.dtype)])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [x, target, ignored] = inputs else { return None };
        let here = chosen(target, ignored, x.size(-1));
        Some(vec![-here.select(x, &Tensor::scalar(0.0, x.dtype())).sum(-1)])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let [x, target, ignored] = step.inputs else { return Err("takes three inputs".into()) };
        let here = chosen(target, ignored, x.size(-1));
        let g = -step.gradient(0).unsqueeze(-1);
        Ok(vec![Some(here.select(&g, &Tensor::scalar(0.0, x.dtype()))), None, None])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => pick::<f32>(call),
            _ => pick::<f64>(call),
        }
    }
}

/// Whether each place of `[…, classes]` is its row's target, and the target is not the one to ignore.
pub(crate) fn chosen(target: &Tensor, ignored: &Tensor, classes: usize) -> Tensor {
    let kept = target.not_equal(ignored).unsqueeze(-1);
    target.unsqueeze(-1).equal(arange(classes)).logical_and(&kept)
}

fn pick<T: Float>(call: &mut Call) -> Result<(), String> {
    let ((_, classes), x, targets) = (rows_and_width(&call.shape(0)), call.input::<T>(0), call.input::<i64>(1));
    let ignored = call.int(2);
    for (row, (out, &target)) in call.output::<T>(0).iter_mut().zip(targets).enumerate() {
        let class = usize::try_from(target).ok().filter(|&class| class < classes);
        *out = match class {
            _ if target == ignored => T::from_f64(0.0),
            Some(class) => T::from_f64(-x[row * classes + class].to_f64()),
            None => return Err(format!("target {row} is class {target}; there are {classes} classes, from 0 on")),
        };
    }
    Ok(())
}

impl Tensor {
    /// `exp(xᵢ) / Σⱼ exp(xⱼ)` along `axis`, without overflow: numbers that are positive and sum to 1. A row that holds a
    /// NaN or `∞`, or nothing but `−∞`, becomes NaN.
    #[track_caller]
    pub fn softmax(&self, axis: i32) -> Tensor {
        self.along_last(axis, &SOFTMAX)
    }

    /// `xᵢ − ln Σⱼ exp(xⱼ)` along `axis`: the logarithm of [`Tensor::softmax`], exact where that underflows.
    #[track_caller]
    pub fn log_softmax(&self, axis: i32) -> Tensor {
        self.along_last(axis, &LOG_SOFTMAX)
    }

    /// `−x[…, target]` along the last axis: what log-probabilities `[…, classes]` say about one class `[…]` (i64) each,
    /// `[…]`. A target equal to `ignored` gives 0 and no gradient; no class has to have that number.
    ///
    /// # Errors
    /// On evaluation, if another target is outside `0 .. classes`.
    #[track_caller]
    pub fn surprise(&self, target: &Tensor, ignored: i64) -> Tensor {
        Tensor::record_source(Source::Table(&SURPRISE), &[self, target, &Tensor::scalar_int(ignored)])
    }

    /// `operation` over the last axis, with `axis` brought there and back.
    #[track_caller]
    fn along_last(&self, axis: i32, operation: &'static Softmax) -> Tensor {
        let axis = self.axis(operation.name(), axis) as i32;
        let turned = self.transpose(axis, -1);
        Tensor::record_source(Source::Table(operation), &[&turned]).transpose(axis, -1)
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let rows = |log: bool, width: usize| {
        move |x: &[Vec<f64>]| -> Vec<f64> {
            let row = |row: &[f64]| -> Vec<f64> {
                let sum = row.iter().map(|v| v.exp()).sum::<f64>();
                row.iter().map(|v| if log { v - sum.ln() } else { v.exp() / sum }).collect()
            };
            x[0].chunks(width).flat_map(row).collect()
        }
    };
    let cases = |log: bool| {
        let call = move |x: &Tensor, axis| if log { x.log_softmax(axis) } else { x.softmax(axis) };
        vec![
            Case::new("rows", &[&[3, 5]], move |x| call(&x[0], -1))
                .reference(rows(log, 5))
                .draw(|between| vec![Shape::from([between(0, 6), between(1, 70)])]),
            Case::new("one row of a prime length", &[&[17]], move |x| call(&x[0], 0)).reference(rows(log, 17)),
            Case::new("columns", &[&[3, 4]], move |x| call(&x[0], 0)),
            Case::new("an inner axis", &[&[2, 3, 4]], move |x| call(&x[0], 1)),
            Case::new("axes of size 1", &[&[3, 1, 1]], move |x| call(&x[0], 1)).reference(rows(log, 1)),
            Case::new("nothing", &[&[0, 3]], move |x| call(&x[0], 1)),
            Case::new("rows of nothing", &[&[3, 0]], move |x| call(&x[0], 1)),
            // The gradient that arrives depends on the output too.
            Case::new("squared", &[&[2, 3]], move |x| call(&x[0], 1).square()),
            // The kernel and its gradient against the definition.
            Case::new("less its meaning", &[&[4, 7]], move |x| {
                let meaning = Softmax { log }.meaning(x).expect("softmax has a meaning").remove(0);
                call(&x[0], -1) - meaning
            })
            .reference(|x| vec![0.0; x[0].len()]),
        ]
    };
    let gradients = |log: bool| {
        let operation = move |x: &[Tensor]| -> Tensor {
            let operation = if log { &LOG_SOFTMAX_GRADIENT } else { &SOFTMAX_GRADIENT };
            Tensor::record_source(Source::Table(operation), &[&x[0], &x[1]])
        };
        vec![
            Case::new("rows", &[&[3, 5], &[3, 5]], operation).reference(move |x| {
                let row = |(y, g): (&[f64], &[f64])| -> Vec<f64> {
                    let sum: f64 = y.iter().zip(g).map(|(y, g)| if log { *g } else { y * g }).sum();
                    y.iter().zip(g).map(|(y, g)| if log { g - y.exp() * sum } else { y * (g - sum) }).collect()
                };
                x[0].chunks(5).zip(x[1].chunks(5)).flat_map(row).collect()
            }),
            Case::new("nothing", &[&[0, 2], &[0, 2]], operation),
            Case::new("rows of one", &[&[3, 1], &[3, 1]], operation),
        ]
    };
    let surprise = vec![
        Case::new("rows", &[&[3, 4]], |x| x[0].surprise(&Tensor::from_slice(&[2i64, 0, 3], [3]), -100))
            .reference(|x| vec![-x[0][2], -x[0][4], -x[0][11]]),
        Case::new("ignored", &[&[2, 3]], |x| x[0].square().surprise(&Tensor::from_slice(&[1i64, 2], [2]), 1))
            .reference(|x| vec![0.0, -x[0][5] * x[0][5]]),
        Case::new("several axes", &[&[2, 2, 3]], |x| {
            x[0].log_softmax(-1).surprise(&Tensor::from_slice(&[0i64, 1, 2, 1], [2, 2]), -100)
        }),
        Case::new("nothing", &[&[0, 3]], |x| x[0].surprise(&Tensor::from_slice::<i64>(&[], [0]), -100)),
        Case::new("one class", &[&[2, 1]], |x| x[0].square().surprise(&Tensor::from_slice(&[0i64, 0], [2]), -100)),
        Case::new("less its meaning", &[&[3, 2]], |x| {
            let target = Tensor::from_slice(&[1i64, 0, -1], [3]);
            let inputs = [x[0].clone(), target.clone(), Tensor::scalar_int(-1)];
            x[0].surprise(&target, -1) - Surprise.meaning(&inputs).expect("surprise has a meaning").remove(0)
        })
        .reference(|_| vec![0.0; 3]),
    ];
    vec![
        Row { name: "softmax", cases: cases(false) },
        Row { name: "log_softmax", cases: cases(true) },
        Row { name: "softmax_gradient", cases: gradients(false) },
        Row { name: "log_softmax_gradient", cases: gradients(true) },
        Row { name: "surprise", cases: surprise },
    ]
}
