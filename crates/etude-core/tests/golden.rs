//! The operations of this crate against what PyTorch answers: `tests/golden`, forward and gradients.

use etude_core::*;
use etude_golden::{Entry, Given, NotHere, check};

/// What this crate does not have, or means differently.
const NOT_HERE: &[NotHere] = &[
    NotHere { operation: "erfc", case: "*", why: "there is none: 1 − erf loses its digits for large arguments" },
    NotHere { operation: "fmod", case: "*", why: "the remainder here has the divisor's sign, as PyTorch's remainder" },
    NotHere { operation: "eye", case: "eye_wide", why: "the identity here is square" },
    NotHere {
        operation: "softplus",
        case: "softplus_2p5_4p0",
        why: "PyTorch replaces the curve by a line above its threshold, which differs visibly for one as low as 4",
    },
];

/// An operation of one argument `x`.
fn unary(operation: &'static str, run: fn(&Tensor) -> Tensor) -> Entry {
    Entry::new(operation, move |given: &Given| run(given.x()))
}

/// An operation of two arguments `a` and `b`.
fn binary(operation: &'static str, run: fn(&Tensor, &Tensor) -> Tensor) -> Entry {
    Entry::new(operation, move |given: &Given| run(given.input("a"), given.input("b")))
}

/// A fold over the axes `dim`, which stay if `keepdim` says so.
fn fold(operation: &'static str, run: impl Fn(&Given, Axes) -> Tensor + 'static) -> Entry {
    Entry::new(operation, move |given: &Given| {
        let axes = given.attributes.axes("dim").map_or(Axes::All, Axes::Some);
        let folded = run(given, axes.clone());
        if !given.attributes.flag("keepdim") {
            return folded;
        }
        let mut shape = given.x().shape();
        shape.axes(&axes).unwrap().into_iter().for_each(|axis| shape[axis] = 1);
        folded.reshape(shape)
    })
}

fn dtype(name: &str) -> DType {
    DType::ALL.into_iter().find(|dtype| dtype.name() == name).expect("the attribute names a dtype")
}

fn functions() -> Vec<Entry> {
    vec![
        unary("abs", Tensor::abs),
        unary("neg", Tensor::neg),
        unary("exp", Tensor::exp),
        unary("exp2", Tensor::exp2),
        unary("expm1", Tensor::expm1),
        unary("log", Tensor::ln),
        unary("log2", Tensor::log2),
        unary("log10", Tensor::log10),
        unary("log1p", Tensor::log1p),
        unary("sqrt", Tensor::sqrt),
        unary("rsqrt", Tensor::rsqrt),
        unary("square", Tensor::square),
        unary("reciprocal", Tensor::reciprocal),
        unary("sin", Tensor::sin),
        unary("cos", Tensor::cos),
        unary("tan", Tensor::tan),
        unary("asin", Tensor::asin),
        unary("acos", Tensor::acos),
        unary("atan", Tensor::atan),
        unary("sinh", Tensor::sinh),
        unary("cosh", Tensor::cosh),
        unary("tanh", Tensor::tanh),
        unary("asinh", Tensor::asinh),
        unary("acosh", Tensor::acosh),
        unary("atanh", Tensor::atanh),
        unary("erf", Tensor::erf),
        unary("sign", Tensor::sign),
        unary("round", Tensor::round),
        unary("floor", Tensor::floor),
        unary("ceil", Tensor::ceil),
        unary("trunc", Tensor::trunc),
        unary("frac", Tensor::fract),
        unary("isnan", Tensor::is_nan),
        unary("isinf", Tensor::is_infinite),
        unary("isfinite", Tensor::is_finite),
        unary("logical_not", Tensor::logical_not),
    ]
}

