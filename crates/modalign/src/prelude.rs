//! The names that almost every program needs.

pub use modalign_data::{Dataset, ReadOptions, read};
pub use modalign_encoders::Modality;
pub use modalign_metrics::{Convention, Metric};
pub use modalign_train::{Checkpoint, Experiment, ExperimentConfig, Predictor, Recipe, run};
