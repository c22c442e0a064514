//! Dropout: elements or channels left out at random while a model trains.

use crate::ops::{Case, Row};
use crate::random::{generator, restore, seed};
use crate::{Shape, Tensor, is_training, training, uniform};

impl Tensor {
    /// In a [`training`] scope, each element is 0 with probability `p` and the others are multiplied by `1/(1−p)`, so that
    /// the expected value stays (Srivastava et al., 2014); outside, nothing changes. The probability is no part of a
    /// plan: it may change every step.
    ///
    /// # Panics
    /// If `p` is not between 0 and 1.
    #[track_caller]
    pub fn dropout(&self, p: f64) -> Tensor {
        self.drop_by("dropout", p, self.shape())
    }

    /// As [`Tensor::dropout`], but whole channels of `[B, C, …]` are left out (Tompson et al., 2015): neighbouring
    /// elements of a feature map say nearly the same, and dropping one leaves the others to tell.
    #[track_caller]
    pub fn dropout2d(&self, p: f64) -> Tensor {
        let shape = self.shape();
        assert!(shape.rank() >= 2, "dropout2d: {shape}: the input needs batch and channels");
        let mask = (0..shape.rank()).map(|axis| if axis < 2 { shape[axis] } else { 1 }).collect();
        self.drop_by("dropout2d", p, mask)
    }

    #[track_caller]
    fn drop_by(&self, name: &str, p: f64, mask: Shape) -> Tensor {
        assert!((0.0..=1.0).contains(&p), "{name}: the probability {p} is not between 0 and 1");
        if !is_training() || p == 0.0 {
            return self.clone();
        }
        // Where nothing is kept, there is nothing to make up for.
        let scale = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
        let zero = Tensor::scalar(0.0, self.dtype());
        uniform(mask).less(p).select(&zero, &(self * scale))
    }
}

/// Runs `run` in training mode with the same random numbers each time, leaving the generator as it was.
pub(crate) fn repeatable(run: impl Fn() -> Tensor) -> Tensor {
    let before = generator();
    seed(5);
    let result = training(run);
    restore(before);
    result
}

pub(crate) fn rows() -> Vec<Row> {
    let cases = vec![
        Case::new("outside training", &[&[3, 4]], |x| x[0].dropout(0.5)).reference(|x| x[0].clone()),
        Case::new("dropout", &[&[4, 5]], |x| repeatable(|| x[0].dropout(0.3).square())),
        Case::new("dropout2d", &[&[2, 3, 2, 2]], |x| repeatable(|| x[0].dropout2d(0.5))),
        Case::new("nothing", &[&[0, 5]], |x| repeatable(|| x[0].dropout(0.3).square())),
        Case::new("one channel", &[&[2, 1, 3]], |x| repeatable(|| x[0].dropout2d(0.5).square())),
        Case::new("everything", &[&[2, 3]], |x| repeatable(|| x[0].dropout(1.0))).reference(|_| vec![0.0; 6]),
        Case::new("channels go as one", &[&[20, 3, 2]], |x| {
            let kept = repeatable(|| x[0].ones_like().dropout2d(0.5));
            (kept.at(2, 0) - kept.at(2, 1)).abs().sum(..)
        })
        .discrete()
        .reference(|_| vec![0.0]),
        // Of 40 000 elements a share of 0.3 goes; four standard deviations of that are 0.0092.
        Case::new("how many go", &[&[1]], |x| {
            let kept = repeatable(|| x[0].ones_like().expand([200, 200]).dropout(0.3));
            (kept.equal(0.0).to(x[0].dtype()).mean(..) - 0.3).abs().less(0.0092).to(x[0].dtype())
        })
        .discrete()
        .reference(|_| vec![1.0]),
        // The mean stays 1: the standard deviation of one element is √(0.3/0.7), of the mean of 40 000 0.0033.
        Case::new("the expected value", &[&[1]], |x| {
            let kept = repeatable(|| x[0].ones_like().expand([200, 200]).dropout(0.3));
            (kept.mean(..) - 1.0).abs().less(0.0131).to(x[0].dtype())
        })
        .discrete()
        .reference(|_| vec![1.0]),
    ];
    vec![Row { name: "dropout", cases }]
}
