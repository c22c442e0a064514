//! A small fork-join pool. The caller takes part, and a call made from inside a task runs in place, so kernels may be
//! nested freely. Tasks must be cut by problem size, never by thread count: that keeps results the same bits on any number
//! of threads. Every thread begins with a part of the tasks of its own, the same from call to call, and helps the others
//! when it is done: so what one kernel leaves in a core's cache is mostly read there by the next.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

/// Runs `work(0)`, `work(1)`, … `work(tasks - 1)`, each once, in any order, on the pool and the calling thread.
///
/// Panics in a task are raised again in the caller once every task has ended.
pub fn parallel(tasks: usize, work: impl Fn(usize) + Sync) {
    in_order(tasks, false, &work);
}

/// As [`parallel`], but every thread goes through its tasks from the last to the first. Of data too large for a core's
/// cache, read again and again, the end is still there when the next call begins with it.
pub(crate) fn parallel_backwards(tasks: usize, work: impl Fn(usize) + Sync) {
    in_order(tasks, true, &work);
}

fn in_order(tasks: usize, backwards: bool, work: &(dyn Fn(usize) + Sync)) {
    if tasks <= 1 || threads() == 1 || INSIDE.get() {
        (0..tasks).for_each(|index| work(if backwards { tasks - 1 - index } else { index }));
    } else {
        pool().run(tasks, backwards, work);
    }
}

/// As many tasks, or one more: of three, one of two threads would do two.
pub(crate) fn even(tasks: usize) -> usize {
    if tasks > 1 { tasks.next_multiple_of(2) } else { tasks }
}

/// Cuts `out` into pieces of `chunk` elements (the last may be shorter) and runs `work(index, piece)` on each in parallel.
pub fn parallel_chunks<T: Send>(out: &mut [T], chunk: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let (length, base) = (out.len(), SendPointer(out.as_mut_ptr()));
    let chunk = chunk.max(1);
    parallel(length.div_ceil(chunk), |index| {
        let start = index * chunk;
        let size = chunk.min(length - start);
        // SAFETY: pieces of different indices do not overlap, each lies inside `out`, and `out` is borrowed mutably for
        // the whole call, which returns only after every task has ended.
        let piece = unsafe { std::slice::from_raw_parts_mut(base.at(start), size) };
        work(index, piece);
    });
}

/// How many threads kernels use, the caller included.
pub fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => *DEFAULT_THREADS.get_or_init(|| {
            let cores = std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX_THREADS);
            let (count, complaint) = choose(std::env::var("ETUDE_THREADS").ok().as_deref(), cores);
            complaint.into_iter().for_each(|complaint| eprintln!("{complaint}"));
            count
        }),
        n => n,
    }
}

/// As many threads as `wish` says, or one a core; what is wrong with the wish.
fn choose(wish: Option<&str>, cores: usize) -> (usize, Option<String>) {
    let Some(wish) = wish.filter(|wish| !wish.is_empty()) else { return (cores, None) };
    match wish.trim().parse() {
        Ok(count @ 1..=MAX_THREADS) => (count, None),
        _ => (cores, Some(format!("ETUDE_THREADS={wish}: not a number from 1 to {MAX_THREADS}; using {cores}"))),
    }
}

/// Sets how many threads kernels use from now on, 1 to 256; 0 returns to what the environment variable `ETUDE_THREADS`
/// says, or one a core. Results do not depend on it.
pub fn set_threads(count: usize) {
    THREADS.store(count.min(MAX_THREADS), Ordering::Relaxed);
}

const MAX_THREADS: usize = 256;
static THREADS: AtomicUsize = AtomicUsize::new(0);
static DEFAULT_THREADS: OnceLock<usize> = OnceLock::new();

thread_local! {
    /// Set while this thread runs a task, so that nested calls run in place.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A pointer that tasks on other threads may use; whoever makes one says why that is sound.
pub(crate) struct SendPointer<T>(pub *mut T);

impl<T> SendPointer<T> {
    /// The address of element `index`.
    ///
    /// # Safety
    /// `index` must lie inside the allocation the pointer came from.
    pub(crate) unsafe fn at(&self, index: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(index) }
    }
}

// SAFETY: the pointer is only an address; every use is justified where it is dereferenced.
unsafe impl<T: Send> Sync for SendPointer<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SendPointer<T> {}

/// One parallel call: `left` counts the tasks not yet ended.
struct Job {
    work: &'static (dyn Fn(usize) + Sync),
    shares: Vec<Share>,
    /// Whether each share is claimed from its last task to its first.
    backwards: bool,
    left: AtomicUsize,
    panicked: AtomicBool,
    payload: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    #[cfg(test)]
    forced: Option<crate::cpu::InstructionSet>,
}

/// The tasks `first..end`, of which `claimed` are claimed. On lines of its own: threads count in different ones.
#[repr(align(128))]
struct Share {
    claimed: AtomicUsize,
    first: usize,
    end: usize,
}

impl Share {
    /// A task nobody has claimed before.
    fn claim(&self, backwards: bool) -> Option<usize> {
        let number = self.claimed.fetch_add(1, Ordering::Relaxed);
        (number < self.end - self.first).then(|| if backwards { self.end - 1 - number } else { self.first + number })
    }
}

