//! What an étude is: a struct of knobs that can run. The program knows them through one table, [`studies`].

use crate::generative::gan::{self, Gan};
use etude::nn::Summary;
use etude::prelude::*;
use etude::train::RunFolder;
use etude::train::config::{self, Knob, apply, docs_from_source, from_toml, nearest, to_toml};
use etude::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;

/// An étude: its struct holds every knob, `Default` is the full run. A numeric knob's comment ends with the numbers it
/// takes, both ends included, as in `/// Digits a step. [1..100000]`; settings outside of them are refused.
pub trait Etude: Serialize + DeserializeOwned + Default {
    /// What it is called on the command line.
    const NAME: &'static str;
    /// What it shows, in one line.
    const TITLE: &'static str;
    /// Who described the technique, and when.
    const SOURCE: &'static str;
    /// The rows of the list of études it answers.
    const ROWS: &'static [&'static str];
    /// Its own source text, which is what a reader learns from.
    const TEXT: &'static str;
    /// The other files that a reader wants beside it, said with `parts!`.
    const PARTS: &'static [Part] = &[];

    /// What each knob means: the comments of its struct.
    fn docs() -> Vec<(String, String)> {
        // A family of études is one generic struct.
        let path = std::any::type_name::<Self>().split('<').next().unwrap_or_default();
        docs_from_source(Self::TEXT, path.rsplit("::").next().unwrap_or_default())
    }

    /// The knobs of a run of a minute at most.
    fn quick() -> Self {
        Self::default()
    }

    /// Does it, and says what came out.
    fn run(self, session: &mut Session) -> Result<Report>;

    /// The tables of its models.
    fn summaries(&self) -> Vec<Summary> {
        Vec::new()
    }

    /// What a finished run says about a file.
    fn predict(&self, _run: &RunFolder, _file: &Path) -> Result<String> {
        Err(Error::new(format!("{} has nothing to predict", Self::NAME)))
    }
}

/// A file that an étude consists of beside its own.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its path within the chapter, such as `ddpm/unet.rs`.
    pub path: &'static str,
    /// What it says.
    pub text: &'static str,
}

/// The [`Etude::PARTS`] of an étude, by their paths from its own file. What only this étude needs lies in a folder named
/// like it, what several share lies beside it.
macro_rules! parts {
    ($($path:literal),*) => {
        &[$(crate::study::Part { path: $path, text: include_str!($path) }),*]
    };
}
pub(crate) use parts;

