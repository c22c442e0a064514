//! The one training loop: over steps, or over the epochs of a loader. Everything else is a user of it.

use super::Session;
use crate::progress::Bar;
use crate::trainer::to_tensor;
use crate::units::{Figure, Style};
use crate::{Error, Result, interrupted};
use etude_core::{Tensor, random};
use etude_data::{Dataset, Loader};

/// A step over some examples.
#[derive(Clone, Debug)]
pub struct Minibatch {
    /// The inputs, `[examples, …]`; bytes become values in 0 … 1.
    pub inputs: Tensor,
    /// The class of each, `[examples]`.
    pub labels: Tensor,
    /// The number of each in its data set.
    pub indices: Vec<usize>,
    /// The step's number in this loop, from 0.
    pub step: u64,
    /// The epoch's number, from 0.
    pub epoch: u64,
    /// Whether the epoch ends with it.
    pub last: bool,
}

impl Session {
    /// A loop of `steps` steps; its items are their numbers, from 0.
    ///
    /// An item is an error when the person asked to stop (everything is saved then) or a file cannot be written:
    /// `for step in session.steps(1000) { let step = step?; … }`. A loop that passes over the error (`for _ in …`) ends
    /// there, and [`Session::heed`] returns it.
    pub fn steps(&self, steps: u64) -> Steps<'_> {
        Steps { turn: Turn::new(self), steps }
    }

    /// A loop over `data` in batches of `size`, `epochs` times, in an order drawn by the run's seed. Items as those of
    /// [`Session::steps`].
    pub fn batches(&self, data: &Dataset, size: usize, epochs: u64) -> Batches<'_> {
        self.batches_from(Loader::new(data.clone(), size).seed(self.seed()), epochs)
    }

    /// A loop over `epochs` epochs of a loader, for one with transforms, a source or an order of its own.
    pub fn batches_from(&self, loader: Loader, epochs: u64) -> Batches<'_> {
        Batches { turn: Turn::new(self), loader, epochs }
    }
}

/// See [`Session::steps`].
#[must_use = "a loop does nothing until it is iterated, and each item may be an error"]
pub struct Steps<'s> {
    turn: Turn<'s>,
    steps: u64,
}

impl Iterator for Steps<'_> {
    type Item = Result<u64>;

    fn next(&mut self) -> Option<Result<u64>> {
        let steps = self.steps;
        let turned = self.turn.next(|session| {
            let inner = &mut *session.inner();
            let done = inner.state.loop_step;
            let over = done >= steps || inner.stopping;
            if inner.bar.is_none() && !session.quiet && !over {
                let label = if inner.label.is_empty() { "steps" } else { &inner.label };
                inner.bar = Some(Bar::new(label, Some(steps)).resume_at(done));
            }
            Ok(over)
        });
        let step = turned.map(|more| more.then(|| self.turn.session.inner().state.loop_step));
        self.turn.hand_out(step)
    }
}

/// See [`Session::batches`].
#[must_use = "a loop does nothing until it is iterated, and each item may be an error"]
pub struct Batches<'s> {
    turn: Turn<'s>,
    loader: Loader,
    epochs: u64,
}

impl Batches<'_> {
    fn advance(&mut self) -> Result<Option<Minibatch>> {
        let Batches { turn, loader, epochs } = self;
        let (batches, epochs, first) = (loader.batches() as u64, *epochs, !turn.begun);
        let more = turn.next(|session| {
            let inner = &mut *session.inner();
            if inner.state.batch >= batches && batches > 0 {
                inner.finish_bar();
                inner.state.sums.clear();
                inner.state.weights.clear();
                (inner.state.epoch, inner.state.batch) = (inner.state.epoch + 1, 0);
            }
            let (epoch, batch) = (inner.state.epoch, inner.state.batch);
            if first {
                let mut position = loader.state();
                (position.epoch, position.batch) = (epoch, batch as usize);
                loader.resume(&position)?;
            }
            let over = epoch >= epochs || inner.stopping;
            if inner.bar.is_none() && !session.quiet && !over {
                let label = if inner.label.is_empty() { String::new() } else { format!("{}  ", inner.label) };
                let label = label + &crate::progress::epoch_label(epoch + 1, epochs);
                inner.bar = Some(Bar::new(label, Some(batches)).resume_at(batch));
            }
            Ok(over)
        })?;
        if !more {
            return Ok(None);
        }
        let batch = loader.next_batch()?;
        let mut inner = turn.session.inner();
        inner.examples = Some(batch.indices.len());
        let state = &mut inner.state;
        state.batch += 1;
        Ok(Some(Minibatch {
            inputs: to_tensor(&batch.inputs)?,
            labels: Tensor::from_slice(&batch.labels, batch.labels.len()),
            indices: batch.indices,
            step: state.loop_step,
            epoch: state.epoch,
            last: state.batch == batches,
        }))
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Minibatch>;

    fn next(&mut self) -> Option<Result<Minibatch>> {
        let batch = self.advance();
        self.turn.hand_out(batch)
    }
}

