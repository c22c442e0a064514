//! What the passes make: a flat list of steps over slots. It prints readably under `ETUDE_TRACE=plan`.

use crate::node::{Source, Value};
use crate::operation::{Meta, bytes};
use crate::{DType, Shape, Window};
use etude_kernels::Cost;
use etude_kernels::tile::{Prepared, Scalar};
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex};

/// Storage a step reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Place {
    /// Evaluated data given to the plan.
    Leaf(usize),
    /// Storage the plan owns.
    Slot(usize),
}

/// One input of a tile program.
#[derive(Clone, Debug)]
pub(crate) struct TileInput {
    pub place: Place,
    /// In place of this output, if any.
    pub in_place: Option<usize>,
    pub offset: usize,
    pub strides: Vec<isize>,
}

/// One input of a kernel.
#[derive(Clone, Debug)]
pub(crate) enum KernelInput {
    Array(Place, Window, DType),
    Scalar(usize),
}

/// What a step does.
pub(crate) enum Action {
    /// A tile program over `kept` and `reduced` axes.
    Tile {
        prepared: Box<Prepared>,
        kept: Vec<usize>,
        reduced: Vec<usize>,
        inputs: Vec<TileInput>,
        /// Which of the plan's scalars the program reads, in its numbering.
        scalars: Vec<usize>,
    },
    /// An operation's own kernel, and what is done with the rows of its output as soon as they are there.
    Kernel { source: Source, inputs: Vec<KernelInput>, behind: Behind },
}

/// What follows a kernel within its step.
pub(crate) enum Behind {
    Nothing,
    /// A program in the place of the kernel's output.
    Tail(Box<RowsProgram>),
    /// An update, whose gradient the kernel makes and whose outputs are the step's. Its inputs are all but the gradient.
    Update(Box<RowsProgram>),
}

/// An elementwise program over the rows of a kernel's output.
pub(crate) struct RowsProgram {
    pub prepared: Box<Prepared>,
    pub rows: usize,
    pub columns: usize,
    /// Two strides each.
    pub inputs: Vec<TileInput>,
    /// Which of the plan's scalars the program reads.
    pub scalars: Vec<usize>,
}

/// One step: an action and the slots it fills.
pub(crate) struct Step {
    pub action: Action,
    pub outputs: Vec<usize>,
    /// The slots nobody reads any more.
    pub frees: Vec<usize>,
    pub metas: Vec<Meta>,
    pub name: String,
    pub location: &'static Location<'static>,
    pub scope: Option<Arc<str>>,
}

/// Storage a plan owns while it runs, for one result or several that overwrite each other in place.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Slot {
    pub bytes: usize,
    pub home: Home,
}

/// Where the buffer of a slot comes from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Home {
    /// From byte `.0` of the plan's arena.
    Arena(usize),
    /// A buffer of its own, which outlives the plan.
    Own,
    /// Leaf number `.0`, which is given away.
    Donated(usize),
}

/// A compiled graph.
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    pub slots: Vec<Slot>,
    /// How large the arena is, in bytes.
    pub arena: usize,
    /// Where each output of each root lies at the end.
    pub roots: Vec<Vec<(Place, Window)>>,
    /// Numbers that follow those each run brings.
    pub constants: Vec<Scalar>,
    /// The bytes of the arena, of the results that get storage of their own, and of the tables.
    pub peak_bytes: usize,
    /// What follows the leaves of each run.
    pub tables: Option<Box<Tables>>,
}

/// Results that depend on numbers alone, and how to make them.
pub(crate) struct Tables {
    pub plan: Plan,
    /// Which of a run's numbers they depend on.
    pub numbers: Vec<usize>,
    /// The last ones, and the numbers they were made from.
    pub made: Mutex<(Vec<Scalar>, Vec<Value>)>,
}

impl Step {
    /// The places this step reads.
    pub fn reads(&self) -> Vec<Place> {
        match &self.action {
            Action::Tile { inputs, .. } => inputs.iter().map(|input| input.place).collect(),
            Action::Kernel { inputs, behind, .. } => {
                let own = inputs.iter().filter_map(|input| match input {
                    KernelInput::Array(place, ..) => Some(*place),
                    KernelInput::Scalar(_) => None,
                });
                let beside = behind.inputs().iter().filter(|input| !behind.is_tail() || input.in_place.is_none());
                own.chain(beside.map(|input| input.place)).collect()
            }
        }
    }

    /// Whether output number `output`, in `slot`, overwrites what the step reads other than in its place.
    pub fn clobbers(&self, output: usize, slot: usize) -> bool {
        let elsewhere = |input: &TileInput| input.place == Place::Slot(slot) && input.in_place != Some(output);
        match &self.action {
            Action::Tile { inputs, .. } => inputs.iter().any(elsewhere),
            Action::Kernel { inputs, behind, .. } => {
                let own =
                    |input: &KernelInput| matches!(input, KernelInput::Array(place, ..) if *place == Place::Slot(slot));
                inputs.iter().any(own) || behind.inputs().iter().any(elsewhere)
            }
        }
    }
}

