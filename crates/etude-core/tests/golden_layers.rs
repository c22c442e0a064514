//! Normalisations and recurrent layers against what PyTorch answers: `tests/golden`, forward and gradients.

use etude_core::ops::recurrent::{Nonlinearity, RecurrentWeights, gru, lstm, rnn};
use etude_core::{DType, Tensor, cat, stack};
use etude_golden::{Entry, Given, Outputs, check};

fn epsilon(given: &Given) -> f64 {
    given.attributes.float("eps").expect("a normalisation has an epsilon")
}

fn scale_and_shift(given: &Given) -> (Option<&Tensor>, Option<&Tensor>) {
    (given.find_param("weight"), given.find_param("bias"))
}

/// y and the running statistics after it, from the statistics of the batch (the variance unbiased).
fn running(given: &Given, y: Tensor, batch: Option<(Tensor, Tensor)>) -> Outputs {
    let (mean, variance) = (given.param("running_mean"), given.param("running_var"));
    let seen = given.param("num_batches_tracked");
    let Some((batch_mean, batch_variance)) = batch else {
        let kept = [("running_mean", mean.clone()), ("running_var", variance.clone())];
        let [mean, variance] = kept;
        return [("y", y), mean, variance, ("num_batches_tracked", seen.clone())].into();
    };
    // Without a momentum, the mean over all batches so far; these cases see the first.
    let momentum = given.attributes.float("momentum").unwrap_or(1.0);
    let moved = |old: &Tensor, new: Tensor| old * (1.0 - momentum) + new * momentum;
    let (mean, variance) = (moved(mean, batch_mean), moved(variance, batch_variance));
    // PyTorch's instance norm keeps the counter but does not count.
    let seen = if given.name.starts_with("instance_norm") { seen.clone() } else { seen + 1.0 };
    [("y", y), ("running_mean", mean), ("running_var", variance), ("num_batches_tracked", seen)].into()
}

fn batch_norm(given: &Given) -> Outputs {
    let (gamma, beta) = scale_and_shift(given);
    let x = given.x();
    if !given.attributes.flag("training") {
        let (mean, variance) = (given.param("running_mean"), given.param("running_var"));
        return running(given, x.batch_norm_with(mean, variance, gamma, beta, epsilon(given)), None);
    }
    let (y, mean, variance) = x.batch_norm(gamma, beta, epsilon(given));
    let count = (x.count() / x.size(1)) as f64;
    running(given, y, Some((mean, variance * (count / (count - 1.0)))))
}

fn instance_norm(given: &Given) -> Outputs {
    let ((gamma, beta), x) = (scale_and_shift(given), given.x());
    let y = x.instance_norm(gamma, beta, epsilon(given));
    if given.find_param("running_mean").is_none() {
        return y.into();
    }
    if !given.attributes.flag("training") {
        let (mean, variance) = (given.param("running_mean"), given.param("running_var"));
        return running(given, x.batch_norm_with(mean, variance, gamma, beta, epsilon(given)), None);
    }
    let flat = x.flatten_from(2);
    running(given, y, Some((flat.mean(-1).mean(0), flat.var(-1, 1.0).mean(0))))
}

fn axes(given: &Given) -> usize {
    given.attributes.sizes("normalized_shape").len()
}

#[test]
fn normalisations_agree() {
    let table = [
        Entry::new("batch_norm", batch_norm),
        Entry::new("instance_norm", instance_norm),
        Entry::new("layer_norm", |given: &Given| {
            let (gamma, beta) = scale_and_shift(given);
            given.x().layer_norm(axes(given), gamma, beta, epsilon(given))
        }),
        Entry::new("group_norm", |given: &Given| {
            let (gamma, beta) = scale_and_shift(given);
            given.x().group_norm(given.attributes.size("num_groups"), gamma, beta, epsilon(given))
        }),
        Entry::new("rms_norm", |given: &Given| {
            given.x().rms_norm(axes(given), given.find_param("weight"), epsilon(given))
        }),
        Entry::new("local_response_norm", |given: &Given| {
            let number = |name: &str| given.attributes.float(name).expect("the case gives it");
            given.x().local_response_norm(given.attributes.size("size"), number("alpha"), number("beta"), number("k"))
        }),
        Entry::new("weight_norm", |given: &Given| {
            let (v, g) = (given.param("v"), given.param("g"));
            given.x().matmul(&(v * (g / v.square().sum_keep(1).sqrt())).t())
        }),
    ];
    assert_eq!(check(&["norm"], &table, &[]), 27);
}

