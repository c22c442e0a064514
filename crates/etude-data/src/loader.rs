//! Batches, put together by worker threads.
//!
//! What a batch holds depends on the seed, the epoch and the examples only. Each epoch's order comes from a generator
//! keyed by `(seed, epoch)`, each example's transforms from one keyed by `(seed, epoch, index)`; workers take batch
//! numbers from a counter and hand the results over in the order of the numbers.

use crate::{Array, Error, Result, Rng, Transform, Values};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// One example on its way into a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The input, row-major.
    pub values: Vec<f32>,
    /// The input's shape: `[channels, height, width]`, or `[columns]`.
    pub shape: Vec<usize>,
    /// The class.
    pub label: i64,
    /// The example's number in its source.
    pub index: usize,
}

/// Where examples come from: a [`crate::Dataset`] in memory, or anything that can fetch one by number from any thread.
pub trait Source: Send + Sync {
    /// How many examples there are.
    fn len(&self) -> usize;

    /// The example `index`, always the same one. An error reaches whoever reads the batch.
    fn sample(&self, index: usize) -> Result<Sample>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        (**self).sample(index)
    }
}

/// Several examples side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The inputs, `F32`, `[examples, …]`.
    pub inputs: Array,
    /// The class of each.
    pub labels: Vec<i64>,
    /// The number of each in the source.
    pub indices: Vec<usize>,
}

/// Where a loader stands, to be saved with a checkpoint. The fields after `batch` are there to refuse a state that
/// belongs to other data or another setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The epoch, from 0.
    pub epoch: u64,
    /// How many batches of it have been handed out; all of them until the epoch's iterator has said that it ends.
    pub batch: usize,
    /// The seed of order and transforms.
    pub seed: u64,
    /// How many examples the source has.
    pub examples: usize,
    /// How many go into a batch.
    pub batch_size: usize,
    /// Whether the order is random.
    pub shuffle: bool,
    /// Whether a last, smaller batch is left out.
    pub drop_last: bool,
}

/// Makes batches of a source, epoch after epoch.
pub struct Loader {
    job: Arc<Job>,
    workers: usize,
    prefetch: usize,
    epoch: u64,
    batch: usize,
    running: Option<Running>,
}

/// What a worker needs to know to make any batch of any epoch.
struct Job {
    source: Arc<dyn Source>,
    transforms: Vec<Arc<Transform>>,
    batch_size: usize,
    shuffle: bool,
    drop_last: bool,
    seed: u64,
}

/// The examples' numbers in an epoch's order; nothing where that is the source's own, which may be as good as endless.
type Order = Option<Vec<usize>>;

/// The workers of one epoch.
struct Running {
    order: Arc<Order>,
    desk: Arc<Desk>,
    threads: Vec<JoinHandle<()>>,
}

/// Where the workers leave their batches.
struct Desk {
    table: Mutex<Table>,
    /// Signals a finished batch to the consumer.
    finished: Condvar,
    /// Signals room for another batch, or the end, to the workers.
    room: Condvar,
    stop: AtomicBool,
}

struct Table {
    next: usize,
    consumed: usize,
    ready: BTreeMap<usize, Result<Batch>>,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that can panic runs under this lock, so a poisoned one is whole all the same.
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Loader {
    /// A loader of `source` in batches of `batch_size`: shuffled with seed 0, the last, smaller batch kept, one
    /// worker that is up to two batches ahead.
    pub fn new(source: impl Source + 'static, batch_size: usize) -> Loader {
        let job = Job {
            source: Arc::new(source),
            transforms: Vec::new(),
            batch_size,
            shuffle: true,
            drop_last: false,
            seed: 0,
        };
        Loader { job: Arc::new(job), workers: 1, prefetch: 2, epoch: 0, batch: 0, running: None }
    }

    fn change(mut self, change: impl FnOnce(&mut Job)) -> Loader {
        self.running = None; // ends the workers, so the job is this loader's alone
        let old = &self.job;
        let mut job = Job { source: old.source.clone(), transforms: old.transforms.clone(), ..**old };
        change(&mut job);
        self.job = Arc::new(job);
        self
    }

    /// The seed of order and transforms.
    pub fn seed(self, seed: u64) -> Loader {
        self.change(|job| job.seed = seed)
    }

    /// Whether every epoch has a random order of its own; otherwise it is the source's.
    pub fn shuffle(self, shuffle: bool) -> Loader {
        self.change(|job| job.shuffle = shuffle)
    }

    /// Whether to leave out a last batch that is smaller than the others.
    pub fn drop_last(self, drop_last: bool) -> Loader {
        self.change(|job| job.drop_last = drop_last)
    }

    /// Adds a change to every example; several are made in the order they were added.
    pub fn transform(self, transform: impl Fn(&mut Sample, &mut Rng) + Send + Sync + 'static) -> Loader {
        self.change(|job| job.transforms.push(Arc::new(Box::new(transform))))
    }

    /// How many threads make batches; with 0 they are made when asked for. It never changes what they hold.
    pub fn workers(mut self, workers: usize) -> Loader {
        self.running = None;
        self.workers = workers;
        self
    }

    /// How many finished or half-finished batches may wait; never fewer than there are workers.
    pub fn prefetch(mut self, prefetch: usize) -> Loader {
        self.running = None;
        self.prefetch = prefetch;
        self
    }

    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        self.job.batches()
    }

