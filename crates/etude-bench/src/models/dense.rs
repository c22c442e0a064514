//! Dense layers with ReLU between them: workloads `tiny` and `mlp`.

use etude::prelude::*;

/// `sizes[0] → sizes[1] → …`, ReLU after all but the last.
pub fn dense(sizes: &[usize]) -> Sequential {
    let mut model = Sequential::new().add(Linear::new(sizes[0], sizes[1]).init());
    for pair in sizes[1..].windows(2) {
        model = model.add(Activation::Relu.layer()).add(Linear::new(pair[0], pair[1]).init());
    }
    model
}
