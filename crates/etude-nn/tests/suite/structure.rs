//! Names, counts, copies and cuts.

use etude_core::{Tensor, ones, randn, training};
use etude_nn::*;

#[derive(Module, Clone)]
struct Characters {
    embedding: Embedding,
    lstm: Lstm,
    dense: Linear,
}

impl Forward for Characters {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.dense.forward(&self.lstm.forward(&self.embedding.forward(x)))
    }
}

/// The table Keras prints for its character model, which has one bias a gate.
#[test]
fn kerass_counts() {
    let model = Characters {
        embedding: Embedding::new(83, 256).init(),
        lstm: Lstm::new(256, 1024).single_bias().init(),
        dense: Linear::new(1024, 83).init(),
    };
    let summary = model.summary([32, 100]);
    let rows: Vec<_> = summary.rows.iter().map(|row| (row.output.to_vec(), row.parameters)).collect();
    assert_eq!(rows, [(vec![32, 100, 256], 21_248), (vec![32, 100, 1024], 5_246_976), (vec![32, 100, 83], 85_075)]);
    assert_eq!((summary.total, summary.trainable), (5_353_299, 5_353_299));
    let text = summary.to_string();
    for line in ["5,353,299 (20.42 MB)", "non-trainable parameters  0", "lstm (Lstm 256→1024)"] {
        assert!(text.contains(line), "{text}");
    }
}

fn names(module: &impl Module) -> Vec<String> {
    module.tensors().into_iter().map(|(name, _)| name).collect()
}

#[test]
fn pytorchs_names() {
    let lstm = Lstm::new(2, 3).layers(2).bidirectional(true).init();
    let found = names(&lstm);
    assert_eq!(found.len(), 16);
    assert_eq!(found[0], "weight_ih_l0");
    assert_eq!(found[7], "bias_hh_l0_reverse");
    assert_eq!(found[12], "weight_ih_l1_reverse");
    let batch_norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
    assert_eq!(names(&BatchNorm2d::new(3).init()), batch_norm);
    let model = Sequential::new().add(Activation::Relu.layer()).add(LayerNorm::new(2).init());
    assert_eq!(names(&model), ["1.weight", "1.bias"]);
}

#[derive(Module)]
struct Renamed {
    #[module(name = "LayerNorm")]
    norm: LayerNorm,
    r#type: Param,
    #[module(skip)]
    _left_out: std::ops::Range<usize>,
}

#[derive(Module)]
struct Numbered(Param, #[module(name = "self")] Param);

#[test]
fn a_field_may_have_a_name_of_its_own() {
    let renamed = Renamed { norm: LayerNorm::new(2).init(), r#type: Param::new(ones(1)), _left_out: 0..1 };
    assert_eq!(names(&renamed), ["LayerNorm.weight", "LayerNorm.bias", "type"]);
    assert_eq!(names(&Numbered(Param::new(ones(1)), Param::new(ones(1)))), ["0", "self"]);
}

fn stack() -> Sequential {
    let inner = Sequential::new().named("conv", Linear::new(4, 4).init()).named("relu", Activation::Relu.layer());
    Sequential::new().named("block", inner).named("head", Linear::new(4, 2).init())
}

#[test]
fn a_model_can_be_cut_at_any_layer() {
    let (model, x) = (stack(), randn([3, 4]));
    // Neither a run before the first walk nor a walk of a part may spoil the paths.
    let whole = model.forward(&x);
    model.get("block").expect("the block").parameters();
    let cut = model.cut(&x, &["head", "block.relu"]).unwrap();
    assert_eq!(cut[0].to_vec::<f32>(), whole.to_vec::<f32>());
    let block = model.get("block").expect("the block").forward(&x);
    assert_eq!(cut[1].to_vec::<f32>(), block.to_vec::<f32>());
    let error = model.cut(&x, &["block.relu", "relu"]).expect_err("no such layer").to_string();
    assert!(error.contains("`relu`") && error.contains("block.conv, block.relu, head"), "{error}");
    // Gradients flow through a cut.
    let picture = x.variable();
    let seen = model.cut(&picture, &["block.conv"]).unwrap();
    assert!(seen[0].square().sum(..).backward().unwrap().get(&picture).is_some());
}

#[test]
fn a_copy_is_independent() {
    let model = stack();
    let copy = model.clone();
    let before = copy.forward(&ones([1, 4])).to_vec::<f32>();
    model.parameters().iter().for_each(|(_, param)| param.set(param.value().detach() * 2.0));
    assert_eq!(copy.forward(&ones([1, 4])).to_vec::<f32>(), before);
    copy.copy_from(&model).unwrap();
    assert_eq!(copy.forward(&ones([1, 4])).to_vec::<f32>(), model.forward(&ones([1, 4])).to_vec::<f32>());
}

#[test]
fn running_statistics_move_only_in_training() {
    let (layer, x) = (BatchNorm1d::new(2).init(), randn([8, 2]));
    layer.forward(&x).eval().unwrap();
    assert_eq!(layer.running().expect("it keeps them").0.to_vec::<f32>(), [0.0, 0.0]);
    training(|| layer.forward(&x)).eval().unwrap();
    let mean = x.mean(0).to_vec::<f32>();
    for (found, mean) in layer.running().expect("it keeps them").0.to_vec::<f32>().iter().zip(mean) {
        assert!((found - 0.1 * mean).abs() < 1e-6, "{found} {mean}");
    }
}

/// A layer that drops everything between layers still sees its own steps.
#[test]
fn dropout_between_recurrent_layers_is_for_training() {
    let lstm = Lstm::new(2, 3).layers(2).dropout(1.0).init();
    let x = randn([1, 4, 2]);
    let (plain, again) = (lstm.forward(&x).to_vec::<f32>(), lstm.forward(&x).to_vec::<f32>());
    assert_eq!(plain, again);
    let dropped = training(|| lstm.forward(&x));
    assert_ne!(dropped.to_vec::<f32>(), plain);
    // Nothing of the input is left in the last layer's outputs.
    assert_eq!(dropped.to_vec::<f32>(), training(|| lstm.forward(&(x * 3.0))).to_vec::<f32>());
}
