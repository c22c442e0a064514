//! The thirteen models are the peers' models, and they learn.

use etude_bench::workload::fill_with_pattern;
use etude_bench::{Setting, WORKLOADS};

const SMALL: Setting = Setting { small: true, pattern: true };

#[test]
fn parameters_are_as_many_as_the_peers() {
    assert_eq!(WORKLOADS.len(), 13);
    for workload in WORKLOADS {
        let task = workload.build(&SMALL);
        assert_eq!(task.model.parameter_count(), workload.parameters, "{}", workload.name);
    }
}

#[test]
fn losses_fall() {
    for workload in WORKLOADS {
        let mut task = workload.build(&SMALL);
        fill_with_pattern(&*task.model);
        let losses: Vec<f64> = (0..6).map(|_| task.step().unwrap()).collect();
        let (first, last) = (losses[0], losses[5]);
        assert!(last.is_finite() && last < first, "{}: {losses:?}", workload.name);
    }
}
