//! Draws one of every kind of picture into a folder, to look at: `cargo run -p etude-train --example gallery -- FOLDER`.

use etude_train::metrics::{self, Confusion};
use etude_train::plot::*;
use etude_train::{Claim, Figure, Report, Run};
use std::path::Path;

/// Numbers in `[0, 1)` from a linear congruence: the gallery looks the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

fn main() -> etude_train::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "runs/gallery".into());
    let folder = Path::new(&folder);
    etude_train::files::make_folder(folder)?;
    let mut noise = Noise(7);
    curves(&mut noise).save(folder.join("curves.png"))?;
    noisy(&mut noise).save(folder.join("noisy.png"))?;
    confusion_matrix(&mut noise).save(folder.join("confusion.png"))?;
    filters(&mut noise).save(folder.join("filters.png"))?;
    wrong(&mut noise).save(folder.join("wrong.png"))?;
    regions(&mut noise).save(folder.join("regions.png"))?;
    attention(&mut noise).save(folder.join("attention.png"))?;
    others(&mut noise).save(folder.join("others.png"))?;
    report(folder, &mut noise)
}

/// A finished run with its `report.html`.
fn report(folder: &Path, noise: &mut Noise) -> etude_train::Result<()> {
    let mut run =
        Run::create(folder, "lenet", "# Passes over the data.\nepochs = 8\nlearning_rate = 0.001\n", 1, false)?;
    for step in 1..=880 {
        let loss = 0.05 + (-(step as f64) / 120.0).exp() * 2.0 + 0.02 * noise.normal().abs();
        run.log(
            step,
            step / 110 + 1,
            &[("train/loss", loss), ("learning_rate", 1e-3 * (-(step as f64) / 400.0).exp())],
        )?;
        if step % 110 == 0 {
            run.log(step, step / 110, &[("valid/loss", loss * 1.1), ("valid/accuracy", 1.0 - loss / 4.0)])?;
        }
    }
    let matrix = Confusion::of(3, &[0, 1, 2, 2, 1, 0], &[0, 1, 2, 1, 1, 0]);
    run.media("confusion.png", &confusion_matrix(noise).to_png()?)?;
    run.media("filters.png", &filters(noise).to_png()?)?;
    run.media("wrong.png", &wrong(noise).to_png()?)?;
    let mut report = Report::new();
    report
        .figures("test", [Figure::percent("accuracy", 0.985), Figure::new("loss", 0.0487)])
        .claim(Claim::at_least("accuracy", 0.985, 0.98).percent())
        .claim(Claim::at_most("loss", 0.0487, 0.04))
        .table(matrix.scores_table(&["iris", "rose", "tulip"]))
        .next("etude predict runs/lenet/0001 digit.png");
    print!("{report}");
    run.finish(&mut report).map(|_| ())
}

/// Loss and accuracy of a training, side by side.
fn curves(noise: &mut Noise) -> Page {
    let epochs: Vec<f64> = (1..=8).map(f64::from).collect();
    let mut fall =
        |end: f64| epochs.iter().map(|e| end + 0.6 * (-e * 0.9).exp() + 0.006 * noise.normal()).collect::<Vec<_>>();
    let (train, valid) = (fall(0.05), fall(0.09));
    let rise = |loss: &[f64]| loss.iter().map(|l| 1.0 - l * 0.28).collect::<Vec<_>>();
    let loss = Chart::new("LeNet-5 on mnist-10k").labels("epoch", "loss").size(520.0, 360.0);
    let accuracy = Chart::new("Accuracy").labels("epoch", "accuracy").size(520.0, 360.0).percent();
    Page::new(2)
        .with(loss.line("train", epochs.clone(), train.clone()).line("valid", epochs.clone(), valid.clone()))
        .with(
            accuracy
                .line("train", epochs.clone(), rise(&train))
                .line("valid", epochs.clone(), rise(&valid))
                .level(0.98, "claimed"),
        )
}

