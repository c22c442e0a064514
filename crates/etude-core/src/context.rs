//! What surrounds a call on this thread: whether gradients are recorded, whether a model trains, which module runs.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, OnceLock};

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
    static TRAINING: Cell<bool> = const { Cell::new(false) };
    static SEQUENCE: Cell<u64> = const { Cell::new(0) };
    static TRACING: Cell<bool> = const { Cell::new(false) };
    static SCOPE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Puts a thread-local back when it goes out of scope, also when a panic unwinds.
struct Restore<'a, T: Copy>(&'a Cell<T>, T);

impl<T: Copy> Drop for Restore<'_, T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

fn with_flag<R>(key: &'static std::thread::LocalKey<Cell<bool>>, value: bool, run: impl FnOnce() -> R) -> R {
    key.with(|flag| {
        let _restore = Restore(flag, flag.replace(value));
        run()
    })
}

/// The number of the next node of this thread.
pub(crate) fn next_in_sequence() -> u64 {
    SEQUENCE.replace(SEQUENCE.get() + 1)
}

/// Runs `run` without recording for gradients: what it makes counts as constant.
pub fn no_grad<R>(run: impl FnOnce() -> R) -> R {
    with_flag(&RECORDING, false, run)
}

/// Whether operations are recorded for gradients here.
pub fn is_recording() -> bool {
    RECORDING.get()
}

/// Runs `run`, which records on placeholders: nothing is evaluated before its time.
pub(crate) fn tracing<R>(run: impl FnOnce() -> R) -> R {
    with_flag(&TRACING, true, run)
}

/// Whether recording here is on placeholders, whose values nobody knows.
pub fn is_tracing() -> bool {
    TRACING.get()
}

/// Runs `run` in training mode: dropout drops, batch norm uses the batch. The mode ends with the scope.
pub fn training<R>(run: impl FnOnce() -> R) -> R {
    with_flag(&TRAINING, true, run)
}

/// Runs `run` in evaluation mode, inside a training scope too.
pub fn evaluating<R>(run: impl FnOnce() -> R) -> R {
    with_flag(&TRAINING, false, run)
}

/// Whether this is a [`training`] scope.
pub fn is_training() -> bool {
    TRAINING.get()
}

/// Runs `run` as part of the module named `name`, which errors and traces then mention.
pub fn scope<R>(name: &Arc<str>, run: impl FnOnce() -> R) -> R {
    struct Leave(Option<Arc<str>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            SCOPE.set(self.0.take());
        }
    }
    let _leave = Leave(SCOPE.replace(Some(name.clone())));
    run()
}

/// The module that runs now.
pub(crate) fn current_scope() -> Option<Arc<str>> {
    SCOPE.with_borrow(|scope| scope.clone())
}

/// The switches read once from the environment.
pub(crate) struct Switches {
    /// `ETUDE_EAGER=1`: every call is evaluated at once.
    pub eager: bool,
    /// `ETUDE_CHECK=nan`: stop at the first operation that makes a NaN or an infinity.
    pub check_nan: bool,
    /// `ETUDE_EXACT=1`: sums as they were written, even where others of the same value take less time.
    pub exact: bool,
    /// `ETUDE_TRACE`, a comma-separated list of `time`, `plan`, `graph`, `compile`.
    pub trace: crate::runtime::trace::Trace,
}

/// The environment's switches.
pub(crate) fn switches() -> &'static Switches {
    static SWITCHES: OnceLock<Switches> = OnceLock::new();
    SWITCHES.get_or_init(|| {
        let variable = |name| std::env::var(name).unwrap_or_default();
        Switches {
            eager: variable("ETUDE_EAGER") == "1",
            exact: variable("ETUDE_EXACT") == "1",
            check_nan: variable("ETUDE_CHECK").split(',').any(|word| word == "nan"),
            trace: crate::runtime::trace::Trace::parse(&variable("ETUDE_TRACE")),
        }
    })
}
