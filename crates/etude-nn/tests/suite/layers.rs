//! Norms, recurrent layers, attention and small models.

use crate::hold::{Inputs, hold};
use crate::reader::{Case, group};
use etude_core::{PadMode, Shape, Tensor};
use etude_nn::*;

fn one<M: Forward>(module: &M, inputs: &Inputs) -> Vec<(&'static str, Tensor)> {
    vec![("y", module.forward(inputs.get("x")))]
}

fn normalised(case: &Case) -> Shape {
    let sizes = case.attributes["normalized_shape"].as_array().expect("sizes");
    sizes.iter().map(|size| size.as_u64().expect("a size") as usize).collect()
}

#[test]
fn norms() {
    for case in group("norm") {
        let (affine, epsilon) = (case.find("param/weight").is_some(), case.number_or("eps", 0.0));
        let channels = || case.get("in/x").size(1);
        match case.operation.as_str() {
            "batch_norm" => {
                let momentum = case.attributes["momentum"].as_f64();
                let config = BatchNorm2d::new(channels()).epsilon(epsilon).momentum(momentum).affine(affine);
                hold(&case, config.init(), one);
            }
            "instance_norm" => {
                let tracked = case.find("param/running_mean").is_some();
                let config = InstanceNorm::new(channels()).epsilon(epsilon).affine(affine).track(tracked);
                hold(&case, config.init(), one);
            }
            "layer_norm" => hold(&case, LayerNorm::new(normalised(&case)).epsilon(epsilon).affine(affine).init(), one),
            "rms_norm" => hold(&case, RmsNorm::new(normalised(&case)).epsilon(epsilon).affine(affine).init(), one),
            "group_norm" => {
                let config = GroupNorm::new(case.count("num_groups"), channels()).epsilon(epsilon).affine(affine);
                hold(&case, config.init(), one);
            }
            "local_response_norm" => {
                let mut layer = LocalResponseNorm::new(case.count("size"));
                (layer.alpha, layer.beta, layer.k) = (case.number("alpha"), case.number("beta"), case.number("k"));
                hold(&case, layer, one);
            }
            // A way to write a weight down, not a layer.
            "weight_norm" => (),
            other => panic!("no norm {other}"),
        }
    }
}

fn with_options<L>(case: &Case, config: RecurrentConfig<L>) -> L {
    config
        .layers(case.count("num_layers"))
        .bidirectional(case.flag("bidirectional"))
        .batch_first(case.flag("batch_first"))
        .bias(case.flag("bias"))
        .init()
}

#[test]
fn recurrent_layers() {
    for case in group("recurrent") {
        let (inputs, hidden) = (case.count("input_size"), case.count("hidden_size"));
        match case.operation.as_str() {
            "rnn" => {
                let config = Rnn::new(inputs, hidden);
                let config = if case.attributes["nonlinearity"] == "relu" { config.relu() } else { config };
                hold(&case, with_options(&case, config), |layer, given| {
                    let (y, h) = layer.forward_sequence(given.get("x"), given.find("h0"));
                    vec![("y", y), ("hn", h)]
                });
            }
            "gru" => hold(&case, with_options(&case, Gru::new(inputs, hidden)), |layer, given| {
                let (y, h) = layer.forward_sequence(given.get("x"), given.find("h0"));
                vec![("y", y), ("hn", h)]
            }),
            "lstm" => hold(&case, with_options(&case, Lstm::new(inputs, hidden)), |layer, given| {
                let (y, (h, c)) = layer.forward_sequence(given.get("x"), given.find("h0").zip(given.find("c0")));
                vec![("y", y), ("hn", h), ("cn", c)]
            }),
            "rnn_cell" => hold(&case, RecurrentCell::rnn(inputs, hidden), one_step),
            "gru_cell" => hold(&case, RecurrentCell::gru(inputs, hidden), one_step),
            "lstm_cell" => hold(&case, RecurrentCell::lstm(inputs, hidden), |cell, given| {
                let states = [given.get("h0").clone(), given.get("c0").clone()];
                ["h1", "c1"].into_iter().zip(cell.step(given.get("x"), &states)).collect()
            }),
            other => panic!("no recurrent layer {other}"),
        }
    }
}