fn activations() -> Vec<Entry> {
    let with = |operation, name: &'static str, default: f64, run: fn(&Tensor, f64) -> Tensor| {
        Entry::new(operation, move |given: &Given| run(given.x(), given.attributes.float(name).unwrap_or(default)))
    };
    vec![
        unary("sigmoid", Tensor::sigmoid),
        with("softplus", "beta", 1.0, Tensor::softplus_with),
        unary("logsigmoid", Tensor::logsigmoid),
        unary("silu", Tensor::silu),
        Entry::new("gelu", |given: &Given| match given.attributes.text("approximate") {
            Some("tanh") => given.x().gelu_tanh(),
            _ => given.x().gelu(),
        }),
        unary("mish", Tensor::mish),
        with("elu", "alpha", 1.0, Tensor::elu),
        unary("relu", Tensor::relu),
        unary("relu6", Tensor::relu6),
        with("leaky_relu", "negative_slope", 0.01, Tensor::leaky_relu),
        unary("selu", Tensor::selu),
        with("celu", "alpha", 1.0, Tensor::celu),
        unary("softsign", Tensor::softsign),
        Entry::new("hardtanh", |given: &Given| {
            let bound = |name| given.attributes.float(name).expect("the cases give both bounds");
            given.x().hardtanh(bound("min_val"), bound("max_val"))
        }),
        unary("hardsigmoid", Tensor::hardsigmoid),
        unary("hardswish", Tensor::hardswish),
        unary("tanhshrink", Tensor::tanhshrink),
        with("softshrink", "lambd", 0.5, Tensor::softshrink),
        with("hardshrink", "lambd", 0.5, Tensor::hardshrink),
        Entry::new("threshold", |given: &Given| {
            let number = |name| given.attributes.float(name).expect("the case gives both numbers");
            given.x().threshold(number("threshold"), number("value"))
        }),
        Entry::new("prelu", |given: &Given| given.x().prelu(given.param("weight"))),
        Entry::new("glu", |given: &Given| given.x().glu(given.attributes.axis("dim"))),
        Entry::new("softmax", |given: &Given| given.x().softmax(given.attributes.axis("dim"))),
        Entry::new("log_softmax", |given: &Given| given.x().log_softmax(given.attributes.axis("dim"))),
    ]
}

fn pairs() -> Vec<Entry> {
    vec![
        binary("add", |a, b| a + b),
        binary("sub", |a, b| a - b),
        Entry::new("mul", |given: &Given| {
            let a = given.input("a");
            a * given.find_input("b").unwrap_or(a)
        }),
        Entry::new("div", |given: &Given| {
            let b = given.input("b");
            if let Some(numerator) = given.attributes.float("numerator") {
                return numerator / b;
            }
            let a = given.input("a");
            match given.attributes.text("rounding_mode") {
                // a − a mod b is a multiple of b, so that nothing is left to round.
                Some("floor") => (a - a % b) / b,
                _ => a / b,
            }
        }),
        binary("maximum", |a, b| a.maximum(b)),
        binary("minimum", |a, b| a.minimum(b)),
        binary("atan2", |a, b| a.atan2(b)),
        binary("remainder", |a, b| a % b),
        binary("hypot", Tensor::hypot),
        Entry::new("pow", |given: &Given| match given.attributes.float("exponent") {
            Some(exponent) => given.x().pow(exponent),
            None => given.input("a").pow(given.input("b")),
        }),
        binary("logaddexp", Tensor::logaddexp),
        Entry::new("lerp", |given: &Given| {
            let (a, b) = (given.input("a"), given.input("b"));
            match given.attributes.float("weight") {
                Some(weight) => a.lerp(b, weight),
                None => a.lerp(b, given.input("weight")),
            }
        }),
        Entry::new("clamp", |given: &Given| {
            let (x, low, high) = (given.x(), given.attributes.float("min"), given.attributes.float("max"));
            match (low, high) {
                (Some(low), Some(high)) => x.clamp(low, high),
                (Some(low), None) => x.clamp_min(low),
                (None, high) => x.clamp_max(high.expect("one of the bounds is there")),
            }
        }),
        Entry::new("where", |given: &Given| given.input("mask").select(given.input("a"), given.input("b"))),
        Entry::new("masked_fill", |given: &Given| {
            given.x().masked_fill(given.input("mask"), given.attributes.float("value").expect("the value"))
        }),
        binary("eq", |a, b| a.equal(b)),
        binary("ne", |a, b| a.not_equal(b)),
        binary("lt", |a, b| a.less(b)),
        binary("le", |a, b| a.less_equal(b)),
        binary("gt", |a, b| a.greater(b)),
        binary("ge", |a, b| a.greater_equal(b)),
        binary("logical_and", |a, b| a.logical_and(b)),
        binary("logical_or", |a, b| a.logical_or(b)),
        binary("logical_xor", |a, b| a.logical_xor(b)),
    ]
}

