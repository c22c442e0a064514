//! A network dreams: what it faintly sees in a photograph is made more, again and again (Mordvintsev, Olah and Tyka, 2015).
//!
//! Training follows a gradient to the weights. The same gradient goes on to the pixels, and says how a picture must change
//! for a layer to answer louder. For features `F` of the layer we climb, with the weights fixed,
//!
//! ```text
//! E(x) = mean of F(x)²                    the layer's energy, or that of one of its channels
//! g    = ∂( E(x)/E(photograph) − γ·V(x) ) / ∂x
//! x   ← clamp( x + step·g / mean|g| )
//! ```
//!
//! where `V` is total variation (Mahendran and Vedaldi, 2015). Squares reward what is seen already: a patch a little
//! like an eye becomes more like one, is seen better, and is rewarded more. Three habits turn noise into things:
//!
//! - *octaves*: the photograph is dreamt on small first, then larger by a factor each time, so that large shapes come
//!   before fine ones. What was dreamt is kept apart from the photograph (`detail = x − photograph`), and only it is enlarged;
//! - *jitter*: before each step the picture is rolled by a random shift, so that no grid of pools and borders shows;
//! - the *normalised gradient*: its mean size is divided out, so that a step is as large wherever the layer is loud or quiet.
//!
//! The same climb from grey noise shows what single units wait for, one channel a picture (Erhan, Bengio, Courville and
//! Vincent, 2009): `units.png`. What is dreamt is what was learned. The bundled network was shown emoji on photographs
//! and paintings (`etude show emoji`): expect eyes, faces, wheels and strokes of the brush where VGG on ImageNet finds dogs.
//!
//! The baseline is noise: a random change of the same size, which the layer hardly answers to.

use super::vgg::{Vgg, picture, variation};
use crate::study::{Etude, Part, knobs, parts};
use etude::Result;
use etude::core::Interpolation;
use etude::prelude::*;
use etude::train::plot::{Images, Picture};
use etude::train::session::{picture_of, pictures_of};

knobs! {
    /// The knobs.
    pub struct Dream {
        /// What is dreamt on: `astronaut`, `auvers`, `cat`, `coffee`, `dahlia`, `galaxies`, `pagoda`, `rocket`, `wave`, or a
        /// PNG or JPEG file.
        content: String = "wave".into(),
        /// The network; see the étude `style`.
        weights: String = String::new(),
        /// The longer side of the picture in pixels. [32..4096]
        size: usize = 256,
        /// The layer whose energy rises.
        layer: String = "relu4_1".into(),
        /// One of its channels, or −1 for all. [-1..100000]
        channel: i64 = -1,
        /// Sizes that are dreamt at. [1..20]
        octaves: u32 = 4,
        /// How much larger each is than the one before. [1..4]
        octave_scale: f64 = 1.4,
        /// Steps at each size. [1..100000]
        steps: u64 = 30,
        /// The mean change of a pixel in a step, in brightness from 0 to 1. [0..1]
        step: f64 = 0.005,
        /// Bands below the finest that the gradient is levelled in; 0 takes the gradient as it is. [0..16]
        bands: usize = 3,
        /// The weight of each of these bands; that of the rest is 1. [0..100]
        fine: f64 = 0.8,
        /// Most pixels the picture is rolled by before a step. [0..1000]
        jitter: usize = 256,
        /// γ, the weight of total variation. [0..]
        variation_weight: f64 = 0.0,
        /// Channels whose favourite pictures are drawn. [0..256]
        units: usize = 16,
        /// The least factor that the layer's energy is claimed to rise by. [1..]
        claim: f64 = 5.0,
    }
}

/// Height and width changed to these.
fn resized(x: &Tensor, size: [usize; 2]) -> Tensor {
    x.interpolate(&size, Interpolation::Linear { align_corners: false })
}

