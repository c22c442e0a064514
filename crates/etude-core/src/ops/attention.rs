//! Attention: values averaged by how well their keys answer a query.

use crate::operation::{Backward, Call, Meta, Operation};
use crate::ops::dropout::repeatable;
use crate::ops::{Case, Row};
use crate::{DType, Shape, Tensor, arange, cat, is_training, stack};
use etude_kernels::attention::{self as kernel, AttentionGradients, AttentionMask, AttentionSizes, Heads};
use etude_kernels::{Buffer, Element, Float};
use std::hash::Hasher;

/// What attention may look at, and how. Written as a chain: `AttentionOptions::new().causal(true).dropout(0.1)`.
#[derive(Clone, Debug, Default)]
pub struct AttentionOptions {
    /// Broadcast to `[.., T, S]`. Bool: true where looking is allowed; floating: added to the scores.
    pub mask: Option<Tensor>,
    /// Whether query t may only look at keys up to t; the first query and the first key are at the same place.
    pub causal: bool,
    /// What scores are multiplied by; `1/√D` if `None`.
    pub scale: Option<f64>,
    /// The probability with which a weight is dropped in training.
    pub dropout: f64,
}

impl AttentionOptions {
    /// Everything may be looked at, the scale is `1/√D`, nothing is dropped.
    pub fn new() -> AttentionOptions {
        AttentionOptions::default()
    }

    /// Sets the mask: true where looking is allowed, or numbers to add to the scores.
    pub fn mask(self, mask: &Tensor) -> AttentionOptions {
        AttentionOptions { mask: Some(mask.clone()), ..self }
    }

    /// Sets whether a query may only look at keys up to its own place.
    pub fn causal(self, causal: bool) -> AttentionOptions {
        AttentionOptions { causal, ..self }
    }

    /// Sets what scores are multiplied by.
    pub fn scale(self, scale: f64) -> AttentionOptions {
        AttentionOptions { scale: Some(scale), ..self }
    }

    /// Sets the probability with which a weight is dropped in training.
    pub fn dropout(self, dropout: f64) -> AttentionOptions {
        AttentionOptions { dropout, ..self }
    }
}

impl Tensor {
    /// `softmax(q·kᵀ·scale + mask)·v` (Vaswani et al., 2017, equation 1): queries `q [.., T, D]` (this tensor), keys
    /// `k [.., S, D]`, values `v [.., S, E]`, giving `[.., T, E]`; leading axes broadcast. A query that may look at
    /// nothing gets NaN, as there is no average of nothing.
    ///
    /// # Panics
    /// If the sizes do not go together.
    #[track_caller]
    pub fn scaled_dot_product_attention(&self, key: &Tensor, value: &Tensor, options: AttentionOptions) -> Tensor {
        let (q, k, v) = (self.shape(), key.shape(), value.shape());
        let shapes = || format!("scaled_dot_product_attention: queries {q}, keys {k}, values {v}");
        assert!(q.rank() > 1 && k.rank() > 1 && v.rank() > 1, "{}: each needs at least two axes", shapes());
        let (width, keys) = (self.size(-1), key.size(-2));
        assert!(key.size(-1) == width, "{}: queries and keys differ in their last axis", shapes());
        assert!(value.size(-2) == keys, "{}: there are {keys} keys and {} values", shapes(), value.size(-2));
        let scale = options.scale.unwrap_or(1.0 / (width as f64).sqrt());
        let mask = options.mask.as_ref();
        let mask = mask.map(|mask| if mask.dtype() == DType::Bool { mask.clone() } else { mask.to(self.dtype()) });
        let scale = Tensor::scalar(scale, self.dtype());
        if options.dropout > 0.0 && is_training() {
            let mut scores = (self * scale).matmul(&key.t());
            scores = masked(scores, options.causal, mask.as_ref());
            return scores.softmax(-1).dropout(options.dropout).matmul(value);
        }
        // Leading axes, those of the mask included, broadcast and become two: batch and heads.
        let leading = |x: &Tensor| Shape::new(&x.shape()[..x.rank().saturating_sub(2)]);
        let given = [self, key, value].into_iter().chain(&mask);
        let lead = given.map(leading).reduce(|lead, other| {
            lead.broadcast(&other).unwrap_or_else(|_| panic!("{}: the leading axes do not broadcast", shapes()))
        });
        let lead = lead.unwrap_or_else(Shape::scalar);
        let (outer, heads) = lead.split_at(lead.rank().saturating_sub(1));
        let (batch, heads) = (outer.iter().product::<usize>(), heads.iter().product::<usize>());
        let four = |x: &Tensor, rows: usize, columns: usize| {
            let wide: Shape = lead.iter().copied().chain([rows, columns]).collect();
            x.expand(wide).reshape([batch, heads, rows, columns])
        };
        let (queries, values) = (self.size(-2), value.size(-1));
        let (q, k, v) = (four(self, queries, width), four(key, keys, width), four(value, keys, values));
        let mask = mask.map(|mask| four(&mask, queries, keys));
        let operation = Attention { causal: options.causal };
        let inputs: Vec<&Tensor> = [&q, &k, &v, &scale].into_iter().chain(&mask).collect();
        let out = Tensor::record_many(operation, &inputs).swap_remove(0).transpose(1, 2);
        let wanted: Shape = lead.iter().copied().chain([queries, values]).collect();
        out.reshape(wanted)
    }
}