fn one_step(cell: &RecurrentCell, given: &Inputs) -> Vec<(&'static str, Tensor)> {
    let states = [given.get("h0").clone()];
    vec![("y", cell.step(given.get("x"), &states).remove(0))]
}

fn transformer(case: &Case) -> TransformerConfig {
    let activation = if case.attributes["activation"] == "gelu" { Activation::Gelu } else { Activation::Relu };
    TransformerConfig::new(case.count("d_model"), case.count("nhead"), case.count("dim_feedforward"))
        .dropout(0.0)
        .activation(activation)
        .norm_first(case.flag("norm_first"))
        .batch_first(case.flag("batch_first"))
}

#[test]
fn attention() {
    for case in group("attention") {
        match case.operation.as_str() {
            // An operation of the core, held there.
            "scaled_dot_product_attention" => (),
            "multihead_attention" => {
                let mut config = MultiheadAttention::new(case.count("embed_dim"), case.count("num_heads"))
                    .batch_first(case.flag("batch_first"))
                    .bias(case.find("param/in_proj_bias").is_some());
                if case.attributes["kdim"].is_u64() {
                    config = config.widths(case.count("kdim"), case.count("vdim"));
                }
                let per_head = case.attributes["average_attn_weights"] == false;
                hold(&case, config.init(), |layer, given| {
                    let masks =
                        Masks { mask: given.find("attn_mask"), padding: given.find("key_padding_mask"), causal: false };
                    let query = given.find("query").unwrap_or_else(|| given.get("x"));
                    let memory = given.find("memory").unwrap_or(query);
                    let (key, value) = (given.find("key").unwrap_or(memory), given.find("value").unwrap_or(memory));
                    let (y, weights) = layer.attend(query, key, value, &masks);
                    vec![("y", y), ("weights", if per_head { weights } else { weights.mean(1) })]
                });
            }
            "transformer_encoder_layer" => hold(&case, transformer(&case).encoder(), |layer, given| {
                let masks =
                    Masks { mask: given.find("src_mask"), padding: given.find("src_key_padding_mask"), causal: false };
                vec![("y", layer.encode(given.get("x"), &masks))]
            }),
            "transformer_decoder_layer" => hold(&case, transformer(&case).decoder(), |layer, given| {
                let masks = Masks::of(given.get("tgt_mask"));
                let y = layer.decode(given.get("x"), given.get("memory"), &masks, &Masks::none());
                // The mask says the same as the word.
                let again = layer.decode(given.get("x"), given.get("memory"), &Masks::causal(), &Masks::none());
                assert_eq!(y.to_vec::<f32>(), again.to_vec::<f32>());
                vec![("y", layer.decode(given.get("x"), given.get("memory"), &masks, &Masks::none()))]
            }),
            "transformer_encoder" => {
                let stack = transformer(&case).encoder_stack(case.count("num_layers"), case.flag("final_norm"));
                hold(&case, stack, one);
            }
            "sinusoidal_positions" => {
                let (length, width) = (case.count("length"), case.count("d_model"));
                case.check("output/y", &sinusoidal_positions(length, width, case.number("base")));
            }
            other => panic!("no layer {other}"),
        }
    }
}

/// A basic block of a residual network with a projected shortcut.
#[derive(Module)]
struct Residual {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    downsample: Sequential,
}

impl Residual {
    fn new() -> Residual {
        let shortcut = Conv2d::new(3, 4, 1).stride(2).bias(false).init();
        Residual {
            conv1: Conv2d::new(3, 4, 3).stride(2).padding(1).bias(false).init(),
            bn1: BatchNorm2d::new(4).init(),
            conv2: Conv2d::new(4, 4, 3).padding(1).bias(false).init(),
            bn2: BatchNorm2d::new(4).init(),
            downsample: Sequential::new().add(shortcut).add(BatchNorm2d::new(4).init()),
        }
    }
}

impl Forward for Residual {
    fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.bn1.forward(&self.conv1.forward(x)).relu();
        (self.bn2.forward(&self.conv2.forward(&y)) + self.downsample.forward(x)).relu()
    }
}

