//! Normalisations: batch, layer, group, instance, root mean square.

use crate::operation::{Backward, Call, Kind, Meta, Operation};
use crate::ops::{Case, Row};
use crate::{Axes, DType, Shape, Tensor, cat};
use etude_kernels::{Buffer, Float, norm as kernel};
use std::hash::Hasher;

/// For each row over the last axes of x its mean and `1/√(variance + ε)`.
#[derive(Debug)]
struct LayerStatistics {
    axes: usize,
    epsilon: f64,
}

/// Mean and biased variance of each channel of `[B, C, …]`.
#[derive(Debug)]
struct BatchStatistics;

/// Layer normalisation over the last axes: `y`, and for each row its mean and `1/√(variance + ε)`, which the gradient
/// wants. Inputs are x, and γ and β where there are any. A plan holds the statistics and elementwise work, which fuses
/// with what follows and can be done again on the way back.
#[derive(Clone, Debug)]
struct LayerNorm {
    axes: usize,
    epsilon: f64,
    gamma: bool,
    beta: bool,
}

/// The gradients of [`LayerNorm`] by x, and by γ and β if it has either. Inputs are x, its γ if there is one, mean, `1/√(variance + ε)`, and the
/// gradient of `y`.
#[derive(Debug)]
struct LayerNormGradient(LayerNorm);

/// Batch normalisation of `[B, C, …]` with the batch's own statistics: `y`, mean and biased variance of each channel.
/// Inputs are x, and γ and β where there are any. As [`LayerNorm`], it is statistics and elementwise work in a plan.
#[derive(Clone, Debug)]
struct BatchNorm {
    epsilon: f64,
    gamma: bool,
    beta: bool,
}

/// The gradients of [`BatchNorm`] by x, γ and β through `y`. Inputs are x, its γ if there is one, mean, variance, and the
/// gradient of `y`.
#[derive(Debug)]
struct BatchNormGradient(BatchNorm);

/// The inputs of a normalisation after x: γ and β, if there are any.
fn scale_and_shift(inputs: &[Tensor], gamma: bool, beta: bool) -> (Option<&Tensor>, Option<&Tensor>) {
    (gamma.then(|| &inputs[1]), beta.then(|| &inputs[1 + gamma as usize]))
}

/// Stops at parameters of another dtype or shape than `shape`.
fn check_parameters(inputs: &[Meta], shape: Shape) -> Result<(), String> {
    let dtype = inputs[0].dtype;
    if !dtype.is_float() {
        return Err(format!("takes a floating dtype, not {dtype}; convert with .to(DType::F32)"));
    }
    for parameter in &inputs[1..] {
        if parameter.dtype != dtype {
            return Err(format!("the dtypes differ, {dtype} against {}", parameter.dtype));
        }
        if parameter.shape != shape {
            return Err(format!("gamma and beta must be {shape}, not {}", parameter.shape));
        }
    }
    Ok(())
}

/// `y·γ + β`.
#[track_caller]
fn affine(y: Tensor, gamma: Option<&Tensor>, beta: Option<&Tensor>) -> Tensor {
    let y = if let Some(gamma) = gamma { y * gamma } else { y };
    if let Some(beta) = beta { y + beta } else { y }
}

/// x less its mean over `axes`, and `1/√(variance + ε)`.
#[track_caller]
fn centred(x: &Tensor, axes: &Axes, epsilon: f64) -> (Tensor, Tensor) {
    let centred = x - x.mean_keep(axes.clone());
    let inverse = (centred.square().mean_keep(axes.clone()) + epsilon).rsqrt();
    (centred, inverse)
}

/// The gradient of `(x − mean)/√(variance + ε)`, `g` being that of the result: `s·(g − mean(g) − x̂·mean(g·x̂))`.
#[track_caller]
fn centred_gradient(normal: &Tensor, inverse: &Tensor, g: &Tensor, axes: &Axes) -> Tensor {
    let mean = |x: &Tensor| x.mean_keep(axes.clone());
    inverse * (g - mean(g) - normal * mean(&(g * normal)))
}

impl LayerNorm {
    /// The rows a tensor has, and the shape of each.
    fn rows(&self, shape: &Shape) -> (usize, Shape) {
        let (outer, inner) = shape.split_at(shape.rank() - self.axes);
        (outer.iter().product(), Shape::new(inner))
    }

