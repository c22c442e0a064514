//! What an operation is: one trait, implemented by every operation in [`crate::ops`] and by users for their own.

use crate::{Shape, Tensor, Window};
use etude_kernels::tile::{BinaryOp, ReduceOp, Scalar, Tail, UnaryOp, Update};
use etude_kernels::{Buffer, Cost, DType, Element};
use std::any::Any;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// Shape and dtype of one input or output.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Meta {
    /// Sizes of the axes.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Meta {
    /// Shape and dtype together.
    pub fn new(shape: Shape, dtype: DType) -> Meta {
        Meta { shape, dtype }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.count() * self.dtype.size()
    }
}

/// Bytes of all of `metas`.
pub(crate) fn bytes(metas: &[Meta]) -> u64 {
    metas.iter().map(|meta| meta.bytes() as u64).sum()
}

/// How the compiler may treat an operation.
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// One function of one value an element.
    Unary(UnaryOp),
    /// One function of two values an element; shapes broadcast.
    Binary(BinaryOp),
    /// `condition ? a : b`; shapes broadcast.
    Select,
    /// Conversion to the output's dtype.
    Cast,
    /// The same elements through another window; costs nothing where strides can say it.
    View(View),
    /// A fold over some axes, which stay with size 1.
    Reduce(ReduceOp, Vec<usize>),
    /// Written out by the compiler as its [`meaning`](Operation::meaning), which may hold numbers and operations but no
    /// data, and must depend on attributes and inputs alone: one node to record, however much it stands for.
    Composite,
    /// Anything else: [`Operation::run`] does it.
    Kernel,
}

/// Where a weight's axis shows in the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WeightAxis {
    /// Which input is the weight.
    pub input: usize,
    /// Its axis of output channels.
    pub weight: usize,
    /// The output's axis of channels.
    pub output: usize,
}

/// The ways a view looks at its input.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum View {
    /// The same elements in order, under the output's shape.
    Reshape,
    /// Output axis `i` is input axis `order[i]`.
    Permute(Vec<usize>),
    /// Broadcast to the output's shape.
    Expand,
    /// From `start`, in steps of `step`, as many as the output's shape says.
    Slice(Vec<usize>, Vec<isize>),
}

impl View {
    /// The window through this view, or `None` if strides cannot say it and the elements must be copied.
    pub fn apply(&self, input: &Window, shape: &Shape) -> Option<Window> {
        match self {
            View::Reshape => input.reshaped(shape),
            View::Permute(order) => Some(input.permuted(order)),
            View::Expand => Some(input.expanded(shape)),
            View::Slice(start, step) => Some(input.sliced(start, step, shape)),
        }
    }
}

/// One operation with its attributes.
///
/// Implement [`outputs`](Operation::outputs) (the shape rule) and either [`run`](Operation::run) (a kernel) or
/// [`kind`](Operation::kind). Give a gradient by [`gradient`](Operation::gradient), or a [`meaning`](Operation::meaning)
/// in terms of other operations, from which the gradient follows; with neither, `backward()` through it is an error that
/// names it.
pub trait Operation: Any + Debug + Send + Sync {
    /// The name errors and traces use, such as `matmul`.
    fn name(&self) -> &'static str;

    /// Feeds every attribute that changes what is computed into `state`. Values that change from step to step belong
    /// into scalar inputs instead, so that plans can be used again.
    fn attributes(&self, _state: &mut dyn Hasher) {}

    /// The shape rule: what comes out for these inputs, or what is wrong with them (without the operation's name).
    fn outputs(&self, inputs: &[Meta]) -> Result<Vec<Meta>, String>;

    /// How the compiler may treat this operation; [`Kind::Kernel`] unless said otherwise.
    fn kind(&self) -> Kind {
        Kind::Kernel
    }

    /// What the operation means, in terms of other operations: one tensor for each output.
    fn meaning(&self, _inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        None
    }

    /// The gradient with respect to each input, as ordinary tensor operations. `None` for an input means that no
    /// gradient flows there (an index, a mask). The default differentiates the [`meaning`](Operation::meaning).
    fn gradient(&self, step: &Backward) -> Result<Vec<Option<Tensor>>, String> {
        crate::grad::through_meaning(self.meaning(step.inputs), step)
    }

    /// For an operation that is linear in a weight: where. Scaling the weight along its axis then scales the output
    /// along its own, which lets a compiled model fold a normalisation into weights.
    fn weight_axis(&self, _inputs: &[Meta]) -> Option<WeightAxis> {
        None
    }

    /// The same results, recorded in the way that suits inputs which never change (those that are `fixed`): what is made of
    /// them alone is computed once, when a function is frozen. `None` where nothing would be gained.
    fn frozen(&self, _inputs: &[Tensor], _fixed: &[bool]) -> Option<Vec<Tensor>> {
        None
    }

    /// Whether the result is drawn at random, from a seed and a stream that are inputs.
    fn draws(&self) -> bool {
        false
    }

    /// Whether the kernel wants input number `input` contiguous (the default) or takes any strides.
    fn contiguous(&self, _input: usize) -> bool {
        true
    }

    /// Whether the kernel takes the call's tail, elementwise work on the rows of its one output, and does it as it makes them.
    fn takes_tail(&self) -> bool {
        false
    }

    /// Whether the kernel, whose one output is the gradient of an update and read by nothing else, takes the update's step
    /// block by block instead of storing it.
    fn takes_update(&self, _inputs: &[Meta]) -> bool {
        false
    }

    /// What the kernel has to do, for profiles: the bytes of inputs and outputs, and no arithmetic unless said otherwise.
    fn cost(&self, inputs: &[Meta], outputs: &[Meta]) -> Cost {
        Cost { operations: 0, bytes: bytes(inputs) + bytes(outputs) }
    }

