//! Multi-head attention.

use crate::init::Init;
use crate::{Forward, Label, Linear, Module, Param};
use etude_core::{AttentionOptions, DType, Shape, Tensor, eye, zeros};

/// Which keys a query must not see.
#[derive(Clone, Copy, Default, Debug)]
pub struct Masks<'a> {
    /// A bool tensor, true where looking is forbidden, or a float tensor added to the scores; broadcasts to
    /// `[B, heads, queries, keys]`.
    pub mask: Option<&'a Tensor>,
    /// `[B, keys]`: true for keys that are only padding, or a float tensor added to their scores.
    pub padding: Option<&'a Tensor>,
    /// No query looks at keys after its own position.
    pub causal: bool,
}

impl<'a> Masks<'a> {
    /// Everything may be seen.
    pub fn none() -> Masks<'a> {
        Masks::default()
    }

    /// Nothing after the query's own position may be seen.
    pub fn causal() -> Masks<'a> {
        Masks { causal: true, ..Masks::default() }
    }

    /// This mask; see [`Masks::mask`].
    pub fn of(mask: &'a Tensor) -> Masks<'a> {
        Masks { mask: Some(mask), ..Masks::default() }
    }

    /// These keys are padding; see [`Masks::padding`].
    pub fn padded(self, padding: &'a Tensor) -> Masks<'a> {
        Masks { padding: Some(padding), ..self }
    }

    /// The masks as the core's attention takes them: true where looking is allowed, or numbers to add.
    #[track_caller]
    fn options(&self) -> AttentionOptions {
        let (mut forbidden, mut added): (Option<Tensor>, Option<Tensor>) = (None, None);
        let padding = self.padding.map(|padding| padding.unsqueeze(1).unsqueeze(1)); // [B, 1, 1, keys]
        for mask in self.mask.into_iter().chain(&padding) {
            if mask.dtype() == DType::Bool {
                forbidden = Some(forbidden.map_or_else(|| mask.clone(), |before| before.logical_or(mask)));
            } else {
                added = Some(added.map_or_else(|| mask.clone(), |before| before + mask));
            }
        }
        let options = AttentionOptions::new().causal(self.causal);
        match (forbidden, added) {
            (None, None) => options,
            (Some(forbidden), None) => options.mask(&forbidden.logical_not()),
            (None, Some(added)) => options.mask(&added),
            (Some(forbidden), Some(added)) => options.mask(&added.masked_fill(&forbidden, f64::NEG_INFINITY)),
        }
    }
}

/// The weights that attention with these options gives every value: `[B, heads, queries, keys]`, before dropout. The
/// values' place is taken by the identity, whose average is the weights themselves.
#[track_caller]
fn weights_of(q: &Tensor, k: &Tensor, options: AttentionOptions) -> Tensor {
    let identity = eye(k.size(-2)).to(q.dtype());
    q.scaled_dot_product_attention(k, &identity, options)
}

/// Multi-head attention (Vaswani et al., 2017): queries, keys and values are projected, cut into heads, each head mixes
/// its values by `softmax(q·kᵀ/√d)`, and the heads together are projected once more.
/// Queries `[B, T, width]`, keys `[B, S, key_width]`, values `[B, S, value_width]` → `[B, T, width]`.
///
/// ```
/// # use etude_nn::*;
/// let layer = MultiheadAttention::new(8, 2).init();
/// let x = etude_core::ones([3, 5, 8]);
/// let (y, weights) = layer.attend(&x, &x, &x, &Masks::causal());
/// assert_eq!((y.shape(), weights.shape()), ([3, 5, 8].into(), [3, 2, 5, 5].into()));
/// ```
#[derive(Module, Clone, Debug)]
pub struct MultiheadAttention {
    /// `[3·width, width]`: queries, keys, values one after another, if all have the same width.
    pub in_proj_weight: Option<Param>,
    /// `[width, width]`, if keys or values have widths of their own.
    pub q_proj_weight: Option<Param>,
    /// `[width, key_width]`.
    pub k_proj_weight: Option<Param>,
    /// `[width, value_width]`.
    pub v_proj_weight: Option<Param>,
    /// `[3·width]`.
    pub in_proj_bias: Option<Param>,
    /// From the heads to the output.
    pub out_proj: Linear,
    width: usize,
    heads: usize,
    dropout: f64,
    batch_first: bool,
    label: Label,
}

/// A [`MultiheadAttention`] before its parameters are drawn.
#[derive(Clone, Debug)]
pub struct MultiheadAttentionConfig {
    width: usize,
    heads: usize,
    widths: Option<(usize, usize)>,
    bias: bool,
    dropout: f64,
    batch_first: bool,
}

impl MultiheadAttention {
    /// `heads` heads over features of `width`; [`MultiheadAttentionConfig::init`] draws the parameters.
    ///
    /// # Panics
    /// If the heads do not divide the width.
    #[track_caller]
    #[allow(clippy::new_ret_no_self)] // the one shape of all builders: `Layer::new(…).option(…).init()`
    pub fn new(width: usize, heads: usize) -> MultiheadAttentionConfig {
        let divides = heads > 0 && width.is_multiple_of(heads);
        assert!(divides, "MultiheadAttention: {heads} heads do not divide a width of {width}");
        MultiheadAttentionConfig { width, heads, widths: None, bias: true, dropout: 0.0, batch_first: true }
    }

    /// The output, and the weights of every head before dropout, `[B, heads, T, S]`. Weights that are not read cost
    /// nothing.
    #[track_caller]
    pub fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, masks: &Masks) -> (Tensor, Tensor) {
        let mut weights = None;
        let y = self.label.call(self, || {
            let (y, found) = self.project(query, key, value, masks);
            weights = Some(found);
            y
        });
        (y, weights.expect("the call above ran"))
    }

    #[track_caller]
    fn project(&self, query: &Tensor, key: &Tensor, value: &Tensor, masks: &Masks) -> (Tensor, Tensor) {
        for (name, x) in [("queries", query), ("keys", key), ("values", value)] {
            let order = if self.batch_first { "[B, length, width]" } else { "[length, B, width]" };
            assert!(x.rank() == 3, "MultiheadAttention: the {name} are {}, they must be {order}", x.shape());
        }
        let biases = self.in_proj_bias.as_ref().map(|bias| bias.value().chunk(0, 3));
        let weights = match &self.in_proj_weight {
            Some(weight) => weight.value().chunk(0, 3),
            None => [&self.q_proj_weight, &self.k_proj_weight, &self.v_proj_weight]
                .iter()
                .filter_map(|weight| weight.as_ref().map(Param::value))
                .collect(),
        };
        let batch = if self.batch_first { 0 } else { 1 };
        let head = |x: &Tensor, part: usize| {
            let mut y = x.matmul(&weights[part].t());
            if let Some(biases) = &biases {
                y = y + &biases[part];
            }
            let y = if batch == 1 { y.transpose(0, 1) } else { y }; // [B, length, width]
            let shape: Shape = [y.size(0), y.size(1), self.heads, self.width / self.heads].into();
            y.reshape(shape).transpose(1, 2) // [B, heads, length, d]
        };
        let (q, k, v) = (head(query, 0), head(key, 1), head(value, 2));
        let options = masks.options();
        // Recorded only: nothing is computed for weights that nobody reads.
        let weights = weights_of(&q, &k, options.clone());
        let y = q.scaled_dot_product_attention(&k, &v, options.dropout(self.dropout));
        let together: Shape = [y.size(0), y.size(2), self.width].into();
        let y = y.transpose(1, 2).reshape(together); // [B, T, width]
        let y = if batch == 1 { y.transpose(0, 1) } else { y };
        (self.out_proj.forward(&y), weights)
    }
}