    /// The axes that are normalised.
    fn last(&self) -> Axes {
        (1..=self.axes as i32).map(|axis| -axis).collect::<Vec<_>>().into()
    }

    /// Whether gradients by γ and β are wanted.
    fn is_affine(&self) -> bool {
        self.gamma || self.beta
    }

    fn fill_gradient<T: Float>(&self, call: &mut Call) {
        let (rows, inner) = self.rows(&call.shape(0));
        let (x, at) = (call.input::<T>(0), 1 + self.gamma as usize);
        let gamma = self.gamma.then(|| call.input::<T>(1));
        let [mean, inverse, g] = [0, 1, 2].map(|i| call.input::<T>(at + i));
        let width = inner.count();
        if self.is_affine() {
            let [by_x, by_gamma, by_beta]: [&mut Buffer; 3] = call.outputs();
            let (by_x, affine) = (by_x.as_mut_slice(), [by_gamma, by_beta].map(|out| out.as_mut_slice()));
            kernel::layer_norm_backward(rows, width, x, gamma, mean, inverse, g, by_x, Some(affine));
        } else {
            let [by_x]: [&mut Buffer; 1] = call.outputs();
            kernel::layer_norm_backward(rows, width, x, gamma, mean, inverse, g, by_x.as_mut_slice(), None);
        }
    }
}

/// The gradients by x, γ and β, of which only those are given that are inputs.
fn of_inputs(gradients: Vec<Tensor>, gamma: bool, beta: bool) -> Vec<Option<Tensor>> {
    let there = [true, gamma, beta];
    gradients.into_iter().zip(there).filter(|(_, there)| *there).map(|(gradient, _)| Some(gradient)).collect()
}

impl Operation for LayerStatistics {
    fn name(&self) -> &'static str {
        "layer_statistics"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axes);
        state.write_u64(self.epsilon.to_bits());
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let x = inputs[0];
        let rows = x.shape[..x.shape.rank() - self.axes].iter().product::<usize>();
        Ok(vec![Meta::new(Shape::from(rows), x.dtype); 2])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let last: Axes = (1..=self.axes as i32).map(|axis| -axis).collect::<Vec<_>>().into();
        let (_, inverse) = centred(&inputs[0], &last, self.epsilon);
        Some(vec![inputs[0].mean(last).flatten(), inverse.flatten()])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        fn fill<T: Float>(call: &mut Call, epsilon: f64) {
            let rows = call.output_meta(0).shape.count();
            let width = call.shape(0).count().checked_div(rows).unwrap_or(0);
            let x = call.input::<T>(0);
            let [mean, inverse]: [&mut Buffer; 2] = call.outputs();
            kernel::layer_norm_statistics(rows, width, epsilon, x, mean.as_mut_slice(), inverse.as_mut_slice());
        }
        match call.dtype(0) {
            DType::F32 => fill::<f32>(call, self.epsilon),
            _ => fill::<f64>(call, self.epsilon),
        }
        Ok(())
    }
}

impl Operation for BatchStatistics {
    fn name(&self) -> &'static str {
        "batch_statistics"
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        Ok(vec![Meta::new(Shape::from(inputs[0].shape[1]), inputs[0].dtype); 2])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (x, axes) = (&inputs[0], all_but_channels(inputs[0].rank()));
        Some(vec![x.mean(axes.clone()), x.var(axes, 0.0)])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        fn fill<T: Float>(call: &mut Call) {
            let ([b, c, n], x) = (batch_sizes(&call.shape(0)), call.input::<T>(0));
            let [mean, variance]: [&mut Buffer; 2] = call.outputs();
            kernel::batch_norm_statistics(b, c, n, x, mean.as_mut_slice(), variance.as_mut_slice());
        }
        match call.dtype(0) {
            DType::F32 => fill::<f32>(call),
            _ => fill::<f64>(call),
        }
        Ok(())
    }
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_usize(self.axes);
        state.write_u64(self.epsilon.to_bits());
        state.write_u8(self.gamma as u8);
        state.write_u8(self.beta as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let x = inputs[0];
        if self.axes == 0 || self.axes > x.shape.rank() {
            return Err(format!("cannot normalise over the last {} axes of {}", self.axes, x.shape));
        }
        let (rows, inner) = self.rows(&x.shape);
        check_parameters(inputs, inner)?;
        let row = Meta::new(Shape::from(rows), x.dtype);
        Ok(vec![x, row, row])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (gamma, beta) = scale_and_shift(inputs, self.gamma, self.beta);
        let x = &inputs[0];
        let statistics = Tensor::record_many(LayerStatistics { axes: self.axes, epsilon: self.epsilon }, &[x]);
        let mut shape = x.shape();
        (1..=self.axes).for_each(|axis| shape[x.rank() - axis] = 1);
        let [mean, inverse] = [0, 1].map(|i: usize| statistics[i].reshape(shape));
        let mut given = vec![affine((x - mean) * inverse, gamma, beta)];
        given.extend(statistics);
        Some(given)
    }

    fn kind(&self) -> Kind {
        Kind::Composite
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (gamma, _) = scale_and_shift(step.inputs, self.gamma, self.beta);
        let g = step.gradient(0);
        let mut inputs = vec![&step.inputs[0]];
        inputs.extend(gamma);
        inputs.extend([&step.outputs[1], &step.outputs[2], &g]);
        Ok(of_inputs(Tensor::record_many(LayerNormGradient(self.clone()), &inputs), self.gamma, self.beta))
    }
}

