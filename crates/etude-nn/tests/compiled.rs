//! Compiled models give what the models give, in fewer steps.

use etude_core::{Tensor, evaluating, plan_summary, randn, random, training, uniform};
use etude_nn::*;

/// A model whose normalisations have statistics and parameters of their own.
fn lived_in<M: Forward>(model: M, input: &[usize]) -> M {
    for _ in 0..3 {
        training(|| model.forward(&(randn(input.to_vec()) * 2.0 + 0.5))).eval().unwrap();
    }
    for (_, param) in model.parameters() {
        param.set((param.value().detach() + randn(param.shape()) * 0.1).eval().unwrap().clone());
    }
    model
}

fn compare(model: &(impl Forward + Clone), input: &[usize]) -> (usize, usize) {
    let compiled = model.compile();
    let mut steps = (0, 0);
    for _ in 0..2 {
        let x = randn(input.to_vec());
        x.eval().unwrap();
        let plain = evaluating(|| model.forward(&x));
        steps = (plan_summary(std::slice::from_ref(&plain)).unwrap().steps, compiled.steps(&x).expect("a plan"));
        let (found, wanted) = (compiled.forward(&x), plain);
        assert!(found.is_evaluated());
        let scale = wanted.abs().max(..).item();
        let apart = (&found - &wanted).abs().max(..).item();
        // Weights are rounded once more, and sums are of the products of the rounded weights.
        assert!(apart <= 3e-6 * scale, "{apart} apart at {scale}");
    }
    steps
}

#[derive(Module, Clone)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
}

impl Block {
    fn new(channels: usize) -> Block {
        let conv = || Conv2d::new(channels, channels, 3).padding(1).bias(false).init();
        Block {
            conv1: conv(),
            bn1: BatchNorm::new(channels).init(),
            conv2: conv(),
            bn2: BatchNorm::new(channels).init(),
        }
    }
}

impl Forward for Block {
    fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.bn1.forward(&self.conv1.forward(x)).relu();
        (self.bn2.forward(&self.conv2.forward(&y)) + x).relu()
    }
}

#[test]
fn normalisations_are_folded_into_convolutions_and_products() {
    random::seed(3);
    let net = Sequential::new()
        .add(Conv2d::new(3, 8, 3).padding(1).init())
        .add(BatchNorm::new(8).init())
        .add(Activation::Relu.layer())
        .add(Conv2d::new(8, 6, 3).stride(2).groups(2).bias(false).init())
        .add(BatchNorm::new(6).init())
        .add(Activation::Relu.layer());
    let net = lived_in(net, &[4, 3, 9, 9]);
    // A convolution, and shift and maximum, twice over.
    assert_eq!(compare(&net, &[2, 3, 9, 9]).1, 4);
    assert_eq!(compare(&lived_in(Block::new(5), &[4, 5, 6, 6]), &[1, 5, 6, 6]).1, 4);
    let dense =
        Sequential::new().add(Linear::new(7, 5).init()).add(BatchNorm::new(5).init()).add(Activation::Relu.layer());
    assert_eq!(compare(&lived_in(dense, &[8, 7]), &[3, 7]).1, 2);
}

#[test]
fn a_value_that_others_read_is_not_folded_away() {
    #[derive(Module, Clone)]
    struct Twice(Conv2d, BatchNorm);
    impl Forward for Twice {
        fn forward(&self, x: &Tensor) -> Tensor {
            let y = self.0.forward(x);
            self.1.forward(&y) - 2.0 * &y
        }
    }
    random::seed(4);
    compare(&lived_in(Twice(Conv2d::new(2, 3, 3).init(), BatchNorm::new(3).init()), &[4, 2, 7, 7]), &[2, 2, 7, 7]);
}

#[test]
fn transformer_layers_compile() {
    random::seed(5);
    let layer = TransformerConfig::new(16, 4, 32).encoder();
    let (plain, compiled) = compare(&layer, &[2, 5, 16]);
    assert!(compiled <= plain, "{compiled} steps against {plain}");
}

#[test]
fn what_changes_after_compiling_is_not_seen_until_it_is_compiled_again() {
    let model = Linear::new(2, 1).bias(false).init();
    model.weight.set(etude_core::tensor([[1.0, 2.0]]));
    let x = etude_core::tensor([[1.0, 1.0]]);
    let compiled = model.compile();
    assert_eq!(compiled.forward(&x).item(), 3.0);
    model.weight.set(etude_core::tensor([[5.0, 5.0]]));
    assert_eq!(compiled.forward(&x).item(), 3.0);
    // Another shape is planned later, with the weights of then.
    assert_eq!(compiled.forward(&x.expand([4, 2])).to_vec::<f32>(), [3.0; 4]);
    assert_eq!(model.compile().forward(&x).item(), 10.0);
    assert_eq!(compiled.forward(&x.t().expand([2, 2]).t()).to_vec::<f32>(), [3.0; 2]);
}

#[test]
fn random_draws_and_gradients_take_the_ordinary_way() {
    #[derive(Module, Clone)]
    struct Noise;
    impl Forward for Noise {
        fn forward(&self, x: &Tensor) -> Tensor {
            x + uniform(x.shape())
        }
    }
    let (noise, x) = (Noise.compile(), etude_core::zeros(8));
    assert!(noise.steps(&x).is_none());
    assert_ne!(noise.forward(&x).to_vec::<f32>(), noise.forward(&x).to_vec::<f32>());
    let model = Linear::new(2, 1).init();
    let x = etude_core::tensor([[1.0, 1.0]]).variable();
    let gradients = model.compile().forward(&x).sum(..).backward().unwrap();
    assert_eq!(gradients.get(&x).unwrap().to_vec::<f32>(), model.weight.value().to_vec::<f32>());
}

#[test]
fn an_identity_and_a_constant_compile() {
    #[derive(Module, Clone)]
    struct Same;
    impl Forward for Same {
        fn forward(&self, x: &Tensor) -> Tensor {
            x.clone()
        }
    }
    #[derive(Module, Clone)]
    struct Constant(Param);
    impl Forward for Constant {
        fn forward(&self, _x: &Tensor) -> Tensor {
            self.0.value().exp()
        }
    }
    let x = etude_core::tensor([1.0, 2.0]);
    assert_eq!(Same.compile().forward(&x).to_vec::<f32>(), [1.0, 2.0]);
    let constant = Constant(Param::new(etude_core::tensor([0.0, 0.0]))).compile();
    assert_eq!(constant.forward(&x).to_vec::<f32>(), [1.0, 1.0]);
    assert_eq!(constant.steps(&x), Some(0));
}

/// The dense half of a transformer's layer.
#[derive(Module, Clone)]
struct Dense(Linear, Linear);

impl Forward for Dense {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.1.forward(&self.0.forward(x).gelu()) + x
    }
}

#[test]
fn what_follows_a_product_runs_in_its_step() {
    random::seed(6);
    let model = Dense(Linear::new(40, 50).init(), Linear::new(50, 40).init());
    // Two products; bias and GELU, bias and shortcut are their tails.
    for shape in [&[1, 40][..], &[30, 40], &[3, 11, 40], &[2, 3, 20, 40]] {
        assert_eq!(compare(&model, shape).1, 2, "{shape:?}");
    }
    let (compiled, x) = (model.compile(), randn([70, 40]));
    x.eval().unwrap();
    let outputs = [1, 2, 5].map(|threads| {
        etude_core::set_threads(threads);
        compiled.forward(&x).to_vec::<f32>()
    });
    etude_core::set_threads(0);
    assert!(outputs.iter().all(|output| *output == outputs[0]), "the bits depend on the number of threads");
}
