//! One sitting of a run, as an étude sees it: where data comes from, what is logged, what must be saved, and the loops
//! that do the saving.
//!
//! An étude says once what a checkpoint must hold ([`Session::keep`], [`Session::value`]) and then loops over
//! [`Session::steps`] or [`Session::batches`]. The loop draws the bar, stops for Ctrl-C after the step that runs, saves
//! every half minute, and in a resumed run goes on where the last checkpoint was taken, bit for bit: what is kept, the
//! random generator, the place in the data and the running means come back. A run may have several loops one after
//! another; those that a former sitting finished give nothing.

mod kept;
mod loops;

pub use loops::{Batches, Minibatch, Steps};

use crate::media::Media;
use crate::metrics::Mean;
use crate::plot::{Chart, Page, Picture};
use crate::progress::Bar;
use crate::run::{Checkpoint, Run, State};
use crate::units::{self, Style};
use crate::{Error, Figure, Result, interrupted};
use etude_core::random::{self, Generator};
use etude_core::{Tensor, no_grad};
use etude_data::Split;
use etude_nn::{Keep, Module};
use kept::{Saved, What};
use serde::{Serialize, de::DeserializeOwned};
use std::cell::{RefCell, RefMut};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A run in progress, as an étude sees it.
pub struct Session {
    inner: RefCell<Inner>,
    path: PathBuf,
    seed: u64,
    data: Option<PathBuf>,
    quiet: bool,
    save_every: Duration,
}

struct Inner {
    run: Run,
    state: State,
    /// What the last checkpoint of a former sitting holds; loops take their part of it.
    restored: Option<Checkpoint>,
    kept: Vec<Saved>,
    /// Loops begun in this sitting.
    begun: usize,
    /// Whether a step is under way.
    open: bool,
    /// Examples in that step, where they are counted.
    examples: Option<usize>,
    /// Examples or steps done in this sitting.
    seen: u64,
    stopping: bool,
    /// An error that a loop handed out and nobody looked at.
    unheeded: Option<Error>,
    label: String,
    bar: Option<Bar>,
    tail: String,
    /// The figures on the bar, in the order they came.
    styles: Vec<(String, Style)>,
    saved: Instant,
    clock: Instant,
    before: f64,
}

/// What can be logged: a number, or a tensor of one element, which is evaluated then.
pub trait Number {
    /// Its value.
    fn number(&self) -> f64;
}

impl Number for f64 {
    fn number(&self) -> f64 {
        *self
    }
}

impl Number for f32 {
    fn number(&self) -> f64 {
        f64::from(*self)
    }
}

impl Number for Tensor {
    fn number(&self) -> f64 {
        self.item()
    }
}

impl Session {
    /// A sitting of `run`, new (`restored` is `None`) or resumed. Starts the random generator from `seed`.
    pub fn new(run: Run, restored: Option<(State, Checkpoint)>, seed: u64) -> Session {
        random::seed(seed);
        let path = run.path().to_path_buf();
        let (state, restored) = restored.map_or((State::new(seed), None), |(state, from)| (state, Some(from)));
        let inner = Inner {
            run,
            before: state.seconds,
            state,
            restored,
            kept: Vec::new(),
            begun: 0,
            open: false,
            examples: None,
            seen: 0,
            stopping: false,
            unheeded: None,
            label: String::new(),
            bar: None,
            tail: String::new(),
            styles: Vec::new(),
            saved: Instant::now(),
            clock: Instant::now(),
        };
        let inner = RefCell::new(inner);
        Session { inner, path, seed, data: None, quiet: false, save_every: Duration::from_secs(30) }
    }

    /// Reads data sets from `folder` instead of the bundled ones.
    #[must_use]
    pub fn data_from(mut self, folder: Option<PathBuf>) -> Session {
        self.data = folder;
        self
    }

    /// Prints nothing while training.
    #[must_use]
    pub fn quiet(mut self, quiet: bool) -> Session {
        self.quiet = quiet;
        self
    }

    /// The least time between two checkpoints within a loop (30 seconds unless said otherwise); zero saves every step.
    #[must_use]
    pub fn save_every(mut self, time: Duration) -> Session {
        self.save_every = time;
        self
    }

