//! Criterion benchmarks of the modalign crates; run them with `cargo bench -p modalign-benches`.

use std::time::{Duration, Instant};

use ndarray::Array2;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// A matrix of numbers between −1 and 1, the same in every run.
pub fn seeded_matrix(rows: usize, columns: usize) -> Array2<f64> {
    let mut rng = StdRng::seed_from_u64(1);
    Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1.0..1.0))
}

/// A number of threads to benchmark on.
pub struct Threads(ThreadPool);

impl Threads {
    /// Starts them.
    ///
    /// # Panics
    ///
    /// If the system gives no threads.
    pub fn new(count: usize) -> Self {
        let pool = ThreadPoolBuilder::new().num_threads(count).build();
        Self(pool.expect("the system has threads"))
    }

    /// Times so many calls made by one of the threads, for criterion's `iter_custom`.
    pub fn time(&self, calls: u64, mut body: impl FnMut() + Send) -> Duration {
        self.0.install(|| {
            let begin = Instant::now();
            (0..calls).for_each(|_| body());
            begin.elapsed()
        })
    }
}