/// Scores with −∞ where looking is forbidden, or with the mask's numbers added.
#[track_caller]
fn masked(scores: Tensor, causal: bool, mask: Option<&Tensor>) -> Tensor {
    let never = Tensor::scalar(f64::NEG_INFINITY, scores.dtype());
    let scores = match causal {
        true => {
            let allowed = arange(scores.size(-1)).less_equal(arange(scores.size(-2)).unsqueeze(1));
            allowed.select(&scores, &never)
        }
        false => scores,
    };
    match mask {
        Some(mask) if mask.dtype() == DType::Bool => mask.select(&scores, &never),
        Some(mask) => scores + mask,
        None => scores,
    }
}

/// Attention in one pass. Inputs: q `[B, H, T, D]`, k `[B, H, S, D]`, v `[B, H, S, E]`, the scale, and the mask
/// `[B, H, T, S]` if there is one. Outputs: `[B, T, H, E]`, so that the heads of a place lie side by side, and for the
/// gradient the logarithm of each row's sum of exponentials, `[B, H, T]`.
#[derive(Clone, Debug)]
struct Attention {
    causal: bool,
}

/// The gradients of [`Attention`] by q, k and v. Inputs: its inputs, its outputs, and the gradient of the first. Where q, k
/// and v are of one shape there is one output, `[B, T, 3, H, D]`: the gradient of the product that made all three, as it
/// lies. Otherwise there are three, `[B, T, H, D]`, `[B, S, H, D]` and `[B, S, H, E]`.
#[derive(Debug)]
struct AttentionGradient(Attention);

impl Attention {
    /// The scores `[B, H, T, S]`.
    #[track_caller]
    fn scores(&self, inputs: &[Tensor]) -> Tensor {
        masked((&inputs[0] * &inputs[3]).matmul(&inputs[1].t()), self.causal, inputs.get(4))
    }