impl MultiheadAttentionConfig {
    /// Keys and values have widths of their own.
    pub fn widths(mut self, keys: usize, values: usize) -> MultiheadAttentionConfig {
        self.widths = Some((keys, values)).filter(|&widths| widths != (self.width, self.width));
        self
    }

    /// Whether biases are added.
    pub fn bias(mut self, bias: bool) -> MultiheadAttentionConfig {
        self.bias = bias;
        self
    }

    /// The probability with which, in a training scope, a weight between two positions is dropped.
    pub fn dropout(mut self, p: f64) -> MultiheadAttentionConfig {
        self.dropout = p;
        self
    }

    /// Whether sequences are `[B, T, …]`, as they are unless said otherwise, or `[T, B, …]`.
    pub fn batch_first(mut self, batch_first: bool) -> MultiheadAttentionConfig {
        self.batch_first = batch_first;
        self
    }

    /// Draws the parameters: Glorot's uniform for the projections in, zeros for the biases, as PyTorch does.
    pub fn init(self) -> MultiheadAttention {
        let MultiheadAttentionConfig { width, heads, widths, bias, dropout, batch_first } = self;
        let draw = |rows: usize, columns: usize| Param::new(Init::XavierUniform(1.0).make([rows, columns]));
        let out_proj = Linear::new(width, width).bias(bias).init();
        if let Some(bias) = &out_proj.bias {
            bias.set(zeros(width));
        }
        MultiheadAttention {
            in_proj_weight: widths.is_none().then(|| draw(3 * width, width)),
            q_proj_weight: widths.map(|_| draw(width, width)),
            k_proj_weight: widths.map(|(keys, _)| draw(width, keys)),
            v_proj_weight: widths.map(|(_, values)| draw(width, values)),
            in_proj_bias: bias.then(|| Param::new(zeros(3 * width))),
            out_proj,
            width,
            heads,
            dropout,
            batch_first,
            label: Label::new(format!("MultiheadAttention {width}, {heads} heads")),
        }
    }
}

impl Forward for MultiheadAttention {
    /// Attention of `x` to itself.
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.attend(x, x, x, &Masks::none()).0
    }
}
