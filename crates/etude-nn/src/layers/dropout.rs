//! Dropout.

use crate::{Forward, Label, Module};
use etude_core::Tensor;

/// In a training scope, sets each element to 0 with probability `p` and divides the others by `1−p`, so that the mean
/// stays; elsewhere gives `x` itself (Srivastava et al., 2014). `[…] → […]`.
#[derive(Module, Clone, Debug)]
pub struct Dropout {
    /// The probability of being dropped.
    pub p: f64,
    /// Drop whole channels of `[B, C, …]` instead of elements.
    whole_channels: bool,
    label: Label,
}

impl Dropout {
    /// Drops elements with probability `p`.
    ///
    /// # Panics
    /// If `p` is not between 0 and 1.
    #[track_caller]
    pub fn new(p: f64) -> Dropout {
        assert!((0.0..=1.0).contains(&p), "Dropout: {p} is not a probability");
        Dropout { p, whole_channels: false, label: Label::new(format!("Dropout {p}")) }
    }

    /// Drops whole channels of `[B, C, …]`: neighbours in a feature map tell the same story (Tompson et al., 2015).
    pub fn channels(self) -> Dropout {
        Dropout { whole_channels: true, label: Label::new(format!("Dropout of channels {}", self.p)), ..self }
    }
}

impl Forward for Dropout {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        self.label.call(self, || if self.whole_channels { x.dropout2d(self.p) } else { x.dropout(self.p) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etude_core::{ones, training};

    #[test]
    fn drops_its_share_in_training_and_nothing_elsewhere() {
        etude_core::random::seed(5);
        let (layer, x) = (Dropout::new(0.25), ones([100, 100]));
        assert_eq!(layer.forward(&x).to_vec::<f32>(), [1.0; 10_000]);
        let y = training(|| layer.forward(&x)).to_vec::<f32>();
        let dropped = y.iter().filter(|&&value| value == 0.0).count();
        // Five deviations of a binomial count: 5·√(10000·0.25·0.75) = 217.
        assert!(dropped.abs_diff(2500) < 217, "{dropped}");
        assert!(y.iter().all(|&value| value == 0.0 || value == 1.0 / 0.75));
        let all = training(|| Dropout::new(1.0).forward(&x));
        assert_eq!(all.abs().max(..).item(), 0.0);
    }

    #[test]
    fn channels_go_whole() {
        etude_core::random::seed(6);
        let y = training(|| Dropout::new(0.5).channels().forward(&ones([8, 4, 3, 3])));
        let y = y.to_vec::<f32>();
        assert!(y.chunks(9).all(|channel| channel.iter().all(|value| *value == channel[0])));
        assert!(y.contains(&0.0) && y.contains(&2.0));
    }
}
