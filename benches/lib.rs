//! What the benchmarks of the modalign crates share; run them with `cargo bench -p modalign-benches`.

mod naive;
mod sampling;
mod training;

pub use naive::{naive_covariance, naive_gram_loss, naive_loss};
pub use sampling::Sampled;
pub use training::{Unit, time_training};

use std::time::{Duration, Instant};

use indexmap::IndexMap;
use modalign_core::{Scalar, Stream};
use modalign_data::{Dataset, Sequences, Split};
use modalign_metrics::Convention;
use modalign_train::{ExperimentConfig, Recipe};
use ndarray::{Array1, Array2, Array3, s};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Rows and columns of a modality.
pub const SHAPES: [(usize, usize); 7] = [
    (32, 32),
    (32, 128),
    (32, 768),
    (128, 128),
    (512, 256),
    (2048, 768),
    (8192, 1024),
];

/// A matrix of independent numbers between −1 and 1, the same in every run.
pub fn features<A: Scalar>(rows: usize, columns: usize, seed: u64) -> Array2<A> {
    let mut rng = modalign_core::rng(seed, Stream::Generation);
    Array2::from_shape_simple_fn((rows, columns), || A::from_f64(rng.random_range(-1.0..1.0)))
}

/// The first of the [`features`], in `f64`.
pub fn seeded_matrix(rows: usize, columns: usize) -> Array2<f64> {
    features(rows, columns, 1)
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

    /// Runs `body` on one of the threads.
    pub fn install<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        self.0.install(body)
    }

    /// Runs a body on every one of the threads at once.
    pub fn broadcast(&self, body: impl Fn() + Sync) {
        self.0.broadcast(|_| body());
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

/// The sizes of a data set of text vectors and sequences for audio and vision.
#[derive(Debug, Clone, Copy)]
pub struct Corpus {
    /// What a benchmark calls it.
    pub name: &'static str,
    /// Training rows.
    pub rows: usize,
    /// Steps and features a step of audio, `[T, D]`.
    pub audio: [usize; 2],
    /// The same of vision.
    pub vision: [usize; 2],
}

/// Features of a text vector, as BERT-base makes them.
pub const TEXT_WIDTH: usize = 768;

/// CMU-MOSI and CMU-MOSEI as the field's feature files have them. Unaligned MOSEI is cut to the rows
/// that fit into memory several times; what a step costs does not depend on them.
pub const CORPORA: [Corpus; 4] = [
    Corpus {
        name: "mosi-aligned",
        rows: 1284,
        audio: [50, 5],
        vision: [50, 20],
    },
    Corpus {
        name: "mosi-unaligned",
        rows: 1284,
        audio: [375, 5],
        vision: [500, 20],
    },
    Corpus {
        name: "mosei-aligned",
        rows: 16326,
        audio: [50, 74],
        vision: [50, 35],
    },
    Corpus {
        name: "mosei-unaligned",
        rows: 2048,
        audio: [500, 74],
        vision: [375, 35],
    },
];

/// Sequences of numbers between −1 and 1 with lengths from a quarter of T to T.
pub fn seeded_sequences(rows: usize, [steps, width]: [usize; 2]) -> Sequences {
    let mut rng = StdRng::seed_from_u64(2);
    let lengths: Vec<usize> = (0..rows)
        .map(|_| rng.random_range(steps.div_ceil(4)..=steps))
        .collect();
    let mut values = Array3::zeros((rows, steps, width));
    for (row, &length) in lengths.iter().enumerate() {
        values
            .slice_mut(s![row, ..length, ..])
            .map_inplace(|value| *value = rng.random_range(-1.0..1.0));
    }
    Sequences { values, lengths }
}

impl Corpus {
    /// So many rows of random features with random labels in ±3.
    pub fn split(&self, rows: usize) -> Split {
        let mut rng = StdRng::seed_from_u64(3);
        let text = seeded_matrix(rows, TEXT_WIDTH).mapv(|value| value as f32);
        Split {
            id: (0..rows).map(|row| row.to_string()).collect(),
            raw_text: None,
            text_bert: None,
            features: IndexMap::from([
                ("text".to_owned(), Sequences::from_vectors(text)),
                ("audio".to_owned(), seeded_sequences(rows, self.audio)),
                ("vision".to_owned(), seeded_sequences(rows, self.vision)),
            ]),
            file_features: IndexMap::new(),
            labels: Array1::from_shape_simple_fn(rows, || rng.random_range(-3.0..3.0)),
            unimodal_labels: IndexMap::new(),
        }
    }

    /// The training rows, and as few others as there can be.
    pub fn dataset(&self) -> Dataset {
        Dataset {
            train: self.split(self.rows),
            valid: self.split(2),
            test: self.split(2),
        }
    }
}

/// The model that the peer scripts have in PyTorch: that of Self-MM on text vectors, batches of 32,
/// with covariance losses on projections of width 64.
pub fn peer_config() -> ExperimentConfig {
    let mut config = ExperimentConfig::recipe(Recipe::SelfMm, Convention::Mosi);
    config.seeds = vec![1111];
    config.objective.shared_information_weight = 1.0;
    config.objective.shared_width = 64;
    config.training.batch_size = 32;
    config.training.accumulation_steps = 1;
    config
}
