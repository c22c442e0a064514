//! A classifier of real digits that judges made ones: which digits they are, how sure it is, and how far the cloud of
//! their features lies from that of real digits. It is trained at the start of the run, in some seconds.

use crate::vision::lenet::LeNet;
use etude::Result;
use etude::data::Split;
use etude::prelude::*;
use etude::train::Figure;
use etude::train::metrics::{accuracy, frechet_distance};
use etude::train::trainer::to_tensor;

/// Width of LeNet's last hidden layer.
const FEATURES: usize = 84;

/// The trained classifier, and the features of the test digits.
pub struct Judge {
    model: LeNet,
    real: Vec<f64>,
    /// The scatter of real digits' features around the mean of their class.
    scatter: f64,
    /// The share of test digits it reads right.
    pub accuracy: f64,
    /// The distance of as many training digits from the test digits: what a perfect generator would be given.
    pub floor: f64,
}

/// What a judge says about pictures.
pub struct Verdict {
    /// The squared Fréchet distance from real digits (Heusel et al., 2017), on LeNet's 84 features.
    pub frechet: f64,
    /// The class each is taken for.
    pub classes: Vec<usize>,
    /// The share of each class.
    pub shares: [f64; 10],
    /// The mean probability of the class taken.
    pub sureness: f64,
    /// The scatter of features around the mean of the class taken, over that of real digits: near 0 when every 3 is the
    /// same 3.
    pub variety: f64,
}

impl Judge {
    /// Trains a LeNet on the training digits for three epochs, a loop of its own in the run. It comes first, so that runs
    /// of one seed have the same judge and can be compared.
    pub fn train(session: &Session, digits: &Split) -> Result<Judge> {
        let model = LeNet::new(10);
        let mut step = Adam::new(2e-3).over(&model);
        session.keep("judge", &model);
        session.keep("judge_step", &step);
        session.label("judge");
        for batch in session.batches(&digits.train, 64, 3) {
            let batch = batch?;
            let loss = cross_entropy(&training(|| model.forward(&batch.inputs)), &batch.labels);
            step.minimise(&loss)?;
            session.log(&[("judge/loss", &loss)])?;
        }
        let mut judge = Judge { model, real: Vec::new(), scatter: 1.0, accuracy: 0.0, floor: 0.0 };
        let (features, verdict) = judge.read(&to_tensor(&digits.test.inputs)?);
        let actual: Vec<usize> = digits.test.labels.iter().map(|&label| label as usize).collect();
        judge.accuracy = accuracy(&verdict.classes, &actual);
        (judge.real, judge.scatter) = (features, verdict.variety);
        judge.floor = judge.judge(&to_tensor(&digits.train.take(digits.test.len()).inputs)?).frechet;
        Ok(judge)
    }

    /// Judges pictures `[N, 1, 28, 28]` of values in 0 … 1.
    pub fn judge(&self, pictures: &Tensor) -> Verdict {
        let (features, mut verdict) = self.read(pictures);
        verdict.frechet = frechet_distance(&self.real, &features, FEATURES);
        verdict.variety /= self.scatter;
        verdict
    }

    /// Puts what was found about `samples` into a report, the distance of noise beside it, and two claims: that the
    /// distance is at most `claim`, and that the judge can read.
    pub fn report(&self, report: &mut Report, samples: String, verdict: &Verdict, claim: f64) {
        let noise = self.judge(&uniform([verdict.classes.len(), 1, 28, 28])).frechet;
        report.figures(
            samples,
            [
                Figure::new("squared Fréchet distance", verdict.frechet),
                Figure::new("of real digits", self.floor),
                Figure::new("of noise", noise),
                Figure::percent("rarest digit", verdict.rarest()),
                Figure::percent("variety within a digit, of the real one", verdict.variety),
            ],
        );
        let sureness = Figure::percent("sureness", verdict.sureness);
        report.figures("judge", [sureness, Figure::percent("accuracy on test digits", self.accuracy)]);
        report.claim(Claim::at_least("judge's accuracy on test digits", self.accuracy, 0.94).percent());
        report.claim(Claim::at_most("squared Fréchet distance", verdict.frechet, claim));
    }

    /// Features, row by row, and the classes.
    fn read(&self, pictures: &Tensor) -> (Vec<f64>, Verdict) {
        let count = pictures.shape()[0];
        let (mut features, mut classes, mut sure) = (Vec::new(), Vec::new(), 0.0);
        for start in (0..count).step_by(250) {
            let part = pictures.narrow(0, start, 250.min(count - start));
            let (hidden, logits) = no_grad(|| evaluating(|| self.model.features(&part)));
            features.extend(hidden.to_vec::<f64>()); // [250, 84]
            classes.extend(logits.argmax(-1).to_vec::<i64>().into_iter().map(|class| class as usize));
            sure += logits.softmax(-1).max(-1).sum(..).item();
        }
        let share = |class: usize| classes.iter().filter(|&&found| found == class).count() as f64 / count as f64;
        let shares = std::array::from_fn(share);
        let variety = scatter(&features, &classes);
        (features, Verdict { frechet: f64::NAN, classes, shares, sureness: sure / count as f64, variety })
    }
}

/// The mean squared distance of rows of features from the mean of their class.
fn scatter(features: &[f64], classes: &[usize]) -> f64 {
    let (mut sums, mut counts) = (vec![[0.0; FEATURES]; 10], [0.0; 10]);
    for (row, &class) in features.chunks_exact(FEATURES).zip(classes) {
        sums[class].iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        counts[class] += 1.0;
    }
    let apart = |(row, &class): (&[f64], &usize)| -> f64 {
        row.iter().zip(&sums[class]).map(|(x, sum)| (x - sum / counts[class]).powi(2)).sum()
    };
    features.chunks_exact(FEATURES).zip(classes).map(apart).sum::<f64>() / classes.len() as f64
}

impl Verdict {
    /// The share of pictures that are taken for the class asked for, `[N]`.
    pub fn right(&self, asked: &Tensor) -> f64 {
        let asked: Vec<usize> = asked.to_vec::<i64>().into_iter().map(|class| class as usize).collect();
        accuracy(&self.classes, &asked)
    }

    /// The smallest share of a class: 0 when a digit is never made.
    pub fn rarest(&self) -> f64 {
        self.shares.iter().copied().fold(1.0, f64::min)
    }
}