/// Rolled down and to the right, what leaves at one side coming in at the other. The shift is data, so that every
/// step has the same plan.
fn rolled(x: &Tensor, shift: [usize; 2]) -> Tensor {
    let places = |axis: i32, by: usize| {
        let size = x.size(axis);
        Tensor::from_slice(&(0..size).map(|i| ((i + size - by % size) % size) as i64).collect::<Vec<_>>(), [size])
    };
    x.index_select(-2, &places(-2, shift[0])).index_select(-1, &places(-1, shift[1]))
}

/// A gradient `[B, 3, h, w]` cut into bands of frequency, half the resolution each, and put together again from bands of
/// the same mean size, the coarsest 1 and each other `fine`. What single pixels can do outweighs everything else in the
/// plain gradient.
fn levelled(g: &Tensor, bands: usize, fine: f64) -> Tensor {
    let even = |g: &Tensor| g / (g.abs().mean_keep([1, 2, 3]) + 1e-12);
    let size = [g.size(2), g.size(3)];
    if bands == 0 || size[0].min(size[1]) < 8 {
        return even(g);
    }
    let coarse = g.avg_pool2d(2);
    even(&(g - resized(&coarse, size))) * fine + resized(&levelled(&coarse, bands - 1, fine), size)
}

impl Dream {
    /// Climbs with every picture of `x [B, 3, H, W]` by itself; `energy` gives the `[B]` of each.
    fn climb(
        &self,
        session: &Session,
        x: &Param,
        steps: u64,
        energy: impl Fn(&Tensor) -> Result<Tensor>,
        frame: Option<[usize; 2]>,
    ) -> Result<()> {
        for number in session.steps(steps) {
            number?;
            let shift = (uniform([2]) * (self.jitter as f64 + 1.0)).floor().to_vec::<f32>();
            let seen = rolled(&x.value(), [shift[0] as usize, shift[1] as usize]);
            let energy = energy(&seen)?;
            let goal = energy.sum(..) - variation(&seen) * self.variation_weight;
            let g = grad(&goal, &[&x.value()])?.swap_remove(0);
            let next = no_grad(|| {
                let g = levelled(&g, self.bands, self.fine);
                (x.value() + &g / (g.abs().mean_keep([1, 2, 3]) + 1e-12) * self.step).clamp(0.0, 1.0)
            });
            let mean = energy.mean(..);
            Tensor::eval_all(&[next.clone(), mean.clone()])?;
            x.set(next);
            session.log(&[(if frame.is_some() { "energy" } else { "unit" }, &mean)])?;
            if let Some(size) = frame {
                session
                    .every(4, |media| media.frame("dream", &picture_of(&resized(&x.value(), size).clamp(0.0, 1.0))?))?;
            }
        }
        Ok(())
    }
}

