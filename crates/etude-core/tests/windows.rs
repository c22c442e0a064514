//! Mistakes with convolutions, pools, patches, dropout and attention, and what their messages say.

use etude_core::{AttentionOptions, ConvOptions, PoolOptions, Tensor, ones, training};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn complaint(run: impl FnOnce() -> Tensor) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("the call must be refused");
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string())).expect("a message")
}

/// Asserts that the message of the refused call holds every one of `parts`.
fn refused(run: impl FnOnce() -> Tensor, parts: &[&str]) {
    let text = complaint(run);
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is missing in: {text}"));
}

#[test]
fn convolutions_name_what_does_not_fit() {
    let plain = ConvOptions::new();
    let x = ones([2, 4, 5, 6]);
    let here = format!("{}:", file!());
    refused(
        || x.conv2d(&ones([3, 2, 3, 3]), plain),
        &["conv2d: [2, 4, 5, 6] × [3, 2, 3, 3]", "takes 2 channels", "has 4", &here],
    );
    refused(|| x.conv2d(&ones([3, 2, 3, 3]), plain.groups(3)), &["3 groups do not divide the 4 input channels"]);
    refused(|| x.conv2d(&ones([3, 2, 3, 3]), plain.groups(2)), &["2 groups do not divide the 3 output channels"]);
    refused(|| x.conv2d(&ones([3, 4, 3, 3]), plain.groups(0)), &["groups must be at least 1"]);
    refused(
        || x.conv2d(&ones([3, 4, 7, 3]), plain.padding([0, 1])),
        &["the kernel reaches over 7 elements of spatial axis 0", "only 5"],
    );
    refused(
        || x.conv2d(&ones([3, 4, 3, 3]), plain.padding(1).dilation(4)),
        &["reaches over 9 elements of spatial axis 0", "only 7 (5 and 1 of padding on each side)"],
    );
    refused(|| x.conv2d(&ones([3, 4, 3, 3]), plain.stride(0)), &["must be at least 1", "spatial axis 0"]);
    refused(|| x.conv2d(&ones([3, 4, 3]), plain), &["2 spatial axes, 4 in all"]);
    refused(
        || x.conv2d(&ones([3, 4, 3, 3]), plain.stride([1, 2, 3])),
        &["conv2d: stride [1, 2, 3] has 3 numbers for 2"],
    );
    let doubles = ones([3, 4, 3, 3]).to(etude_core::DType::F64);
    refused(|| x.conv2d(&doubles, plain), &["one floating dtype, not f32 and f64"]);
    refused(|| x.conv_transpose2d(&ones([3, 1, 3, 3]), plain), &["conv_transpose2d", "takes 3 channels", "has 4"]);
    refused(
        || x.conv_transpose2d(&ones([4, 1, 3, 3]), plain.stride(2).output_padding(2)),
        &["output_padding 2 must be below stride or dilation (2)"],
    );
    refused(
        || ones([1, 1, 2]).conv_transpose1d(&ones([1, 1, 2]), plain.padding(2)),
        &["nothing is left of spatial axis 0 when padding takes 4 elements away"],
    );
    // Numbers nobody can mean are refused, not wrapped around.
    refused(|| x.conv2d(&ones([3, 4, 3, 3]), plain.dilation(usize::MAX)), &["the kernel reaches over"]);
}

#[test]
fn pools_and_patches_name_what_does_not_fit() {
    let x = ones([2, 4, 5, 6]);
    let here = format!("{}:", file!());
    refused(|| x.max_pool2d(6), &["max_pool2d: [2, 4, 5, 6]", "reaches over 6 elements of spatial axis 0", &here]);
    refused(|| x.max_pool1d(2), &["max_pool1d", "1 spatial axes, 3 in all"]);
    refused(|| x.max_pool2d(PoolOptions::new(3).padding(2)), &["padding 2 is more than half of the 3"]);
    refused(|| x.max_pool2d(0), &["must be at least 1"]);
    refused(|| x.max_pool2d([1, 2, 3]), &["kernel [1, 2, 3] has 3 numbers for 2"]);
    refused(|| ones([2, 0, 0]).max_pool1d(1), &["spatial axis 0 is empty"]);
    refused(|| x.avg_pool2d(7), &["avg_pool2d: [2, 4, 5, 6]", "reaches over 7"]);
    refused(|| x.avg_pool2d(PoolOptions::new(2).dilation(2)), &["avg_pool2d: takes no dilation"]);
    refused(|| x.adaptive_avg_pool2d(0), &["adaptive_avg_pool2d", "an axis is empty"]);
    refused(|| ones([2, 3]).global_avg_pool(), &["global_avg_pool: [2, 3]"]);
    refused(|| x.unfold(9, ConvOptions::new()), &["unfold", "reaches over 9"]);
    refused(|| x.unfold(2, ConvOptions::new().groups(2)), &["unfold: takes stride, padding and dilation"]);
    refused(|| ones([1, 7, 4]).fold([3, 3], 2, ConvOptions::new()), &["no multiple of the kernel's 4 elements"]);
    refused(|| ones([1, 8, 5]).fold([3, 3], 2, ConvOptions::new()), &["has 5 positions, [3, 3] has 4"]);
}

#[test]
fn attention_and_dropout_name_what_does_not_fit() {
    let (q, k, v) = (ones([3, 2]), ones([4, 2]), ones([4, 5]));
    let run = |k: &Tensor, v: &Tensor| q.scaled_dot_product_attention(k, v, AttentionOptions::new());
    refused(|| run(&ones([4, 3]), &v), &["queries [3, 2], keys [4, 3]", "differ in their last axis"]);
    refused(|| run(&k, &ones([3, 5])), &["there are 4 keys and 3 values"]);
    refused(|| run(&ones([2]), &v), &["at least two axes"]);
    refused(|| q.dropout(1.5), &["dropout: the probability 1.5"]);
    refused(|| ones([3]).dropout2d(0.5), &["dropout2d: [3]"]);
    refused(|| q.glu(0), &["glu: axis 0 of [3, 2]"]);
    refused(|| ones([2, 3, 4]).prelu(&ones([4])), &["3 channels, the weight 4 slopes"]);
}

#[test]
fn dropout_draws_anew_each_time_and_shares_a_plan() {
    let x = ones([50]);
    let (a, b) = training(|| (x.dropout(0.5).to_vec::<f32>(), x.dropout(0.5).to_vec::<f32>()));
    assert_ne!(a, b);
    assert!(a.iter().all(|&v| v == 0.0 || v == 2.0), "{a:?}");
    let mask = training(|| x.dropout(0.25)).to_vec::<f32>();
    assert!(mask.iter().all(|&v| v == 0.0 || (v - 4.0 / 3.0).abs() < 1e-6), "{mask:?}");
    // A gradient goes where the value went.
    let w = x.variable();
    let y = training(|| w.dropout(0.5));
    let kept = y.to_vec::<f32>();
    let y = y.sum(..).backward().unwrap();
    assert_eq!(y.get(&w).unwrap().to_vec::<f32>(), kept);
}
