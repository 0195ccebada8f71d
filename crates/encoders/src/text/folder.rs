//! Files of a Hugging Face folder.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use modalign_core::{Parameters, Scalar, Store, StoreError, write_atomically};
use ndarray::ArrayViewMutD;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

use crate::EncoderError;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, EncoderError> {
    std::fs::read(path).map_err(|error| io_error(path, &error))
}

pub(crate) fn format_error(
    path: &Path,
    format: &'static str,
    reason: impl ToString,
) -> EncoderError {
    EncoderError::Format {
        path: path.to_owned(),
        format,
        reason: reason.to_string(),
    }
}

pub(crate) fn json<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, EncoderError> {
    serde_json::from_slice(bytes).map_err(|error| format_error(path, "configuration", error))
}

/// Fails unless `found` is a kind of `what` that is known.
pub(crate) fn check_supported(
    path: &Path,
    what: &'static str,
    found: &str,
    known: impl Fn(&str) -> bool,
) -> Result<(), EncoderError> {
    if known(found) {
        return Ok(());
    }
    Err(EncoderError::Unsupported {
        path: path.to_owned(),
        what,
        found: found.to_owned(),
    })
}

/// The content of a safetensors file that is whole and has room for so many parameters, before memory
/// is taken for them.
pub(crate) fn read_whole(path: &Path, parameters: usize) -> Result<Vec<u8>, EncoderError> {
    let bytes = read(path)?;
    SafeTensors::deserialize(&bytes)
        .map_err(|error| format_error(path, "safetensors file", error))?;
    // Two bytes are the shortest number that weights are stored as.
    if bytes.len() / 2 < parameters {
        return Err(EncoderError::TooShort {
            path: path.to_owned(),
            parameters,
            found: bytes.len(),
        });
    }
    Ok(bytes)
}

/// Fills `params` from the content of a safetensors file in which `name` says what each is called.
/// Prefixes and the old names of a norm's parameters are understood; the heads of tasks and stored position
/// numbers are passed over.
pub(crate) fn read_weights<A: Scalar>(
    path: &Path,
    bytes: &[u8],
    params: &mut impl Parameters<A>,
    name: impl Fn(&str) -> String,
) -> Result<(), EncoderError> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format_error(path, "safetensors file", error))?;
    let mut tensors = BTreeMap::new();
    for (stored, view) in file.iter() {
        let Some(canonical) = canonical_name(stored) else {
            continue;
        };
        if tensors.insert(canonical, view).is_some() {
            return Err(unexpected(path, stored));
        }
    }
    for (own, view) in params.named_views_mut() {
        let needed = name(&own);
        let tensor = tensors
            .remove(&needed)
            .ok_or_else(|| EncoderError::MissingTensor {
                path: path.to_owned(),
                name: needed.clone(),
            })?;
        fill(path, &needed, &tensor, view)?;
    }
    match tensors.keys().next() {
        Some(left) => Err(unexpected(path, left)),
        None => Ok(()),
    }
}

/// Writes `params` in f32, each under what `name` makes of its own.
pub(crate) fn write_weights<A: Scalar>(
    path: &Path,
    params: &impl Parameters<A>,
    name: impl Fn(&str) -> String,
) -> Result<(), EncoderError> {
    let mut store = Store::default();
    for (own, view) in params.named_views() {
        store.insert(name(&own), &view.mapv(|value| value.as_f64() as f32));
    }
    store.save(path).map_err(|error| match error {
        StoreError::Io { source, .. } => io_error(path, &source),
        other => format_error(path, "safetensors file", other),
    })
}

/// Writes a file whole or not at all.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), EncoderError> {
    write_atomically(path, |file| file.write_all(content)).map_err(|error| io_error(path, &error))
}

fn io_error(path: &Path, error: &std::io::Error) -> EncoderError {
    EncoderError::Io {
        path: path.to_owned(),
        kind: error.kind(),
    }
}

fn unexpected(path: &Path, name: &str) -> EncoderError {
    EncoderError::UnexpectedTensor {
        path: path.to_owned(),
        name: name.to_owned(),
    }
}

/// The name without prefix and in today's spelling, or nothing for what is no part of the encoder.
fn canonical_name(stored: &str) -> Option<String> {
    const PREFIXES: [&str; 3] = ["bert.", "roberta.", "distilbert."];
    const OTHER_PARTS: [&str; 9] = [
        "pooler.",
        "cls.",
        "classifier.",
        "pre_classifier.",
        "qa_outputs.",
        "lm_head.",
        "vocab_transform.",
        "vocab_layer_norm.",
        "vocab_projector.",
    ];
    let name = PREFIXES
        .iter()
        .find_map(|prefix| stored.strip_prefix(prefix))
        .unwrap_or(stored);
    if name == "embeddings.position_ids" || OTHER_PARTS.iter().any(|part| name.starts_with(part)) {
        return None;
    }
    for (old, new) in [("gamma", "weight"), ("beta", "bias")] {
        if let Some(norm) = name
            .strip_suffix(old)
            .filter(|norm| norm.ends_with("LayerNorm."))
        {
            return Some(format!("{norm}{new}"));
        }
    }
    Some(name.to_owned())
}

fn fill<A: Scalar>(
    path: &Path,
    name: &str,
    tensor: &TensorView<'_>,
    target: ArrayViewMutD<A>,
) -> Result<(), EncoderError> {
    if tensor.shape() != target.shape() {
        return Err(EncoderError::TensorShape {
            path: path.to_owned(),
            name: name.to_owned(),
            expected: target.shape().to_vec(),
            found: tensor.shape().to_vec(),
        });
    }
    let bytes = tensor.data();
    match tensor.dtype() {
        Dtype::F64 => assign(target, bytes, f64::from_le_bytes),
        Dtype::F32 => assign(target, bytes, |bytes| f32::from_le_bytes(bytes).into()),
        Dtype::F16 => assign(target, bytes, |bytes| f16::from_le_bytes(bytes).into()),
        Dtype::BF16 => assign(target, bytes, |bytes| bf16::from_le_bytes(bytes).into()),
        other => check_supported(
            path,
            "element type",
            &format!("{other:?} of {name}"),
            |_| false,
        )?,
    }
    Ok(())
}

fn assign<A: Scalar, const N: usize>(
    mut target: ArrayViewMutD<A>,
    bytes: &[u8],
    widen: impl Fn([u8; N]) -> f64,
) {
    for (target, bytes) in target.iter_mut().zip(bytes.as_chunks().0) {
        *target = A::from_f64(widen(*bytes));
    }
}
