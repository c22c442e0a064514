//! Losses against what PyTorch answers: `tests/golden`, forward and gradients.

use etude_core::{Tensor, stack};
use etude_golden::{Entry, Given, check};
use etude_nn::loss::*;

fn reduction(given: &Given) -> Reduction {
    match given.attributes.text("reduction") {
        Some("sum") => Reduction::Sum,
        Some("none") => Reduction::None,
        _ => Reduction::Mean,
    }
}

fn number(given: &Given, name: &str) -> f64 {
    given.attributes.float(name).unwrap_or_else(|| panic!("{} has no `{name}`", given.name))
}

/// A loss of `input` and `target`.
fn two(operation: &'static str, run: fn(&Given, &Tensor, &Tensor) -> Tensor) -> Entry {
    Entry::new(operation, move |given: &Given| run(given, given.input("input"), given.input("target")))
}

/// A loss of `a`, `b` and `target`.
fn three(operation: &'static str, run: fn(&Given, [&Tensor; 3]) -> Tensor) -> Entry {
    Entry::new(operation, move |given: &Given| run(given, ["a", "b", "target"].map(|name| given.input(name))))
}

fn regression() -> Vec<Entry> {
    vec![
        two("mse_loss", |given, x, t| Mse { reduction: reduction(given) }.loss(x, t)),
        two("l1_loss", |given, x, t| L1 { reduction: reduction(given) }.loss(x, t)),
        two("smooth_l1_loss", |given, x, t| {
            SmoothL1 { beta: number(given, "beta"), reduction: reduction(given) }.loss(x, t)
        }),
        two("huber_loss", |given, x, t| {
            Huber { delta: number(given, "delta"), reduction: reduction(given) }.loss(x, t)
        }),
        two("gaussian_nll_loss", |given, x, t| {
            let (full, epsilon) = (given.attributes.flag("full"), number(given, "eps"));
            GaussianNll { full, epsilon, reduction: reduction(given) }.loss(x, t, given.input("var"))
        }),
        two("poisson_nll_loss", |_, x, t| poisson_nll(x, t)),
    ]
}

fn classes() -> Vec<Entry> {
    vec![
        two("binary_cross_entropy", |given, x, t| {
            BinaryCrossEntropy { weights: given.find_input("weight").cloned(), reduction: reduction(given) }.loss(x, t)
        }),
        two("binary_cross_entropy_with_logits", |given, x, t| {
            let positive_weight = given.find_input("pos_weight").cloned();
            BceWithLogits { positive_weight, reduction: reduction(given), ..BceWithLogits::default() }.loss(x, t)
        }),
        two("cross_entropy", |given, x, t| {
            let options = CrossEntropy {
                label_smoothing: given.attributes.float("label_smoothing").unwrap_or(0.0),
                weights: given.find_input("weight").cloned(),
                ignore_index: given.attributes.int("ignore_index").unwrap_or(-100),
                reduction: reduction(given),
            };
            options.loss(x, t)
        }),
        two("nll_loss", |given, x, t| {
            let weights = given.find_input("weight").cloned();
            Nll { weights, reduction: reduction(given), ..Nll::default() }.loss(x, t)
        }),
        two("kl_div", |given, x, t| {
            let log_target = given.attributes.flag("log_target");
            let t = if log_target { t.log_softmax(1) } else { t.softmax(1) };
            let with = |reduction| KlDivergence { log_target, reduction }.loss(&x.log_softmax(1), &t);
            match given.attributes.text("reduction") {
                Some("batchmean") => with(Reduction::Mean),
                // PyTorch's mean is over all elements, which is no divergence.
                Some("mean") => with(Reduction::None).mean(..),
                _ => with(reduction(given)),
            }
        }),
        two("multi_margin_loss", |given, x, t| {
            let power = given.attributes.int("p").expect("the case gives a power") as i32;
            MultiMargin { margin: number(given, "margin"), power, reduction: reduction(given) }.loss(x, t)
        }),
    ]
}

fn margins() -> Vec<Entry> {
    vec![
        two("hinge_loss", |given, x, t| {
            Hinge { margin: number(given, "margin"), reduction: reduction(given) }.loss(x, t)
        }),
        two("hinge_embedding_loss", |given, x, t| {
            HingeEmbedding { margin: number(given, "margin"), reduction: reduction(given) }.loss(x, t)
        }),
        three("cosine_embedding_loss", |given, [a, b, t]| {
            CosineEmbedding { margin: number(given, "margin"), reduction: reduction(given) }.loss(a, b, t)
        }),
        three("margin_ranking_loss", |given, [a, b, t]| {
            MarginRanking { margin: number(given, "margin"), reduction: reduction(given) }.loss(a, b, t)
        }),
        Entry::new("triplet_margin_loss", |given: &Given| {
            let options = TripletMargin {
                margin: number(given, "margin"),
                power: number(given, "p"),
                epsilon: number(given, "eps"),
                swap: given.attributes.flag("swap"),
                reduction: reduction(given),
            };
            options.loss(given.input("anchor"), given.input("positive"), given.input("negative"))
        }),
        // The golden case has first views and second views; here the two of a pair follow each other.
        Entry::new("nt_xent", |given: &Given| {
            let (a, b) = (given.input("a"), given.input("b"));
            let views = stack(&[a.clone(), b.clone()], 1).reshape([2 * a.size(0), a.size(1)]);
            nt_xent(&views, number(given, "temperature"))
        }),
        Entry::new("ctc_loss", |given: &Given| {
            let options = Ctc {
                blank: given.attributes.size("blank"),
                zero_infinity: given.attributes.flag("zero_infinity"),
                reduction: reduction(given),
            };
            let [targets, inputs, labels] =
                ["targets", "input_lengths", "target_lengths"].map(|name| given.input(name));
            options.loss(&given.input("logits").log_softmax(-1), targets, inputs, labels)
        }),
    ]
}

#[test]
fn losses_agree() {
    let table: Vec<Entry> = regression().into_iter().chain(classes()).chain(margins()).collect();
    assert_eq!(check(&["loss"], &table, &[]), 97);
}
