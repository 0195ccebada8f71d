#![doc = include_str!("../README.md")]

mod activation;
mod attention;
mod clip;
mod dropout;
mod embedding;
mod error;
mod fixed;
mod init;
mod lanes;
mod layer_norm;
mod linear;
mod loss;
mod lstm;
mod memory;
mod optimizer;
mod parts;
mod philox;
mod pool;
mod schedule;
mod sequence_batch;
mod softmax;
#[cfg(test)]
mod testing;
mod transformer;

pub use crate::{
    activation::{Activation, ActivationCache},
    attention::{MultiHeadAttention, MultiHeadAttentionCache},
    clip::{clip_gradient_norm, global_norm, scale_to_norm, sums_of_squares},
    dropout::{Dropout, DropoutCache},
    embedding::{Embedding, EmbeddingCache},
    error::NnError,
    fixed::Fixed,
    layer_norm::{LayerNorm, LayerNormCache},
    linear::{Linear, LinearCache},
    loss::{
        weighted_huber, weighted_huber_value, weighted_l1, weighted_l1_into, weighted_l1_value,
        weighted_squared_error, weighted_squared_error_into, weighted_squared_error_value,
    },
    lstm::{
        Lstm, LstmCache, LstmConfig, LstmInputGradient, LstmOutput, LstmParts, LstmState,
        LstmWorkspace,
    },
    optimizer::{Optimizer, OptimizerConfig, OptimizerStep, ParameterGroup, WeightDecay},
    pool::{recycle, release_memory},
    schedule::LinearWarmup,
    sequence_batch::SequenceBatch,
    softmax::{softmax, softmax_backward},
    transformer::{TransformerConfig, TransformerDropout, TransformerLayer, TransformerLayerCache},
};
