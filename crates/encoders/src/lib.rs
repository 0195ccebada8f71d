#![doc = include_str!("../README.md")]

mod encoder;
mod error;
mod lstm;
mod modality;
mod parts;
mod pooled;
mod projection_head;
mod regression_head;
mod size;
mod statistics;
mod text;

pub use crate::{
    encoder::{Encoder, EncoderCache, EncoderConfig, EncoderWorkspace},
    error::EncoderError,
    lstm::{LstmEncoder, LstmEncoderCache, LstmEncoderConfig},
    modality::Modality,
    parts::{EncoderNoise, EncoderParts},
    pooled::{PooledConfig, PooledEncoder, PooledEncoderCache},
    projection_head::{ProjectionHead, ProjectionHeadCache},
    regression_head::{
        RegressionHead, RegressionHeadCache, RegressionHeadConfig, RegressionHeadWorkspace,
    },
    statistics::Statistics,
    text::{
        Architecture, BertCache, BertConfig, BertEmbeddings, BertEmbeddingsCache, BertEncoder,
        EncodedTexts, Pooling, TextTokenizer, TokenBatch, hugging_face_name,
    },
};
