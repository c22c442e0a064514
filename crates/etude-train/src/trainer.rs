//! The common training loop: epochs over a classification set with validation, checkpoints, exact resume.

use crate::metrics::{Confusion, Mean, argmax_rows};
use crate::progress::{Bar, valid_tail};
use crate::run::{Best, Checkpoint, LoaderPosition, State};
use crate::session::{load_model, read_group};
use crate::{Error, Figure, Result, Session, interrupted};
use etude_core::random::{self, Generator};
use etude_core::{DType, Shape, Tensor, evaluating, no_grad, training};
use etude_data::{Array, Batch, Dataset, Loader, Values};
use etude_nn::Forward;
use etude_nn::optim::Optimizer;
use etude_nn::schedule::Schedule;
use std::time::Instant;

/// Trains one model with one optimiser on labelled examples.
///
/// Checkpoints are written at the end of each epoch and every half minute; a resumed run gives the bits of an unbroken one.
pub struct Trainer<'m, M> {
    model: &'m M,
    optimizer: Optimizer,
    loss: Box<dyn Fn(&Tensor, &Tensor) -> Tensor + 'm>,
    schedule: Option<Box<dyn Schedule>>,
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
#[derive(Clone, Copy, Debug, Default)]
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

impl<'m, M: Forward> Trainer<'m, M> {
    /// A trainer of `model`: 10 epochs in batches of 64 unless said otherwise.
    pub fn new(model: &'m M, optimizer: Optimizer, loss: impl Fn(&Tensor, &Tensor) -> Tensor + 'm) -> Trainer<'m, M> {
        Trainer {
            model,
            optimizer,
            loss: Box::new(loss),
            schedule: None,
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
        self.schedule = Some(Box::new(schedule));
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
    /// When interrupted ([`Error::is_interrupted`]; everything is saved then), or when files cannot be written.
    pub fn fit(mut self, session: &mut Session, train: &Dataset, valid: &Dataset) -> Result<Fitted> {
        let mut loader = Loader::new(train.clone(), self.batch_size).seed(session.seed());
        for transform in std::mem::take(&mut self.transforms) {
            loader = loader.transform(transform);
        }
        let mut state = State::new(session.seed());
        let mut fitted = Fitted::default();
        if let Some((saved, checkpoint)) = session.take_restored() {
            self.restore(&saved, &checkpoint, &mut loader)?;
            fitted.epochs = past_epochs(session, saved.epoch)?;
            state = saved;
        }
        let before = state.seconds;
        let clock = Instant::now();
        let mut seen = 0usize;
        while state.epoch < self.epochs && !self.is_over(&state) {
            let (count, bar) = self.epoch(session, &mut loader, &mut state, clock, before)?;
            seen += count;
            let figures = self.validate(session, valid, &mut state, bar)?;
            fitted.epochs.push(figures);
            state.seconds = before + clock.elapsed().as_secs_f64();
            self.save(session, &state)?;
        }
        session.load_best(self.model)?;
        fitted.steps = state.step;
        fitted.seconds = before + clock.elapsed().as_secs_f64();
        fitted.rate = seen as f64 / clock.elapsed().as_secs_f64();
        Ok(fitted)
    }

    /// Whether the validation loss has not improved for too long.
    fn is_over(&self, state: &State) -> bool {
        let waited = state.schedule.get("stopping.waited").copied().unwrap_or(0.0);
        self.stopping.is_some_and(|stopping| waited >= stopping.patience as f64)
    }

    /// The rest of the epoch `state` stands in. Returns how many examples it took, and the bar to finish.
    fn epoch(
        &mut self,
        session: &mut Session,
        loader: &mut Loader,
        state: &mut State,
        clock: Instant,
        before: f64,
    ) -> Result<(usize, Option<Bar>)> {
        let batches = loader.batches() as u64;
        let mut bar = (!session.is_quiet())
            .then(|| Bar::epoch(state.epoch + 1, self.epochs, Some(batches)).resume_at(state.loader.batch));
        let sum = |state: &State, name: &str| state.sums.get(name).copied().unwrap_or(0.0);
        let mut loss = Mean::from_parts(sum(state, "loss"), sum(state, "count"));
        let mut accuracy = Mean::from_parts(sum(state, "correct"), sum(state, "count"));
        let (mut seen, mut saved) = (0, Instant::now());
        while state.loader.batch < batches {
            let batch = loader.next_batch()?;
            let count = batch.labels.len();
            let (step_loss, correct) = self.step(&batch, state.step)?;
            seen += count;
            state.step += 1;
            state.loader.batch += 1;
            loss.add(step_loss, count as f64);
            accuracy.add(correct / count as f64, count as f64);
            for (name, value) in [("loss", loss.parts().0), ("correct", accuracy.parts().0), ("count", loss.parts().1)]
            {
                state.sums.insert(name.into(), value);
            }
            session.log(state.step, state.epoch + 1, &[("train/loss", step_loss)])?;
            if let Some(bar) = &mut bar {
                bar.figures([Figure::new("loss", loss.value()), Figure::percent("accuracy", accuracy.value())]);
                bar.step(count as u64);
            }
            state.seconds = before + clock.elapsed().as_secs_f64();
            if interrupted() {
                self.save(session, state)?;
                return Err(Error::interrupted());
            }
            if saved.elapsed() >= session.time_between_saves() && state.loader.batch < batches {
                self.save(session, state)?;
                saved = Instant::now();
            }
        }
        let figures = [("train/loss_epoch", loss.value()), ("train/accuracy", accuracy.value())];
        session.log(state.step, state.epoch + 1, &figures)?;
        Ok((seen, bar))
    }

    /// One step: forward, backward, update. Returns the loss and how many examples were right.
    fn step(&mut self, batch: &Batch, number: u64) -> Result<(f64, f64)> {
        if let Some(schedule) = &self.schedule {
            self.optimizer.set_learning_rate(schedule.rate(number));
        }
        let (x, labels) = (to_tensor(&batch.inputs)?, Tensor::from_slice(&batch.labels, batch.labels.len()));
        let logits = training(|| self.model.forward(&x));
        let loss = (self.loss)(&logits, &labels);
        self.optimizer.minimise(&loss)?;
        let value = loss.item();
        if !value.is_finite() {
            return Err(Error::new(format!("the loss became {value} at step {}", number + 1))
                .remedy("lower the learning rate, or look for the cause with ETUDE_CHECK=nan"));
        }
        let correct = logits.argmax(-1).equal(&labels).to(DType::F32).sum(..).item();
        Ok((value, correct))
    }

    /// Closes an epoch: validation figures, best weights, patience.
    fn validate(
        &mut self,
        session: &mut Session,
        valid: &Dataset,
        state: &mut State,
        bar: Option<Bar>,
    ) -> Result<EpochFigures> {
        let found = evaluate(self.model, valid, &self.loss)?;
        let (loss, accuracy) = (found.loss, found.confusion.accuracy());
        state.epoch += 1;
        session.log(state.step, state.epoch, &[("valid/loss", loss), ("valid/accuracy", accuracy)])?;
        let sum = |name: &str| state.sums.get(name).copied().unwrap_or(0.0);
        let count = sum("count").max(1.0);
        let figures = EpochFigures {
            epoch: state.epoch,
            train_loss: sum("loss") / count,
            train_accuracy: sum("correct") / count,
            valid_loss: loss,
            valid_accuracy: accuracy,
        };
        if let Some(bar) = bar {
            bar.finish(&valid_tail(&[Figure::new("loss", loss), Figure::percent("accuracy", accuracy)]));
        }
        state.sums.clear();
        state.loader = LoaderPosition { epoch: state.epoch, batch: 0 };
        let better = state.best.as_ref().is_none_or(|best| loss < best.value);
        let waited = state.schedule.entry("stopping.waited".into()).or_insert(0.0);
        *waited = if better { 0.0 } else { *waited + 1.0 };
        if better {
            state.best = Some(Best { metric: "valid/loss".into(), value: loss, step: state.step });
            session.save_best(state, &[("model", self.model.tensors())])?;
        }
        Ok(figures)
    }

    fn save(&self, session: &Session, state: &State) -> Result<()> {
        let mut state = state.clone();
        state.random_counter = random::generator().draws;
        state.optimiser.insert("steps".into(), self.optimizer.steps() as f64);
        state.optimiser.insert("learning_rate".into(), self.optimizer.learning_rate());
        session.save(&state, &[("model", self.model.tensors()), ("optimiser", self.optimizer.state())])
    }

    fn restore(&mut self, state: &State, checkpoint: &Checkpoint, loader: &mut Loader) -> Result<()> {
        load_model(checkpoint, self.model)?;
        let number = |name: &str| state.optimiser.get(name).copied().unwrap_or(0.0);
        let tensors = read_group(checkpoint, "optimiser")?;
        self.optimizer.restore(&tensors, number("steps") as u64, number("learning_rate"))?;
        random::restore(Generator { seed: state.seed, draws: state.random_counter });
        let mut position = loader.state();
        (position.epoch, position.batch) = (state.loader.epoch, state.loader.batch as usize);
        Ok(loader.resume(&position)?)
    }
}

/// The figures of the epochs a resumed run had finished, from its log.
fn past_epochs(session: &Session, finished: u64) -> Result<Vec<EpochFigures>> {
    let mut epochs: Vec<EpochFigures> =
        (1..=finished).map(|epoch| EpochFigures { epoch, ..EpochFigures::default() }).collect();
    for record in session.metrics()? {
        let Some(figures) = (record.epoch as usize).checked_sub(1).and_then(|at| epochs.get_mut(at)) else { continue };
        for (name, value) in &record.values {
            match name.as_str() {
                "train/loss_epoch" => figures.train_loss = *value,
                "train/accuracy" => figures.train_accuracy = *value,
                "valid/loss" => figures.valid_loss = *value,
                "valid/accuracy" => figures.valid_accuracy = *value,
                _ => (),
            }
        }
    }
    Ok(epochs)
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