    /// The run's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The run folder's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Seconds of training so far, over all sittings.
    pub fn seconds(&self) -> f64 {
        let inner = self.inner.borrow();
        inner.before + inner.clock.elapsed().as_secs_f64()
    }

    /// Steps done so far, over all loops; the one that runs counts.
    pub fn step(&self) -> u64 {
        let inner = self.inner.borrow();
        inner.state.step + u64::from(inner.open)
    }

    /// Examples (in loops over steps: steps) done in this sitting, in all loops.
    pub fn seen(&self) -> u64 {
        self.inner.borrow().seen
    }

    /// The data set `name` in three parts of these fractions, drawn by the run's seed. With `--data`, what that folder
    /// holds instead; its own test part, if it has one, is the test part.
    pub fn split(&self, name: &str, fractions: [f64; 3]) -> Result<Split> {
        let Some(folder) = &self.data else { return Ok(etude_data::load(name)?.split(fractions, self.seed)?) };
        let found = etude_data::load_from(folder)?;
        let Some(test) = found.test else { return Ok(found.train.split(fractions, self.seed)?) };
        let [train, valid, _] = fractions;
        let both = train + valid;
        let parts = found.train.split([train / both, valid / both, 0.0], self.seed)?;
        Ok(Split { test, ..parts })
    }