    /// The kernel's description of the first inputs, and q, k and v.
    fn described<'a, T: Float>(&self, call: &Call<'a>, mask: bool) -> (kernel::Attention<'a, T>, [Heads<'a, T>; 3]) {
        let (q, v) = (call.shape(0), call.shape(2));
        let sizes = AttentionSizes { batch: q[0], heads: q[1], queries: q[2], keys: v[2], width: q[3], values: v[3] };
        let mask = match mask {
            false => AttentionMask::None,
            true if call.dtype(4) == DType::Bool => AttentionMask::Allowed(heads(call, 4)),
            true => AttentionMask::Added(heads(call, 4)),
        };
        let what = kernel::Attention { sizes, scale: call.float(3), causal: self.causal, mask };
        (what, [0, 1, 2].map(|i| heads(call, i)))
    }

    fn fill<T: Float>(&self, call: &mut Call) {
        let (what, [q, k, v]) = self.described::<T>(call, call.inputs.len() > 4);
        let [out, log_sums]: [&mut Buffer; 2] = call.outputs();
        kernel::forward(&what, q, k, v, out.as_mut_slice(), log_sums.as_mut_slice());
    }

    fn fill_gradient<T: Float>(&self, call: &mut Call) {
        let first = call.inputs.len() - 3;
        let (what, [q, k, v]) = self.described::<T>(call, first > 4);
        let (out, log_sums, g) = (call.input::<T>(first), call.input::<T>(first + 1), call.strided::<T>(first + 2));
        // The gradient lies as the output does, `[B, T, H, E]`.
        let [batch, row, head, column] = [0, 1, 2, 3].map(|axis| g.1.strides[axis]);
        let g = Heads { data: g.0, offset: g.1.offset, strides: [batch, head, row, column] };
        if call.metas.len() == 1 {
            let gradients = AttentionGradients::Together(call.output::<T>(0));
            return kernel::backward(&what, q, k, v, out, log_sums, g, gradients);
        }
        let gradients: [&mut Buffer; 3] = call.outputs();
        let gradients = AttentionGradients::Apart(gradients.map(|out| out.as_mut_slice()));
        kernel::backward(&what, q, k, v, out, log_sums, g, gradients);
    }
}

/// Input number `i` where it lies.
fn heads<'a, T: Element>(call: &Call<'a>, i: usize) -> Heads<'a, T> {
    let (data, window) = call.strided::<T>(i);
    Heads { data, offset: window.offset, strides: [0, 1, 2, 3].map(|axis| window.strides[axis]) }
}

/// Whether the gradients of q and v, and so of k, can lie together.
fn alike(q: &Shape, v: &Shape) -> bool {
    q == v
}

impl Operation for Attention {
    fn name(&self) -> &'static str {
        "scaled_dot_product_attention"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        state.write_u8(self.causal as u8);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let [q, k, v] = [inputs[0], inputs[1], inputs[2]];
        if !q.dtype.is_float() || k.dtype != q.dtype || v.dtype != q.dtype {
            let dtypes = format!("{}, {} and {}", q.dtype, k.dtype, v.dtype);
            return Err(format!("takes queries, keys and values of one floating dtype, not {dtypes}"));
        }
        let [batch, heads, queries, values] = [q.shape[0], q.shape[1], q.shape[2], v.shape[3]];
        let out = Shape::from([batch, queries, heads, values]);
        Ok(vec![Meta::new(out, q.dtype), Meta::new(Shape::from([batch, heads, queries]), q.dtype)])
    }

    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let scores = self.scores(inputs);
        // Without keys there is no largest score, which the sum starts from.
        let log_sums = match scores.size(-1) {
            0 => scores.sum(-1) + f64::NEG_INFINITY,
            _ => scores.logsumexp(-1),
        };
        Some(vec![scores.softmax(-1).matmul(&inputs[2]).transpose(1, 2), log_sums])
    }

    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        // A mask that learns wants the gradient of every score, and sums get one only on the way to a second gradient.
        if step.needed.get(4) == Some(&true) || step.gradients[1].is_some() {
            return crate::grad::through_meaning(self.meaning(step.inputs), step);
        }
        let g = step.gradient(0);
        let inputs: Vec<&Tensor> = step.inputs.iter().chain(step.outputs).chain([&g]).collect();
        let mut found = Tensor::record_many(AttentionGradient(self.clone()), &inputs);
        let found: Vec<Tensor> = match found.len() {
            1 => {
                let parts = found.remove(0).permute([2, 0, 3, 1, 4]); // [3, B, H, T, D]
                (0..3).map(|part| parts.at(0, part)).collect()
            }
            _ => found.iter().map(|g| g.transpose(1, 2)).collect(),
        };
        let masks = step.inputs[3..].iter().map(|_| None);
        Ok(found.into_iter().map(Some).chain(masks).collect())
    }

    fn contiguous(&self, _input: usize) -> bool {
        false
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.fill::<f32>(call),
            _ => self.fill::<f64>(call),
        }
        Ok(())
    }
}