/// Two noisy losses and a schedule on a logarithmic axis.
fn noisy(noise: &mut Noise) -> Page {
    let steps: Vec<f64> = (0..12_000).map(f64::from).collect();
    let mut loss = |start: f64, end: f64| {
        let value = |s: &f64| (end + (start - end) * (-s / 2_500.0).exp()) * (0.25 * noise.normal()).exp();
        steps.iter().map(value).collect::<Vec<_>>()
    };
    let (discriminator, generator) = (loss(1.4, 0.4), loss(0.7, 2.1));
    let rate: Vec<f64> = steps.iter().map(|s| 1e-3 * (s / 1000.0).min(1.0) * (-s / 1800.0).exp().max(1e-3)).collect();
    let chart = Chart::new("GAN on fashion-mnist").subtitle("losses of both players").labels("step", "loss");
    Page::new(2)
        .with(chart.size(520.0, 360.0).noisy_line("discriminator", steps.clone(), discriminator, 0.98).noisy_line(
            "generator",
            steps.clone(),
            generator,
            0.98,
        ))
        .with(
            Chart::new("Learning rate")
                .labels("step", "learning rate")
                .size(520.0, 360.0)
                .scales(Scale::Linear, Scale::Log)
                .line("", steps, rate)
                .mark(1000.0, "warm-up ends"),
        )
}

fn confusion_matrix(noise: &mut Noise) -> HeatMap {
    let mut matrix = Confusion::new(10);
    for i in 0..2000 {
        let actual = i % 10;
        let predicted = if noise.next() < 0.96 { actual } else { (noise.next() * 10.0) as usize };
        matrix.add(predicted, actual);
    }
    let names: Vec<String> = (0..10).map(|d| d.to_string()).collect();
    confusion("Test digits", &matrix, &names)
}

fn filters(noise: &mut Noise) -> Images {
    let mut sheet = Images::new("First-layer filters").subtitle("conv1.weight, blue below zero, red above").columns(6);
    for i in 0..6 {
        let values: Vec<f32> =
            (0..25).map(|k| ((k % 5 * (i + 1)) as f64 * 0.8 + noise.normal() * 0.3).sin() as f32).collect();
        sheet = sheet.picture(Picture::signed(5, 5, &values));
    }
    sheet
}

/// A blurred ring with a stroke, something like a digit.
fn digit(noise: &mut Noise) -> Picture {
    let (a, b, turn) = (4.0 + 5.0 * noise.next(), 5.0 + 5.0 * noise.next(), noise.next() * 3.0);
    let ink = |i: usize| {
        let (x, y) = ((i % 28) as f64 - 13.5, (i / 28) as f64 - 13.5);
        let ring = ((x / a).powi(2) + (y / b).powi(2)).sqrt() - 1.0;
        let stroke = (x * turn.cos() + y * turn.sin()).abs() / 5.0 + if y < 0.0 { 1.0 } else { 0.0 };
        (1.2 - 4.0 * ring.abs().min(stroke)).clamp(0.0, 1.0) as f32
    };
    Picture::grey(28, 28, &(0..784).map(ink).collect::<Vec<_>>())
}

fn wrong(noise: &mut Noise) -> Images {
    let mut sheet = Images::new("Wrong predictions").subtitle("29 of 2,000 test digits, the surest first").columns(8);
    for i in 0..16 {
        let caption = format!("{} not {}, {} %", (i * 7) % 10, (i * 3 + 1) % 10, 99 - 2 * i);
        sheet = sheet.captioned(digit(noise), caption, Colour::BAD);
    }
    sheet
}