impl Operation for LayerNormGradient {
    fn name(&self) -> &'static str {
        "layer_norm_gradient"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        self.0.attributes(state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let x = inputs[0];
        let inner = Meta::new(self.0.rows(&x.shape).1, x.dtype);
        Ok(if self.0.is_affine() { vec![x, inner, inner] } else { vec![x] })
    }

    /// Mean and variance follow from x, so that their gradients go there and not to the statistics given.
    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let ((x, inverse), g) = (centred(&inputs[0], &self.0.last(), self.0.epsilon), &inputs[inputs.len() - 1]);
        let normal = x * &inverse;
        let scaled = if self.0.gamma { g * &inputs[1] } else { g.clone() };
        let (_, inner) = self.0.rows(&inputs[0].shape());
        let by_x = centred_gradient(&normal, &inverse, &scaled, &self.0.last());
        let affine = self.0.is_affine().then(|| [(g * normal).sum_to(inner), g.sum_to(inner)]);
        Some(std::iter::once(by_x).chain(affine.into_iter().flatten()).collect())
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.0.fill_gradient::<f32>(call),
            _ => self.0.fill_gradient::<f64>(call),
        }
        Ok(())
    }
}

/// Batch, channels and the product of the other axes.
fn batch_sizes(shape: &Shape) -> [usize; 3] {
    [shape[0], shape[1], shape[2..].iter().product()]
}

/// All axes but that of the channels.
fn all_but_channels(rank: usize) -> Axes {
    (0..rank as i32).filter(|&axis| axis != 1).collect::<Vec<_>>().into()
}

/// `[C]` in the shape that broadcasts over `[B, C, …]`.
#[track_caller]
fn by_channel(parameter: &Tensor, rank: usize) -> Tensor {
    let mut shape = parameter.shape();
    (2..rank).for_each(|_| shape.push(1));
    parameter.reshape(shape)
}

