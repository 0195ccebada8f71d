//! Work split between the threads of the current rayon pool.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` with all products on the thread that calls, for callers who have as many of them to do
/// side by side as there are threads. The results are the same, to the last bit. What goes to a backend
/// takes the backend's own threads all the same.
///
/// # Examples
///
/// ```
/// use modalign_linalg::{gemm, on_one_thread};
/// use ndarray::array;
///
/// let (a, b, mut c) = (array![[1.0, 2.0]], array![[3.0], [4.0]], array![[0.0]]);
/// on_one_thread(|| gemm(1.0, &a, &b, 0.0, &mut c))?;
/// assert_eq!(c, array![[11.0]]);
/// # Ok::<(), modalign_linalg::LinalgError>(())
/// ```
pub fn on_one_thread<R>(body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }
    let _restore = Restore(ALONE.replace(true));
    body()
}

/// How many products may run at one time, each [on one thread](on_one_thread): the threads of the
/// current pool, but 1 with a backend, whose own threads would get in each other's way.
pub fn products_side_by_side() -> usize {
    if cfg!(feature = "blas") {
        1
    } else {
        rayon::current_num_threads()
    }
}

/// One thread for little work, else all of the current pool.
pub(crate) fn threads_for(work: usize, worth: usize) -> usize {
    #[cfg(test)]
    if let Some(setting) = crate::tests::Setting::held() {
        return setting.threads;
    }
    if work < worth || ALONE.get() {
        1
    } else {
        rayon::current_num_threads()
    }
}

/// Runs `body` on a worker of the pool, from where handing out tasks is cheap, unless there is only
/// one thread.
pub(crate) fn in_pool(threads: usize, body: impl FnOnce() + Send) {
    if threads == 1 {
        body();
    } else {
        rayon::scope(|_| body());
    }
}

/// Calls `work(task, worker)` once for every task. No two calls at one time share a worker number.
pub(crate) fn for_each_task(threads: usize, tasks: usize, work: impl Fn(usize, usize) + Sync) {
    if threads == 1 || tasks == 1 {
        (0..tasks).for_each(|task| work(task, 0));
        return;
    }
    let next = AtomicUsize::new(0);
    (0..threads.min(tasks))
        .into_par_iter()
        .with_max_len(1)
        .for_each(|worker| {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                work(task, worker);
            }
        });
}
