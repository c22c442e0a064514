//! The traps of lazy evaluation. Each test states the answer one would expect of ordinary, immediate arithmetic.

use etude_core::*;

#[test]
fn the_notes_backward_pass() {
    // y = w·x with x = 1, w = 10 and target 2: loss (2 − 10)² = 64, slope 16, and a step of 0.1 leads to 8.4.
    let (x, w) = (tensor(1.0), tensor(10.0).variable());
    let loss = (2.0 - &w * &x).square();
    assert_eq!(loss.item(), 64.0);
    let gradients = loss.backward().unwrap();
    let slope = gradients.get(&w).unwrap();
    assert_eq!(slope.item(), 16.0);
    assert!(((&w - slope * 0.1).item() - 8.4).abs() < 1e-6);
}

#[test]
fn a_tape_is_used_up_by_one_backward_unless_it_is_kept() {
    let x = tensor(3.0).variable();
    let y = &x * &x;
    assert_eq!(y.backward_keeping().unwrap().get(&x).unwrap().item(), 6.0);
    assert_eq!(y.backward().unwrap().get(&x).unwrap().item(), 6.0);
    assert_eq!(y.item(), 9.0);
    let error = y.backward().err().expect("the tape is gone").to_string();
    assert!(error.contains("used up") && error.contains("traps.rs"), "{error}");
}

#[test]
fn a_loss_may_be_read_before_backward() {
    let w = tensor([1.0, 2.0]).variable();
    let loss = w.square().sum(..);
    assert_eq!(loss.item(), 5.0);
    assert_eq!(loss.backward().unwrap().get(&w).unwrap().to_vec::<f32>(), [2.0, 4.0]);
}

#[test]
fn a_deep_graph_is_evaluated_and_dropped_without_a_deep_stack() {
    let mut x = tensor(0.0);
    for _ in 0..200_000 {
        x = x + 1.0;
    }
    assert_eq!(x.item(), 200_000.0);
    let w = tensor(1.0).variable();
    let mut y = w.clone();
    for _ in 0..50_000 {
        y = y * 1.0;
    }
    drop(y);
}

#[test]
fn numbers_that_change_do_not_recompile() {
    let x = tensor([1.0, 2.0, 3.0]);
    for i in 0..2_000 {
        let y = (&x * (i as f64)).sum(..);
        assert_eq!(y.item(), 6.0 * i as f64);
    }
}

#[test]
fn shapes_that_change_recompile_and_stay_right() {
    for n in 1..60 {
        assert_eq!(ones(n).sum(..).item(), n as f64);
    }
}

#[test]
fn a_held_tensor_is_not_overwritten_in_place() {
    let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0], 3);
    let held = x.clone();
    let y = &x + 1.0;
    drop(x);
    assert_eq!(y.to_vec::<f32>(), [2.0, 3.0, 4.0]);
    assert_eq!(held.to_vec::<f32>(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_view_of_donated_data_reads_the_old_values() {
    let mut x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0], 4);
    for _ in 0..5 {
        x = &x.flip(0) + &x * 10.0;
        x.eval().unwrap();
    }
    let mut plain = [1.0f32, 2.0, 3.0, 4.0];
    for _ in 0..5 {
        plain = std::array::from_fn(|i| plain[3 - i] + plain[i] * 10.0);
    }
    assert_eq!(x.to_vec::<f32>(), plain);
}

#[test]
fn what_is_shared_is_computed_once_and_held_results_are_kept() {
    let x = tensor([1.0, 2.0]);
    let shared = x.exp();
    let y = (&shared * 2.0).sum(..);
    y.eval().unwrap();
    assert!(shared.is_evaluated(), "a tensor somebody holds is kept by the plan that computes it");
}

#[test]
fn state_set_in_a_forward_pass_is_written_by_the_same_plan() {
    let running = State::new(tensor([0.0, 0.0]));
    for step in 1..=3 {
        let batch = tensor([[1.0, 2.0], [3.0, 4.0]]) * step as f64;
        let mean = batch.mean(0);
        running.set(running.get() * 0.9 + mean.detach() * 0.1);
        let loss = (batch - mean).square().sum(..);
        loss.eval().unwrap();
        assert!(running.get().is_evaluated(), "the state hangs on the graph that was evaluated");
    }
    let expected = |m: f64| ((m * 0.1) * 0.9 + 2.0 * m * 0.1) * 0.9 + 3.0 * m * 0.1;
    let found = running.get().to_vec::<f64>();
    assert!((found[0] - expected(2.0)).abs() < 1e-6 && (found[1] - expected(3.0)).abs() < 1e-6, "{found:?}");
}

#[test]
fn gradients_of_gradients() {
    // f = x³: f' = 3x², f'' = 6x, f''' = 6.
    let x = tensor(2.0).variable();
    let first = grad(&(&x * &x * &x), &[&x]).unwrap().remove(0);
    let second = grad(&first, &[&x]).unwrap().remove(0);
    let third = grad(&second, &[&x]).unwrap().remove(0);
    assert_eq!([first.item(), second.item(), third.item()], [12.0, 12.0, 6.0]);
}

#[test]
fn detach_and_no_grad_cut_the_way_back() {
    let w = tensor(3.0).variable();
    let y = &w * w.detach() + no_grad(|| w.square());
    assert_eq!(y.backward().unwrap().get(&w).unwrap().item(), 3.0);
    let blind = no_grad(|| w.square());
    let error = blind.backward().err().expect("nothing to differentiate").to_string();
    assert!(error.contains("no variable"), "{error}");
}

