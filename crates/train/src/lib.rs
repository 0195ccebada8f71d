#![doc = include_str!("../README.md")]

mod awake;
mod checkpoint;
mod config;
mod error;
mod experiment;
mod gradient_check;
mod history;
mod model;
mod objective;
mod observer;
mod predictor;
mod prepared;
mod recipe;
mod scorer;
mod text_model;
mod trainer;

pub use crate::{
    checkpoint::Checkpoint,
    config::{
        Accumulation, DataConfig, ExperimentConfig, ModalityConfig, ModalityConfigs,
        ObjectiveConfig, PairConfig, TaskLoss, TrainingConfig,
    },
    error::TrainError,
    experiment::{Experiment, RunResult, Variant, cross_validate, run},
    gradient_check::{CheckedGradient, check_gradients},
    history::{EpochRecord, LabelMovement, LossTerms},
    model::{Branch, Input, Model, ModelCache, OutputGradients, Outputs},
    objective::{Objective, Targets},
    observer::{Event, Observer, StateKeeper},
    predictor::{Prediction, Predictor, Representation},
    recipe::Recipe,
    scorer::{Scorer, Scores},
    text_model::{TextModelConfig, Tuning},
};
