//! Ctrl-C: the first asks the work to finish its step and save, the second ends the program at once.

use crate::error::{Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// The exit status of a program ended by Ctrl-C, as shells expect it.
pub const EXIT_STATUS: i32 = 130;

/// Takes over Ctrl-C (and a polite `kill`); calling it again does nothing.
///
/// From then on the first Ctrl-C only makes [`interrupted`] true, and the second quits with [`EXIT_STATUS`].
pub fn install() -> Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if *installed {
        return Ok(());
    }
    ctrlc::set_handler(|| {
        if ASKED.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(EXIT_STATUS);
        }
    })
    .map_err(|e| {
        Error::new(format!("cannot take over Ctrl-C: {e}")).remedy("install no other handler before this one")
    })?;
    *installed = true;
    Ok(())
}

/// True once Ctrl-C was pressed: finish the step, save, say how to go on.
pub fn interrupted() -> bool {
    ASKED.load(Ordering::SeqCst) > 0
}

/// Acts as if Ctrl-C had been pressed once; for tests and for a stop button.
pub fn interrupt() {
    ASKED.fetch_max(1, Ordering::SeqCst);
}

/// Forgets a Ctrl-C that has been dealt with.
pub fn clear() {
    ASKED.store(0, Ordering::SeqCst);
}