fn regions(noise: &mut Noise) -> Page {
    let spiral = |class: usize, noise: &mut Noise| {
        let point = |i: usize| {
            let r = i as f64 / 90.0;
            let turn = 4.5 * r + class as f64 * std::f64::consts::TAU / 3.0 + 0.18 * noise.normal();
            (r * turn.cos(), r * turn.sin())
        };
        (0..90).map(point).unzip::<f64, f64, Vec<_>, Vec<_>>()
    };
    let classes = |size: usize| {
        let class = |i: usize| {
            let (x, y) = ((i % size) as f64 / size as f64 * 2.4 - 1.2, (i / size) as f64 / size as f64 * 2.4 - 1.2);
            let turn = (y.atan2(x) - 4.5 * x.hypot(y)).rem_euclid(std::f64::consts::TAU);
            ((turn / std::f64::consts::TAU * 3.0 + 0.5) as usize) % 3
        };
        (0..size * size).map(class).collect::<Vec<_>>()
    };
    let mut chart = Chart::new("Three spirals, 4-64-64-3").size(460.0, 460.0).labels("x₁", "x₂");
    let mut plain = Chart::new("The data alone").size(460.0, 460.0).equal();
    for class in 0..3 {
        let (xs, ys) = spiral(class, noise);
        chart = chart.dots(format!("class {class}"), xs.clone(), ys.clone());
        plain = plain.dots(format!("class {class}"), xs, ys);
    }
    Page::new(2).with(chart.regions((-1.2, 1.2), (-1.2, 1.2), 240, 240, classes(240))).with(plain)
}

fn attention(noise: &mut Noise) -> Page {
    let words = ["the", "étude", "makes", "every", "gradient", "run", "."];
    let mut rows = Vec::new();
    for i in 0..words.len() {
        let raw: Vec<f64> = (0..words.len()).map(|j| if j <= i { (noise.normal()).exp() } else { 0.0 }).collect();
        let sum: f64 = raw.iter().sum();
        rows.extend(raw.iter().map(|v| v / sum));
    }
    let map = HeatMap::new("Attention, layer 2 head 1", 7, 7, rows.clone()).row_names(&words).column_names(&words);
    let signed: Vec<f64> = (0..400).map(|i| ((i % 20) as f64 * 0.3).sin() * ((i / 20) as f64 * 0.2).cos()).collect();
    let field =
        HeatMap::new("Positional encoding", 20, 20, signed).labels("dimension", "position").map(ColourMap::Diverging);
    Page::new(2).with(map.labels("attended to", "attends").numbers(2)).with(field.range(-1.0, 1.0))
}

fn others(noise: &mut Noise) -> Page {
    let values: Vec<f64> = (0..4_000).map(|_| noise.normal() * 0.05).collect();
    let names = ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"];
    let scores: Vec<f64> = (0..800).map(|i| noise.normal() + if i % 2 == 0 { 1.4 } else { 0.0 }).collect();
    let positive: Vec<bool> = (0..800).map(|i| i % 2 == 0).collect();
    let curve = metrics::roc(&scores, &positive);
    let area = metrics::auc(&scores, &positive);
    let xs: Vec<f64> = (0..60).map(|i| i as f64 / 10.0).collect();
    let mean: Vec<f64> = xs.iter().map(|x| x.sin()).collect();
    let shift = |by: f64| xs.iter().zip(&mean).map(|(x, m)| m + by * (0.1 + 0.08 * x)).collect::<Vec<_>>();
    Page::new(2)
        .with(Chart::histogram("fc1.weight", &values, 40).labels("weight", "count").size(460.0, 320.0))
        .with(
            Chart::bars("Test accuracy by optimiser", &names, &[0.91, 0.943, 0.947, 0.938, 0.951, 0.962, 0.964])
                .percent()
                .labels("", "accuracy")
                .size(460.0, 320.0),
        )
        .with(
            Chart::new("ROC")
                .subtitle(format!("area {area:.3}"))
                .labels("false positive rate", "true positive rate")
                .size(460.0, 400.0)
                .line("classifier", curve.false_positive_rate, curve.true_positive_rate)
                .line("chance", [0.0, 1.0], [0.0, 1.0])
                .colour(Colour::GREY)
                .dashed(),
        )
        .with(
            Chart::new("Mean and deviation")
                .labels("x", "f(x)")
                .size(460.0, 400.0)
                .band("± σ", xs.clone(), shift(-1.0), shift(1.0))
                .line("mean", xs.clone(), mean.clone())
                .colour(series(0)),
        )
}
