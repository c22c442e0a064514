//! What several études share: introducing a classifier, its closing tables and pictures, reading a picture.

use etude::data::Split;
use etude::prelude::*;
use etude::train::plot::{self, Chart, Images, Page, Picture};
use etude::train::session::{load_model, picture_of};
use etude::train::trainer::{Fitted, to_tensor};
use etude::train::units::{self, Figure, Style};
use etude::train::{Predictions, RunFolder};
use etude::{Error, Result};
use std::path::Path;

/// A classifier on its data.
pub struct Classifier<'a, M> {
    /// The étude's name.
    pub name: &'static str,
    /// Training, validation and test examples.
    pub data: &'a Split,
    /// The model.
    pub model: &'a M,
    /// The least test accuracy claimed.
    pub claim: f64,
}

impl<M: Forward> Classifier<'_, M> {
    /// Says what is trained on what, before the first step.
    pub fn introduce(&self, session: &Session) {
        let Split { train, valid, test } = self.data;
        let count = |set: &Dataset| units::grouped(set.len() as u64);
        session.say(format!(
            "data    {}: {} train, {} validation, {} test",
            train.name,
            count(train),
            count(valid),
            count(test)
        ));
        let mut shape = vec![1];
        shape.extend_from_slice(train.input_shape());
        let summary = self.model.summary(shape);
        let megabytes = summary.bytes as f64 / (1 << 20) as f64;
        session.say(format!("model   {} parameters, {megabytes:.2} MB", units::grouped(summary.total as u64)));
        session.say(format!(
            "run     {}   seed {}, {} threads\n",
            session.path().display(),
            session.seed(),
            etude::core::threads()
        ));
    }
}

/// Tests the trained model; writes curves, confusion matrix, wrong answers and (if given) first-layer filters.
pub fn digit_report(
    session: &mut Session,
    study: &Classifier<impl Forward>,
    fitted: &Fitted,
    filters: Option<&Tensor>,
) -> Result<Report> {
    let test = &study.data.test;
    let found = evaluate(study.model, test, &cross_entropy)?;
    let accuracy = found.confusion.accuracy();
    session.show("curves", curves(fitted))?;
    session.show("confusion", plot::confusion("Who was taken for whom", &found.confusion, &test.classes))?;
    session.show("wrong", wrong_answers(&found, test)?)?;
    if let Some(filters) = filters {
        session.show("filters", filter_pictures(filters)?)?;
    }

    let mut report = Report::new();
    report.figures("test", [Figure::percent("accuracy", accuracy), Figure::new("loss", found.loss)]);
    report.figures(
        "took",
        [
            Figure::new("time", fitted.seconds).style(Style::Seconds),
            Figure::new("examples a second", fitted.rate.round()),
            Figure::new("peak memory", units::peak_memory().unwrap_or(0) as f64).style(Style::Bytes),
        ],
    );
    report.table(found.confusion.scores_table(&test.classes));
    report.table(found.confusion.counts_table(&test.classes));
    report.claim(Claim::at_least("accuracy", accuracy, study.claim).percent());
    report.next(format!("etude predict {} digit.png", session.path().display()));
    Ok(report)
}

/// Loss and accuracy of each epoch.
fn curves(fitted: &Fitted) -> Page {
    let epochs: Vec<f64> = fitted.epochs.iter().map(|figures| figures.epoch as f64).collect();
    let series =
        |of: fn(&etude::train::trainer::EpochFigures) -> f64| -> Vec<f64> { fitted.epochs.iter().map(of).collect() };
    let loss = Chart::new("Loss")
        .labels("epoch", "nats a digit")
        .line("train", epochs.clone(), series(|f| f.train_loss))
        .line("validation", epochs.clone(), series(|f| f.valid_loss));
    let accuracy = Chart::new("Accuracy")
        .labels("epoch", "share right")
        .percent()
        .line("train", epochs.clone(), series(|f| f.train_accuracy))
        .line("validation", epochs, series(|f| f.valid_accuracy));
    Page::new(2).with(loss).with(accuracy)
}

/// The first digits that were read wrong, with what was read and what they are.
fn wrong_answers(found: &Predictions, test: &Dataset) -> Result<Images> {
    let wrong: Vec<usize> =
        (0..found.actual.len()).filter(|&i| found.predicted[i] != found.actual[i]).take(40).collect();
    let pictures = to_tensor(&test.subset(&wrong).inputs)?;
    let mut images = Images::new("Read wrong").columns(10);
    for (row, &i) in wrong.iter().enumerate() {
        let name = |class: usize| test.classes.get(class).map_or("?", String::as_str);
        let caption = format!("{} for {}", name(found.predicted[i]), name(found.actual[i]));
        images = images.captioned(picture_of(&pictures.at(0, row as i64))?, caption, plot::series(1));
    }
    Ok(images)
}

/// Kernels `[O, C, H, W]`, each drawn from its negative to its positive weights.
fn filter_pictures(filters: &Tensor) -> Result<Images> {
    let shape = filters.shape();
    let mut images = Images::new("First-layer kernels").subtitle("red positive, blue negative").tile(96.0).columns(6);
    for kernel in 0..shape[0] {
        let values = filters.at(0, kernel as i64).mean(0).to_vec::<f32>();
        images = images.picture(Picture::signed(shape[3], shape[2], &values));
    }
    Ok(images)
}

/// Gives `model` the best weights of `run`, and opens a picture file for it: grey, scaled, `[1, 1, height, width]`.
pub fn open_picture(run: &RunFolder, model: &impl Forward, file: &Path, height: usize, width: usize) -> Result<Tensor> {
    let best = run.best_checkpoint()?.ok_or_else(|| Error::at(run.path(), "the run has no trained weights yet"))?;
    load_model(&best, model)?;
    let options = data::folder::Options { size: Some((height, width)), grey: true };
    Ok(to_tensor(&data::folder::read_picture(file, &options)?)?.reshape([1, 1, height, width]))
}

/// Reads a picture file of a digit with the best weights of `run`: light ink on dark ground (a picture with a light ground
/// is turned over).
pub fn predict_picture(run: &RunFolder, model: &impl Forward, file: &Path) -> Result<String> {
    let picture = open_picture(run, model, file, 28, 28)?;
    let border = 1.0 - ones([1, 1, 26, 26]).pad(&[(1, 1), (1, 1)], PadMode::Constant(0.0));
    let ground = (&picture * &border).sum(..).item() / border.sum(..).item();
    let picture = if ground > 0.5 { 1.0 - picture } else { picture };
    let chances = no_grad(|| evaluating(|| model.forward(&picture))).softmax(-1).to_vec::<f64>();
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|&a, &b| chances[b].total_cmp(&chances[a]));
    let line = |&class: &usize| format!("{class}   {}", units::percent(chances[class]));
    Ok(order.iter().take(3).map(line).collect::<Vec<_>>().join("\n"))
}