    /// Prints a line, unless the run is quiet.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            println!("{}", line.as_ref());
        }
    }

    /// Prints how large `model` is, unless the run is quiet.
    pub fn introduce(&self, model: &impl Module) {
        self.say(format!("model   {} parameters", units::grouped(model.parameter_count() as u64)));
    }

    /// For long work after the last loop: an error if the person asked to stop. What the loops did is saved then, and a
    /// resumed run does that work again.
    pub fn go_on(&self) -> Result<()> {
        if interrupted() { Err(Error::interrupted()) } else { Ok(()) }
    }

    /// Saves `thing` (a model, an optimiser, an average of weights, a parameter, a state cell) with the run under
    /// `name`, and puts it back when a run is resumed, as soon as the next loop begins.
    ///
    /// # Panics
    /// If something is kept under that name already.
    #[track_caller]
    pub fn keep(&self, name: &str, thing: &(impl Keep + ?Sized)) {
        self.inner.borrow_mut().add(name, What::Tensors(thing.keep()));
    }

    /// Saves a value of your own with the run, such as an environment's state or a replay buffer, and puts it back when
    /// a run is resumed, as soon as the next loop begins. The loop's body reads and changes it through the cell.
    ///
    /// # Panics
    /// If something is kept under that name already.
    #[track_caller]
    pub fn value<T: Serialize + DeserializeOwned + 'static>(&self, name: &str, start: T) -> Rc<RefCell<T>> {
        let cell = Rc::new(RefCell::new(start));
        self.inner.borrow_mut().add(name, What::Value(Box::new(cell.clone())));
        cell
    }

    /// Names the next loop on its bar, such as `critic`.
    pub fn label(&self, label: &str) {
        self.inner.borrow_mut().label = label.to_string();
    }

    /// Logs named numbers of the step that runs, such as `[("train/loss", &loss)]`; names that differ only before the
    /// `/` share a chart. The bar shows their running means, named by the part after the `/`.
    ///
    /// # Errors
    /// If a number is not finite: training has failed then.
    pub fn log(&self, values: &[(&str, &dyn Number)]) -> Result<()> {
        let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (*name, value.number())).collect();
        if let Some((name, value)) = values.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::new(format!("`{name}` became {value} at step {}", self.step()))
                .remedy("lower the learning rate, or look for the cause with ETUDE_CHECK=nan"));
        }
        for (name, value) in &values {
            self.average(Figure::new(name.rsplit('/').next().unwrap_or(name), *value));
        }
        self.record(&values)
    }

    /// Logs named numbers that are not the step's own, such as those of a validation, finite or not. The bar does not
    /// show them.
    pub fn record(&self, values: &[(&str, f64)]) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        inner.heed()?;
        let (step, epoch) = (inner.state.step + u64::from(inner.open), inner.state.epoch + 1);
        inner.run.log(step, epoch, values)
    }

    /// Takes a figure of the step that runs into its running mean, which the bar shows: over the epoch's examples, or
    /// in a loop over steps mostly over the last fifty.
    pub fn average(&self, figure: Figure) {
        let mut inner = self.inner.borrow_mut();
        let (keep, weight) = inner.examples.map_or((0.98, 1.0), |examples| (1.0, examples as f64));
        let State { sums, weights, .. } = &mut inner.state;
        for (map, new) in [(sums, figure.value * weight), (weights, weight)] {
            match map.get_mut(&figure.name) {
                Some(sum) => *sum = *sum * keep + new,
                None => drop(map.insert(figure.name.clone(), new)),
            }
        }
        if !inner.styles.iter().any(|(name, _)| *name == figure.name) {
            inner.styles.push((figure.name, figure.style));
        }
    }

    /// The running mean of a figure logged or averaged under this name; NaN over nothing.
    pub fn mean(&self, name: &str) -> f64 {
        let state = &self.inner.borrow().state;
        let part = |map: &std::collections::BTreeMap<String, f64>| map.get(name).copied().unwrap_or(0.0);
        Mean::from_parts(part(&state.sums), part(&state.weights)).value()
    }

    /// What stands at the end of the bar's last line, such as `valid 0.0934  97.4 %`.
    pub fn closing(&self, tail: &str) {
        self.inner.borrow_mut().tail = tail.to_string();
    }

    /// Ends the loop after the step that runs.
    pub fn stop(&self) {
        self.inner.borrow_mut().stopping = true;
    }

    /// In every `steps`-th step of the loop that runs: does it, without recording gradients.
    pub fn every(&self, steps: u64, act: impl FnOnce(&Media) -> Result<()>) -> Result<()> {
        let number = self.inner.borrow().state.loop_step + 1;
        if number.is_multiple_of(steps.max(1)) { no_grad(|| act(&self.media())) } else { Ok(()) }
    }

    /// Where pictures, sound and text of this moment go.
    pub fn media(&self) -> Media {
        Media::new(&self.path, self.step())
    }

    /// Draws a chart, a sheet of pictures or a page of several into the run's media, as `NAME.png`.
    pub fn show(&self, name: &str, page: impl Into<Page>) -> Result<()> {
        self.media().file(&format!("{name}.png"), &page.into().to_png()?).map(|_| ())
    }

    /// Everything logged so far.
    pub fn metrics(&self) -> Result<Vec<crate::run::Record>> {
        self.inner.borrow().run.folder().metrics()
    }

    /// Everything logged under `name` so far: steps and values.
    pub fn curve(&self, name: &str) -> Result<(Vec<f64>, Vec<f64>)> {
        let value = |values: &[(String, f64)]| values.iter().find(|(found, _)| found == name).map(|(_, value)| *value);
        let records = self.metrics()?;
        Ok(records.iter().filter_map(|record| Some((record.step as f64, value(&record.values)?))).unzip())
    }

    /// A chart of what was logged, over the steps: for each pair of a logged name and its name in the legend a line.
    /// Where there are more than 200 numbers, they are faint and their running average, mostly over a fiftieth of the
    /// curve, lies over them. `unit` is what the numbers measure.
    ///
    /// ```
    /// # use etude_train::{Result, Session};
    /// # fn report(session: &Session) -> Result<()> {
    /// let loss = session.chart("Loss", "nats a character", [("loss", "train"), ("valid/loss", "validation")])?;
    /// session.show("curves", loss)
    /// # }
    /// ```
    pub fn chart<'n>(
        &self,
        title: &str,
        unit: &str,
        curves: impl IntoIterator<Item = (&'n str, &'n str)>,
    ) -> Result<Chart> {
        let mut chart = Chart::new(title).labels("step", unit);
        for (logged, name) in curves {
            let (steps, values) = self.curve(logged)?;
            chart = match values.len() {
                0..=200 => chart.line(name, steps, values),
                count => chart.noisy_line(name, steps, values, 1.0 - 50.0 / count as f64),
            };
        }
        Ok(chart)
    }

    /// Saves the weights of `model` as the best so far, in the place of those before.
    pub fn save_best(&self, model: &impl Module) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        inner.note();
        let bytes = etude_nn::tensors_to_bytes(&model.tensors())?;
        inner.run.save_best(&inner.state, &[("model.safetensors", &bytes)]).map(|_| ())
    }

    /// The best weights saved so far, into `model`. Without any, the model stays as it is.
    pub fn load_best(&self, model: &impl Module) -> Result<()> {
        match self.inner.borrow().run.folder().best_checkpoint()? {
            Some(best) => load_model(&best, model),
            None => Ok(()),
        }
    }

    /// The error that ended a loop and that the program passed over, such as a Ctrl-C in `for _ in session.steps(n)`:
    /// a run that ends so is not finished. Later loops and [`Session::record`] return it too.
    pub fn heed(&self) -> Result<()> {
        self.inner.borrow().heed()
    }

    /// The run, to close it; ask [`Session::heed`] first.
    pub fn into_run(self) -> Run {
        let seconds = self.seconds();
        let mut run = self.inner.into_inner().run;
        run.spent(seconds);
        run
    }

    fn inner(&self) -> RefMut<'_, Inner> {
        self.inner.borrow_mut()
    }
}