impl Operation for AttentionGradient {
    fn name(&self) -> &'static str {
        "attention_gradient"
    }

    fn attributes(&self, state: &mut dyn Hasher) {
        self.0.attributes(state);
    }

    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String> {
        let (q, k, v) = (inputs[0].shape, inputs[1].shape, inputs[2].shape);
        let meta = |sizes: &[usize]| Meta::new(Shape::new(sizes), inputs[0].dtype);
        if alike(&q, &v) {
            return Ok(vec![meta(&[q[0], q[2], 3, q[1], q[3]])]);
        }
        Ok([q, k, v].iter().map(|x| meta(&[x[0], x[2], x[1], x[3]])).collect())
    }

    /// Output and sums follow from q, k and v, so that their gradients go there and not to what is given.
    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let (given, g) = (&inputs[..inputs.len() - 3], inputs[inputs.len() - 1].transpose(1, 2)); // [B, H, T, E]
        let [q, k, v, scale] = [&given[0], &given[1], &given[2], &given[3]];
        let weights = self.0.scores(given).softmax(-1);
        let slopes = g.matmul(&v.t());
        let slopes = &weights * (&slopes - (&slopes * &weights).sum_keep(-1));
        let by_q = slopes.matmul(&(k * scale)).transpose(1, 2);
        let by_k = slopes.t().matmul(&(q * scale)).transpose(1, 2);
        let by_v = weights.t().matmul(&g).transpose(1, 2);
        if alike(&q.shape(), &v.shape()) {
            return Some(vec![stack(&[by_q, by_k, by_v], 2)]);
        }
        Some(vec![by_q, by_k, by_v])
    }

    /// Output and sums come from a kernel and are contiguous as they are.
    fn contiguous(&self, _input: usize) -> bool {
        false
    }

    fn run(&self, call: &mut Call) -> Result<(), String> {
        match call.dtype(0) {
            DType::F32 => self.0.fill_gradient::<f32>(call),
            _ => self.0.fill_gradient::<f64>(call),
        }
        Ok(())
    }
}

