//! Positions for models that do not see the order of things.

use crate::init::Init;
use crate::{Forward, Label, Module, Param};
use etude_core::{DType, Tensor, range, stack};

/// The table of sinusoids `[length, width]`, `f32` (Vaswani et al., 2017): feature `2i` of position `p` is
/// `sin(p/base^(2i/width))`, feature `2i+1` the cosine of the same angle; `base` is 10,000 in the paper.
///
/// # Panics
/// If `width` is odd.
#[track_caller]
pub fn sinusoidal_positions(length: usize, width: usize, base: f64) -> Tensor {
    assert!(width.is_multiple_of(2), "sinusoidal_positions: the width must be even, not {width}");
    let place = range(0.0, 1.0, length, DType::F64).unsqueeze(1); // [length, 1]
    let rate = (range(0.0, 2.0, width / 2, DType::F64) * (-base.ln() / width as f64)).exp(); // [width/2]
    let angle = place * rate; // [length, width/2]
    stack(&[angle.sin(), angle.cos()], -1).reshape([length, width]).to(DType::F32)
}

/// Adds [`sinusoidal_positions`] to a sequence: `[…, T, width] → […, T, width]`, for any `T`.
#[derive(Module, Clone, Debug)]
pub struct SinusoidalPositions {
    width: usize,
    label: Label,
}

impl SinusoidalPositions {
    /// For features of `width`, which must be even.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn new(width: usize) -> SinusoidalPositions {
        assert!(width.is_multiple_of(2), "SinusoidalPositions: the width must be even, not {width}");
        SinusoidalPositions { width, label: Label::new(format!("SinusoidalPositions {width}")) }
    }
}

impl Forward for SinusoidalPositions {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            let fits = x.rank() >= 2 && x.size(-1) == self.width;
            assert!(fits, "SinusoidalPositions: the input is {}, it must be […, T, {}]", x.shape(), self.width);
            x + sinusoidal_positions(x.size(-2), self.width, 1e4).to(x.dtype())
        })
    }
}

/// Adds a learned vector for each position (Gehring et al., 2017): `[…, T, width] → […, T, width]`, for `T` up to the
/// length it was made for.
#[derive(Module, Clone, Debug)]
pub struct LearnedPositions {
    /// `[length, width]`.
    pub weight: Param,
    label: Label,
}

impl LearnedPositions {
    /// `length` vectors of `width`, normal with a deviation of 0.02.
    pub fn new(length: usize, width: usize) -> LearnedPositions {
        let weight = Param::new(Init::Normal(0.0, 0.02).make([length, width]));
        LearnedPositions { weight, label: Label::new(format!("LearnedPositions {length}×{width}")) }
    }
}

impl Forward for LearnedPositions {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || {
            let table = self.weight.shape();
            let fits = x.rank() >= 2 && x.size(-1) == table[1] && x.size(-2) <= table[0];
            assert!(
                fits,
                "LearnedPositions: the input is {}, it must be […, T, {}] with T up to {}",
                x.shape(),
                table[1],
                table[0]
            );
            x + self.weight.value().narrow(0, 0, x.size(-2))
        })
    }
}