#[test]
fn an_operation_without_a_gradient_is_an_error_that_names_it() {
    let w = tensor([1.0, 2.0]).variable();
    let loss = w.greater(1.5).to(DType::F32).sum(..);
    let error = loss.backward().err().expect("a comparison has no gradient").to_string();
    assert!(error.contains("greater") && error.contains("traps.rs"), "{error}");
}

#[test]
fn shape_mistakes_name_operation_shapes_and_line() {
    let run = || ones([64, 400]).matmul(&ones([120, 84]));
    let payload = std::panic::catch_unwind(run).expect_err("the inner sizes differ");
    let text = payload.downcast_ref::<String>().expect("a message");
    assert!(text.contains("matmul: [64, 400] × [120, 84]: the inner sizes differ, 400 against 120"), "{text}");
    assert!(text.contains("traps.rs"), "{text}");
    let payload = std::panic::catch_unwind(|| ones([2, 3]) + ones([4])).expect_err("they do not broadcast");
    let text = payload.downcast_ref::<String>().expect("a message");
    assert!(text.contains("add: [2, 3] × [4]") && text.contains("axis −1 has 3 on one side and 4"), "{text}");
}

#[test]
fn eager_and_lazy_agree_on_a_slice_of_data() {
    let data = Tensor::from_slice(&(0..12).map(|i| i as f32).collect::<Vec<_>>(), [4, 3]);
    for row in 0..4 {
        let batch = data.narrow(0, row, 1);
        assert!(batch.is_evaluated(), "a view of data costs nothing");
        assert_eq!((batch * 2.0).sum(..).item(), 2.0 * (9 * row + 3) as f64);
    }
}

#[test]
fn results_are_the_same_bits_on_any_number_of_threads() {
    let run = |threads: usize| {
        etude_core::set_threads(threads);
        random::seed(5);
        let (a, b) = (randn([130, 257]), randn([257, 65]));
        let y = a.matmul(&b).tanh().sum(0) + randn([65]).exp();
        y.to_vec::<f32>().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
    etude_core::set_threads(0);
}

#[test]
fn a_graph_nobody_reads_is_flushed() {
    let mut total = zeros([1000, 100]);
    for _ in 0..12_000 {
        total = total + 1.0;
    }
    assert_eq!(total.to_vec::<f32>()[7], 12_000.0);
}

#[test]
fn state_carried_from_step_to_step_stays_one_plan() {
    // What is evaluated at every step is not a deep graph, however many steps there were.
    let (mut m, g) = (zeros(3), tensor([1.0, 2.0, 3.0]));
    m.eval().unwrap();
    for step in 0..6_000 {
        let next = &m * 0.5 + &g;
        assert!(!next.is_evaluated(), "evaluated early at step {step}");
        next.eval().unwrap();
        m = next;
    }
    assert_eq!(m.to_vec::<f32>(), [2.0, 4.0, 6.0]);
}

#[test]
fn tables_follow_the_numbers_they_are_made_from() {
    // A table of a plan is made once for the same numbers; it must not outlive a change of them, nor be overwritten.
    let x = tensor([1.0, 2.0, 3.0]);
    for i in [2, 2, 5, 5, 2] {
        let table = range(0.0, i as f64, 3, DType::F32).exp();
        let (y, mask) = (&x * &table, arange(3).unsqueeze(1).greater_equal(arange(3)).to(DType::F32));
        let folded = mask.matmul(&(&y * 0.0 + 1.0).unsqueeze(1)).to_vec::<f32>();
        let expected: Vec<f32> = (0..3).map(|j| (j + 1) as f32 * ((j * i) as f32).exp()).collect();
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * b.abs();
        assert!(y.to_vec::<f32>().iter().zip(&expected).all(close), "{i}");
        assert_eq!(folded, [1.0, 2.0, 3.0]);
    }
}

#[test]
fn what_depends_on_numbers_alone_is_no_step_of_a_plan() {
    let x = tensor(vec![vec![1.0; 8]; 8]);
    let steps = |y: Tensor| plan_summary(&[y]).unwrap().steps;
    let mask = arange(8).unsqueeze(1).less(arange(8)).to(DType::F32) * 3.0;
    assert_eq!(steps(&x + mask), 1);
    let product = || eye(8).matmul(&eye(8)); // what is held while the plan is made is a result of it
    assert_eq!(steps(&x + product()), 1);
    assert_eq!(steps(&x + ones([8, 8]) * 2.0), 1);
    // Random numbers are drawn anew each time.
    assert_eq!(steps(&x + randn([8, 8])), 2);
}

#[test]
fn elementwise_work_is_one_step_across_reshapes_that_split_axes() {
    let steps = |y: Tensor| plan_summary(&[y]).unwrap().steps;
    let x = tensor(vec![vec![vec![1.0, -2.0]; 12]; 2]);
    let (gamma, beta) = (tensor(vec![0.5; 12]), tensor(vec![0.1; 12]));
    // The statistics are one step, everything after them another.
    assert_eq!(steps(x.group_norm(3, Some(&gamma), Some(&beta), 1e-5).silu()), 2);
    assert_eq!(steps(((&x * 2.0).reshape([2, 3, 8]).relu().reshape([6, 8]) + 1.0).reshape([2, 24]).exp()), 1);
    // Axes that do not fit each other are left as they are.
    let y = ((&x * 2.0).reshape([16, 3]) + tensor([1.0, 2.0, 3.0])).reshape([3, 16]) * 2.0;
    let expected: Vec<f32> =
        (0..48).map(|i| 2.0 * ((if i % 2 == 0 { 2.0 } else { -4.0 }) + (i % 3 + 1) as f32)).collect();
    assert_eq!(y.to_vec::<f32>(), expected);
}
