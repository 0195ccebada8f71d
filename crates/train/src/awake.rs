//! Two threads of the pool that stay awake for each other.
//!
//! The stages of a step take a few dozen microseconds. A worker that goes to sleep between them is woken up
//! by the operating system, which takes as long.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// How many calls of this module have something to do on this thread.
    static OCCUPIED: Cell<usize> = const { Cell::new(0) };
}

/// As [`rayon::join`], but the caller stays awake while it waits for the other one.
pub(crate) fn join<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    let ended = AtomicBool::new(false);
    rayon::join(
        || {
            let _occupied = Occupied::new();
            let result = first();
            help_until(&ended);
            result
        },
        || {
            let _occupied = Occupied::new();
            let _ended = Ended(&ended);
            second()
        },
    )
}

/// Runs `work` while a second thread, if there is one without work, stays awake to take a share of it.
///
/// A thread that waits within other work does not stay: it would hold up that work until this one ends,
/// and where each holds up the other, neither ends.
pub(crate) fn with_second_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let ended = AtomicBool::new(false);
    let work = || {
        let _occupied = Occupied::new();
        let _ended = Ended(&ended);
        work()
    };
    let help = || {
        if OCCUPIED.get() == 0 {
            let _occupied = Occupied::new();
            help_until(&ended);
        }
    };
    rayon::join(work, help).0
}

/// Counts in [`OCCUPIED`] while it is there.
struct Occupied;

impl Occupied {
    fn new() -> Self {
        OCCUPIED.set(OCCUPIED.get() + 1);
        Self
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        OCCUPIED.set(OCCUPIED.get() - 1);
    }
}

/// Sets its flag when it goes, also by a panic.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Takes work of the pool, this thread's own included, and lets other programs run while there is none.
fn help_until(ended: &AtomicBool) {
    while !ended.load(Ordering::Acquire) {
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(work)
    }

    #[test]
    fn both_are_done_on_any_number_of_threads() {
        fn sum(numbers: &[u64]) -> u64 {
            match numbers {
                [] => 0,
                [number] => *number,
                _ => {
                    let (left, right) = numbers.split_at(numbers.len() / 2);
                    let (left, right) = join(|| sum(left), || sum(right));
                    left + right
                }
            }
        }
        let numbers: Vec<_> = (1..=1000).collect();
        for threads in [1, 2, 3] {
            let found = on(threads, || with_second_thread(|| sum(&numbers)));
            assert_eq!(found, 500_500, "{threads}");
        }
        assert_eq!(join(|| 1, || 2), (1, 2), "outside of a pool");
    }

    #[test]
    fn callers_do_not_wait_for_each_other() {
        for threads in [1, 2, 3] {
            let ended = AtomicBool::new(false);
            let short = || with_second_thread(|| join(|| 1, || 2));
            let many = || {
                let sum: i32 = (0..1000).map(|_| short()).map(|(a, b)| a + b).sum();
                ended.store(true, Ordering::Release);
                sum
            };
            // Takes work of the pool, its own helper's included, until the others have ended.
            let long = || with_second_thread(|| help_until(&ended));
            let ((), sum) = on(threads, || rayon::join(long, many));
            assert_eq!(sum, 3000, "{threads}");
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        for threads in [1, 2] {
            for first in [true, false] {
                let panicking = || {
                    let fail = |fails: bool| assert!(!fails, "as it should");
                    with_second_thread(|| join(|| fail(first), || fail(!first)));
                };
                let outcome = std::panic::catch_unwind(|| on(threads, panicking));
                assert!(outcome.is_err(), "{threads}");
            }
        }
    }
}
