//! One sitting of a run: the folder, what was restored from its last checkpoint, where data comes from.

use crate::plot::Picture;
use crate::run::{Checkpoint, Run, State};
use crate::{Error, Result};
use etude_core::{Tensor, random};
use etude_data::Split;
use etude_nn::Module;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A run in progress, as an étude sees it.
pub struct Session {
    run: Run,
    restored: Option<(State, Checkpoint)>,
    seed: u64,
    data: Option<PathBuf>,
    quiet: bool,
    save_every: Duration,
    started: Instant,
}

impl Session {
    /// A sitting of `run`, new (`restored` is `None`) or resumed. Starts the random generator from `seed`.
    pub fn new(run: Run, restored: Option<(State, Checkpoint)>, seed: u64) -> Session {
        random::seed(seed);
        Session {
            run,
            restored,
            seed,
            data: None,
            quiet: false,
            save_every: Duration::from_secs(30),
            started: Instant::now(),
        }
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

    /// The least time between two checkpoints within an epoch (30 seconds unless said otherwise); zero saves every step.
    #[must_use]
    pub fn save_every(mut self, time: Duration) -> Session {
        self.save_every = time;
        self
    }

    /// The least time between two checkpoints within an epoch.
    pub fn time_between_saves(&self) -> Duration {
        self.save_every
    }

    /// Whether nothing should be printed while training.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The run's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The run folder's path.
    pub fn path(&self) -> &Path {
        self.run.path()
    }

    /// When this sitting began.
    pub fn started(&self) -> Instant {
        self.started
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

    /// Everything logged so far.
    pub fn metrics(&self) -> Result<Vec<crate::run::Record>> {
        self.run.folder().metrics()
    }

    /// Prints a line, unless the run is quiet.
    pub fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            println!("{}", line.as_ref());
        }
    }

    /// Logs named numbers of one step; see [`Run::log`].
    pub fn log(&mut self, step: u64, epoch: u64, values: &[(&str, f64)]) -> Result<()> {
        self.run.log(step, epoch, values)
    }

    /// Writes a picture into the run's media.
    pub fn picture(&self, name: &str, png: &[u8]) -> Result<()> {
        self.run.media(name, png).map(|_| ())
    }

    /// The state of the last checkpoint, once: what a resumed run goes on from.
    pub fn take_restored(&mut self) -> Option<(State, Checkpoint)> {
        self.restored.take()
    }

    /// Saves a checkpoint of named groups of tensors.
    pub fn save(&self, state: &State, groups: &[(&str, Vec<(String, Tensor)>)]) -> Result<()> {
        self.write(state, groups, |state, files| self.run.save_checkpoint(state, files))
    }

    /// Saves the best checkpoint so far.
    pub fn save_best(&self, state: &State, groups: &[(&str, Vec<(String, Tensor)>)]) -> Result<()> {
        self.write(state, groups, |state, files| self.run.save_best(state, files))
    }

    fn write(
        &self,
        state: &State,
        groups: &[(&str, Vec<(String, Tensor)>)],
        save: impl Fn(&State, &[(&str, &[u8])]) -> Result<Checkpoint>,
    ) -> Result<()> {
        let mut files: Vec<(String, Vec<u8>)> = Vec::with_capacity(groups.len());
        for (name, tensors) in groups {
            files.push((format!("{name}.safetensors"), etude_nn::tensors_to_bytes(tensors)?));
        }
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        save(state, &files).map(|_| ())
    }

    /// The best weights saved so far, into `model`. Without any, the model stays as it is.
    pub fn load_best(&self, model: &impl Module) -> Result<()> {
        match self.run.folder().best_checkpoint()? {
            Some(best) => load_model(&best, model),
            None => Ok(()),
        }
    }

    /// The run, to close it.
    pub fn into_run(self) -> Run {
        self.run
    }
}

/// The tensors of `group` in a checkpoint, by name.
pub fn read_group(checkpoint: &Checkpoint, group: &str) -> Result<HashMap<String, Tensor>> {
    let name = format!("{group}.safetensors");
    let bytes = checkpoint.read(&name)?;
    let place = checkpoint.path().join(&name);
    Ok(etude_nn::tensors_from_bytes(&bytes, &place.display().to_string())?)
}

/// The weights of a checkpoint, into `model`.
pub fn load_model(checkpoint: &Checkpoint, model: &impl Module) -> Result<()> {
    let place = checkpoint.path().join("model.safetensors").display().to_string();
    Ok(model.assign(read_group(checkpoint, "model")?, &Default::default(), &place)?)
}

/// A `[1, H, W]` or `[3, H, W]` tensor of values in 0 … 1 as a picture.
pub fn picture_of(tensor: &Tensor) -> Result<Picture> {
    let (shape, values) = (tensor.shape(), tensor.to_vec::<f32>());
    match shape[..] {
        [1, height, width] | [height, width] => Ok(Picture::grey(width, height, &values)),
        [3, height, width] => Ok(Picture::planes(width, height, &values)),
        _ => Err(Error::new(format!("a picture is [1, H, W] or [3, H, W], not {shape}"))),
    }
}
