//! Compiled models of pictures: convolutions are given another layout, and the outputs stay what they were.

use etude_core::{PoolOptions, Tensor, evaluating, randn, random, set_threads, training};
use etude_nn::*;

/// A model whose normalisations have statistics of their own.
fn lived_in<M: Forward>(model: M, input: &[usize]) -> M {
    for _ in 0..2 {
        training(|| model.forward(&(randn(input.to_vec()) * 2.0 + 0.5))).eval().unwrap();
    }
    model
}

/// The compiled model against the model as it is; gives how many steps a call takes.
fn compare(model: &(impl Forward + Clone), input: &[usize]) -> usize {
    let compiled = model.compile();
    let x = randn(input.to_vec());
    x.eval().unwrap();
    let (found, wanted) = (compiled.forward(&x), evaluating(|| model.forward(&x)));
    assert_eq!(found.shape(), wanted.shape());
    let scale = wanted.abs().max(..).item();
    let apart = (&found - &wanted).abs().max(..).item();
    // A few dozen roundings a layer, some of them on the way of Winograd; random signs leave the root of that.
    assert!(apart <= 1e-5 * scale, "{input:?}: {apart} apart at {scale}");
    compiled.steps(&x).expect("a plan")
}

fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Sequential {
    let conv = Conv2d::new(inputs, outputs, kernel).stride(stride).padding(kernel / 2).bias(false).init();
    Sequential::new().add(conv).add(BatchNorm2d::new(outputs).init())
}

/// Two or three convolutions beside a shortcut, as residual networks have them.
#[derive(Module, Clone)]
struct Residual(Vec<Sequential>, Option<Sequential>);

impl Residual {
    fn basic(inputs: usize, outputs: usize, stride: usize) -> Residual {
        let down = (inputs != outputs).then(|| conv(inputs, outputs, 1, stride));
        Residual(vec![conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3, 1)], down)
    }

    fn bottleneck(inputs: usize, width: usize, stride: usize) -> Residual {
        let body = vec![conv(inputs, width, 1, 1), conv(width, width, 3, stride), conv(width, 4 * width, 1, 1)];
        Residual(body, (inputs != 4 * width).then(|| conv(inputs, 4 * width, 1, stride)))
    }
}

impl Forward for Residual {
    fn forward(&self, x: &Tensor) -> Tensor {
        let (last, first) = self.0.split_last().expect("convolutions");
        let y = first.iter().fold(x.clone(), |y, conv| conv.forward(&y).relu());
        let shortcut = self.1.as_ref().map_or_else(|| x.clone(), |down| down.forward(x));
        (last.forward(&y) + shortcut).relu()
    }
}

#[derive(Module, Clone)]
struct ResNet(Sequential, Vec<Residual>, Linear);

impl ResNet {
    fn new(blocks: Vec<Residual>, features: usize) -> ResNet {
        ResNet(conv(3, 16, 7, 2), blocks, Linear::new(features, 5).init())
    }
}

impl Forward for ResNet {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.0.forward(x).relu().max_pool2d(PoolOptions::new(3).stride(2).padding(1));
        self.2.forward(&self.1.iter().fold(x, |x, block| block.forward(&x)).global_avg_pool())
    }
}

#[test]
fn residual_networks_become_one_step_a_convolution() {
    random::seed(1);
    let basic = vec![Residual::basic(16, 16, 1), Residual::basic(16, 32, 2)];
    let basic = lived_in(ResNet::new(basic, 32), &[2, 3, 32, 32]);
    let deep = vec![Residual::bottleneck(16, 16, 1), Residual::bottleneck(64, 16, 1), Residual::bottleneck(64, 32, 2)];
    let deep = lived_in(ResNet::new(deep, 128), &[2, 3, 32, 32]);
    for input in [[1, 3, 64, 64], [3, 3, 37, 53], [1, 3, 33, 32]] {
        // Six convolutions (or twelve) and a maximum pool, then the average, its factor, a product and a bias at most.
        assert!(compare(&basic, &input) <= 11);
        assert!(compare(&deep, &input) <= 17);
    }
}

#[test]
fn networks_of_other_kinds_stay_what_they_were() {
    random::seed(2);
    let plain = |inputs: usize, outputs: usize| Conv2d::new(inputs, outputs, 3).padding(1).init();
    let vgg = Sequential::new()
        .add(plain(3, 16))
        .add(Activation::Relu.layer())
        .add(plain(16, 32))
        .add(Activation::Relu.layer())
        .add(Pool::max(2))
        .add(plain(32, 32))
        .add(Activation::Gelu.layer())
        .add(Pool::max(2))
        .add(Flatten::new())
        .add(Linear::new(32 * 5 * 7, 3).init());
    for input in [[1, 3, 20, 28], [3, 3, 21, 31]] {
        compare(&vgg, &input);
    }
    // Channels that fill no block, groups, and a convolution nobody else's layout suits.
    let lenet = Sequential::new()
        .add(Conv2d::new(1, 6, 5).padding(2).init())
        .add(Activation::Relu.layer())
        .add(Pool::max(2))
        .add(Conv2d::new(6, 16, 5).init())
        .add(Activation::Relu.layer())
        .add(Conv2d::new(16, 16, 3).groups(4).init())
        .add(BatchNorm2d::new(16).init())
        .add(plain(16, 20));
    for input in [[1, 1, 28, 28], [3, 1, 29, 31]] {
        compare(&lenet, &input);
    }
}

/// An image that is read twice, as it is and by another convolution, and is a result itself.
#[derive(Module, Clone)]
struct Branches(Conv2d, Conv2d, Conv2d);

impl Forward for Branches {
    fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.0.forward(x);
        let (a, b) = (self.1.forward(&y), self.2.forward(&y.relu()));
        let sum = (&a + &b) * a.sigmoid() + y.mean_keep([2, 3]);
        etude_core::cat(&[y, sum, b], 1)
    }
}

#[test]
fn what_others_read_is_there_for_them() {
    random::seed(3);
    let conv = |inputs: usize| Conv2d::new(inputs, 32, 3).padding(1).init();
    let model = Branches(conv(3), conv(32), conv(32));
    for input in [[1, 3, 9, 13], [3, 3, 8, 8]] {
        compare(&model, &input);
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    random::seed(4);
    let model = lived_in(ResNet::new(vec![Residual::bottleneck(16, 32, 2)], 128), &[2, 3, 32, 32]);
    let x = randn([3, 3, 45, 39]);
    let run = |threads| {
        set_threads(threads);
        let y = model.compile().forward(&x).to_vec::<f32>();
        set_threads(0);
        y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5));
}