    /// How many examples the source has.
    pub fn examples(&self) -> usize {
        self.job.source.len()
    }

    /// What is left of the current epoch: all of it, or the rest after a pause or a [`Loader::resume`]. When the
    /// iterator has ended, the next call begins the next epoch; an iterator dropped before only pauses.
    pub fn epoch(&mut self) -> Epoch<'_> {
        Epoch { loader: self, ended: false }
    }

    /// The next batch, across epochs without end. An error when there are no batches at all.
    pub fn next_batch(&mut self) -> Result<Batch> {
        match self.advance() {
            Some(batch) => batch,
            None => match self.advance() {
                Some(batch) => batch,
                None => Err(Error::new("loader", "there are no examples", "give it a source that has some")),
            },
        }
    }

    /// Where the loader stands.
    pub fn state(&self) -> State {
        let job = &self.job;
        State {
            epoch: self.epoch,
            batch: self.batch,
            seed: job.seed,
            examples: job.source.len(),
            batch_size: job.batch_size,
            shuffle: job.shuffle,
            drop_last: job.drop_last,
        }
    }

    /// Goes on exactly where `state` was taken. An error when it belongs to other data or settings.
    pub fn resume(&mut self, state: &State) -> Result<()> {
        let expected = State { epoch: state.epoch, batch: state.batch, ..self.state() };
        if *state != expected || state.batch > self.batches() {
            let problem = format!("the saved position is {state:?}, this loader stands at {:?}", self.state());
            return Err(Error::new("loader", problem, "resume with the data, batch size, seed and order of the run"));
        }
        self.running = None;
        (self.epoch, self.batch) = (state.epoch, state.batch);
        Ok(())
    }

    /// The next batch of this epoch, or `None` at its end, where the next epoch begins.
    fn advance(&mut self) -> Option<Result<Batch>> {
        if let Err(error) = self.job.check() {
            return Some(Err(error));
        }
        if self.batch >= self.batches() {
            self.running = None;
            self.epoch += 1;
            self.batch = 0;
            return None;
        }
        if self.running.is_none() {
            match self.start() {
                Ok(running) => self.running = Some(running),
                Err(error) => return Some(Err(error)),
            }
        }
        let running = self.running.as_ref()?;
        let batch = match running.threads.is_empty() {
            true => self.job.batch(&running.order, self.epoch, self.batch, &running.desk.stop),
            false => running.take(self.batch),
        };
        self.batch += 1;
        Some(batch)
    }

    /// Starts the workers at the current position.
    fn start(&self) -> Result<Running> {
        let table = Table { next: self.batch, consumed: self.batch, ready: BTreeMap::new() };
        let desk = Desk {
            table: Mutex::new(table),
            finished: Condvar::new(),
            room: Condvar::new(),
            stop: AtomicBool::new(false),
        };
        let order = Arc::new(self.job.order(self.epoch));
        let mut running = Running { order, desk: Arc::new(desk), threads: Vec::new() };
        for number in 0..self.workers.min(self.batches() - self.batch) {
            let (job, order, desk) = (self.job.clone(), running.order.clone(), running.desk.clone());
            let (epoch, prefetch) = (self.epoch, self.prefetch.max(self.workers));
            let thread = std::thread::Builder::new()
                .name(format!("loader {number}"))
                .spawn(move || work(&job, &order, epoch, prefetch, &desk));
            match thread {
                Ok(thread) => running.threads.push(thread),
                Err(error) => {
                    return Err(Error::new("loader", format!("cannot start a worker: {error}"), "use fewer workers"));
                }
            }
        }
        Ok(running)
    }
}