/// The definition in plain loops for q `[T, D]`, k `[S, D]`, v `[S, E]`, with what is added to the score of (t, s).
fn reference(x: &[Vec<f64>], [t, s, d, e]: [usize; 4], scale: f64, added: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let dot = |i: usize, j: usize| (0..d).map(|l| x[0][i * d + l] * x[1][j * d + l]).sum::<f64>();
    let row = |i: usize| {
        let weights: Vec<f64> = (0..s).map(|j| (dot(i, j) * scale + added(i, j)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mean = |c: usize| (0..s).map(|j| weights[j] / total * x[2][j * e + c]).sum::<f64>();
        (0..e).map(mean).collect::<Vec<_>>()
    };
    (0..t).flat_map(row).collect()
}

pub(crate) fn rows() -> Vec<Row> {
    let sizes = [3, 4, 2, 3];
    let case = |name: &str, options: fn() -> AttentionOptions| {
        Case::new(name, &[&[3, 2], &[4, 2], &[4, 3]], move |x| {
            x[0].scaled_dot_product_attention(&x[1], &x[2], options())
        })
    };
    let half = 0.5f64.sqrt();
    let forbidden = |open: bool| if open { 0.0 } else { f64::NEG_INFINITY };
    let drawn = |between: &mut dyn FnMut(usize, usize) -> usize| {
        let (lead, t, s, d, e) = (between(1, 3), between(1, 70), between(1, 140), between(1, 40), between(1, 40));
        [[lead, t, d], [lead, s, d], [lead, s, e]].map(Shape::from).to_vec()
    };
    let cases = vec![
        case("plain", AttentionOptions::new).reference(move |x| reference(x, sizes, half, |_, _| 0.0)),
        case("causal", || AttentionOptions::new().causal(true))
            .reference(move |x| reference(x, sizes, half, |t, s| forbidden(s <= t))),
        Case::new("drawn", &[&[2, 3, 2], &[2, 4, 2], &[2, 4, 3]], |x| {
            x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::new())
        })
        .draw(drawn),
        Case::new("drawn, causal", &[&[2, 3, 2], &[2, 4, 2], &[2, 4, 3]], |x| {
            x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::new().causal(true))
        })
        .draw(drawn),
        Case::new("parts of one product", &[&[2, 5, 12]], |x| {
            let length = x[0].size(1);
            let parts = x[0].reshape([2, length, 3, 2, 2]).permute([2, 0, 3, 1, 4]);
            let [q, k, v] = [0, 1, 2].map(|part| parts.at(0, part));
            let y = q.scaled_dot_product_attention(&k, &v, AttentionOptions::new().causal(true));
            y.transpose(1, 2).reshape([2, length, 4])
        })
        .draw(|between| vec![Shape::from([2, between(1, 200), 12])]),
        case("scaled", || AttentionOptions::new().scale(0.3)).reference(move |x| reference(x, sizes, 0.3, |_, _| 0.0)),
        case("masked", || AttentionOptions::new().mask(&(arange(4).not_equal(1.0))))
            .reference(move |x| reference(x, sizes, half, |_, s| forbidden(s != 1))),
        Case::new("a mask that is added", &[&[3, 2], &[4, 2], &[4, 3], &[3, 4]], |x| {
            x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::new().mask(&x[3]))
        })
        .reference(move |x| reference(x, sizes, half, |t, s| x[3][t * 4 + s])),
        Case::new("heads", &[&[2, 2, 3, 2], &[2, 1, 2, 2], &[2, 1, 2, 1]], |x| {
            x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::new())
        }),
        Case::new("dropout", &[&[3, 2], &[3, 2], &[3, 2]], |x| {
            let options = || AttentionOptions::new().dropout(0.4);
            repeatable(|| x[0].scaled_dot_product_attention(&x[1], &x[2], options()))
        }),
        Case::new("nothing to look at", &[&[1, 2], &[2, 2], &[2, 1]], |x| {
            let mask = arange(2).less(0.0);
            x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::new().mask(&mask))
        })
        .discrete()
        .reference(|_| vec![f64::NAN]),
        Case::new("no queries", &[&[0, 2], &[3, 2], &[3, 2]], |x| {
            x[0].scaled_dot_product_attention(&x[1], &x[2], AttentionOptions::new().causal(true))
        }),
    ];
    // The kernel of the gradient against what it means: q, k, v and the gradient of the output.
    let of_gradient = |name: &str, shapes: [&[usize]; 4]| {
        let case = Case::new(name, &shapes, |x| {
            let (operation, scale) = (Attention { causal: true }, Tensor::scalar(0.7, x[0].dtype()));
            let y = Tensor::record_many(operation.clone(), &[&x[0], &x[1], &x[2], &scale]);
            let inputs = [&x[0], &x[1], &x[2], &scale, &y[0], &y[1], &x[3]].map(Tensor::clone);
            let meaning = AttentionGradient(operation.clone()).meaning(&inputs).expect("it has a meaning");
            let found = Tensor::record_many(AttentionGradient(operation), &inputs.each_ref());
            let whole = |parts: &[Tensor]| cat(&parts.iter().map(Tensor::flatten).collect::<Vec<_>>(), 0);
            whole(&found) - whole(&meaning)
        });
        let count: usize = shapes[..3].iter().map(|shape| shape.iter().product::<usize>()).sum();
        case.reference(move |_| vec![0.0; count])
    };
    let gradient = vec![
        of_gradient("less its meaning", [&[1, 2, 3, 2], &[1, 2, 4, 2], &[1, 2, 4, 3], &[1, 3, 2, 3]]),
        of_gradient("no queries, less its meaning", [&[1, 2, 0, 2], &[1, 2, 4, 2], &[1, 2, 4, 3], &[1, 0, 2, 3]]),
        of_gradient("together, less its meaning", [&[2, 1, 3, 2], &[2, 1, 3, 2], &[2, 1, 3, 2], &[2, 3, 1, 2]]),
    ];
    vec![Row { name: "scaled_dot_product_attention", cases }, Row { name: "attention_gradient", cases: gradient }]
}