impl BatchNorm {
    fn fill_gradient<T: Float>(&self, call: &mut Call) {
        let ([b, c, n], x) = (batch_sizes(&call.shape(0)), call.input::<T>(0));
        let (gamma, at) = (self.gamma.then(|| call.input::<T>(1)), 1 + self.gamma as usize);
        let [mean, variance, g] = [0, 1, 2].map(|i| call.input::<T>(at + i));
        let [by_x, by_gamma, by_beta]: [&mut Buffer; 3] = call.outputs();
        let [by_x, by_gamma, by_beta] = [by_x, by_gamma, by_beta].map(|out| out.as_mut_slice());
        kernel::batch_norm_backward(b, c, n, self.epsilon, x, mean, variance, gamma, g, by_x, by_gamma, by_beta);
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_u64(self.epsilon.to_bits());
        state.write_u8(self.gamma as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let x = inputs[0];
        if x.shape.rank() < 2 {
            return Err("batch and channel axes are needed: [batch, channels, …]".into());
        }
        let channels = Shape::from(x.shape[1]);
        check_parameters(inputs, channels)?;
        Ok(vec![x, Meta::new(channels, x.dtype), Meta::new(channels, x.dtype)])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (gamma, beta) = scale_and_shift(inputs, self.gamma, self.beta);
        let mut statistics = Tensor::record_many(BatchStatistics, &[&inputs[0]]);
        let y = inputs[0].batch_norm_with(&statistics[0], &statistics[1], gamma, beta, self.epsilon);
        statistics.insert(0, y);
        Some(statistics)
    }

    fn kind(&self) -> Kind {
        Kind::Composite
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        let (x, g) = (&step.inputs[0], step.gradient(0));
        let (gamma, _) = scale_and_shift(step.inputs, self.gamma, self.beta);
        let mut inputs = vec![x];
        inputs.extend(gamma);
        inputs.extend([&step.outputs[1], &step.outputs[2], &g]);
        let mut found = Tensor::record_many(BatchNormGradient(self.clone()), &inputs);
        // What comes in through the statistics themselves: mean = Σx/n, variance = Σ(x − mean)²/n.
        let (rank, [batch, _, spatial]) = (x.rank(), batch_sizes(&x.shape()));
        let share = 1.0 / (batch * spatial) as f64;
        if let Some(g) = &step.gradients[1] {
            found[0] = &found[0] + by_channel(g, rank) * share;
        }
        if let Some(g) = &step.gradients[2] {
            let mean = by_channel(&step.outputs[1], rank);
            found[0] = &found[0] + by_channel(g, rank) * (2.0 * share) * (x - mean);
        }
        Ok(of_inputs(found, self.gamma, self.beta))
    }
}

impl Operation for BatchNormGradient {
    fn name(&self) -> &'static str {
        "batch_norm_gradient"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        self.0.attributes(state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let x = inputs[0];
        let channels = Meta::new(Shape::from(x.shape[1]), x.dtype);
        Ok(vec![x, channels, channels])
    }

    /// Mean and variance follow from x, so that their gradients go there and not to the statistics given.
    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (rank, g) = (inputs[0].rank(), &inputs[inputs.len() - 1]);
        let axes = all_but_channels(rank);
        let (x, inverse) = centred(&inputs[0], &axes, self.0.epsilon);
        let normal = x * &inverse;
        let scaled = if self.0.gamma { g * by_channel(&inputs[1], rank) } else { g.clone() };
        let by_x = centred_gradient(&normal, &inverse, &scaled, &axes);
        Some(vec![by_x, (g * normal).sum(axes.clone()), g.sum(axes)])
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.0.fill_gradient::<f32>(call),
            _ => self.0.fill_gradient::<f64>(call),
        }
        Ok(())
    }
}

impl Tensor {
    /// Layer normalisation over the last `axes` axes: `(x − mean)/√(variance + ε)·γ + β` with mean and biased variance of
    /// each row; γ and β have the shape of those axes, without them 1 and 0 (Ba et al., 2016).
    #[track_caller]
    pub fn layer_norm(&self, axes: usize, gamma: Option<&Tensor>, beta: Option<&Tensor>, epsilon: f64) -> Tensor {
        let operation = LayerNorm { axes, epsilon, gamma: gamma.is_some(), beta: beta.is_some() };
        let inputs: Vec<&Tensor> = [self].into_iter().chain(gamma).chain(beta).collect();
        Tensor::record_many(operation, &inputs).swap_remove(0)
    }

    /// Batch normalisation of `[B, C, …]` as in training: `(x − mean)/√(variance + ε)·γ + β` with mean and biased variance
    /// of each channel over everything else; γ and β are `[C]`, without them 1 and 0 (Ioffe and Szegedy, 2015). Gives the
    /// result, the means `[C]` and the variances `[C]`.
    #[track_caller]
    pub fn batch_norm(&self, gamma: Option<&Tensor>, beta: Option<&Tensor>, epsilon: f64) -> (Tensor, Tensor, Tensor) {
        let operation = BatchNorm { epsilon, gamma: gamma.is_some(), beta: beta.is_some() };
        let inputs: Vec<&Tensor> = [self].into_iter().chain(gamma).chain(beta).collect();
        let mut outputs = Tensor::record_many(operation, &inputs);
        let (variance, mean) = (outputs.remove(2), outputs.remove(1));
        (outputs.remove(0), mean, variance)
    }