/// What one worker does until the epoch ends or the loader goes away.
fn work(job: &Job, order: &Order, epoch: u64, prefetch: usize, desk: &Desk) {
    loop {
        let number = {
            let mut table = desk.lock();
            loop {
                if desk.stop.load(Ordering::Relaxed) || table.next >= job.batches() {
                    return;
                }
                if table.next < table.consumed + prefetch {
                    break;
                }
                table = desk.room.wait(table).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            table.next += 1;
            table.next - 1
        };
        let batch = job.batch(order, epoch, number, &desk.stop);
        desk.lock().ready.insert(number, batch);
        desk.finished.notify_one();
    }
}

impl Running {
    /// Waits for batch `number`; the workers always deliver one, or an error in its place.
    fn take(&self, number: usize) -> Result<Batch> {
        let mut table = self.desk.lock();
        let batch = loop {
            match table.ready.remove(&number) {
                Some(batch) => break batch,
                None => table = self.desk.finished.wait(table).unwrap_or_else(|poisoned| poisoned.into_inner()),
            }
        };
        table.consumed = number + 1;
        drop(table);
        self.desk.room.notify_all();
        batch
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        {
            // Under the lock, so that no worker is between its check and its wait.
            let _table = self.desk.lock();
            self.desk.stop.store(true, Ordering::Relaxed);
        }
        self.desk.room.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Job {
    fn batches(&self) -> usize {
        let examples = self.source.len();
        match (self.batch_size, self.drop_last) {
            (0, _) => 0,
            (size, true) => examples / size,
            (size, false) => examples.div_ceil(size),
        }
    }

    /// Settings under which an epoch would silently be empty.
    fn check(&self) -> Result<()> {
        let examples = self.source.len();
        if self.batch_size == 0 {
            return Err(Error::new("loader", "the batch size is 0", "give at least 1"));
        }
        if self.drop_last && examples > 0 && examples < self.batch_size {
            let problem = format!("{examples} examples do not fill one batch of {}", self.batch_size);
            return Err(Error::new("loader", problem, "give a smaller batch size, or keep the last batch"));
        }
        Ok(())
    }

    fn order(&self, epoch: u64) -> Order {
        self.shuffle.then(|| Rng::keyed(&[self.seed, epoch]).permutation(self.source.len()))
    }

    /// Makes one batch; a panic in the source or a transform becomes an error.
    fn batch(&self, order: &Order, epoch: u64, number: usize, stop: &AtomicBool) -> Result<Batch> {
        let made = catch_unwind(AssertUnwindSafe(|| self.assemble(order, epoch, number, stop)));
        made.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
            Err(Error::new(format!("loader, epoch {epoch}, batch {number}"), text, "see the source and the transforms"))
        })
    }

    fn assemble(&self, order: &Order, epoch: u64, number: usize, stop: &AtomicBool) -> Result<Batch> {
        let start = number * self.batch_size;
        let end = (start + self.batch_size).min(self.source.len());
        let indices: Vec<usize> =
            order.as_ref().map_or_else(|| (start..end).collect(), |order| order[start..end].to_vec());
        let mut labels = Vec::with_capacity(indices.len());
        let mut values = Vec::new();
        let mut shape: Option<Vec<usize>> = None;
        for &index in &indices {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::new("loader", "stopped", "")); // nobody is left to read it
            }
            let mut sample = self.source.sample(index)?;
            if !self.transforms.is_empty() {
                let mut rng = Rng::keyed(&[self.seed, epoch, index as u64]);
                self.transforms.iter().for_each(|transform| transform(&mut sample, &mut rng));
            }
            match &shape {
                Some(shape) if *shape != sample.shape => {
                    let problem = format!("example {index} has the shape {:?}, others {shape:?}", sample.shape);
                    return Err(Error::new("loader", problem, "add a transform that makes them alike"));
                }
                Some(_) => {}
                None => {
                    values.reserve_exact(sample.values.len() * indices.len());
                    shape = Some(sample.shape);
                }
            }
            values.extend_from_slice(&sample.values);
            labels.push(sample.label);
        }
        let mut whole = vec![indices.len()];
        whole.extend(shape.unwrap_or_default());
        Ok(Batch { inputs: Array::new(whole, Values::F32(values))?, labels, indices })
    }
}

/// The batches that are left of one epoch; see [`Loader::epoch`].
pub struct Epoch<'a> {
    loader: &'a mut Loader,
    ended: bool,
}

impl Epoch<'_> {
    /// The loader's state after the batches handed out so far, for a checkpoint within the epoch.
    pub fn state(&self) -> State {
        self.loader.state()
    }
}

impl Iterator for Epoch<'_> {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if self.ended {
            return None;
        }
        // Settings that can never give a batch are reported once.
        let hopeless = self.loader.job.check().is_err();
        let batch = self.loader.advance();
        self.ended = batch.is_none() || hopeless;
        batch
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = if self.ended { 0 } else { self.loader.batches().saturating_sub(self.loader.batch) };
        (left, None) // an error may come where there are no batches
    }
}

#[cfg(test)]
mod tests;