impl Etude for Dream {
    const NAME: &'static str = "dream";
    const TITLE: &'static str = "what a network sees in a photograph, made more";
    const SOURCE: &'static str = "Mordvintsev et al., 2015; Mahendran and Vedaldi, 2015";
    const ROWS: &'static [&'static str] = &["V14", "V45"];
    const TEXT: &'static str = include_str!("dream.rs");
    const PARTS: &'static [Part] = parts!["vgg.rs"];

    fn quick() -> Self {
        Self { size: 128, octaves: 3, steps: 20, units: 4, claim: 3.0, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        let vgg = Vgg::open(&self.weights, false)?;
        let layers = [self.layer.clone()];
        let look = |x: &Tensor| -> Result<Tensor> { Ok(vgg.look(x, &layers)?.swap_remove(0)) }; // [B, C, h, w]
        let photograph = picture(&self.content, self.size)?;
        let full = [photograph.size(2), photograph.size(3)];
        let channels = no_grad(|| look(&photograph))?.size(1);
        let energy = |x: &Tensor| -> Result<Tensor> {
            let seen = look(x)?;
            let seen = if self.channel < 0 { seen } else { seen.narrow(1, self.channel as usize % channels, 1) };
            Ok(seen.square().mean([1, 2, 3]))
        };

        // What was dreamt so far, less the photograph: [1, 3, h, w].
        let mut detail: Option<Tensor> = None;
        let mut result = photograph.clone();
        for octave in 0..self.octaves {
            let scale = self.octave_scale.powi((self.octaves - 1 - octave) as i32);
            let base = picture(&self.content, ((self.size as f64 / scale).round() as usize).max(16))?;
            let start = match &detail {
                Some(detail) => (&base + resized(detail, [base.size(2), base.size(3)])).clamp(0.0, 1.0),
                None => base.clone(),
            };
            let began = no_grad(|| energy(&base))?.item();
            let x = Param::new(start);
            session.keep(&format!("octave{octave}"), &x);
            session.label(&format!("octave {}", octave + 1));
            self.climb(session, &x, self.steps, |seen| Ok(energy(seen)? / began), Some(full))?;
            result = x.value().detach();
            detail = Some(&result - &base);
        }

        // The channels that answer loudest to the photograph, one a picture: ones where picture and channel meet.
        let loud = no_grad(|| look(&photograph))?.mean([0, 2, 3]).to_vec::<f32>();
        let mut order: Vec<usize> = (0..channels).collect();
        order.sort_by(|&a, &b| loud[b].total_cmp(&loud[a]));
        order.truncate(self.units);
        let mut units = Vec::new();
        if !order.is_empty() {
            let indices = Tensor::from_slice(&order.iter().map(|&unit| unit as i64).collect::<Vec<_>>(), order.len());
            let own = indices.one_hot(channels).to(DType::F32).reshape([order.len(), channels, 1, 1]);
            let x = Param::new(randn([order.len(), 3, 96, 96]) * 0.02 + 0.5);
            session.keep("units", &x);
            session.label("units");
            let unit = |seen: &Tensor| Ok((look(seen)? * &own).mean([1, 2, 3]) * channels as f64);
            self.climb(session, &x, 3 * self.steps, unit, None)?;
            let names = order.into_iter().map(|unit| format!("channel {unit}"));
            units = names.zip(pictures_of(&x.value())?).collect();
        }
        self.report(session, &energy, [&photograph, &result], units)
    }
}

impl Dream {
    fn report(
        &self,
        session: &Session,
        energy: &impl Fn(&Tensor) -> Result<Tensor>,
        [photograph, result]: [&Tensor; 2],
        units: Vec<(String, Picture)>,
    ) -> Result<Report> {
        let energy = |x: &Tensor| -> Result<f64> { Ok(no_grad(|| energy(x))?.item()) };
        let change = (result - photograph).square().mean(..).sqrt().item();
        let noisy = (photograph + randn(photograph.shape()) * change).clamp(0.0, 1.0);
        let (began, ended, noise) = (energy(photograph)?, energy(result)?, energy(&noisy)?);
        let rough = [photograph, result].map(|x| variation(x).item());

        session.media().picture("result", &picture_of(result)?)?;
        let shown = [("photograph", picture_of(photograph)?), ("dream", picture_of(result)?)];
        let title = format!("{} dreams on {}", self.layer, self.content);
        session.show("dream", Images::new(title).columns(2).tile(384.0).named(shown))?;
        session.media().film("dream", 0.1, 8)?;
        let unit = "times that of the photograph at each size";
        session.show("curves", session.chart("Energy of the layer", unit, [("energy", "energy")])?)?;
        if !units.is_empty() {
            let title = format!("What units of {} wait for", self.layer);
            session.show("units", Images::new(title).columns(8).tile(96.0).named(units))?;
        }

        let mut report = Report::new();
        report.figures("energy", [("photograph", began), ("dream", ended), ("with noise", noise)]);
        report.figures("change", [("mean of a pixel", change), ("seconds", session.seconds())]);
        report.claim(Claim::at_least("energy of the dream over that of the photograph", ended / began, self.claim));
        report.claim(Claim::at_least("the same over that of noise as large", ended / noise, self.claim / 2.0));
        report.claim(Claim::at_most("total variation over that of the photograph", rough[1] / rough[0], 6.0));
        Ok(report)
    }
}
