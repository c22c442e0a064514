//! The neutral container that readers fill: a shape, and values in row-major order.

use crate::{Error, Result};

/// The values of an [`Array`], one vector per element type.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Bytes: pixels.
    U8(Vec<u8>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 32-bit signed integers.
    I32(Vec<i32>),
    /// 64-bit signed integers.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
}

impl Values {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Values::U8(v) => v.len(),
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
            Values::I32(v) => v.len(),
            Values::I64(v) => v.len(),
            Values::Bool(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The short lower-case name of the element type, as in `f32`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Values::U8(_) => "u8",
            Values::F32(_) => "f32",
            Values::F64(_) => "f64",
            Values::I32(_) => "i32",
            Values::I64(_) => "i64",
            Values::Bool(_) => "bool",
        }
    }
}

/// A shape and its values, in row-major order; `values.len()` is the product of `shape`.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The length of each dimension; empty for a single value.
    pub shape: Vec<usize>,
    /// The values, the last dimension running fastest.
    pub values: Values,
}

/// The number of elements of `shape`, or `None` when it does not fit a `usize`.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length))
}

impl Array {
    /// An array of `shape`, which must have as many elements as there are `values`.
    pub fn new(shape: impl Into<Vec<usize>>, values: Values) -> Result<Array> {
        let shape = shape.into();
        if element_count(&shape) != Some(values.len()) {
            let problem = format!("the shape {shape:?} does not hold {} values", values.len());
            return Err(Error::new("array", problem, "give a shape whose product is the number of values"));
        }
        Ok(Array { shape, values })
    }

    /// The length of the first dimension: how many rows there are; 1 for a single value.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The number of values in one row: the product of all dimensions but the first.
    pub fn row_size(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// The rows at `indices`, in that order, repeats allowed. Panics on an index out of range, as indexing does.
    pub fn gather(&self, indices: &[usize]) -> Array {
        let size = self.row_size();
        fn pick<T: Copy>(values: &[T], indices: &[usize], size: usize) -> Vec<T> {
            let mut out = Vec::with_capacity(indices.len() * size);
            for &index in indices {
                out.extend_from_slice(&values[index * size..(index + 1) * size]);
            }
            out
        }
        for &index in indices {
            assert!(index < self.rows(), "row {index} of an array with {} rows", self.rows());
        }
        let values = match &self.values {
            Values::U8(v) => Values::U8(pick(v, indices, size)),
            Values::F32(v) => Values::F32(pick(v, indices, size)),
            Values::F64(v) => Values::F64(pick(v, indices, size)),
            Values::I32(v) => Values::I32(pick(v, indices, size)),
            Values::I64(v) => Values::I64(pick(v, indices, size)),
            Values::Bool(v) => Values::Bool(pick(v, indices, size)),
        };
        let mut shape = self.shape.clone();
        match shape.first_mut() {
            Some(rows) => *rows = indices.len(),
            None => shape.push(indices.len()),
        }
        Array { shape, values }
    }

    /// Appends row `index` to `out` as what a model reads: bytes divided by 255, so that pixels lie in 0..=1; every
    /// other type converted as it is.
    pub fn push_row(&self, index: usize, out: &mut Vec<f32>) {
        let size = self.row_size();
        let range = index * size..(index + 1) * size;
        match &self.values {
            Values::U8(v) => out.extend(v[range].iter().map(|&x| f32::from(x) / 255.0)),
            Values::F32(v) => out.extend_from_slice(&v[range]),
            Values::F64(v) => out.extend(v[range].iter().map(|&x| x as f32)),
            Values::I32(v) => out.extend(v[range].iter().map(|&x| x as f32)),
            Values::I64(v) => out.extend(v[range].iter().map(|&x| x as f32)),
            Values::Bool(v) => out.extend(v[range].iter().map(|&x| f32::from(u8::from(x)))),
        }
    }

    /// The same array as 32-bit floats, by the rule of [`Array::push_row`].
    pub fn to_f32(&self) -> Array {
        let mut values = Vec::with_capacity(self.values.len());
        if self.shape.is_empty() {
            self.push_row(0, &mut values);
        }
        for row in 0..self.shape.first().copied().unwrap_or(0) {
            self.push_row(row, &mut values);
        }
        Array { shape: self.shape.clone(), values: Values::F32(values) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_must_fit_its_values() {
        assert!(Array::new([2, 3], Values::U8(vec![0; 6])).is_ok());
        assert!(Array::new([], Values::U8(vec![7])).is_ok());
        assert!(Array::new([usize::MAX, 0, 3], Values::U8(vec![])).is_ok());
        assert!(Array::new([2, 3], Values::U8(vec![0; 5])).is_err());
        assert!(Array::new([usize::MAX, 2], Values::U8(vec![0; 6])).is_err());
    }

    #[test]
    fn gathering_keeps_order_and_repeats() {
        let array = Array::new([3, 2], Values::I32(vec![1, 2, 3, 4, 5, 6])).unwrap();
        let picked = array.gather(&[2, 0, 2]);
        assert_eq!(picked, Array::new([3, 2], Values::I32(vec![5, 6, 1, 2, 5, 6])).unwrap());
        assert_eq!(array.gather(&[]).shape, [0, 2]);
    }

    #[test]
    fn bytes_become_floats_up_to_one() {
        let array = Array::new([3], Values::U8(vec![0, 51, 255])).unwrap();
        assert_eq!(array.to_f32().values, Values::F32(vec![0.0, 0.2, 1.0]));
        let single = Array::new([], Values::F64(vec![2.5])).unwrap();
        assert_eq!(single.to_f32().values, Values::F32(vec![2.5]));
        let truth = Array::new([2], Values::Bool(vec![true, false])).unwrap();
        assert_eq!(truth.to_f32().values, Values::F32(vec![1.0, 0.0]));
    }
}