    /// The kernel: reads the inputs, fills every output.
    fn run(&self, _call: &mut Call) -> Result<(), String> {
        Err(format!("{} has no kernel", self.name()))
    }
}

/// One step of the way back through an operation.
pub struct Backward<'a> {
    /// What went in.
    pub inputs: &'a [Tensor],
    /// What came out.
    pub outputs: &'a [Tensor],
    /// The gradient that arrived at each output; `None` where none did.
    pub gradients: &'a [Option<Tensor>],
    /// Whether anybody asked for the gradient of each input.
    pub needed: &'a [bool],
}

impl Backward<'_> {
    /// The gradient that arrived at output `output`, zeros if none did.
    #[track_caller]
    pub fn gradient(&self, output: usize) -> Tensor {
        match &self.gradients[output] {
            Some(gradient) => gradient.clone(),
            None => self.outputs[output].zeros_like(),
        }
    }
}

/// One input of a kernel call.
#[derive(Clone, Copy)]
pub enum Argument<'a> {
    /// A window on a buffer.
    Array(&'a Buffer, Window, DType),
    /// A number passed by value.
    Scalar(Scalar),
}

/// A kernel call: inputs to read, outputs to fill.
pub struct Call<'a> {
    pub(crate) inputs: &'a [Argument<'a>],
    pub(crate) outputs: &'a mut [Buffer],
    pub(crate) metas: &'a [Meta],
    /// What is done to the output's rows as soon as they are there.
    pub(crate) tail: Option<&'a Tail<'a>>,
    /// The update that the output goes into; there is no output then, and `metas` are the update's, of the same shape.
    pub(crate) update: Option<&'a Update<'a>>,
}

impl<'a> Call<'a> {
    /// The contiguous input number `i`.
    ///
    /// # Panics
    /// If the operation said that it takes this input with any strides; use [`Call::strided`] then.
    pub fn input<T: Element>(&self, i: usize) -> &'a [T] {
        let (data, window) = self.strided::<T>(i);
        debug_assert!(window.is_contiguous());
        &data[window.offset..window.offset + window.shape.count()]
    }

    /// The whole buffer behind input number `i`, and the window on it.
    pub fn strided<T: Element>(&self, i: usize) -> (&'a [T], Window) {
        match self.inputs[i] {
            Argument::Array(buffer, window, _) => (buffer.as_slice::<T>(), window),
            Argument::Scalar(_) => unreachable!("input {i} is a scalar"),
        }
    }

    /// The shape of input number `i`.
    pub fn shape(&self, i: usize) -> Shape {
        match self.inputs[i] {
            Argument::Array(_, window, _) => window.shape,
            Argument::Scalar(_) => Shape::scalar(),
        }
    }

    /// The dtype of input number `i`; scalars have none of their own and say `F64` or `I64`.
    pub fn dtype(&self, i: usize) -> DType {
        match self.inputs[i] {
            Argument::Array(_, _, dtype) => dtype,
            Argument::Scalar(Scalar::Float(_)) => DType::F64,
            Argument::Scalar(Scalar::Int(_)) => DType::I64,
        }
    }

    /// Scalar input number `i` (a tensor of one element counts as one).
    pub fn scalar(&self, i: usize) -> Scalar {
        match self.inputs[i] {
            Argument::Scalar(scalar) => scalar,
            Argument::Array(buffer, window, dtype) => match dtype {
                DType::F32 => Scalar::Float(buffer.as_slice::<f32>()[window.offset] as f64),
                DType::F64 => Scalar::Float(buffer.as_slice::<f64>()[window.offset]),
                DType::I32 => Scalar::Int(buffer.as_slice::<i32>()[window.offset] as i64),
                DType::I64 => Scalar::Int(buffer.as_slice::<i64>()[window.offset]),
                DType::U8 | DType::Bool => Scalar::Int(buffer.as_slice::<u8>()[window.offset] as i64),
            },
        }
    }

    /// Scalar input number `i` as `f64`.
    pub fn float(&self, i: usize) -> f64 {
        match self.scalar(i) {
            Scalar::Float(value) => value,
            Scalar::Int(value) => value as f64,
        }
    }

    /// Scalar input number `i` as `i64`.
    pub fn int(&self, i: usize) -> i64 {
        match self.scalar(i) {
            Scalar::Float(value) => value as i64,
            Scalar::Int(value) => value,
        }
    }

    /// Shape and dtype of output number `i`.
    pub fn output_meta(&self, i: usize) -> Meta {
        self.metas[i]
    }

    /// Output number `i`, contiguous, contents unspecified.
    pub fn output<T: Element>(&mut self, i: usize) -> &mut [T] {
        self.outputs[i].as_mut_slice()
    }

    /// All outputs at once, for kernels that fill several.
    pub fn outputs<const N: usize>(&mut self) -> [&mut Buffer; N] {
        let mut all = self.outputs.iter_mut();
        std::array::from_fn(|_| all.next().expect("the operation has this many outputs"))
    }
}

/// Hashes attributes and graphs into keys. Multiplies 64×64→128 bits and folds, which mixes every bit.
#[derive(Clone, Copy)]
pub(crate) struct KeyHasher(pub u64);

impl KeyHasher {
    pub(crate) fn new(seed: u64) -> KeyHasher {
        KeyHasher(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn of(value: &impl Hash, seed: u64) -> u64 {
        let mut hasher = KeyHasher::new(seed);
        value.hash(&mut hasher);
        hasher.0
    }
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 56));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = ((self.0 ^ word) as u128) * 0xa076_1d64_78bd_642f;
        self.0 = (product as u64) ^ ((product >> 64) as u64) ^ word.rotate_left(32);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
