//! Every operation, one file each (elementwise ones share a table). To add one: write its file, add its `rows()` line
//! below; documentation, gradient checks, shape fuzzing and references follow from the row.

pub mod activation;
pub mod arg;
pub mod attention;
pub mod binary;
pub mod cast;
pub(crate) mod channels;
pub mod conv;
pub mod create;
mod cross_entropy;
pub mod ctc;
pub mod dropout;
pub mod einsum;
pub mod grid;
pub mod index;
mod linear;
pub mod lrn;
pub mod matmul;
pub mod norm;
pub mod packed;
pub mod patches;
pub mod pool;
pub mod recurrent;
pub mod reduce;
pub mod resize;
pub mod scan;
pub mod select;
pub mod similarity;
pub mod softmax;
pub mod sort;
pub mod spatial;
pub mod unary;
pub mod view;
pub mod window;

use crate::{DType, Shape, Tensor};

/// One line of the operations table: an operation and the cases it is tested on.
pub struct Row {
    /// The name the operation records under.
    pub name: &'static str,
    /// Calls of it, from which tests are derived.
    pub cases: Vec<Case>,
}

/// The table of operations. Tests fail when a recorded operation has no row here.
pub fn table() -> Vec<Row> {
    let files = [
        unary::rows,
        binary::rows,
        select::rows,
        cast::rows,
        view::rows,
        window::rows,
        reduce::rows,
        matmul::rows,
        packed::rows,
        linear::rows,
        create::rows,
        arg::rows,
        softmax::rows,
        cross_entropy::rows,
        conv::rows,
        channels::rows,
        pool::rows,
        patches::rows,
        lrn::rows,
        dropout::rows,
        attention::rows,
        activation::rows,
        index::rows,
        scan::rows,
        sort::rows,
        einsum::rows,
        resize::rows,
        grid::rows,
        similarity::rows,
        ctc::rows,
        norm::rows,
        recurrent::rows,
    ];
    files.iter().flat_map(|rows| rows()).collect()
}

/// One call of an operation on inputs the test draws, with what is known about the result.
pub struct Case {
    /// What the case shows, for messages.
    pub name: String,
    /// The shapes of the inputs.
    pub shapes: Vec<Shape>,
    /// The dtype inputs are drawn in; gradient checks run floats in f64.
    pub dtype: DType,
    /// The interval inputs are drawn from.
    pub domain: (f64, f64),
    /// The call.
    pub run: Box<dyn Fn(&[Tensor]) -> Tensor + Send + Sync>,
    /// The plain reference: row-major inputs in, row-major output out.
    pub reference: Option<Box<dyn Fn(&[Vec<f64>]) -> Vec<f64> + Send + Sync>>,
    /// The same function by other operations: what it means. Held against the call on f32 and f64, with its gradient.
    pub meaning: Option<Box<dyn Fn(&[Tensor]) -> Tensor + Send + Sync>>,
    /// Other shapes the call takes, drawn with a function that gives a number between two.
    pub draw: Option<Box<dyn Fn(&mut dyn FnMut(usize, usize) -> usize) -> Vec<Shape> + Send + Sync>>,
    /// Whether two-sided differences must agree with the gradient.
    pub smooth: bool,
    /// Whether differences of the gradient must agree with the second gradient.
    pub twice: bool,
}

impl Case {
    /// A case over floating inputs of these shapes, drawn from [−2, 2], smooth, checked to second order.
    pub fn new(
        name: impl Into<String>,
        shapes: &[&[usize]],
        run: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static,
    ) -> Case {
        Case {
            name: name.into(),
            shapes: shapes.iter().map(|&shape| Shape::new(shape)).collect(),
            dtype: DType::F64,
            domain: (-2.0, 2.0),
            run: Box::new(run),
            reference: None,
            meaning: None,
            draw: None,
            smooth: true,
            twice: true,
        }
    }

    /// Draws inputs from `[low, high]`.
    pub fn domain(mut self, low: f64, high: f64) -> Case {
        self.domain = (low, high);
        self
    }

    /// Draws inputs of `dtype`.
    pub fn dtype(mut self, dtype: DType) -> Case {
        self.dtype = dtype;
        self
    }

    /// Holds the result against a plain reference.
    pub fn reference(mut self, reference: impl Fn(&[Vec<f64>]) -> Vec<f64> + Send + Sync + 'static) -> Case {
        self.reference = Some(Box::new(reference));
        self
    }

    /// Holds the result and its gradient against the same function by other operations, in f32 and f64. An operation
    /// with a [`meaning`](crate::Operation::meaning) is held against that without being told.
    pub fn against(mut self, meaning: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static) -> Case {
        self.meaning = Some(Box::new(meaning));
        self
    }

    /// Runs comparisons with a meaning on random shapes too: `draw` makes them with a function that gives a number
    /// between two, both included.
    pub fn draw(
        mut self,
        draw: impl Fn(&mut dyn FnMut(usize, usize) -> usize) -> Vec<Shape> + Send + Sync + 'static,
    ) -> Case {
        self.draw = Some(Box::new(draw));
        self
    }

    /// Not a function that can be differentiated.
    pub fn discrete(mut self) -> Case {
        self.smooth = false;
        self
    }

    /// Checked to first order only: second differences are not stable here.
    pub fn once(mut self) -> Case {
        self.twice = false;
        self
    }
}