fn makers() -> Vec<Entry> {
    vec![
        Entry::new("arange", |given: &Given| {
            let number = |name| given.attributes.float(name).expect("the cases give start, end and step");
            let (start, end, step) = (number("start"), number("end"), number("step"));
            let dtype = dtype(given.attributes.text("dtype").expect("a dtype"));
            range(start, step, ((end - start) / step).ceil() as usize, dtype)
        }),
        Entry::new("linspace", |given: &Given| {
            let number = |name| given.attributes.float(name).expect("start and end");
            linspace(number("start"), number("end"), given.attributes.size("steps"))
        }),
        Entry::new("one_hot", |given: &Given| given.x().one_hot(given.attributes.size("num_classes")).to(DType::I64)),
        Entry::new("meshgrid", |given: &Given| {
            let (a, b) = (given.input("a").clone(), given.input("b").clone());
            let [first, second]: [Tensor; 2] = match given.attributes.text("indexing") {
                Some("xy") => {
                    let mut grids = meshgrid(&[b, a]);
                    grids.reverse();
                    grids
                }
                _ => meshgrid(&[a, b]),
            }
            .try_into()
            .expect("two axes make two grids");
            [("first", first), ("second", second)]
        }),
        Entry::new("cast", |given: &Given| given.x().to(dtype(given.attributes.text("dtype").expect("a dtype")))),
    ]
}

#[test]
fn elementwise() {
    let table: Vec<Entry> = [functions(), activations(), pairs(), makers()].into_iter().flatten().collect();
    assert!(check(&["elementwise"], &table, NOT_HERE) > 100);
}

#[test]
fn folds_and_order() {
    let scan = |operation, run: fn(&Tensor, i32) -> Tensor| {
        Entry::new(operation, move |given: &Given| run(given.x(), given.attributes.axis("dim")))
    };
    let place = |operation, run: fn(&Tensor, i32) -> Tensor| {
        Entry::new(operation, move |given: &Given| match given.attributes.int("dim") {
            Some(axis) => run(given.x(), axis as i32),
            None => run(&given.x().flatten(), 0),
        })
    };
    let pair = |(values, indices): (Tensor, Tensor)| [("values", values), ("indices", indices)];
    let correction = |given: &Given| given.attributes.float("correction").expect("a correction");
    let table = [
        fold("sum", |given, axes| given.x().sum(axes)),
        fold("mean", |given, axes| given.x().mean(axes)),
        fold("logsumexp", |given, axes| given.x().logsumexp(axes)),
        fold("max", |given, axes| given.x().max(axes)),
        fold("min", |given, axes| given.x().min(axes)),
        fold("prod", |given, axes| given.x().prod(axes)),
        fold("any", |given, axes| given.x().any(axes)),
        fold("all", |given, axes| given.x().all(axes)),
        fold("var", move |given, axes| given.x().var(axes, correction(given))),
        fold("std", move |given, axes| given.x().std(axes, correction(given))),
        fold("norm", |given, axes| {
            let order = given.attributes.text("ord").expect("an order").parse().expect("orders are numbers");
            given.x().norm_p(order, axes)
        }),
        scan("cumsum", Tensor::cumsum),
        scan("cumprod", Tensor::cumprod),
        place("argmax", Tensor::argmax),
        place("argmin", Tensor::argmin),
        Entry::new("sort", move |given: &Given| {
            pair(given.x().sort(given.attributes.axis("dim"), given.attributes.flag("descending")))
        }),
        Entry::new("argsort", |given: &Given| {
            given.x().argsort(given.attributes.axis("dim"), given.attributes.flag("descending"))
        }),
        Entry::new("topk", move |given: &Given| {
            let attributes = &given.attributes;
            pair(given.x().topk(attributes.size("k"), attributes.axis("dim"), attributes.flag("largest")))
        }),
        Entry::new("max_with_index", move |given: &Given| pair(given.x().max_with_index(given.attributes.axis("dim")))),
    ];
    assert!(check(&["reduce"], &table, &[]) > 80);
}

/// PyTorch's padding: amounts last axis first, negative ones cut off.
fn pad(given: &Given) -> Tensor {
    let amounts = given.attributes.ints("pad").expect("amounts");
    let mut x = given.x().clone();
    let mut kept = Vec::new();
    for (back, pair) in amounts.chunks(2).enumerate() {
        let axis = -1 - back as i32;
        let cut = |amount: i64| (-amount).max(0) as usize;
        x = x.narrow(axis, cut(pair[0]), x.size(axis) - cut(pair[0]) - cut(pair[1]));
        kept.insert(0, (pair[0].max(0) as usize, pair[1].max(0) as usize));
    }
    let mode = match given.attributes.text("mode") {
        Some("reflect") => PadMode::Reflect,
        Some("replicate") => PadMode::Replicate,
        Some("circular") => PadMode::Circular,
        _ => PadMode::Constant(given.attributes.float("value").unwrap_or(0.0)),
    };
    x.pad(&kept, mode)
}