/// What happens between two steps of any loop.
struct Turn<'s> {
    session: &'s Session,
    begun: bool,
    done: bool,
    /// The error handed out, until the loop is asked for more.
    failed: Option<Error>,
}

impl<'s> Turn<'s> {
    fn new(session: &'s Session) -> Turn<'s> {
        Turn { session, begun: false, done: false, failed: None }
    }

    /// Closes the step that ran and opens the next; false when there is none. `place` moves the loop's position and
    /// says whether it has come to its end.
    fn next(&mut self, place: impl FnOnce(&Session) -> Result<bool>) -> Result<bool> {
        if self.done {
            // Whoever asks for more after an error has passed over it.
            if let Some(error) = self.failed.take() {
                self.session.inner().unheeded.get_or_insert(error);
            }
            return Ok(false);
        }
        let more = self.turn(place);
        self.done = !matches!(more, Ok(true));
        more
    }

    /// An item of the loop; after an error there are no more.
    fn hand_out<T>(&mut self, item: Result<Option<T>>) -> Option<Result<T>> {
        if let Err(error) = &item {
            self.done = true;
            self.failed = Some(error.repeated());
        }
        item.transpose()
    }

    fn turn(&mut self, place: impl FnOnce(&Session) -> Result<bool>) -> Result<bool> {
        let session = self.session;
        if !self.begun {
            self.begun = true;
            if !session.inner().begin()? {
                return Ok(false);
            }
        }
        let stepped = session.inner().close_step();
        let over = place(session)?;
        let mut inner = session.inner();
        if over {
            inner.finish_bar();
            inner.end_loop();
        }
        let stopped = interrupted();
        if over || stepped && (stopped || inner.saved.elapsed() >= session.save_every) {
            inner.save()?;
        }
        if stopped {
            return Err(Error::interrupted());
        }
        inner.open = !over;
        Ok(!over)
    }
}

impl Drop for Turn<'_> {
    /// A loop left by `break` counts as done.
    fn drop(&mut self) {
        if self.begun && !self.done {
            let mut inner = self.session.inner();
            inner.close_step();
            inner.finish_bar();
            inner.end_loop();
        }
    }
}

impl super::Inner {
    /// Begins the next loop; false when a former sitting finished it.
    fn begin(&mut self) -> Result<bool> {
        self.heed()?;
        let number = self.begun;
        self.begun += 1;
        self.stopping = false;
        self.restore()?;
        if let Some(&draws) = self.state.finished.get(number) {
            self.random_at(draws);
            self.label.clear();
            return Ok(false);
        }
        if self.restored.take().is_some() && self.state.loop_step > 0 {
            self.random_at(self.state.random_counter);
        }
        self.kept.iter_mut().for_each(|saved| saved.waiting = false);
        self.saved = std::time::Instant::now();
        Ok(true)
    }

    /// See [`Session::heed`].
    pub(super) fn heed(&self) -> Result<()> {
        self.unheeded.as_ref().map_or(Ok(()), |error| Err(error.repeated()))
    }

    /// Counts the step that ran, if one did.
    fn close_step(&mut self) -> bool {
        if !std::mem::take(&mut self.open) {
            return false;
        }
        self.state.step += 1;
        self.state.loop_step += 1;
        let examples = self.examples.take();
        self.seen += examples.unwrap_or(1) as u64;
        if self.bar.as_ref().is_some_and(Bar::due) {
            let figures = self.figures();
            self.bar.iter_mut().for_each(|bar| bar.figures(figures.clone()));
        }
        self.bar.iter_mut().for_each(|bar| bar.step(examples.unwrap_or(0) as u64));
        true
    }

    /// The running means as the bar shows them.
    fn figures(&self) -> Vec<Figure> {
        let figure = |(name, style): &(String, Style)| {
            let value = self.state.sums.get(name)? / self.state.weights.get(name)?;
            Some(Figure::new(name.clone(), value).style(*style))
        };
        self.styles.iter().filter_map(figure).collect()
    }

    fn finish_bar(&mut self) {
        let (figures, tail) = (self.figures(), std::mem::take(&mut self.tail));
        if let Some(mut bar) = self.bar.take() {
            bar.figures(figures);
            bar.finish(&tail);
        }
    }

    fn end_loop(&mut self) {
        self.label.clear();
        let state = &mut self.state;
        state.finished.push(random::generator().draws);
        (state.loop_step, state.epoch, state.batch) = (0, 0, 0);
        state.sums.clear();
        state.weights.clear();
    }
}
