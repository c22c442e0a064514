//! The common case of a [`Session`]'s loop: epochs over a classification set with validation, patience and the best
//! weights at the end.

use crate::metrics::{Confusion, Mean, argmax_rows};
use crate::progress::valid_tail;
use crate::{Figure, Result, Session};
use etude_core::{DType, Shape, Tensor, evaluating, no_grad, training};
use etude_data::{Array, Dataset, Loader, Values};
use etude_nn::Forward;
use etude_nn::optim::Optimizer;
use etude_nn::schedule::Schedule;
use serde::{Deserialize, Serialize};

/// Trains one model with one optimiser on labelled examples.
pub struct Trainer<'m, M> {
    model: &'m M,
    optimizer: Optimizer,
    loss: Box<dyn Fn(&Tensor, &Tensor) -> Tensor + 'm>,
    epochs: u64,
    batch_size: usize,
    stopping: Option<EarlyStopping>,
    transforms: Vec<Box<Transform>>,
}

type Transform = dyn Fn(&mut etude_data::Sample, &mut etude_data::Rng) + Send + Sync;

/// Ends training when the watched figure has not improved for some epochs.
#[derive(Clone, Copy, Debug)]
pub struct EarlyStopping {
    patience: u64,
}

impl EarlyStopping {
    /// Stops after `epochs` epochs without a lower validation loss.
    pub fn patience(epochs: u64) -> EarlyStopping {
        EarlyStopping { patience: epochs }
    }
}

/// What a training came to.
#[derive(Clone, Debug, Default)]
pub struct Fitted {
    /// Figures of each epoch, in order.
    pub epochs: Vec<EpochFigures>,
    /// Steps taken.
    pub steps: u64,
    /// Seconds of training, over all sittings.
    pub seconds: f64,
    /// Examples seen a second, over this sitting.
    pub rate: f64,
}

/// The figures of one epoch.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct EpochFigures {
    /// Counts from 1.
    pub epoch: u64,
    /// Mean training loss.
    pub train_loss: f64,
    /// Training accuracy, while the weights still moved.
    pub train_accuracy: f64,
    /// Validation loss.
    pub valid_loss: f64,
    /// Validation accuracy.
    pub valid_accuracy: f64,
}

/// What a training remembers from epoch to epoch.
#[derive(Clone, Default, Serialize, Deserialize)]
struct History {
    epochs: Vec<EpochFigures>,
    best: Option<f64>,
    /// Epochs since the best one.
    waited: u64,
    steps: u64,
    seconds: f64,
}

impl<'m, M: Forward> Trainer<'m, M> {
    /// A trainer of `model`: 10 epochs in batches of 64 unless said otherwise.
    pub fn new(model: &'m M, optimizer: Optimizer, loss: impl Fn(&Tensor, &Tensor) -> Tensor + 'm) -> Trainer<'m, M> {
        Trainer {
            model,
            optimizer,
            loss: Box::new(loss),
            epochs: 10,
            batch_size: 64,
            stopping: None,
            transforms: Vec::new(),
        }
    }

    /// How many times all examples are seen.
    #[must_use]
    pub fn epochs(mut self, epochs: u64) -> Self {
        self.epochs = epochs;
        self
    }

    /// How many examples make a step.
    #[must_use]
    pub fn batch(mut self, size: usize) -> Self {
        self.batch_size = size;
        self
    }

    /// The learning rate of each step, counted from 0: a schedule or a closure.
    #[must_use]
    pub fn schedule(mut self, schedule: impl Schedule + 'static) -> Self {
        self.optimizer = self.optimizer.schedule(schedule);
        self
    }

    /// Ends training early.
    #[must_use]
    pub fn callback(mut self, stopping: EarlyStopping) -> Self {
        self.stopping = Some(stopping);
        self
    }

    /// Changes examples on their way into a batch; see [`etude_data::transform`].
    #[must_use]
    pub fn augment(
        mut self,
        transform: impl Fn(&mut etude_data::Sample, &mut etude_data::Rng) + Send + Sync + 'static,
    ) -> Self {
        self.transforms.push(Box::new(transform));
        self
    }

    /// Trains on `train`, watches `valid`, and leaves the weights of the best epoch (by validation loss) in the model.
    ///
    /// # Errors
    /// When interrupted ([`crate::Error::is_interrupted`]; everything is saved then), when the loss is no longer finite,
    /// or when files cannot be written.
    pub fn fit(mut self, session: &Session, train: &Dataset, valid: &Dataset) -> Result<Fitted> {
        let mut loader = Loader::new(train.clone(), self.batch_size).seed(session.seed());
        for transform in std::mem::take(&mut self.transforms) {
            loader = loader.transform(transform);
        }
        session.keep("model", self.model);
        session.keep("optimiser", &self.optimizer);
        let history = session.value("history", History::default());
        let (began, seen) = (session.seconds(), session.seen());
        for batch in session.batches_from(loader, self.epochs) {
            let batch = batch?;
            let logits = training(|| self.model.forward(&batch.inputs));
            let loss = (self.loss)(&logits, &batch.labels);
            self.optimizer.minimise(&loss)?;
            session.log(&[("train/loss", &loss)])?;
            let right = logits.argmax(-1).equal(&batch.labels).to(DType::F32).mean(..).item();
            session.average(Figure::percent("accuracy", right));
            if batch.last {
                let mut history = history.borrow_mut();
                self.validate(session, valid, &mut history)?;
                (history.steps, history.seconds) = (batch.step + 1, session.seconds());
                if self.stopping.is_some_and(|stopping| history.waited >= stopping.patience) {
                    session.stop();
                }
            }
        }
        let history = history.borrow().clone();
        if history.best.is_some() {
            session.load_best(self.model)?;
        }
        let rate = (session.seen() - seen) as f64 / (session.seconds() - began).max(f64::MIN_POSITIVE);
        Ok(Fitted { epochs: history.epochs, steps: history.steps, seconds: history.seconds, rate })
    }

    /// Closes an epoch: validation figures, best weights, patience.
    fn validate(&self, session: &Session, valid: &Dataset, history: &mut History) -> Result<()> {
        let found = evaluate(self.model, valid, &self.loss)?;
        let figures = EpochFigures {
            epoch: history.epochs.len() as u64 + 1,
            train_loss: session.mean("loss"),
            train_accuracy: session.mean("accuracy"),
            valid_loss: found.loss,
            valid_accuracy: found.confusion.accuracy(),
        };
        session.record(&[("train/loss_epoch", figures.train_loss), ("train/accuracy", figures.train_accuracy)])?;
        session.record(&[("valid/loss", figures.valid_loss), ("valid/accuracy", figures.valid_accuracy)])?;
        let tail = [Figure::new("loss", figures.valid_loss), Figure::percent("accuracy", figures.valid_accuracy)];
        session.closing(&valid_tail(&tail));
        history.epochs.push(figures);
        history.waited += 1;
        if history.best.is_none_or(|best| figures.valid_loss < best) {
            (history.best, history.waited) = (Some(figures.valid_loss), 0);
            session.save_best(self.model)?;
        }
        Ok(())
    }
}

