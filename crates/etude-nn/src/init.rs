//! How parameters start. Each initialiser is a function of shape, random state and nothing else.

use etude_core::{DType, Shape, Tensor, eye, full, randn, truncated_normal, uniform};

/// How a parameter starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Init {
    /// 0 everywhere.
    Zeros,
    /// 1 everywhere.
    Ones,
    /// This number everywhere.
    Constant(f64),
    /// Uniform between two numbers.
    Uniform(f64, f64),
    /// Normal with this mean and standard deviation.
    Normal(f64, f64),
    /// Normal with this mean and standard deviation, cut at two deviations.
    TruncatedNormal(f64, f64),
    /// Uniform on ±`gain·√(6/(fan_in+fan_out))` (Glorot and Bengio, 2010).
    XavierUniform(f64),
    /// Normal with deviation `gain·√(2/(fan_in+fan_out))` (Glorot and Bengio, 2010).
    XavierNormal(f64),
    /// Uniform on ±`gain·√(3/fan_in)`; `gain` is √2 for ReLU (He et al., 2015).
    HeUniform(f64),
    /// Normal with deviation `gain/√fan_in`; `gain` is √2 for ReLU (He et al., 2015).
    HeNormal(f64),
    /// Rows or columns orthonormal, times this gain (Saxe et al., 2014).
    Orthogonal(f64),
    /// The identity matrix: a recurrent layer that starts by remembering (Le et al., 2015).
    Identity,
    /// PyTorch's default for weights and biases: uniform on ±`1/√fan`, where the number is the fan.
    Fan(usize),
}

impl Init {
    /// A tensor of `shape` (a weight: output axis first, then input axis, then the kernel's) that starts this way, `f32`.
    ///
    /// # Panics
    /// If a matrix is needed and `shape` has fewer than two axes.
    #[track_caller]
    pub fn make(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        let spread = |bound: f64| (uniform(shape) * 2.0 - 1.0) * bound;
        match *self {
            Init::Zeros => full(shape, 0.0),
            Init::Ones => full(shape, 1.0),
            Init::Constant(value) => full(shape, value),
            Init::Uniform(low, high) => uniform(shape) * (high - low) + low,
            Init::Normal(mean, std) => randn(shape) * std + mean,
            Init::TruncatedNormal(mean, std) => truncated_normal(shape, 2.0) * std + mean,
            Init::XavierUniform(gain) => {
                let (fan_in, fan_out) = fans(&shape);
                spread(gain * (6.0 / (fan_in + fan_out)).sqrt())
            }
            Init::XavierNormal(gain) => {
                let (fan_in, fan_out) = fans(&shape);
                randn(shape) * (gain * (2.0 / (fan_in + fan_out)).sqrt())
            }
            Init::HeUniform(gain) => spread(gain * (3.0 / fans(&shape).0).sqrt()),
            Init::HeNormal(gain) => randn(shape) * (gain / fans(&shape).0.sqrt()),
            Init::Orthogonal(gain) => orthogonal(&shape) * gain,
            Init::Identity => {
                let (rows, columns) = (shape[0], shape[1..].iter().product::<usize>());
                let square = eye(rows.max(columns));
                square.narrow(0, 0, rows).narrow(1, 0, columns).reshape(shape)
            }
            Init::Fan(fan) => spread(1.0 / (fan.max(1) as f64).sqrt()),
        }
    }
}

/// How many inputs and outputs one weight connects: `[out, in, kernel…]`.
#[track_caller]
fn fans(shape: &Shape) -> (f64, f64) {
    assert!(shape.rank() >= 2, "this initialiser needs a matrix or a kernel, not {shape}");
    let field: usize = shape[2..].iter().product();
    ((shape[1] * field) as f64, (shape[0] * field) as f64)
}

/// A random matrix with orthonormal rows (or columns, if there are fewer of them): Gram and Schmidt on normal vectors,
/// twice for accuracy, in f64.
#[track_caller]
fn orthogonal(shape: &Shape) -> Tensor {
    assert!(shape.rank() >= 2, "an orthogonal start needs a matrix or a kernel, not {shape}");
    let (rows, columns) = (shape[0], shape[1..].iter().product::<usize>());
    let (few, long) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> =
        randn([few, long]).to_vec::<f64>().chunks(long.max(1)).map(<[f64]>::to_vec).collect();
    for i in 0..vectors.len() {
        let (before, rest) = vectors.split_at_mut(i);
        let vector = &mut rest[0];
        for _ in 0..2 {
            for other in before.iter() {
                let dot: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
            }
            let norm = vector.iter().map(|a| a * a).sum::<f64>().sqrt();
            vector.iter_mut().for_each(|a| *a /= norm);
        }
    }
    let flat: Vec<f64> = vectors.concat();
    let matrix = Tensor::from_slice(&flat, [few, long]).to(DType::F32);
    if rows <= columns { matrix.reshape(*shape) } else { matrix.t().reshape(*shape) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_rows_or_columns() {
        for shape in [[4usize, 9], [9, 4], [5, 5]] {
            let w = Init::Orthogonal(1.0).make(shape).to(DType::F64);
            let gram = if shape[0] <= shape[1] { w.matmul(&w.t()) } else { w.t().matmul(&w) };
            let error = (gram - eye(4.min(shape[0]).max(shape[0].min(shape[1]))).to(DType::F64)).abs().max(..).item();
            assert!(error < 1e-6, "{error}");
        }
    }

    #[test]
    fn spreads_are_what_they_say() {
        etude_core::random::seed(3);
        let deviation = |init: Init| init.make([200, 300]).std(.., 0.0).item();
        assert!((deviation(Init::HeNormal(1.0)) * 300f64.sqrt() - 1.0).abs() < 0.02);
        assert!((deviation(Init::XavierUniform(1.0)) * 250f64.sqrt() - 1.0).abs() < 0.02);
        assert!((deviation(Init::Fan(300)) * 900f64.sqrt() - 1.0).abs() < 0.02);
        // A normal cut at two deviations has a deviation of 0.8796.
        assert!((deviation(Init::TruncatedNormal(0.0, 1.0)) - 0.8796).abs() < 0.01);
        assert_eq!(Init::Identity.make([2, 3]).to_vec::<f32>(), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }
}