    /// Batch normalisation of `[B, C, …]` with given statistics `[C]`, as in evaluation; see [`Tensor::batch_norm`].
    #[track_caller]
    pub fn batch_norm_with(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        gamma: Option<&Tensor>,
        beta: Option<&Tensor>,
        epsilon: f64,
    ) -> Tensor {
        let shape = self.shape();
        assert!(shape.rank() >= 2, "batch_norm_with: {shape} lacks batch and channel axes: [batch, channels, …]");
        let given = [Some(mean), Some(variance), gamma, beta];
        for parameter in given.into_iter().flatten() {
            let (found, channels) = (parameter.shape(), shape[1]);
            assert!(
                found == [channels],
                "batch_norm_with: {shape} wants statistics and parameters [{channels}], not {found}"
            );
        }
        let inverse = (variance + epsilon).rsqrt();
        let scale = if let Some(gamma) = gamma { inverse * gamma } else { inverse };
        let rank = shape.rank();
        let y = (self - by_channel(mean, rank)) * by_channel(&scale, rank);
        if let Some(beta) = beta { y + by_channel(beta, rank) } else { y }
    }

    /// Group normalisation of `[B, C, …]`: as layer normalisation of each of `groups` groups of channels, then γ and β by
    /// channel, `[C]` (Wu and He, 2018).
    ///
    /// # Panics
    /// If the groups do not divide the channels.
    #[track_caller]
    pub fn group_norm(&self, groups: usize, gamma: Option<&Tensor>, beta: Option<&Tensor>, epsilon: f64) -> Tensor {
        let shape = self.shape();
        let fits = shape.rank() >= 2 && groups > 0 && shape[1].is_multiple_of(groups);
        assert!(fits, "group_norm: {shape} cannot be cut into {groups} equal groups of channels (axis 1)");
        for parameter in gamma.into_iter().chain(beta) {
            let (found, channels) = (parameter.shape(), shape[1]);
            assert!(found == [channels], "group_norm: {shape} wants gamma and beta [{channels}], not {found}");
        }
        let [batch, channels, spatial] = batch_sizes(&shape);
        let rows = self.reshape([batch * groups, channels / groups * spatial]);
        let normal = rows.layer_norm(1, None, None, epsilon).reshape(shape);
        let parameter = |p: Option<&Tensor>| p.map(|p| by_channel(p, shape.rank()));
        affine(normal, parameter(gamma).as_ref(), parameter(beta).as_ref())
    }

    /// Instance normalisation of `[B, C, …]`: each channel of each sample by its own mean and variance, then γ and β by
    /// channel, `[C]` (Ulyanov et al., 2016).
    #[track_caller]
    pub fn instance_norm(&self, gamma: Option<&Tensor>, beta: Option<&Tensor>, epsilon: f64) -> Tensor {
        let shape = self.shape();
        assert!(
            shape.rank() >= 3,
            "instance_norm: {shape} has nothing to take a mean over; [batch, channels, …] is needed"
        );
        self.group_norm(shape[1].max(1), gamma, beta, epsilon)
    }

