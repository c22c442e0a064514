//! [`Tensor`]: a handle to a recorded or evaluated array; making, reading and inspecting tensors.

use crate::node::{Inputs, Node, Source, Value};
use crate::operation::{Meta, Operation};
use crate::{DType, Result, Shape, Window, context, runtime};
use etude_kernels::tile::Scalar;
use etude_kernels::{Buffer, Element};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

/// An n-dimensional array, recorded lazily and evaluated as part of a planned whole when somebody reads it.
///
/// Cloning is cheap: a tensor is a handle. Tensors never change; operations make new ones.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) node: Arc<Node>,
    pub(crate) output: u32,
}

impl Tensor {
    pub(crate) fn from_node(node: Arc<Node>) -> Tensor {
        Tensor { node, output: 0 }
    }

    /// Shape and dtype.
    pub fn meta(&self) -> Meta {
        self.node.outputs[self.output as usize]
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> Shape {
        self.meta().shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.meta().dtype
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.shape().rank()
    }

    /// The size of axis `axis`; negative numbers count from the end.
    #[track_caller]
    pub fn size(&self, axis: i32) -> usize {
        let shape = self.shape();
        shape[self.axis("size", axis)]
    }

    /// How many elements.
    pub fn count(&self) -> usize {
        self.shape().count()
    }

    /// The position of `axis`, or a panic that names the operation and the caller's line.
    #[track_caller]
    pub(crate) fn axis(&self, operation: &str, axis: i32) -> usize {
        self.shape().axis(axis).unwrap_or_else(|message| panic!("{operation}: {message}"))
    }

    /// Whether a gradient can flow through this tensor to a variable.
    pub fn requires_grad(&self) -> bool {
        self.node.requires_grad
    }

    /// A tensor that holds `values` in row-major order, of the values' own dtype.
    ///
    /// # Panics
    /// If `values` does not have as many elements as `shape`.
    #[track_caller]
    pub fn from_slice<T: Element>(values: &[T], shape: impl Into<Shape>) -> Tensor {
        Tensor::from_buffer(Buffer::from_slice(values), shape.into(), T::DTYPE)
    }

    /// A tensor of truth values in row-major order.
    #[track_caller]
    pub fn from_bools(values: &[bool], shape: impl Into<Shape>) -> Tensor {
        let bytes: Vec<u8> = values.iter().map(|&value| value as u8).collect();
        Tensor::from_buffer(Buffer::from_slice(&bytes), shape.into(), DType::Bool)
    }

    /// A tensor whose elements, in row-major order and this machine's byte order, are `bytes`.
    #[track_caller]
    pub fn from_bytes(bytes: &[u8], shape: Shape, dtype: DType) -> Tensor {
        Tensor::from_buffer(Buffer::from_slice(bytes), shape, dtype)
    }

    /// The elements' bytes in row-major order.
    #[track_caller]
    pub fn to_bytes(&self) -> Vec<u8> {
        let value = self.evaluated();
        fn bytes<T: Element>(value: &Value) -> Vec<u8> {
            Buffer::from_slice(&read::<T, T>(&value.storage, &value.window)).as_slice::<u8>().to_vec()
        }
        match self.dtype() {
            DType::F32 => bytes::<f32>(&value),
            DType::F64 => bytes::<f64>(&value),
            DType::I32 => bytes::<i32>(&value),
            DType::I64 => bytes::<i64>(&value),
            DType::U8 | DType::Bool => bytes::<u8>(&value),
        }
    }

    /// A tensor over `buffer`, which holds the elements of `shape` in row-major order.
    #[track_caller]
    pub fn from_buffer(buffer: Buffer, shape: Shape, dtype: DType) -> Tensor {
        let (given, wanted) = (buffer.bytes() / dtype.size(), shape.count());
        assert!(given == wanted, "tensor: {given} values cannot fill {shape}, which has {wanted} elements");
        let value = Value { storage: Arc::new(buffer), window: Window::contiguous(shape) };
        Tensor::from_node(Node::leaf(Meta { shape, dtype }, value, false, Location::caller()))
    }

    /// A number as a tensor without axes, of dtype `dtype`. Its value is an input of every plan, never part of its key:
    /// a number that changes every step costs no recompiling.
    #[track_caller]
    pub fn scalar(value: f64, dtype: DType) -> Tensor {
        let scalar = if dtype.is_float() { Scalar::Float(value) } else { Scalar::Int(value as i64) };
        Tensor::from_node(Node::scalar(Meta { shape: Shape::scalar(), dtype }, scalar, Location::caller()))
    }

    /// A whole number as an `i64` tensor without axes, exact in 64 bits.
    #[track_caller]
    pub fn scalar_int(value: i64) -> Tensor {
        let meta = Meta { shape: Shape::scalar(), dtype: DType::I64 };
        Tensor::from_node(Node::scalar(meta, Scalar::Int(value), Location::caller()))
    }

    /// Records `operation` on `inputs`: the one way into the graph.
    ///
    /// # Panics
    /// With the operation's name, the input shapes and the caller's line, if the shape rule refuses the inputs.
    #[track_caller]
    pub fn record(operation: impl Operation, inputs: &[&Tensor]) -> Tensor {
        Tensor::record_source(Source::Own(Arc::new(operation)), inputs)
    }

    /// Records an operation with several outputs.
    #[track_caller]
    pub fn record_many(operation: impl Operation, inputs: &[&Tensor]) -> Vec<Tensor> {
        let first = Tensor::record_source(Source::Own(Arc::new(operation)), inputs);
        (0..first.node.outputs.len()).map(|i| Tensor { node: first.node.clone(), output: i as u32 }).collect()
    }

    #[track_caller]
    pub(crate) fn record_source(source: Source, inputs: &[&Tensor]) -> Tensor {
        // Nearly every operation has at most three inputs; their shapes need no list of their own.
        let operation = source.operation().expect("only operations are recorded");
        let outputs = match inputs {
            [a] => operation.outputs(&[a.meta()]),
            [a, b] => operation.outputs(&[a.meta(), b.meta()]),
            [a, b, c] => operation.outputs(&[a.meta(), b.meta(), c.meta()]),
            _ => operation.outputs(&inputs.iter().map(|input| input.meta()).collect::<Vec<Meta>>()),
        };
        let outputs = outputs.unwrap_or_else(|m| shape_panic(operation.name(), inputs, &m));
        if let Some(view) = view_of_value(operation, inputs, &outputs) {
            return view;
        }
        let inputs: Inputs = inputs.iter().map(|&input| input.clone()).collect();
        let tensor = Tensor::from_node(Node::operation(source, inputs, outputs, Location::caller()));
        runtime::flush_if_overgrown(&tensor);
        tensor
    }

    /// Evaluates this tensor now, if it was not before.
    pub fn eval(&self) -> Result<&Tensor> {
        runtime::evaluate(std::slice::from_ref(self))?;
        Ok(self)
    }

    /// Evaluates several tensors as one plan.
    pub fn eval_all(tensors: &[Tensor]) -> Result<()> {
        runtime::evaluate(tensors)
    }

    /// Whether the value is there already, so that reading costs nothing but the copy.
    pub fn is_evaluated(&self) -> bool {
        self.node.is_evaluated()
    }

    /// The elements in row-major order, converted to `T` as Rust's `as` does (a bool becomes 0 or 1).
    ///
    /// # Panics
    /// If evaluation fails, with the line that recorded the failing operation. [`Tensor::eval`] returns the error instead.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Vec<T> {
        let value = self.evaluated();
        let (buffer, window) = (&*value.storage, &value.window);
        match self.dtype() {
            DType::F32 => read::<f32, T>(buffer, window),
            DType::F64 => read::<f64, T>(buffer, window),
            DType::I32 => read::<i32, T>(buffer, window),
            DType::I64 => read::<i64, T>(buffer, window),
            DType::U8 | DType::Bool => read::<u8, T>(buffer, window),
        }
    }

