//! Pools: windows folded to one element each. Nothing to learn. One layer serves signals, pictures and volumes; the number
//! of axes after batch and channels decides.

use crate::{Forward, Label, Module};
use etude_core::{PerAxis, PoolOptions, Tensor};

/// How windows become elements.
#[derive(Clone, Copy, Debug)]
enum Fold {
    Max(PoolOptions),
    Average(PoolOptions),
    AdaptiveMax(PerAxis),
    AdaptiveAverage(PerAxis),
    GlobalMax,
    GlobalAverage,
}

/// A pool over the spatial axes of `[B, C, …]`.
///
/// ```
/// # use etude_nn::*;
/// # use etude_core::{PoolOptions, ones};
/// let x = ones([1, 3, 8, 6]);
/// assert_eq!(Pool::max(2).forward(&x).shape(), [1, 3, 4, 3]);
/// assert_eq!(Pool::max(PoolOptions::new(3).stride(2)).forward(&x).shape(), [1, 3, 3, 2]);
/// assert_eq!(Pool::global_average().forward(&x).shape(), [1, 3]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Pool {
    #[module(skip)]
    fold: Fold,
    label: Label,
}

impl Pool {
    fn new(what: String, fold: Fold) -> Pool {
        Pool { fold, label: Label::new(what) }
    }

    /// The largest element of each window, `[B, C, …] → [B, C, …smaller]`: a size for windows side by side, or options,
    /// such as overlapping windows (Krizhevsky et al., 2012).
    #[doc(alias = "MaxPool2d")]
    #[track_caller]
    pub fn max(options: impl Into<PoolOptions>) -> Pool {
        let options = options.into();
        Pool::new(format!("Pool max {:?}", options.kernel), Fold::Max(options))
    }

    /// The mean of each window, `[B, C, …] → [B, C, …smaller]`.
    #[doc(alias = "AvgPool2d")]
    #[track_caller]
    pub fn average(options: impl Into<PoolOptions>) -> Pool {
        let options = options.into();
        Pool::new(format!("Pool average {:?}", options.kernel), Fold::Average(options))
    }

    /// The largest element of each of `size` parts along each axis, `[B, C, …] → [B, C, …size]`.
    #[doc(alias = "AdaptiveMaxPool2d")]
    #[track_caller]
    pub fn adaptive_max(size: impl Into<PerAxis>) -> Pool {
        let size = size.into();
        Pool::new(format!("Pool max to {size:?}"), Fold::AdaptiveMax(size))
    }

    /// The mean of each of `size` parts along each axis, `[B, C, …] → [B, C, …size]`.
    #[doc(alias = "AdaptiveAvgPool2d")]
    #[track_caller]
    pub fn adaptive_average(size: impl Into<PerAxis>) -> Pool {
        let size = size.into();
        Pool::new(format!("Pool average to {size:?}"), Fold::AdaptiveAverage(size))
    }

    /// The largest element over all spatial axes, `[B, C, …] → [B, C]`.
    pub fn global_max() -> Pool {
        Pool::new("Pool max of all".into(), Fold::GlobalMax)
    }

    /// The mean over all spatial axes, `[B, C, …] → [B, C]` (Lin et al., 2013).
    pub fn global_average() -> Pool {
        Pool::new("Pool average of all".into(), Fold::GlobalAverage)
    }
}

impl Forward for Pool {
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor {
        let axes = x.rank().saturating_sub(2);
        self.label.call(self, || match (self.fold, axes) {
            (Fold::GlobalMax, _) => x.global_max_pool(),
            (Fold::GlobalAverage, _) => x.global_avg_pool(),
            (Fold::Max(options), 1) => x.max_pool1d(options),
            (Fold::Max(options), 2) => x.max_pool2d(options),
            (Fold::Max(options), 3) => x.max_pool3d(options),
            (Fold::Average(options), 1) => x.avg_pool1d(options),
            (Fold::Average(options), 2) => x.avg_pool2d(options),
            (Fold::Average(options), 3) => x.avg_pool3d(options),
            (Fold::AdaptiveMax(size), 1) => x.adaptive_max_pool1d(size),
            (Fold::AdaptiveMax(size), 2) => x.adaptive_max_pool2d(size),
            (Fold::AdaptiveMax(size), 3) => x.adaptive_max_pool3d(size),
            (Fold::AdaptiveAverage(size), 1) => x.adaptive_avg_pool1d(size),
            (Fold::AdaptiveAverage(size), 2) => x.adaptive_avg_pool2d(size),
            (Fold::AdaptiveAverage(size), 3) => x.adaptive_avg_pool3d(size),
            _ => panic!("pool: {} has {axes} axes after batch and channels; 1, 2 or 3 can be pooled", x.shape()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etude_core::arange;

    #[test]
    fn the_rank_of_the_input_decides_the_axes() {
        let x = arange(24).to(etude_core::DType::F32);
        let signal = Pool::max(2).forward(&x.reshape([1, 2, 12]));
        assert_eq!(signal.to_vec::<f32>()[..3], [1.0, 3.0, 5.0]);
        let picture = Pool::average([1, 2]).forward(&x.reshape([1, 1, 4, 6]));
        assert_eq!((picture.shape().to_vec(), picture.to_vec::<f32>()[0]), (vec![1, 1, 4, 3], 0.5));
        let volume = Pool::adaptive_max(1).forward(&x.reshape([1, 1, 2, 3, 4]));
        assert_eq!((volume.shape().to_vec(), volume.item()), (vec![1, 1, 1, 1, 1], 23.0));
        assert_eq!(Pool::global_max().forward(&x.reshape([1, 2, 3, 4])).to_vec::<f32>(), [11.0, 23.0]);
        assert_eq!(Pool::global_average().forward(&x.reshape([1, 2, 12])).to_vec::<f32>(), [5.5, 17.5]);
        assert_eq!(Pool::adaptive_average(2).forward(&x.reshape([1, 1, 24])).to_vec::<f32>(), [5.5, 17.5]);
    }

    #[test]
    #[should_panic(expected = "[2, 3] has 0 axes after batch and channels")]
    fn what_has_no_spatial_axes_is_refused() {
        Pool::max(2).forward(&etude_core::ones([2, 3]));
    }
}
