//! Every layer's gradients, in f64, against two-sided differences along random directions.

use etude_core::{DType, Interpolation, PoolOptions, Shape, Tensor, grad, randn_in, random, training};
use etude_nn::*;

/// Half the distance between the two sides: the differences are then off by about its square, 1e-10.
const STEP: f64 = 1e-5;

/// Checks the gradient of a fixed random combination of `module`'s outputs at every input and parameter. The parameters
/// become f64; `run` starts from the same random state each time.
fn check<M: Module>(name: &str, module: M, inputs: &[&[usize]], run: impl Fn(&M, &[Tensor]) -> Tensor) {
    random::seed(11);
    let mut places: Vec<Tensor> = inputs.iter().map(|&shape| randn_in(Shape::new(shape), DType::F64)).collect();
    let count = places.len();
    let params = module.parameters();
    // Away from 0 and 1, where scales and shifts start: a gradient there could be right by luck.
    places.extend(params.iter().map(|(_, param)| {
        let start = param.value().detach().to(DType::F64);
        &start + randn_in(start.shape(), DType::F64) * 0.3
    }));
    Tensor::eval_all(&places).unwrap();
    let put = |values: &[Tensor]| {
        params.iter().zip(&values[count..]).for_each(|((_, param), value)| param.set(value.clone()))
    };
    let output = |values: &[Tensor]| {
        random::seed(12);
        run(&module, &values[..count])
    };
    put(&places);
    let weights = {
        let shape = output(&places).shape();
        randn_in(shape, DType::F64)
    };
    weights.eval().unwrap();
    let loss = |values: &[Tensor]| {
        put(values);
        (output(values) * &weights).sum(..)
    };
    let variables: Vec<Tensor> = places.iter().map(Tensor::variable).collect();
    let at = loss(&variables);
    assert_eq!(at.dtype(), DType::F64, "{name}");
    let gradients = grad(&at, &variables.iter().collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (index, gradient) in gradients.iter().enumerate() {
        let what = if index < count { format!("input {index}") } else { params[index - count].0.clone() };
        for _ in 0..3 {
            let direction = randn_in(places[index].shape(), DType::F64);
            direction.eval().unwrap();
            let side = |step: f64| {
                let mut values = places.clone();
                values[index] = &values[index] + &direction * step;
                loss(&values).item()
            };
            let wanted = (side(STEP) - side(-STEP)) / (2.0 * STEP);
            let found = (gradient * &direction).sum(..).item();
            let near = (found - wanted).abs() <= 1e-6 * wanted.abs().max(1.0);
            assert!(near, "{name}: at {what} the gradient gives {found}, the differences {wanted}");
        }
    }
}

/// A layer from one tensor to one.
fn plain<M: Forward>(name: &str, module: M, input: &[usize]) {
    check(name, module, &[input], |module, x| module.forward(&x[0]));
}

#[test]
fn feed_forward_layers() {
    plain("linear", Linear::new(3, 4).init(), &[2, 3]);
    plain("prelu", PRelu::new(3), &[2, 3, 4]);
    plain("one slope", PRelu::new(1), &[2, 3]);
    plain("learned positions", LearnedPositions::new(5, 4), &[2, 3, 4]);
    plain("sinusoidal positions", SinusoidalPositions::new(4), &[2, 3, 4]);
    let ids = Tensor::from_slice(&[0i64, 2, 2, 1], [2, 2]);
    check("embedding", Embedding::new(3, 4).init(), &[], |layer, _| layer.forward(&ids));
    for function in [
        Activation::Relu,
        Activation::Relu6,
        Activation::LeakyRelu(0.1),
        Activation::Elu(0.7),
        Activation::Selu,
        Activation::Celu(1.3),
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Mish,
        Activation::Softplus,
        Activation::Softsign,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::LogSigmoid,
        Activation::HardSigmoid,
        Activation::HardSwish,
        Activation::HardTanh(-0.5, 0.8),
        Activation::Softmax(-1),
        Activation::LogSoftmax(0),
        Activation::Glu(1),
    ] {
        plain(&format!("{function:?}"), function.layer(), &[3, 4]);
    }
    check("dropout", Dropout::new(0.4), &[&[5, 6]], |layer, x| training(|| layer.forward(&x[0])));
}

#[test]
fn convolutions() {
    plain("conv 1d", Conv1d::new(2, 3, 3).padding(1).stride(2).init(), &[2, 2, 6]);
    plain("conv 2d", Conv2d::new(4, 6, 3).groups(2).dilation(2).init(), &[2, 4, 6, 7]);
    plain("conv 2d, 3×3", Conv2d::new(3, 5, 3).padding(1).init(), &[1, 3, 9, 10]);
    plain("conv 3d", Conv3d::new(1, 2, 2).init(), &[1, 1, 3, 3, 4]);
    plain("transposed 1d", ConvTranspose1d::new(2, 3, 4).stride(2).padding(1).init(), &[2, 2, 3]);
    plain("transposed 2d", ConvTranspose2d::new(2, 3, 3).stride(2).init(), &[1, 2, 3, 2]);
    plain("transposed 3d", ConvTranspose3d::new(1, 2, 2).stride(2).init(), &[1, 1, 2, 2, 2]);
    let stack = Sequential::new().add(Conv2d::new(1, 2, 3).init()).add(Activation::Tanh.layer()).add(Flatten::new());
    plain("stack", stack.add(Linear::new(8, 2).init()), &[2, 1, 4, 4]);
}

#[test]
fn pools_and_shapes() {
    for (name, pool) in [
        ("max", Pool::max(2)),
        ("average", Pool::average(PoolOptions::new(3).stride(2).padding(1))),
        ("adaptive max", Pool::adaptive_max(2)),
        ("adaptive average", Pool::adaptive_average([2, 3])),
        ("global max", Pool::global_max()),
        ("global average", Pool::global_average()),
    ] {
        plain(name, pool, &[2, 2, 5, 7]);
    }
    plain("unflatten", Unflatten::new([2, 3]), &[2, 6]);
    plain("upsample", Upsample::new(2.0, Interpolation::Linear { align_corners: false }), &[1, 2, 3, 4]);
}

#[test]
fn norms() {
    check("batch norm", BatchNorm2d::new(3).init(), &[&[2, 3, 2, 2]], |layer, x| training(|| layer.forward(&x[0])));
    plain("batch norm, running", BatchNorm1d::new(3).init(), &[4, 3]);
    plain("batch norm over volumes", BatchNorm3d::new(2).init(), &[1, 2, 2, 1, 2]);
    plain("instance norm", InstanceNorm::new(3).affine(true).init(), &[2, 3, 4]);
    plain("layer norm", LayerNorm::new([2, 3]).init(), &[2, 2, 3]);
    plain("group norm", GroupNorm::new(2, 4).init(), &[2, 4, 3]);
    plain("rms norm", RmsNorm::new(5).init(), &[2, 5]);
    plain("local response norm", LocalResponseNorm::new(3), &[2, 4, 2]);
}

#[test]
fn recurrent_layers() {
    let state: &[usize] = &[2, 2, 3];
    check("rnn", Rnn::new(2, 3).layers(2).init(), &[&[2, 4, 2], state], |layer, x| {
        let (y, last) = layer.forward_sequence(&x[0], Some(&x[1]));
        y.sum(1) + last.sum(0)
    });
    check("gru", Gru::new(2, 3).bidirectional(true).init(), &[&[2, 4, 2], state], |layer, x| {
        let (y, last) = layer.forward_sequence(&x[0], Some(&x[1]));
        y.narrow(2, 0, 3).sum(1) * y.narrow(2, 3, 3).sum(1) + last.sum(0)
    });
    check("lstm", Lstm::new(2, 3).layers(2).single_bias().init(), &[&[2, 4, 2], state, state], |layer, x| {
        let (y, (h, c)) = layer.forward_sequence(&x[0], Some((&x[1], &x[2])));
        y.sum(1) + h.sum(0) * c.sum(0)
    });
}

#[test]
fn transformers() {
    check(
        "attention",
        MultiheadAttention::new(4, 2).widths(3, 5).init(),
        &[&[1, 3, 4], &[1, 4, 3], &[1, 4, 5]],
        |l, x| l.attend(&x[0], &x[1], &x[2], &Masks::none()).0,
    );
    let config = TransformerConfig::new(4, 2, 6).activation(Activation::Gelu);
    check("encoder", config.encoder_stack(2, true), &[&[2, 3, 4]], |stack, x| stack.encode(&x[0], &Masks::causal()));
    check("decoder", config.norm_first(true).decoder_stack(1, true), &[&[2, 3, 4], &[2, 2, 4]], |stack, x| {
        training(|| stack.decode(&x[0], &x[1], &Masks::causal(), &Masks::none()))
    });
}

/// The layers of this crate, read off the list it exports, against the checks above, read off this file.
#[test]
fn every_layer_is_checked() {
    let list = include_str!("../../src/layers/mod.rs");
    let checks = include_str!("gradients.rs");
    let exported = list
        .split("pub use")
        .skip(1)
        .flat_map(|part| part.split(';').next().unwrap_or_default().split(|c: char| !c.is_alphanumeric() && c != '_'));
    // Not layers; the Transformer's are made by a configuration, and checked in their stacks.
    let parts = ["Masks", "Activation", "ActivationLayer", "Layer", "RecurrentCell", "BatchNorm"];
    let parts = [
        &parts[..],
        &["TransformerEncoder", "TransformerEncoderLayer", "TransformerDecoder", "TransformerDecoderLayer"],
    ]
    .concat();
    let layers: Vec<&str> = exported
        .filter(|name| {
            name.starts_with(|c: char| c.is_uppercase()) && !name.ends_with("Config") && !parts.contains(name)
        })
        .collect();
    assert!(layers.len() > 20, "only {layers:?} found");
    let missing: Vec<&&str> = layers
        .iter()
        .filter(|name| !checks.contains(&format!("{name}::")) && !checks.contains(&format!("{name}>")))
        .collect();
    assert!(missing.is_empty(), "layers without a gradient check: {missing:?}");
}
