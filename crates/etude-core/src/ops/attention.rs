//! Attention: values averaged by how well their keys answer a query.

use crate::ops::dropout::repeatable;
use crate::ops::{Case, Row};
use crate::{DType, Tensor, arange};

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
        let mut scores = (self * scale).matmul(&key.t());
        let never = Tensor::scalar(f64::NEG_INFINITY, self.dtype());
        if options.causal {
            let allowed = arange(keys).less_equal(arange(self.size(-2)).unsqueeze(1));
            scores = allowed.select(&scores, &never);
        }
        scores = match &options.mask {
            Some(mask) if mask.dtype() == DType::Bool => mask.select(&scores, &never),
            Some(mask) => scores + mask,
            None => scores,
        };
        scores.softmax(-1).dropout(options.dropout).matmul(value)
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
    let cases = vec![
        case("plain", AttentionOptions::new).reference(move |x| reference(x, sizes, half, |_, _| 0.0)),
        case("causal", || AttentionOptions::new().causal(true))
            .reference(move |x| reference(x, sizes, half, |t, s| forbidden(s <= t))),
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
    vec![Row { name: "scaled_dot_product_attention", cases }]
}
