//! Losses where PyTorch's answers do not reach: mistakes, extremes, second gradients, gradients at kinks.

use etude_core::{DType, Tensor, grad, tensor};
use etude_nn::loss::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the panic of `run` says.
fn refusal(run: impl Fn() -> Tensor) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("it should have been refused");
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn shapes_that_would_broadcast_are_refused() {
    let (column, row) = (tensor([[1.0], [2.0]]), tensor([1.0, 2.0]));
    let text = refusal(|| mse(&column, &row));
    assert!(text.contains("mse: [2, 1] against [2]"), "{text}");
    let text = refusal(|| cross_entropy(&tensor([[1.0, 2.0]]), &tensor([[0]])));
    assert!(text.contains("[1, 2] predictions want classes of shape [1], not [1, 1]"), "{text}");
    let text = refusal(|| nt_xent(&tensor([[1.0], [2.0], [3.0]]), 0.5));
    assert!(text.contains("not [3, 1]"), "{text}");
}

#[test]
fn a_class_outside_is_an_error_that_names_it() {
    let loss = cross_entropy(&tensor([[1.0, 2.0], [3.0, 4.0]]), &tensor([1, 2]));
    let text = loss.eval().expect_err("class 2 of 2 is outside").to_string();
    assert!(text.contains("target 1 is class 2; there are 2 classes"), "{text}");
    let loss = ctc(&tensor([[[0.5, 0.5]]]), &tensor([[5]]), &tensor([1]), &tensor([1]));
    let text = loss.eval().expect_err("label 5 of 2 is outside").to_string();
    assert!(text.contains("row 0, label 0 is 5"), "{text}");
}

#[test]
fn targets_of_any_whole_dtype() {
    let logits = tensor([[1.0, 2.0], [3.0, 4.0]]);
    let wanted = cross_entropy(&logits, &tensor([1, 0])).item();
    for dtype in [DType::I32, DType::U8] {
        assert_eq!(cross_entropy(&logits, &tensor([1, 0]).to(dtype)).item(), wanted);
    }
}

#[test]
fn certain_and_wrong_is_finite() {
    let p = tensor([0.0, 1.0, 1.0]).variable();
    let loss = binary_cross_entropy(&p, &tensor([1.0, 0.0, 1.0]));
    assert!((loss.item() - 200.0 / 3.0).abs() < 1e-4);
    let found = binary_cross_entropy(&p, &tensor([1.0, 0.0, 1.0])).backward().unwrap();
    assert!(found.get(&p).unwrap().to_vec::<f64>().iter().all(|g| g.is_finite()));
    let x = tensor([1e4, -1e4]).variable();
    assert_eq!(bce_with_logits(&x, &tensor([0.0, 1.0])).item(), 1e4);
    assert_eq!(bce_with_logits(&x, &tensor([1.0, 0.0])).item(), 0.0);
}

/// The second derivative of `−ln σ(x)` at 0 is ¼, where forms with |x| have a kink.
#[test]
fn logits_of_zero_have_a_second_gradient() {
    let x = Tensor::from_slice(&[0.0f64], [1]).variable();
    let loss = bce_with_logits(&x, &Tensor::from_slice(&[1.0f64], [1]));
    let first = grad(&loss, &[&x]).unwrap().remove(0);
    assert_eq!(first.item(), -0.5);
    assert_eq!(grad(&first.sum(..), &[&x]).unwrap()[0].item(), 0.25);
}

#[test]
fn everything_ignored_sums_to_nothing() {
    let x = tensor([[1.0, 2.0]]).variable();
    let options = CrossEntropy { reduction: Reduction::Sum, ..CrossEntropy::default() };
    assert_eq!(options.loss(&x, &tensor([-100])).item(), 0.0);
    let found = options.loss(&x, &tensor([-100])).backward().unwrap();
    assert_eq!(found.get(&x).unwrap().to_vec::<f64>(), [0.0, 0.0]);
}

#[test]
fn divergence_of_impossible_events_is_zero() {
    let q = tensor([[0.5, 0.5]]).ln();
    let found = kl_divergence(&q, &tensor([[1.0, 0.0]])).item();
    assert!((found - std::f64::consts::LN_2).abs() < 1e-6, "{found}");
}

#[test]
fn ctc_says_that_it_has_no_second_gradient() {
    let x = tensor([[[0.1, 0.9]], [[0.4, 0.6]]]).variable();
    let loss = ctc(&x.log_softmax(-1), &tensor([[1]]), &tensor([2]), &tensor([1]));
    let first = grad(&loss, &[&x]).unwrap().remove(0);
    let text = grad(&first.sum(..), &[&x]).expect_err("there is none").to_string();
    assert!(text.contains("ctc has no second gradient"), "{text}");
}

#[test]
fn poisson_rates_and_their_logarithms_agree() {
    let (x, t) = (tensor([0.3, -0.2, 1.1]), tensor([0.0, 2.0, 5.0]));
    let rates = PoissonNll { log_input: false, epsilon: 0.0, ..PoissonNll::default() };
    let (a, b) = (poisson_nll(&x, &t).item(), rates.loss(&x.exp(), &t).item());
    assert!((a - b).abs() < 1e-6, "{a} {b}");
    // With Stirling's term, close to −ln p: ln 2! and ln 5! by the approximation.
    let full = PoissonNll { full: true, reduction: Reduction::Sum, ..PoissonNll::default() }.loss(&x, &t).item();
    let exact = 3.0 * a + 2f64.ln() + 120f64.ln();
    assert!((full - exact).abs() < 0.06, "{full} {exact}");
}