/// An étude's struct, said once: each knob with what it means, its kind, and its default in the full run.
///
/// ```text
/// knobs! {
///     /// The knobs.
///     pub struct Style {
///         /// Steps. [1..1000000]
///         steps: u64 = 300,
///     }
/// }
/// ```
macro_rules! knobs {
    ($(#[$about:meta])* pub struct $name:ident $(<const $game:ident: usize>)? {
        $($(#[$doc:meta])* $knob:ident: $kind:ty = $default:expr,)*
    }) => {
        $(#[$about])*
        #[derive(serde::Serialize, serde::Deserialize, Clone, Debug)]
        pub struct $name $(<const $game: usize>)? {
            $($(#[$doc])* pub $knob: $kind,)*
        }

        impl $(<const $game: usize>)? Default for $name $(<$game>)? {
            fn default() -> Self {
                Self { $($knob: $default,)* }
            }
        }
    };
}
pub(crate) use knobs;

/// How a run is asked for.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `name=value` pairs.
    pub set: Vec<String>,
    /// The short form.
    pub quick: bool,
}

/// An étude in the table.
pub struct Study {
    /// See [`Etude::NAME`].
    pub name: &'static str,
    /// See [`Etude::TITLE`].
    pub title: &'static str,
    /// See [`Etude::SOURCE`].
    pub source: &'static str,
    /// See [`Etude::ROWS`].
    pub rows: &'static [&'static str],
    /// See [`Etude::TEXT`].
    pub text: &'static str,
    /// See [`Etude::PARTS`].
    pub parts: &'static [Part],
    /// Its module within the chapters, such as `["vision", "lenet"]`.
    pub place: fn() -> [&'static str; 2],
    /// The text of `config.toml` for these settings.
    pub config: fn(&Settings) -> Result<String>,
    /// The knobs with their defaults and meanings.
    pub knobs: fn() -> Vec<Knob>,
    /// Runs with the knobs of a `config.toml`.
    pub run: fn(&str, &mut Session) -> Result<Report>,
    /// The tables of the models that a `config.toml` makes.
    pub summaries: fn(&str) -> Result<Vec<Summary>>,
    /// What a finished run says about a file.
    pub predict: fn(&str, &RunFolder, &Path) -> Result<String>,
}

impl Study {
    /// The line of the table for `E`.
    pub const fn of<E: Etude>() -> Study {
        Study {
            name: E::NAME,
            title: E::TITLE,
            source: E::SOURCE,
            rows: E::ROWS,
            text: E::TEXT,
            parts: E::PARTS,
            place: || {
                let mut parts = std::any::type_name::<E>().split("::").skip(1);
                [(); 2].map(|()| parts.next().unwrap_or_default())
            },
            config: |settings| {
                let start = if settings.quick { E::quick() } else { E::default() };
                let docs = E::docs();
                Ok(to_toml(&apply(E::NAME, &start, &settings.set, &docs)?, &docs))
            },
            knobs: || config::knobs(&E::default(), &E::docs()),
            run: |config, session| read::<E>(config)?.run(session),
            summaries: |config| Ok(read::<E>(config)?.summaries()),
            predict: |config, run, file| read::<E>(config)?.predict(run, file),
        }
    }
}

fn read<E: Etude>(config: &str) -> Result<E> {
    from_toml(E::NAME, &E::default(), config, "config.toml", &E::docs())
}

/// Every étude, in the order a learner would take them.
pub fn studies() -> &'static [Study] {
    static STUDIES: &[Study] = &[
        Study::of::<crate::foundations::backprop::Backprop>(),
        Study::of::<crate::foundations::tape::Tape>(),
        Study::of::<crate::foundations::gradcheck::GradientCheck>(),
        Study::of::<crate::foundations::layers::Layers>(),
        Study::of::<crate::foundations::summary::SummaryTable>(),
        Study::of::<crate::foundations::seeds::Seeds>(),
        Study::of::<crate::foundations::linear::LinearRegression>(),
        Study::of::<crate::foundations::logistic::LogisticRegression>(),
        Study::of::<crate::foundations::softmax::SoftmaxRegression>(),
        Study::of::<crate::vision::mlp::Mlp>(),
        Study::of::<crate::vision::lenet::Lenet>(),
        Study::of::<crate::vision::captcha::Captcha>(),
        Study::of::<crate::vision::captcha_ctc::CaptchaCtc>(),
        Study::of::<crate::vision::emoji::Emoji>(),
        Study::of::<crate::vision::style::Style>(),
        Study::of::<crate::vision::dream::Dream>(),
        Study::of::<crate::sequence::music::Music>(),
        Study::of::<crate::sequence::gpt::Gpt>(),
        Study::of::<crate::generative::vae::Vae>(),
        Study::of::<Gan<{ gan::DCGAN }>>(),
        Study::of::<Gan<{ gan::CGAN }>>(),
        Study::of::<Gan<{ gan::ACGAN }>>(),
        Study::of::<Gan<{ gan::WGAN }>>(),
        Study::of::<Gan<{ gan::WGAN_GP }>>(),
        Study::of::<crate::generative::ddpm::Ddpm>(),
        Study::of::<crate::reinforcement::flappy::Flappy>(),
    ];
    STUDIES
}

/// The étude called `name`, or an error that suggests the nearest.
pub fn find(name: &str) -> Result<&'static Study> {
    studies().iter().find(|study| study.name == name).ok_or_else(|| {
        let hint = nearest(name, studies().iter().map(|study| study.name));
        let hint = hint.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        Error::new(format!("there is no étude `{name}`{hint}")).remedy("etude list shows them all")
    })
}