/// LeNet-5 with ReLU and max pooling, on 12 × 12 pictures.
#[derive(Module)]
struct LeNet {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl LeNet {
    fn new() -> LeNet {
        LeNet {
            conv1: Conv2d::new(1, 3, 5).padding(2).init(),
            conv2: Conv2d::new(3, 4, 3).init(),
            fc1: Linear::new(16, 6).init(),
            fc2: Linear::new(6, 5).init(),
        }
    }
}

impl Forward for LeNet {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu().max_pool2d(2); // [B, 3, 6, 6]
        let x = self.conv2.forward(&x).relu().max_pool2d(2); // [B, 4, 2, 2]
        self.fc2.forward(&self.fc1.forward(&x.flatten_from(1)).relu())
    }
}

/// A next-character model.
#[derive(Module)]
struct Characters {
    embed: Embedding,
    lstm: Lstm,
    head: Linear,
}

impl Forward for Characters {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.head.forward(&self.lstm.forward(&self.embed.forward(x)))
    }
}

#[test]
fn layers_and_small_models() {
    for case in group("layer") {
        match case.operation.as_str() {
            "linear" => hold(&case, Linear::new(5, 3).init(), one),
            "embedding" => {
                hold(&case, Embedding::new(6, 4).init(), |layer, given| vec![("y", layer.forward(given.get("index")))])
            }
            "prelu" => hold(&case, PRelu::new(3), one),
            "conv2d" if case.attributes["padding_mode"] == "reflect" => {
                hold(&case, Conv2d::new(2, 3, 3).init(), |layer, given| {
                    let padded = given.get("x").pad(&[(1, 1), (1, 1)], PadMode::Reflect);
                    vec![("y", layer.forward(&padded))]
                })
            }
            "conv2d" => hold(&case, Conv2d::new(2, 4, 3).padding(1).init(), one),
            "sequential" => {
                let model = Sequential::new().add(Linear::new(4, 6).init()).add(Activation::Tanh.layer());
                let model = model.add(LayerNorm::new(6).init()).add(Linear::new(6, 2).init());
                hold(&case, model, one);
            }
            "residual" => hold(&case, Residual::new(), one),
            "characters" => {
                let (embed, lstm) = (Embedding::new(7, 3).init(), Lstm::new(3, 5).init());
                hold(&case, Characters { embed, lstm, head: Linear::new(5, 7).init() }, one);
            }
            "lenet" => hold(&case, LeNet::new(), one),
            other => panic!("no layer {other}"),
        }
    }
}

/// Activations, whose cases stand among the elementwise operations.
#[test]
fn activations() {
    let mut held = 0;
    for case in group("elementwise") {
        let number = |key: &str| case.attributes[key].as_f64();
        let function = match case.operation.as_str() {
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "leaky_relu" => Activation::LeakyRelu(case.number("negative_slope")),
            "elu" => Activation::Elu(number("alpha").unwrap_or(1.0)),
            "selu" => Activation::Selu,
            "celu" => Activation::Celu(case.number("alpha")),
            "gelu" if case.attributes["approximate"] == "tanh" => Activation::GeluTanh,
            "gelu" => Activation::Gelu,
            "silu" => Activation::Silu,
            "mish" => Activation::Mish,
            "softplus" if number("beta").is_none_or(|beta| beta == 1.0) => Activation::Softplus,
            "softsign" => Activation::Softsign,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            "logsigmoid" => Activation::LogSigmoid,
            "hardsigmoid" => Activation::HardSigmoid,
            "hardswish" => Activation::HardSwish,
            "hardtanh" => Activation::HardTanh(case.number("min_val"), case.number("max_val")),
            "softmax" => Activation::Softmax(case.number("dim") as i32),
            "log_softmax" => Activation::LogSoftmax(case.number("dim") as i32),
            "glu" => Activation::Glu(case.number("dim") as i32),
            "prelu" => {
                hold(&case, PRelu::new(case.get("param/weight").count()), one);
                continue;
            }
            _ => continue,
        };
        held += 1;
        hold(&case, function.layer(), one);
    }
    assert!(held >= 30, "only {held} cases of activations were found");
}