    /// `x/√(mean x² + ε)·γ` over the last `axes` axes, whose shape γ has (Zhang and Sennrich, 2019).
    #[track_caller]
    pub fn rms_norm(&self, axes: usize, gamma: Option<&Tensor>, epsilon: f64) -> Tensor {
        let shape = self.shape();
        let fits = (1..=shape.rank()).contains(&axes);
        assert!(fits, "rms_norm: cannot normalise over the last {axes} axes of {shape}");
        if let Some(gamma) = gamma {
            let (found, inner) = (gamma.shape(), Shape::new(&shape[shape.rank() - axes..]));
            assert!(found == inner, "rms_norm: gamma must be {inner}, not {found}");
        }
        let last: Vec<i32> = (1..=axes as i32).map(|axis| -axis).collect();
        let normal = self * (self.square().mean_keep(last) + epsilon).rsqrt();
        affine(normal, gamma, None)
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let epsilon = 1e-5;
    // Normalises rows of `width` in plain loops.
    let plain = move |x: &[f64], width: usize| -> Vec<f64> {
        let row = |row: &[f64]| -> Vec<f64> {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
            row.iter().map(|v| (v - mean) / (variance + epsilon).sqrt()).collect()
        };
        x.chunks(width.max(1)).flat_map(row).collect()
    };
    let layer = vec![
        Case::new("plain rows", &[&[3, 5]], move |x| x[0].layer_norm(1, None, None, epsilon))
            .reference(move |x| plain(&x[0], 5)),
        Case::new("with gamma and beta", &[&[2, 17], &[17], &[17]], move |x| {
            x[0].layer_norm(1, Some(&x[1]), Some(&x[2]), epsilon)
        })
        .reference(move |x| plain(&x[0], 17).iter().enumerate().map(|(i, v)| v * x[1][i % 17] + x[2][i % 17]).collect())
        .draw(|between| {
            let (rows, width) = (between(0, 6), between(2, 70));
            vec![Shape::from([rows, width]), Shape::from(width), Shape::from(width)]
        }),
        Case::new("two axes, beta alone, squared", &[&[2, 3, 2, 2], &[2, 2]], move |x| {
            x[0].layer_norm(2, None, Some(&x[1]), epsilon).square()
        }),
        Case::new("all axes, x as gamma", &[&[2, 3]], move |x| x[0].layer_norm(2, Some(&x[0]), None, epsilon)),
        Case::new("rows of one", &[&[3, 1], &[1]], move |x| x[0].layer_norm(1, Some(&x[1]), None, epsilon)),
        Case::new("nothing", &[&[0, 3], &[3]], move |x| x[0].layer_norm(1, Some(&x[1]), None, epsilon)),
        Case::new("groups", &[&[2, 4, 3], &[4], &[4]], move |x| x[0].group_norm(2, Some(&x[1]), Some(&x[2]), epsilon)),
        Case::new("instances", &[&[2, 2, 5], &[2]], move |x| x[0].instance_norm(Some(&x[1]), None, epsilon))
            .reference(move |x| plain(&x[0], 5).iter().enumerate().map(|(i, v)| v * x[1][i / 5 % 2]).collect()),
        Case::new("root mean square", &[&[3, 4], &[4]], move |x| x[0].rms_norm(1, Some(&x[1]), epsilon)).reference(
            move |x| {
                let row = |(i, v): (usize, &f64)| {
                    let squares: f64 = x[0][i / 4 * 4..][..4].iter().map(|v| v * v).sum();
                    v / (squares / 4.0 + epsilon).sqrt() * x[1][i % 4]
                };
                x[0].iter().enumerate().map(row).collect()
            },
        ),
    ];
    let all = |x: &[Tensor], shape: &[usize]| -> Tensor {
        let (y, mean, variance) = x[0].batch_norm(x.get(1), x.get(2), 1e-5);
        let (mean, variance) = (by_channel(&mean, shape.len()), by_channel(&variance, shape.len()));
        y + (mean * 2.0 + variance.square()).expand(Shape::new(shape))
    };
    let batch = vec![
        Case::new("features", &[&[6, 3]], move |x| x[0].batch_norm(None, None, epsilon).0).reference(move |x| {
            let columns: Vec<f64> = (0..18).map(|i| x[0][i % 6 * 3 + i / 6]).collect();
            let normal = plain(&columns, 6);
            (0..18).map(|i| normal[i % 3 * 6 + i / 3]).collect()
        }),
        Case::new("pictures", &[&[2, 3, 2, 3], &[3], &[3]], move |x| {
            x[0].batch_norm(Some(&x[1]), Some(&x[2]), epsilon).0.square()
        }),
        Case::new("statistics", &[&[3, 2, 3], &[2], &[2]], move |x| all(x, &[3, 2, 3])),
        Case::new("statistics without parameters", &[&[5, 2]], move |x| all(x, &[5, 2])),
        Case::new("beta alone", &[&[3, 2, 2], &[2]], move |x| x[0].batch_norm(None, Some(&x[1]), epsilon).0),
        Case::new("no channels", &[&[3, 0, 2]], move |x| x[0].batch_norm(None, None, epsilon).0),
        Case::new("one channel", &[&[4, 1, 2], &[1]], move |x| x[0].batch_norm(Some(&x[1]), None, epsilon).0),
        Case::new("given statistics", &[&[3, 2, 2], &[2], &[2], &[2], &[2]], move |x| {
            x[0].batch_norm_with(&x[1], &x[2], Some(&x[3]), Some(&x[4]), epsilon)
        })
        .domain(0.5, 2.0),
    ];
    // The statistics against what they mean.
    let statistics = |x: &Tensor| -> Tensor {
        let kernel = Tensor::record_many(BatchStatistics, &[x]);
        let meaning = BatchStatistics.meaning(std::slice::from_ref(x)).expect("it has a meaning");
        cat(&[&kernel[0] - &meaning[0], &kernel[1] - &meaning[1]], 0)
    };
    let of_rows = |x: &Tensor| -> Tensor {
        let operation = || LayerStatistics { axes: 2, epsilon: 1e-5 };
        let kernel = Tensor::record_many(operation(), &[x]);
        let meaning = operation().meaning(std::slice::from_ref(x)).expect("it has a meaning");
        cat(&[&kernel[0] - &meaning[0], &kernel[1] - &meaning[1]], 0)
    };
    let batch_statistics = vec![
        Case::new("less their meaning", &[&[4, 3, 5]], move |x| statistics(&x[0])).reference(|_| vec![0.0; 6]),
        Case::new("of one each", &[&[1, 2, 1]], move |x| statistics(&x[0])).reference(|_| vec![0.0; 4]),
        Case::new("no channels", &[&[2, 0, 3]], move |x| statistics(&x[0])),
    ];
    let layer_statistics = vec![
        Case::new("less their meaning", &[&[3, 4, 5]], move |x| of_rows(&x[0])).reference(|_| vec![0.0; 6]),
        Case::new("of one each", &[&[2, 1, 1]], move |x| of_rows(&x[0])).reference(|_| vec![0.0; 4]),
        Case::new("no rows", &[&[0, 2, 3]], move |x| of_rows(&x[0])),
    ];
    // The kernels of the gradients against what they mean: x, γ and the gradient of y; all results in one.
    let whole = |parts: Vec<Tensor>| cat(&parts.iter().map(Tensor::flatten).collect::<Vec<_>>(), 0);
    let of_layer = move |x: &[Tensor]| {
        let operation = LayerNorm { axes: 1, epsilon, gamma: true, beta: false };
        let y = Tensor::record_many(operation.clone(), &[&x[0], &x[1]]);
        let inputs = [&x[0], &x[1], &y[1], &y[2], &x[2]].map(Tensor::clone);
        let meaning = LayerNormGradient(operation.clone()).meaning(&inputs).expect("it has a meaning");
        whole(Tensor::record_many(LayerNormGradient(operation), &inputs.each_ref())) - whole(meaning)
    };
    let of_plain = move |x: &[Tensor]| {
        let operation = LayerNorm { axes: 1, epsilon, gamma: false, beta: false };
        let y = Tensor::record_many(operation.clone(), &[&x[0]]);
        let inputs = [&x[0], &y[1], &y[2], &x[1]].map(Tensor::clone);
        let meaning = LayerNormGradient(operation.clone()).meaning(&inputs).expect("it has a meaning");
        whole(Tensor::record_many(LayerNormGradient(operation), &inputs.each_ref())) - whole(meaning)
    };
    let of_batch = move |x: &[Tensor]| {
        let operation = BatchNorm { epsilon, gamma: true, beta: false };
        let y = Tensor::record_many(operation.clone(), &[&x[0], &x[1]]);
        let inputs = [&x[0], &x[1], &y[1], &y[2], &x[2]].map(Tensor::clone);
        let meaning = BatchNormGradient(operation.clone()).meaning(&inputs).expect("it has a meaning");
        whole(Tensor::record_many(BatchNormGradient(operation), &inputs.each_ref())) - whole(meaning)
    };
    let none = |elements: usize| move |_: &[Vec<f64>]| vec![0.0; elements];
    let of_layer = [(4, 7), (3, 1), (0, 2)].map(|(rows, width)| {
        Case::new(format!("less its meaning, {rows} × {width}"), &[&[rows, width], &[width], &[rows, width]], of_layer)
            .reference(none(rows * width + 2 * width))
    });
    let of_plain = [(4, 7), (0, 2)].map(|(rows, width)| {
        Case::new(format!("less its meaning, plain, {rows} × {width}"), &[&[rows, width], &[rows, width]], of_plain)
            .reference(none(rows * width))
    });
    let of_batch = [(4, 3, 5), (3, 1, 1), (2, 0, 3)].map(|(b, c, n)| {
        Case::new(format!("less its meaning, {b} × {c} × {n}"), &[&[b, c, n], &[c], &[b, c, n]], of_batch)
            .reference(none(b * c * n + 2 * c))
    });
    vec![
        Row { name: "layer_norm", cases: layer },
        Row { name: "batch_norm", cases: batch },
        Row { name: "layer_statistics", cases: layer_statistics },
        Row { name: "batch_statistics", cases: batch_statistics },
        Row { name: "layer_norm_gradient", cases: of_layer.into_iter().chain(of_plain).collect() },
        Row { name: "batch_norm_gradient", cases: of_batch.into() },
    ]
}
