//! Text by a pretrained encoder of the BERT family.

mod batch;
mod bert;
mod config;
mod embeddings;
mod folder;
mod tokenizer;

pub use self::{
    batch::TokenBatch,
    bert::{BertCache, BertEncoder, hugging_face_name},
    config::{Architecture, BertConfig, Pooling},
    embeddings::{BertEmbeddings, BertEmbeddingsCache},
    tokenizer::{EncodedTexts, TextTokenizer},
};