fn parts(tensors: Vec<Tensor>) -> etude_golden::Outputs {
    let name = |(i, tensor): (usize, Tensor)| (format!("part{i}"), tensor);
    etude_golden::Outputs(tensors.into_iter().enumerate().map(name).collect())
}

fn shapes() -> Vec<Entry> {
    vec![
        Entry::new("reshape", |given: &Given| {
            let x = match given.attributes.axes("transpose") {
                Some(axes) => given.x().transpose(axes[0], axes[1]),
                None => given.x().clone(),
            };
            let sizes = given.attributes.ints("shape").expect("a shape");
            let known: i64 = sizes.iter().filter(|&&size| size >= 0).product();
            let rest = x.count() / known as usize;
            x.reshape(sizes.iter().map(|&size| usize::try_from(size).unwrap_or(rest)).collect::<Vec<_>>())
        }),
        Entry::new("flatten", |given: &Given| {
            let (start, end) = (given.attributes.size("start_dim"), given.attributes.size("end_dim"));
            let shape = given.x().shape();
            let middle = shape[start..=end].iter().product();
            given.x().reshape([&shape[..start], &[middle], &shape[end + 1..]].concat())
        }),
        Entry::new("squeeze", |given: &Given| given.x().squeeze(given.attributes.axis("dim"))),
        Entry::new("unsqueeze", |given: &Given| given.x().unsqueeze(given.attributes.axis("dim"))),
        Entry::new("transpose", |given: &Given| {
            given.x().transpose(given.attributes.axis("dim0"), given.attributes.axis("dim1"))
        }),
        Entry::new("permute", |given: &Given| given.x().permute(given.attributes.axes("dims").expect("axes"))),
        Entry::new("expand", |given: &Given| given.x().expand(given.attributes.sizes("size"))),
        Entry::new("slice", |given: &Given| {
            let list = |name| given.attributes.ints(name).expect("start, end and step are there");
            let (start, end, step) = (list("start"), list("end"), list("step"));
            (0..start.len()).fold(given.x().clone(), |x, i| x.slice(i as i32, start[i], end[i], step[i]))
        }),
        Entry::new("narrow", |given: &Given| {
            let attributes = &given.attributes;
            given.x().narrow(attributes.axis("dim"), attributes.size("start"), attributes.size("length"))
        }),
        Entry::new("select", |given: &Given| {
            given.x().at(given.attributes.axis("dim"), given.attributes.int("index").expect("an index"))
        }),
        Entry::new("split", |given: &Given| {
            parts(given.x().split(given.attributes.axis("dim"), &given.attributes.sizes("sizes")))
        }),
        Entry::new("chunk", |given: &Given| {
            parts(given.x().chunk(given.attributes.axis("dim"), given.attributes.size("chunks")))
        }),
        Entry::new("cat", |given: &Given| {
            cat(&given.inputs().values().cloned().collect::<Vec<_>>(), given.attributes.axis("dim"))
        }),
        Entry::new("stack", |given: &Given| {
            stack(&given.inputs().values().cloned().collect::<Vec<_>>(), given.attributes.axis("dim"))
        }),
        Entry::new("flip", |given: &Given| {
            given.attributes.axes("dims").expect("axes").iter().fold(given.x().clone(), |x, &axis| x.flip(axis))
        }),
        Entry::new("roll", |given: &Given| {
            let (shifts, axes) = (given.attributes.ints("shifts"), given.attributes.axes("dims"));
            let pairs = shifts.expect("shifts").into_iter().zip(axes.expect("axes"));
            pairs.fold(given.x().clone(), |x, (shift, axis)| x.roll(axis, shift))
        }),
        Entry::new("repeat", |given: &Given| given.x().repeat(&given.attributes.sizes("repeats"))),
        Entry::new("repeat_interleave", |given: &Given| {
            given.x().repeat_interleave(given.attributes.axis("dim"), given.attributes.size("repeats"))
        }),
        Entry::new("tril", |given: &Given| given.x().tril(given.attributes.int("diagonal").unwrap_or(0))),
        Entry::new("triu", |given: &Given| given.x().triu(given.attributes.int("diagonal").unwrap_or(0))),
        Entry::new("pixel_shuffle", |given: &Given| given.x().pixel_shuffle(given.attributes.size("upscale_factor"))),
        Entry::new("pad", pad),
    ]
}

