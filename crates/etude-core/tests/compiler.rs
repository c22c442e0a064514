//! What the compiler's passes make of graphs with a known best answer: how many steps, how much memory, which numbers.

use etude_core::*;
use std::hash::Hasher;

fn plan(tensors: &[Tensor]) -> PlanSummary {
    plan_summary(tensors).expect("a plan")
}

/// `a·x + b·y` and `a·x − b·y` for numbers `a` and `b`, and a half that is its own.
#[derive(Debug)]
struct Mixed;

impl Operation for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }
    fn attributes(&self, _state: &mut dyn Hasher) {}
    fn outputs(&self, inputs: &[Meta]) -> std::result::Result<Vec<Meta>, String> {
        Ok(vec![inputs[2]; 2])
    }
    fn kind(&self) -> Kind {
        Kind::Composite
    }
    fn meaning(&self, inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        let [a, b, x, y] = inputs else { return None };
        Some(vec![a * x + b * y * 0.5, (a * x - b * y * 0.5).gelu()])
    }
}

#[test]
fn a_composite_is_one_node_to_record_and_as_many_steps_as_its_meaning() {
    let (x, y) = (tensor([1.0, 2.0, 3.0]).variable(), tensor([4.0, 5.0, 6.0]).variable());
    for step in 1..5 {
        let (a, b) = (Tensor::scalar(step as f64, DType::F32), Tensor::scalar(2.0 * step as f64, DType::F32));
        let mixed = Tensor::record_many(Mixed, &[&a, &b, &x, &y]);
        let written = by_meaning(&mixed).expect("it has a meaning");
        assert_eq!(plan(&mixed).steps, 1);
        let loss = (&mixed[0] * &mixed[1]).sum(..);
        let gradients = loss.backward_keeping().unwrap();
        let expected = (&written[0] * &written[1]).sum(..).backward_keeping().unwrap();
        for variable in [&x, &y] {
            let (found, wanted) = (gradients.get(variable).unwrap(), expected.get(variable).unwrap());
            assert_eq!(found.to_vec::<f32>(), wanted.to_vec::<f32>());
        }
        assert_eq!(mixed[0].to_vec::<f32>(), written[0].to_vec::<f32>());
        assert_eq!(mixed[1].to_vec::<f32>(), written[1].to_vec::<f32>());
    }
}

#[test]
fn gradients_are_used_as_soon_as_they_are_there() {
    // Eight weights of 64 KiB; of each gradient only its norm is wanted. Activations are 2 KiB each.
    let weights: Vec<Tensor> = (0..8).map(|_| (randn([128, 128]) * 0.1).variable()).collect();
    let mut x = randn([4, 128]);
    Tensor::eval_all(&weights).unwrap();
    x.eval().unwrap();
    for weight in &weights {
        x = x.matmul(weight).tanh();
    }
    let gradients = x.square().sum(..).backward().unwrap();
    let norms: Vec<Tensor> = weights.iter().map(|w| gradients.get(w).unwrap().square().sum(..)).collect();
    drop(gradients);
    let peak = plan(&norms).peak_bytes;
    assert!(peak < 2 * 65536 + 20 * 2048, "{peak} bytes: more than a gradient or two are alive at once");
}

/// Blocks of a product, batch norm, GELU and a sum with the block's input; `look` sees every intermediate result.
fn blocks(x: &Tensor, weights: &[Tensor], look: &mut dyn FnMut(&Tensor)) -> Tensor {
    let mut x = x.clone();
    for weight in weights {
        let product = x.matmul(weight);
        look(&product);
        let normal = product.batch_norm(None, None, 1e-5).0;
        look(&normal);
        let bent = normal.gelu();
        look(&bent);
        x = (&x + bent.matmul(weight)).maximum(0.0);
        look(&x);
    }
    x.square().mean(..)
}

#[test]
fn what_is_computed_anew_has_the_bits_of_what_was_kept() {
    let weights: Vec<Tensor> = (0..5).map(|_| (randn([64, 64]) * 0.2).variable()).collect();
    let x = randn([96, 64]).variable();
    Tensor::eval_all(&weights).unwrap();
    x.eval().unwrap();
    let of = |look: &mut dyn FnMut(&Tensor)| -> Vec<Vec<f32>> {
        let gradients = blocks(&x, &weights, look).backward().unwrap();
        let wanted: Vec<Tensor> = weights.iter().chain([&x]).map(|v| gradients.get(v).unwrap().clone()).collect();
        Tensor::eval_all(&wanted).unwrap();
        wanted.iter().map(|gradient| gradient.to_vec()).collect()
    };
    // What somebody holds is kept; evaluated step by step, nothing can be computed anew.
    let mut held = Vec::new();
    let kept = of(&mut |tensor| {
        tensor.eval().unwrap();
        held.push(tensor.clone());
    });
    assert_eq!(of(&mut |_| ()), kept);
}