    /// The one element of this tensor as `f64`.
    ///
    /// # Panics
    /// If the tensor does not have exactly one element, or if evaluation fails.
    #[track_caller]
    pub fn item(&self) -> f64 {
        assert!(self.count() == 1, "item: {} has {} elements, one is needed", self.shape(), self.count());
        self.to_vec::<f64>()[0]
    }

    /// The value, evaluated if need be.
    #[track_caller]
    pub(crate) fn evaluated(&self) -> Value {
        if let Err(error) = self.eval() {
            panic!("{error}");
        }
        self.value().expect("evaluation gave the value")
    }

    /// The value if it is there; scalars are written out.
    pub(crate) fn value(&self) -> Option<Value> {
        if let Source::Scalar(scalar) = self.node.source {
            let mut buffer = Buffer::zeroed(8);
            write_scalar(scalar, self.dtype(), &mut buffer);
            return Some(Value { storage: Arc::new(buffer), window: Window::contiguous(Shape::scalar()) });
        }
        self.node.value(self.output as usize)
    }

    /// A new variable with this value: a leaf whose gradient [`crate::grad()`] and `backward()` collect.
    #[track_caller]
    pub fn variable(&self) -> Tensor {
        let location = Location::caller();
        Tensor::from_node(Node::leaf(self.meta(), self.evaluated(), true, location))
    }

    /// Whether this is a variable made by [`Tensor::variable`].
    pub fn is_variable(&self) -> bool {
        self.node.variable
    }

