//! Convolutions, pools, patches and attention against what PyTorch answers: `tests/golden`, forward and gradients.

use etude_core::{AttentionOptions, ConvOptions, PerAxis, PoolOptions, Tensor};
use etude_golden::{Entry, Given, NotHere, check};

/// The numbers of attribute `name`, one for all axes or one each, if it is there.
fn per_axis(given: &Given, name: &str) -> Option<PerAxis> {
    given.attributes.has(name).then(|| match given.attributes.sizes(name)[..] {
        [one] => PerAxis::from(one),
        ref each => PerAxis::from(each),
    })
}

fn conv_options(given: &Given) -> ConvOptions {
    let numbers = |name, default: usize| per_axis(given, name).unwrap_or(default.into());
    ConvOptions::new()
        .stride(numbers("stride", 1))
        .padding(numbers("padding", 0))
        .dilation(numbers("dilation", 1))
        .output_padding(numbers("output_padding", 0))
        .groups(if given.attributes.has("groups") { given.attributes.size("groups") } else { 1 })
}

fn convolution(operation: &'static str, run: fn(&Tensor, &Tensor, ConvOptions) -> Tensor) -> Entry {
    Entry::new(operation, move |given: &Given| {
        let y = run(given.x(), given.param("weight"), conv_options(given));
        let Some(bias) = given.find_param("bias") else { return y };
        let mut column = vec![1; y.rank() - 1];
        column[0] = bias.count();
        y + bias.reshape(column)
    })
}

#[test]
fn convolutions_and_patches() {
    let table = [
        convolution("conv1d", Tensor::conv1d),
        convolution("conv2d", Tensor::conv2d),
        convolution("conv3d", Tensor::conv3d),
        convolution("conv_transpose1d", Tensor::conv_transpose1d),
        convolution("conv_transpose2d", Tensor::conv_transpose2d),
        convolution("conv_transpose3d", Tensor::conv_transpose3d),
        Entry::new("unfold", |given: &Given| {
            given.x().unfold(per_axis(given, "kernel_size").expect("a kernel"), conv_options(given))
        }),
        Entry::new("fold", |given: &Given| {
            let kernel = per_axis(given, "kernel_size").expect("a kernel");
            given.x().fold(given.attributes.sizes("output_size"), kernel, conv_options(given))
        }),
    ];
    assert!(check(&["convolution"], &table, &[]) > 30);
}

fn pool_options(given: &Given) -> PoolOptions {
    let attributes = &given.attributes;
    let numbers = |name, default: usize| per_axis(given, name).unwrap_or(default.into());
    let options = PoolOptions::new(per_axis(given, "kernel_size").expect("a kernel"))
        .stride(per_axis(given, "stride").expect("the cases give the stride"))
        .padding(numbers("padding", 0))
        .dilation(numbers("dilation", 1))
        .ceil(attributes.flag("ceil_mode"))
        .count_padding(attributes.flag("count_include_pad"));
    if attributes.has("divisor_override") { options.divisor(attributes.size("divisor_override")) } else { options }
}

fn pool(operation: &'static str, run: fn(&Tensor, PoolOptions) -> Tensor) -> Entry {
    Entry::new(operation, move |given: &Given| run(given.x(), pool_options(given)))
}

fn adaptive(operation: &'static str, run: fn(&Tensor, PerAxis) -> Tensor) -> Entry {
    Entry::new(operation, move |given: &Given| run(given.x(), per_axis(given, "output_size").expect("a size")))
}

#[test]
fn pools() {
    let table = [
        pool("max_pool1d", Tensor::max_pool1d),
        pool("max_pool2d", Tensor::max_pool2d),
        pool("max_pool3d", Tensor::max_pool3d),
        pool("avg_pool1d", Tensor::avg_pool1d),
        pool("avg_pool2d", Tensor::avg_pool2d),
        pool("avg_pool3d", Tensor::avg_pool3d),
        adaptive("adaptive_avg_pool1d", Tensor::adaptive_avg_pool1d),
        adaptive("adaptive_avg_pool2d", Tensor::adaptive_avg_pool2d),
        adaptive("adaptive_avg_pool3d", Tensor::adaptive_avg_pool3d),
        adaptive("adaptive_max_pool1d", Tensor::adaptive_max_pool1d),
        adaptive("adaptive_max_pool2d", Tensor::adaptive_max_pool2d),
        adaptive("adaptive_max_pool3d", Tensor::adaptive_max_pool3d),
        Entry::new("global_avg_pool", |given: &Given| given.x().global_avg_pool()),
        Entry::new("global_max_pool", |given: &Given| given.x().global_max_pool()),
        Entry::new("lp_pool2d", |given: &Given| {
            given.x().lp_pool2d(given.attributes.float("norm_type").expect("an order"), pool_options(given))
        }),
    ];
    assert!(check(&["pool"], &table, &[]) > 30);
}

#[test]
fn attention() {
    let run = |given: &Given| {
        let mut options = AttentionOptions::new().causal(given.attributes.flag("is_causal"));
        options.mask = given.find_input("mask").cloned();
        options.scale = given.attributes.float("scale");
        given.input("query").scaled_dot_product_attention(given.input("key"), given.input("value"), options)
    };
    let layer = |operation| NotHere { operation, case: "*", why: "a layer: compared where layers are" };
    let layers = [
        "multihead_attention",
        "sinusoidal_positions",
        "transformer_decoder_layer",
        "transformer_encoder",
        "transformer_encoder_layer",
    ];
    let table = [Entry::new("scaled_dot_product_attention", run)];
    assert!(check(&["attention"], &table, &layers.map(layer)) > 8);
}