/// One layer in one direction: all states, and the last ones.
fn one_direction(kind: &str, given: &Given, x: &Tensor, suffix: &str, states: &[Tensor]) -> (Tensor, Vec<Tensor>) {
    let weights = RecurrentWeights {
        input: given.param(&format!("weight_ih{suffix}")),
        hidden: given.param(&format!("weight_hh{suffix}")),
        input_bias: given.find_param(&format!("bias_ih{suffix}")),
        hidden_bias: given.find_param(&format!("bias_hh{suffix}")),
    };
    let reverse = suffix.ends_with("_reverse");
    let (h, c) = match kind {
        "lstm" => {
            let (h, c) = lstm(x, weights, &states[0], &states[1], reverse);
            (h, Some(c))
        }
        "gru" => (gru(x, weights, &states[0], reverse), None),
        _ => {
            let relu = given.attributes.text("nonlinearity") == Some("relu");
            let nonlinearity = if relu { Nonlinearity::Relu } else { Nonlinearity::Tanh };
            (rnn(x, weights, &states[0], nonlinearity, reverse), None)
        }
    };
    let last = h.at(0, if reverse { 0 } else { -1 });
    (h, [last].into_iter().chain(c).collect())
}

/// Layers over each other, in one or both directions, as PyTorch stacks them.
fn layers(kind: &'static str) -> Entry {
    Entry::new(kind, move |given: &Given| {
        let attributes = &given.attributes;
        let batch_first = attributes.flag("batch_first");
        let mut x = if batch_first { given.x().transpose(0, 1) } else { given.x().clone() };
        let directions = if attributes.flag("bidirectional") { 2 } else { 1 };
        let names = if kind == "lstm" { &["h0", "c0"][..] } else { &["h0"] };
        let hidden = attributes.size("hidden_size");
        let state = |name: &str, at: usize| match given.find_input(name) {
            Some(states) => states.at(0, at as i64),
            None => Tensor::scalar(0.0, DType::F32).expand([x.size(1), hidden]),
        };
        let stacked = directions * attributes.size("num_layers");
        let first: Vec<Vec<Tensor>> =
            (0..stacked).map(|at| names.iter().map(|name| state(name, at)).collect()).collect();
        let mut last: Vec<Vec<Tensor>> = vec![Vec::new(); names.len()];
        for layer in 0..attributes.size("num_layers") {
            let mut outputs = Vec::new();
            for direction in 0..directions {
                let suffix = format!("_l{layer}{}", ["", "_reverse"][direction]);
                let (h, ends) = one_direction(kind, given, &x, &suffix, &first[layer * directions + direction]);
                outputs.push(h);
                last.iter_mut().zip(ends).for_each(|(all, end)| all.push(end));
            }
            x = cat(&outputs, -1);
        }
        let y = if batch_first { x.transpose(0, 1) } else { x };
        let ends = last.iter().zip(["hn", "cn"]).map(|(all, name)| (name.to_string(), stack(all, 0)));
        Outputs([("y".to_string(), y)].into_iter().chain(ends).collect())
    })
}

/// A cell is a layer of one step.
fn cell(operation: &'static str, kind: &'static str) -> Entry {
    Entry::new(operation, move |given: &Given| {
        let states: Vec<Tensor> = ["h0", "c0"].iter().filter_map(|name| given.find_input(name).cloned()).collect();
        let (_, last) = one_direction(kind, given, &given.x().unsqueeze(0), "", &states);
        let names: &[&str] = if kind == "lstm" { &["h1", "c1"] } else { &["y"] };
        Outputs(names.iter().zip(last).map(|(name, state)| (name.to_string(), state)).collect())
    })
}

#[test]
fn recurrent_layers_agree() {
    let table = [
        layers("rnn"),
        layers("lstm"),
        layers("gru"),
        cell("rnn_cell", "rnn"),
        cell("lstm_cell", "lstm"),
        cell("gru_cell", "gru"),
    ];
    assert_eq!(check(&["recurrent"], &table, &[]), 35);
}