    /// The same values, cut off from the graph: no gradient flows through.
    #[track_caller]
    pub fn detach(&self) -> Tensor {
        // The result of an operation that is there already lets go of the operation.
        let own = matches!(self.node.source, Source::Data | Source::Scalar(_));
        if !self.node.requires_grad && (own || !self.is_evaluated()) {
            return self.clone();
        }
        if let Some(value) = self.value() {
            return Tensor::from_node(Node::leaf(self.meta(), value, false, Location::caller()));
        }
        context::no_grad(|| Tensor::record_source(Source::Table(&crate::ops::view::ALIAS), &[self]))
    }

    /// Where this tensor was recorded, and by which operation.
    pub fn origin(&self) -> String {
        self.node.describe()
    }
}

fn read<S: Element, T: Element>(buffer: &Buffer, window: &Window) -> Vec<T> {
    let values = buffer.as_slice::<S>();
    if window.is_contiguous() {
        let part = &values[window.offset..window.offset + window.shape.count()];
        return match bytemuck_same::<S, T>(part) {
            Some(same) => same.to_vec(),
            None => part.iter().map(|&value| convert(value)).collect(),
        };
    }
    let mut out = vec![S::default(); window.shape.count()];
    etude_kernels::copy::strided(values, window.offset, &window.shape, &window.strides, &mut out);
    out.into_iter().map(convert).collect()
}

/// The same slice, if the two types are one.
fn bytemuck_same<S: Element, T: Element>(values: &[S]) -> Option<&[T]> {
    (std::any::TypeId::of::<S>() == std::any::TypeId::of::<T>()).then(|| etude_kernels::element::same(values))
}

/// As Rust's `as`; whole numbers do not take the detour over `f64` where it would lose digits.
fn convert<S: Element, T: Element>(value: S) -> T {
    match (value.to_i64_exact(), T::DTYPE) {
        (Some(whole), DType::I64) => T::from_i64(whole),
        _ => T::from_f64(value.to_f64()),
    }
}

/// Writes `scalar` into the start of `buffer` as one element of `dtype`.
pub(crate) fn write_scalar(scalar: Scalar, dtype: DType, buffer: &mut Buffer) {
    let (float, int) = match scalar {
        Scalar::Float(value) => (value, value as i64),
        Scalar::Int(value) => (value as f64, value),
    };
    match dtype {
        DType::F32 => buffer.as_mut_slice::<f32>()[0] = float as f32,
        DType::F64 => buffer.as_mut_slice::<f64>()[0] = float,
        DType::I32 => buffer.as_mut_slice::<i32>()[0] = int as i32,
        DType::I64 => buffer.as_mut_slice::<i64>()[0] = int,
        DType::U8 => buffer.as_mut_slice::<u8>()[0] = int as u8,
        DType::Bool => buffer.as_mut_slice::<u8>()[0] = (float != 0.0) as u8,
    }
}

/// A view of evaluated data that no gradient flows through is a new window at once: no node, no new plan for another offset.
fn view_of_value(operation: &dyn Operation, inputs: &[&Tensor], outputs: &[Meta]) -> Option<Tensor> {
    let [input] = inputs else { return None };
    let tracked = input.node.requires_grad && context::is_recording();
    if tracked || matches!(input.node.source, Source::Scalar(_)) || !input.node.is_evaluated() {
        return None;
    }
    let crate::operation::Kind::View(view) = operation.kind() else { return None };
    let value = input.value()?;
    let window = view.apply(&value.window, &outputs[0].shape)?;
    let value = Value { storage: value.storage, window };
    Some(Tensor::from_node(Node::leaf(outputs[0], value, false, input.node.location)))
}

/// Ends the program's mistake with a message that names operation, shapes, and where the inputs come from.
#[track_caller]
fn shape_panic(name: &str, inputs: &[&Tensor], message: &str) -> ! {
    let shapes: Vec<String> = inputs.iter().map(|input| input.shape().to_string()).collect();
    let mut text = format!("{name}: {}: {message}", shapes.join(" × "));
    if let Some(scope) = context::current_scope() {
        text += &format!("\n  in {scope}");
    }
    for (i, input) in inputs.iter().enumerate() {
        if !matches!(input.node.source, Source::Scalar(_)) {
            text += &format!("\n  input {} comes from {}", i + 1, input.node.describe());
        }
    }
    panic!("{text}");
}

impl fmt::Debug for Tensor {
    /// Shape and dtype, and the values if they are there already; formatting never evaluates.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Tensor {} {}", self.dtype(), self.shape())?;
        match self.is_evaluated() && self.count() <= 64 {
            true => write!(f, " {:?}", self.to_vec::<f64>()),
            false => Ok(()),
        }
    }
}