#[test]
fn movement() {
    let at = |operation, run: fn(&Tensor, i32, &Given) -> Tensor| {
        Entry::new(operation, move |given: &Given| run(given.x(), given.attributes.axis("dim"), given))
    };
    let indexing = vec![
        at("gather", |x, axis, given| x.gather(axis, given.input("index"))),
        at("scatter", |x, axis, given| x.scatter(axis, given.input("index"), given.input("source"))),
        at("scatter_add", |x, axis, given| x.scatter_add(axis, given.input("index"), given.input("source"))),
        at("index_select", |x, axis, given| x.index_select(axis, given.input("index"))),
        at("index_add", |x, axis, given| x.index_add(axis, given.input("index"), given.input("source"))),
        Entry::new("embedding", |given: &Given| {
            let (weight, ids) = (given.param("weight"), given.input("index"));
            match given.attributes.int("padding_idx") {
                Some(padding) => embedding_padded(weight, ids, padding),
                None => embedding(weight, ids),
            }
        }),
    ];
    let table: Vec<Entry> = shapes().into_iter().chain(indexing).collect();
    assert!(check(&["movement"], &table, &[]) > 40);
}

#[test]
fn contract() {
    let table = [
        Entry::new("matmul", |given: &Given| {
            let (a, b) = (given.input("a"), given.input("b"));
            if given.attributes.has("transposed") { a.t().matmul(&b.t()) } else { a.matmul(b) }
        }),
        binary("bmm", Tensor::matmul),
        binary("outer", Tensor::outer),
        Entry::new("einsum", |given: &Given| {
            let operands: Vec<&Tensor> = given.inputs().values().collect();
            einsum(given.attributes.text("equation").expect("an equation"), &operands)
        }),
        Entry::new("linear", |given: &Given| {
            let y = given.x().matmul(&given.param("weight").t());
            given.find_param("bias").map_or(y.clone(), |bias| y + bias)
        }),
        Entry::new("bilinear", |given: &Given| {
            let (a, b) = (given.input("a"), given.input("b"));
            einsum("bi,oij,bj->bo", &[a, given.param("weight"), b]) + given.param("bias")
        }),
        Entry::new("cosine_similarity", |given: &Given| {
            given.input("a").cosine_similarity(given.input("b"), given.attributes.axis("dim"))
        }),
        Entry::new("normalize", |given: &Given| given.x().normalize(given.attributes.axis("dim"))),
    ];
    assert!(check(&["contract"], &table, &[]) > 30);
}

#[test]
fn resizing() {
    let interpolate = |given: &Given| {
        let attributes = &given.attributes;
        let align_corners = attributes.flag("align_corners");
        let mode = match attributes.text("mode").expect("a mode") {
            "nearest" => Interpolation::Nearest,
            "nearest-exact" => Interpolation::NearestExact,
            "bicubic" => Interpolation::Cubic { align_corners },
            _ => Interpolation::Linear { align_corners },
        };
        match attributes.float("scale_factor") {
            Some(scale) => given.x().interpolate_by(&vec![scale; given.x().rank() - 2], mode),
            None => given.x().interpolate(&attributes.sizes("size"), mode),
        }
    };
    let table = [
        Entry::new("interpolate", interpolate),
        Entry::new("grid_sample", |given: &Given| {
            let sampling = match given.attributes.text("mode") {
                Some("nearest") => Sampling::Nearest,
                _ => Sampling::Bilinear,
            };
            let outside = match given.attributes.text("padding_mode") {
                Some("border") => Outside::Border,
                Some("reflection") => Outside::Reflection,
                _ => Outside::Zeros,
            };
            given.x().grid_sample(given.input("grid"), sampling, outside, given.attributes.flag("align_corners"))
        }),
        Entry::new("affine_grid", |given: &Given| {
            let sizes = given.attributes.sizes("size");
            affine_grid(given.input("theta"), sizes[2], sizes[3], given.attributes.flag("align_corners"))
        }),
    ];
    assert!(check(&["resize"], &table, &[]) > 30);
}