impl RowsProgram {
    /// What the program adds to a kernel whose step writes `written` bytes: what it reads beside.
    fn cost(&self, written: u64, is_tail: bool) -> Cost {
        let gradient = (!is_tail).then(|| self.prepared.gradient()).flatten();
        let mut strides: Vec<&[isize]> = self.inputs.iter().map(|input| &input.strides[..]).collect();
        let all = [self.columns as isize, 1];
        gradient.into_iter().for_each(|gradient| strides.insert(gradient, &all));
        let cost = self.prepared.cost(&[self.rows, self.columns], &[], strides.into_iter());
        // What the kernel makes is read in cache, and a tail's output is the kernel's.
        let made = self.rows * self.columns * self.prepared.program().outputs[0].size();
        Cost { bytes: cost.bytes.saturating_sub(written + made as u64), ..cost }
    }
}

impl Behind {
    /// What the program reads beside what the kernel makes; a tail's list holds that too, in place of its output.
    pub fn inputs(&self) -> &[TileInput] {
        match self {
            Behind::Nothing => &[],
            Behind::Tail(program) | Behind::Update(program) => &program.inputs,
        }
    }

    fn is_tail(&self) -> bool {
        matches!(self, Behind::Tail(_))
    }
}

/// What a step is, for profiles.
impl Step {
    /// The shapes and dtypes a kernel of its own reads; scalars have none.
    fn input_metas(inputs: &[KernelInput]) -> Vec<Meta> {
        let meta = |input: &KernelInput| match input {
            KernelInput::Array(_, window, dtype) => Meta::new(window.shape, *dtype),
            KernelInput::Scalar(_) => Meta::new(Shape::scalar(), DType::F64),
        };
        inputs.iter().map(meta).collect()
    }

    /// What the step has to do.
    pub fn cost(&self) -> Cost {
        match &self.action {
            Action::Tile { prepared, kept, reduced, inputs, .. } => {
                prepared.cost(kept, reduced, inputs.iter().map(|input| &input.strides[..]))
            }
            Action::Kernel { source, inputs, behind } => {
                let own = source.operation().map(|operation| operation.cost(&Step::input_metas(inputs), &self.metas));
                let behind = match behind {
                    Behind::Nothing => Cost::default(),
                    Behind::Tail(program) | Behind::Update(program) => {
                        program.cost(bytes(&self.metas), behind.is_tail())
                    }
                };
                let own = own.unwrap_or_default();
                Cost { operations: own.operations + behind.operations, bytes: own.bytes + behind.bytes }
            }
        }
    }

    /// The kernel with its shapes: `matmul [128, 784] × [784, 512]`; for a tile program the shape it runs over.
    pub fn title(&self) -> String {
        match &self.action {
            Action::Tile { kept, reduced, .. } if reduced.is_empty() => format!("{} {kept:?}", self.name),
            Action::Tile { kept, reduced, .. } => format!("{} {kept:?} over {reduced:?}", self.name),
            Action::Kernel { inputs, .. } => {
                let shapes = Step::input_metas(inputs).into_iter().filter(|meta| meta.shape.rank() > 0);
                let mut shapes: Vec<String> = shapes.map(|meta| meta.shape.to_string()).collect();
                if shapes.is_empty() {
                    shapes.extend(self.metas.iter().map(|meta| meta.shape.to_string()));
                }
                shapes.truncate(3);
                format!("{} {}", self.name, shapes.join(" × "))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Place::Leaf(index) => write!(f, "data{index}"),
            Place::Slot(index) => write!(f, "slot{index}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            f,
            "plan: {} steps, {} slots, arena {:.1} KiB, peak {:.1} KiB",
            self.steps.len(),
            self.slots.len(),
            self.arena as f64 / 1024.0,
            self.peak_bytes as f64 / 1024.0
        )?;
        for (number, step) in self.steps.iter().enumerate() {
            let reads: Vec<String> = step.reads().iter().map(|place| place.to_string()).collect();
            let writes: Vec<String> = step
                .outputs
                .iter()
                .zip(&step.metas)
                .map(|(slot, meta)| format!("slot{slot} {} {}", meta.dtype, meta.shape))
                .collect();
            let scope = step.scope.as_ref().map_or(String::new(), |scope| format!("  in {scope}"));
            writeln!(
                f,
                "{number:4}  {:<40} {} -> {}   {}:{}{scope}",
                step.name,
                reads.join(", "),
                writes.join(", "),
                step.location.file().rsplit('/').next().unwrap_or_default(),
                step.location.line(),
            )?;
        }
        Ok(())
    }
}