/// What a model says about a whole set.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Mean loss.
    pub loss: f64,
    /// Scores `[examples, classes]`, row-major.
    pub scores: Vec<f32>,
    /// The class with the highest score.
    pub predicted: Vec<usize>,
    /// The true class.
    pub actual: Vec<usize>,
    /// Who was taken for whom.
    pub confusion: Confusion,
}

/// Runs `model` over `data` in evaluation mode, in order.
pub fn evaluate(
    model: &impl Forward,
    data: &Dataset,
    loss: &(impl Fn(&Tensor, &Tensor) -> Tensor + ?Sized),
) -> Result<Predictions> {
    let (mut mean, mut scores, mut actual) = (Mean::new(), Vec::new(), Vec::new());
    let classes = data.classes.len();
    for start in (0..data.len()).step_by(EVALUATION_BATCH) {
        let indices: Vec<usize> = (start..data.len().min(start + EVALUATION_BATCH)).collect();
        let part = data.subset(&indices);
        let (x, labels) = (to_tensor(&part.inputs)?, Tensor::from_slice(&part.labels, part.labels.len()));
        let logits = no_grad(|| evaluating(|| model.forward(&x)));
        let value = no_grad(|| loss(&logits, &labels));
        Tensor::eval_all(&[logits.clone(), value.clone()])?;
        mean.add(value.item(), indices.len() as f64);
        scores.extend(logits.to_vec::<f32>());
        actual.extend(part.labels.iter().map(|&label| label as usize));
    }
    let predicted = argmax_rows(&scores, classes);
    let confusion = Confusion::of(classes, &predicted, &actual);
    Ok(Predictions { loss: mean.value(), scores, predicted, actual, confusion })
}

/// Examples evaluated at once: bounds memory, large enough to keep every core busy.
const EVALUATION_BATCH: usize = 250;

/// An array as a tensor. Pictures of bytes become values in 0 … 1.
pub fn to_tensor(array: &Array) -> Result<Tensor> {
    let shape = Shape::new(&array.shape);
    Ok(match &array.values {
        Values::U8(bytes) => {
            let values: Vec<f32> = bytes.iter().map(|&byte| byte as f32 / 255.0).collect();
            Tensor::from_slice(&values, shape)
        }
        Values::F32(values) => Tensor::from_slice(values, shape),
        Values::F64(values) => Tensor::from_slice(values, shape),
        Values::I32(values) => Tensor::from_slice(values, shape),
        Values::I64(values) => Tensor::from_slice(values, shape),
        Values::Bool(values) => Tensor::from_bools(values, shape),
    })
}