impl Job {
    /// Claims and runs tasks until none is left to claim, thread `id`'s own share first.
    fn work(&self, id: usize) {
        let outer = INSIDE.replace(true);
        #[cfg(test)]
        let _forced = crate::cpu::forced::enter(self.forced);
        let mut ended = 0;
        for turn in 0..self.shares.len() {
            let share = &self.shares[(id + turn) % self.shares.len()];
            while let Some(index) = share.claim(self.backwards) {
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.work)(index)));
                if let Err(payload) = result {
                    self.panicked.store(true, Ordering::Relaxed);
                    *lock(&self.payload) = Some(payload);
                }
                ended += 1;
            }
        }
        INSIDE.set(outer);
        self.left.fetch_sub(ended, Ordering::Release);
    }
}

struct Pool {
    state: Mutex<State>,
    wake: Condvar,
    /// The number of the last job, for idle workers that spin. Written when the lock is free again: a worker that saw it
    /// earlier would find the lock held and go to sleep over it, some microseconds.
    announced: AtomicUsize,
    /// Held by the one caller whose job is on the board; a second caller works alone.
    busy: Mutex<()>,
}

struct State {
    job: Option<Arc<Job>>,
    /// Counts jobs.
    posted: usize,
    workers: usize,
    /// Workers that have to be woken.
    asleep: usize,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool {
        state: Mutex::new(State { job: None, posted: 0, workers: 0, asleep: 0 }),
        wake: Condvar::new(),
        announced: AtomicUsize::new(0),
        busy: Mutex::new(()),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// How often an idle worker or a waiting caller looks again before it sleeps or yields: some tens of microseconds.
const SPINS: usize = 4_000;

impl Pool {
    fn run(&'static self, tasks: usize, backwards: bool, work: &(dyn Fn(usize) + Sync)) {
        let Ok(_turn) = self.busy.try_lock() else {
            (0..tasks).for_each(work);
            return;
        };
        // SAFETY: only the lifetime changes. Workers call `work` only for tasks they have claimed, and this function
        // does not return before `left` is 0, that is before every claimed task has ended.
        let work: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(work) };
        let threads = threads();
        let share = |id: usize| {
            let [first, end] = [id, id + 1].map(|id| id * tasks / threads);
            Share { claimed: AtomicUsize::new(0), first, end }
        };
        let job = Arc::new(Job {
            work,
            shares: (0..threads).map(share).collect(),
            backwards,
            left: AtomicUsize::new(tasks),
            panicked: AtomicBool::new(false),
            payload: Mutex::new(None),
            #[cfg(test)]
            forced: crate::cpu::forced::get(),
        });
        // The job before stays on the board, where there is nothing left to claim of it: to take it off would cost another
        // look at memory that a worker has just written.
        let (number, asleep, before) = {
            let mut state = lock(&self.state);
            while state.workers + 1 < threads {
                let id = state.workers;
                let spawned = std::thread::Builder::new().name(format!("etude-{id}")).spawn(move || self.serve(id + 1));
                if spawned.is_err() {
                    break;
                }
                state.workers += 1;
            }
            let before = state.job.replace(job.clone());
            state.posted += 1;
            (state.posted, state.asleep, before)
        };
        self.announced.store(number, Ordering::Release);
        if asleep > 0 {
            self.wake.notify_all();
        }
        job.work(0);
        drop(before);
        let mut spins = 0;
        while job.left.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if job.panicked.load(Ordering::Relaxed)
            && let Some(payload) = lock(&job.payload).take()
        {
            drop(_turn);
            std::panic::resume_unwind(payload);
        }
    }

    /// A worker's life: wait for a job, help with it, wait again. Worker `id` rests while fewer threads are wanted.
    fn serve(&self, id: usize) {
        let mut seen = 0;
        loop {
            for _ in 0..SPINS {
                if self.announced.load(Ordering::Acquire) > seen {
                    break;
                }
                std::hint::spin_loop();
            }
            let job = {
                let mut state = lock(&self.state);
                while state.posted == seen {
                    state.asleep += 1;
                    state = self.wake.wait(state).unwrap_or_else(|poison| poison.into_inner());
                    state.asleep -= 1;
                }
                seen = state.posted;
                state.job.clone()
            };
            if let Some(job) = job.filter(|_| id < threads()) {
                job.work(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for count in [1, 2, 5] {
            set_threads(count);
            for tasks in [0, 1, 2, 7, 1000] {
                let hits: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                parallel(tasks, |i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                    parallel(3, |_| ()); // nested calls run in place
                });
                parallel_backwards(tasks, |i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 2));
            }
        }
        set_threads(1);
        let order = Mutex::new(Vec::new());
        parallel_backwards(3, |i| order.lock().unwrap().push(i));
        assert_eq!(*order.lock().unwrap(), [2, 1, 0]);
        set_threads(0);
    }

    #[test]
    fn the_environment_chooses_how_many() {
        assert_eq!((choose(None, 3), choose(Some(""), 3), choose(Some("8"), 3)), ((3, None), (3, None), (8, None)));
        for wrong in ["0", "257", "-1", "two"] {
            let (count, complaint) = choose(Some(wrong), 3);
            assert_eq!((count, complaint.unwrap().ends_with("not a number from 1 to 256; using 3")), (3, true));
        }
    }

    #[test]
    fn chunks_cover_the_slice() {
        let mut out = vec![0; 1003];
        parallel_chunks(&mut out, 10, |index, piece| piece.iter_mut().for_each(|v| *v += index + 1));
        assert!(out.iter().enumerate().all(|(i, &v)| v == i / 10 + 1));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        set_threads(2);
        let caught = std::panic::catch_unwind(|| parallel(8, |i| assert!(i != 5, "task five")));
        assert!(caught.is_err());
        parallel(8, |_| ());
        set_threads(0);
    }
}