impl Inner {
    #[track_caller]
    fn add(&mut self, name: &str, what: What) {
        assert!(
            !self.kept.iter().any(|saved| saved.name == name),
            "keep: `{name}` is kept already; choose another name"
        );
        self.kept.push(Saved { name: name.into(), what, waiting: true });
    }

    /// Notes where the random generator and the clock stand.
    fn note(&mut self) {
        self.state.random_counter = random::generator().draws;
        self.state.seconds = self.before + self.clock.elapsed().as_secs_f64();
    }

    /// Writes a checkpoint of the end of a step.
    fn save(&mut self) -> Result<()> {
        self.note();
        let files = self.kept.iter().map(Saved::file).collect::<Result<Vec<(String, Vec<u8>)>>>()?;
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.run.save_checkpoint(&self.state, &files)?;
        self.saved = Instant::now();
        Ok(())
    }

    /// Puts back what the last checkpoint holds of the things kept by now.
    fn restore(&mut self) -> Result<()> {
        let Some(checkpoint) = &self.restored else { return Ok(()) };
        // Between two loops the checkpoint cannot know what the next loop keeps.
        let may_lack = self.state.loop_step == 0;
        let names = checkpoint.names()?;
        for saved in self.kept.iter_mut().filter(|saved| saved.waiting) {
            if may_lack && !names.contains(&saved.file_name()) {
                continue;
            }
            saved.restore(checkpoint)?;
        }
        Ok(())
    }

    /// Puts the random generator where it was.
    fn random_at(&self, draws: u64) {
        random::restore(Generator { seed: self.state.seed, draws });
    }
}

/// The weights that the last checkpoint holds under `name`, or the best ones.
pub fn load_model(checkpoint: &Checkpoint, model: &impl Module) -> Result<()> {
    let name = "model.safetensors";
    let place = checkpoint.path().join(name).display().to_string();
    let tensors = etude_nn::tensors_from_bytes(&checkpoint.read(name)?, &place)?;
    Ok(model.assign(tensors, &Default::default(), &place)?)
}

/// A `[1, H, W]` or `[3, H, W]` tensor of values in 0 … 1, or a batch of one such, as a picture.
pub fn picture_of(tensor: &Tensor) -> Result<Picture> {
    let (shape, values) = (tensor.shape(), tensor.to_vec::<f32>());
    match shape[..] {
        [1, 1, height, width] | [1, height, width] | [height, width] => Ok(Picture::grey(width, height, &values)),
        [1, 3, height, width] | [3, height, width] => Ok(Picture::planes(width, height, &values)),
        _ => Err(Error::new(format!("a picture is [1, H, W] or [3, H, W], not {shape}"))),
    }
}

/// A `[N, 1, H, W]` or `[N, 3, H, W]` tensor of values in 0 … 1 as pictures.
pub fn pictures_of(tensor: &Tensor) -> Result<Vec<Picture>> {
    let shape = tensor.shape();
    if shape.len() != 4 {
        return Err(Error::new(format!("pictures are [N, 1, H, W] or [N, 3, H, W], not {shape}")));
    }
    // Evaluated once, and not once a picture.
    tensor.eval()?;
    (0..shape[0]).map(|i| picture_of(&tensor.at(0, i as i64))).collect()
}