#[test]
fn of_an_activation_only_its_argument_is_kept() {
    // Six blocks with results of 64 KiB. For the way back each keeps its product and its sum; what is rectified, normal
    // or bent is computed anew, but for the last three blocks, whose turn comes too soon.
    let weights: Vec<Tensor> = (0..6).map(|_| (randn([64, 64]) * 0.2).variable()).collect();
    let x = randn([256, 64]);
    Tensor::eval_all(&weights).unwrap();
    x.eval().unwrap();
    let gradients = blocks(&x, &weights, &mut |_| ()).backward().unwrap();
    let norms: Vec<Tensor> = weights.iter().map(|w| gradients.get(w).unwrap().square().sum(..)).collect();
    drop(gradients);
    let peak = plan(&norms).peak_bytes;
    let unit = 256 * 64 * 4;
    assert!(peak <= (2 * 6 + 2 * 3 + 4) * unit, "{peak} bytes are {} results", peak / unit);
}

/// `rows`, moved, times a weight; and the gradients of the table and of the weight.
fn products_of(rows: &Tensor, table: &Tensor, weight: &Tensor, is_turned: bool) -> Vec<Tensor> {
    // [6, N/6, D] picked, the first two axes exchanged.
    let rows = rows.reshape([6, rows.size(0) / 6, rows.size(1)]).transpose(0, 1);
    let y = rows.matmul(&if is_turned { weight.t() } else { weight.clone() });
    let gradients = y.tanh().square().sum(..).backward_keeping().unwrap();
    vec![y, gradients.get(table).unwrap().clone(), gradients.get(weight).unwrap().clone()]
}

#[test]
fn rows_are_picked_of_the_product_where_the_table_is_small() {
    // The last row is named from the end, the third by nobody.
    let numbers: Vec<i64> = (0..24).map(|i| [0, 1, 3, -1][i * i % 7 % 4]).collect();
    let hot: Vec<f64> =
        numbers.iter().flat_map(|&id| (0..5).map(move |j| (j == id.rem_euclid(5)) as u8 as f64)).collect();
    let draw = |shape: [usize; 2]| Tensor::from_slice(&randn(shape).to_vec::<f64>(), shape);
    let ids = Tensor::from_slice(&numbers, 24);
    let many = Tensor::from_slice(&(0..2046).map(|i| i % 100).collect::<Vec<i64>>(), 2046);
    for is_turned in [false, true] {
        let sizes = |a, b| if is_turned { [b, a] } else { [a, b] };
        let (table, weight) = (draw([5, 32]).variable(), draw(sizes(32, 5)).variable());
        let found = products_of(&table.index_select(0, &ids), &table, &weight, is_turned);
        // The same rows by a product with one-hot vectors, which is no picking.
        let wanted = products_of(&Tensor::from_slice(&hot, [24, 5]).matmul(&table), &table, &weight, is_turned);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found.shape(), wanted.shape());
            for (a, b) in found.to_vec::<f64>().iter().zip(wanted.to_vec::<f64>()) {
                assert!((a - b).abs() < 1e-13 * (1.0 + b.abs()), "{a} {b}");
            }
        }
        // Neither the rows nor their gradient are even made: each would be 8 MB.
        let (table, weight) = (draw([100, 512]).variable(), draw(sizes(512, 4)).variable());
        let results = products_of(&table.index_select(0, &many), &table, &weight, is_turned);
        let summary = plan(&results);
        assert!(summary.peak_bytes < 2_000_000, "{summary:?}");
    }
    // A large table is left alone: its product would take longer than that of the rows.
    let (table, weight) = (draw([100, 512]), draw([512, 4]));
    let product = table.index_select(0, &many.narrow(0, 0, 150)).matmul(&weight);
    let few = plan(&[product]);
    assert!(few.peak_bytes > 150 * 512 * 8, "{few:?}");
}

#[test]
fn a_number_out_of_range_is_reported_where_rows_are_picked() {
    let (table, weight) = (randn([3, 32]), randn([32, 4]));
    let ids = Tensor::from_slice(&[0i64, 1, 2, 0, 1, 7], 6);
    let line = line!() + 1;
    let rows = table.index_select(0, &ids);
    let message = rows.matmul(&weight).eval().expect_err("7 is outside").to_string();
    for part in ["index 7", "position 5", "size 3", &format!("compiler.rs:{line}")] {
        assert!(message.contains(part), "{message}");
    }
}
