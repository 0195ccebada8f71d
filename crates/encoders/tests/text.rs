//! The text encoder against central differences and against damaged folders.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use modalign_core::{Parameters, Stream, rng};
use modalign_encoders::{
    Architecture, BertConfig, BertEncoder, EncoderError, Pooling, TextTokenizer, TokenBatch,
    hugging_face_name,
};
use modalign_gradcheck::{check_gradient, contract};
use modalign_nn::{Activation, NnError, TransformerConfig};
use ndarray::{Array2, ArrayD, Axis, concatenate, s};
use proptest::prelude::*;
use rand::RngExt;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

fn tokens(seed: u64, rows: usize, steps: usize, config: &BertConfig) -> TokenBatch {
    let mut rng = rng(seed, Stream::Generation);
    let mut table = |rows: usize| rng.random_range(0..rows as u32);
    let shape = (rows, steps);
    let ids = Array2::from_shape_simple_fn(shape, || table(config.vocabulary_size));
    let token_types = Array2::from_shape_simple_fn(shape, || table(config.token_types.max(1)));
    let mut mask = Array2::from_shape_simple_fn(shape, || table(3) > 0);
    for mut row in mask.rows_mut() {
        let on = table(steps) as usize;
        row[on] = true;
    }
    TokenBatch {
        ids,
        mask,
        token_types,
    }
}

fn configs() -> impl Strategy<Value = BertConfig> {
    // With rows of the position table for 5 tokens.
    let forms = prop::sample::select(vec![
        (Architecture::Bert, 5, 2),
        (Architecture::Roberta, 7, 1),
        (Architecture::DistilBert, 5, 0),
    ]);
    let sizes = (1_usize..3, 1_usize..3, 1_usize..5, 0_usize..3);
    let rates = (
        prop_oneof![Just(0.0), 0.1..0.6],
        prop_oneof![Just(0.0), 0.1..0.6],
    );
    let pooling = prop::sample::select(vec![Pooling::Cls, Pooling::Mean]);
    (forms, sizes, rates, -2.0..0.0_f64, pooling).prop_map(
        |(
            (architecture, positions, token_types),
            (heads, head_size, intermediate_size, layers),
            rates,
            exponent,
            pooling,
        )| BertConfig {
            architecture,
            vocabulary_size: 5,
            positions,
            token_types,
            layers,
            layer: TransformerConfig {
                hidden_size: heads * head_size,
                heads,
                intermediate_size,
                activation: Activation::Gelu,
                dropout: rates.0,
                attention_dropout: rates.1,
                layer_norm_epsilon: 10_f64.powf(exponent),
            },
            pooling,
        },
    )
}

/// Away from scale 1 and shift 0, where wrong gradients can hide.
fn encoder(config: &BertConfig, seed: u64) -> BertEncoder<f64> {
    let mut draw = rng(seed, Stream::Initialisation);
    let mut encoder = BertEncoder::new(config, &mut draw).unwrap();
    for (_, mut view) in encoder.named_views_mut() {
        view.mapv_inplace(|x| x + draw.random_range(-0.5..0.5));
    }
    encoder
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_gradient_agrees_with_differences(
        config in configs(),
        (rows, steps) in (1_usize..4, 1_usize..6),
        seed in 0_u64..1000,
    ) {
        let batch = tokens(seed, rows, steps, &config);
        let model = encoder(&config, seed);
        let noise = || rng(seed, Stream::Dropout);
        let (y, cache) = model.forward(&batch, &mut noise()).unwrap();
        prop_assert_eq!(y.dim(), (rows, model.output_size()));
        let mut draw = rng(seed, Stream::Split);
        let dy = Array2::from_shape_simple_fn(y.raw_dim(), || draw.random_range(-1.0..1.0));
        let mut grads = model.zeros_like();
        model.backward(cache, dy.view(), &mut grads).unwrap();
        let analytic = grads.named_views();
        for (index, (name, view)) in model.named_views().into_iter().enumerate() {
            prop_assert_eq!(&analytic[index].0, &name);
            let (value, gradient) = (view.to_owned(), analytic[index].1.to_owned());
            let check = check_gradient(&name, &value, &gradient, |changed: &ArrayD<f64>| {
                let mut model = model.clone();
                model.named_views_mut()[index].1.assign(changed);
                contract(&model.forward(&batch, &mut noise()).unwrap().0, &dy)
            });
            prop_assert!(check.is_ok(), "{}", check.unwrap_err());
        }

        let (_, cache) = model.forward(&batch, &mut noise()).unwrap();
        let mut twice = grads.clone();
        model.backward(cache, dy.view(), &mut twice).unwrap();
        for ((name, once), (_, twice)) in grads.named_views().into_iter().zip(twice.named_views()) {
            let error = (&twice - &once.mapv(|x| 2.0 * x)).mapv(f64::abs).into_iter().fold(0.0, f64::max);
            prop_assert!(error < 1e-12, "{}: {:e}", name, error);
        }
    }

    #[test]
    fn recomputed_layers_have_the_same_bits(
        config in configs(),
        (rows, steps) in (1_usize..4, 1_usize..6),
        last in prop::option::of(0_usize..3),
        seed in 0_u64..1000,
    ) {
        let batch = tokens(seed, rows, steps, &config);
        let mut model = encoder(&config, seed);
        if let Some(last) = last {
            model.train_last_layers(last);
        }
        let run = |model: &BertEncoder<f64>| {
            let (y, cache) = model.forward(&batch, &mut rng(seed, Stream::Dropout)).unwrap();
            let mut grads = model.zeros_like();
            model.backward(cache, y.view(), &mut grads).unwrap();
            (y, grads)
        };
        let (y, grads) = run(&model);
        model.recompute_layers(true);
        let (again, recomputed) = run(&model);
        prop_assert_eq!(again, y);
        prop_assert_eq!(recomputed.named_views(), grads.named_views());
    }

    #[test]
    fn padding_changes_nothing(
        config in configs(),
        (rows, steps) in (1_usize..4, 1_usize..4),
        seed in 0_u64..1000,
    ) {
        let batch = tokens(seed, rows, steps, &config);
        let model = encoder(&config, seed);
        // Two more columns, and ids and types beyond every table where there is no token.
        let garbage = |tokens: &Array2<u32>| {
            let more = Array2::from_elem((rows, 2), u32::MAX);
            let mut longer = concatenate![Axis(1), *tokens, more];
            for ((row, step), _) in batch.mask.indexed_iter().filter(|(_, on)| !**on) {
                longer[[row, step]] = u32::MAX;
            }
            longer
        };
        let padded = TokenBatch {
            ids: garbage(&batch.ids),
            token_types: garbage(&batch.token_types),
            mask: concatenate![Axis(1), batch.mask, Array2::from_elem((rows, 2), false)],
        };
        prop_assert_eq!(model.infer(&padded).unwrap(), model.infer(&batch).unwrap());
        let states = model.infer_states(&padded).unwrap();
        prop_assert_eq!(states.slice(s![.., ..steps, ..]), model.infer_states(&batch).unwrap());
        prop_assert!(states.slice(s![.., steps.., ..]).iter().all(|&state| state == 0.0));

        let gradient = |batch: &TokenBatch| {
            let (y, cache) = model.forward(batch, &mut rng(seed, Stream::Dropout)).unwrap();
            let mut grads = model.zeros_like();
            model.backward(cache, y.view(), &mut grads).unwrap();
            grads
        };
        let (found, expected) = (gradient(&padded), gradient(&batch));
        prop_assert_eq!(found.named_views(), expected.named_views());
    }

    #[test]
    fn pooling_is_of_the_states(
        config in configs(),
        (rows, steps) in (1_usize..4, 1_usize..6),
        seed in 0_u64..1000,
    ) {
        let batch = tokens(seed, rows, steps, &config);
        let model = encoder(&config, seed);
        let (y, states) = (model.infer(&batch).unwrap(), model.infer_states(&batch).unwrap());
        for row in 0..rows {
            let valid: Vec<_> = (0..steps).filter(|&step| batch.mask[[row, step]]).collect();
            for feature in 0..model.output_size() {
                let expected = match config.pooling {
                    Pooling::Cls => states[[row, valid[0], feature]],
                    Pooling::Mean => {
                        let sum: f64 = valid.iter().map(|&step| states[[row, step, feature]]).sum();
                        sum / valid.len() as f64
                    }
                };
                prop_assert!((y[[row, feature]] - expected).abs() < 1e-12);
            }
        }
    }
}

fn small() -> BertConfig {
    BertConfig {
        architecture: Architecture::Bert,
        vocabulary_size: 7,
        positions: 4,
        token_types: 2,
        layers: 2,
        layer: TransformerConfig {
            hidden_size: 4,
            heads: 2,
            intermediate_size: 3,
            ..TransformerConfig::default()
        },
        pooling: Pooling::Cls,
    }
}

#[test]
fn indices_beyond_a_table_are_refused() {
    let config = small();
    let model = encoder(&config, 1);
    let good = tokens(1, 2, 4, &config);
    let mut batch = good.clone();
    batch.mask[[0, 0]] = true;
    batch.ids[[0, 0]] = 7;
    let expected = |found, rows| {
        EncoderError::Nn(NnError::Index {
            operation: "embedding",
            entry: 0,
            found,
            rows,
        })
    };
    assert_eq!(model.infer(&batch).unwrap_err(), expected(7, 7));
    let mut batch = good.clone();
    batch.mask[[0, 0]] = true;
    batch.token_types[[0, 0]] = 2;
    assert_eq!(model.infer(&batch).unwrap_err(), expected(2, 2));
    let long = TokenBatch {
        ids: Array2::zeros((1, 5)),
        mask: Array2::from_elem((1, 5), true),
        token_types: Array2::zeros((1, 5)),
    };
    assert!(matches!(
        model.infer(&long).unwrap_err(),
        EncoderError::Nn(NnError::Index {
            found: 4,
            rows: 4,
            ..
        })
    ));
    let (_, cache) = model.forward(&good, &mut rng(1, Stream::Dropout)).unwrap();
    let dy = Array2::zeros((3, 4));
    let refused = model.backward(cache, dy.view(), &mut model.zeros_like());
    assert!(matches!(refused, Err(EncoderError::Shape(_))));
}

/// What `transformers` says of a folder of `tests/fixtures`.
#[derive(serde::Deserialize)]
struct Expected {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    /// Of every text the states of its tokens, one after the other.
    last_hidden_state: Vec<Vec<f64>>,
}

#[test]
fn other_architectures_agree_with_transformers() {
    for (name, architecture, positions) in [
        ("roberta", Architecture::Roberta, 18),
        ("distilbert", Architecture::DistilBert, 16),
    ] {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let expected = std::fs::read(fixture.join("expected.json")).unwrap();
        let expected: Expected = serde_json::from_slice(&expected).unwrap();
        let saved = tempfile::tempdir().unwrap();
        let config = BertConfig::load(&fixture, Pooling::Mean).unwrap();
        let model = BertEncoder::<f32>::load(&fixture, Pooling::Mean).unwrap();
        let tokenizer = TextTokenizer::load(&fixture, &config, positions).unwrap();
        model.save(saved.path(), &config).unwrap();
        tokenizer.save(saved.path()).unwrap();
        assert_eq!(config.architecture, architecture);
        assert_eq!(
            BertConfig::load(saved.path(), Pooling::Mean).unwrap(),
            config
        );
        let longer = TextTokenizer::load(&fixture, &config, positions + 1);
        assert!(matches!(longer, Err(EncoderError::Config { .. })));
        for folder in [fixture.as_path(), saved.path()] {
            let model = BertEncoder::<f32>::load(folder, Pooling::Mean).unwrap();
            let tokenizer = TextTokenizer::load(folder, &config, positions).unwrap();
            let batch = tokenizer.encode(&expected.texts).unwrap().batch;
            let states = model.infer_states(&batch).unwrap();
            let found = states.axis_iter(Axis(0)).zip(batch.ids.rows());
            for (row, (states, ids)) in found.enumerate() {
                let length = expected.ids[row].len();
                assert_eq!(
                    ids.iter().take(length).copied().collect::<Vec<_>>(),
                    expected.ids[row]
                );
                assert_eq!(batch.mask.row(row).iter().filter(|&&on| on).count(), length);
                let valid = states.slice(s![..length, ..]);
                assert_eq!(valid.len(), expected.last_hidden_state[row].len());
                for (found, expected) in valid.iter().zip(&expected.last_hidden_state[row]) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-5, "{name}: {error:e}");
                }
            }
        }
    }
}

type Arrays = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// The arrays of an encoder by their Hugging Face names, each number written by `write`.
fn arrays(model: &BertEncoder<f64>, dtype: Dtype, write: fn(f64) -> Vec<u8>) -> Arrays {
    model
        .named_views()
        .into_iter()
        .map(|(name, view)| {
            let bytes = view.iter().flat_map(|&value| write(value)).collect();
            (
                hugging_face_name(Architecture::Bert, &name),
                dtype,
                view.shape().to_vec(),
                bytes,
            )
        })
        .collect()
}

fn write(folder: &Path, arrays: &Arrays) {
    let views: HashMap<&str, TensorView<'_>> = arrays
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            (
                name.as_str(),
                TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
            )
        })
        .collect();
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    let config = serde_json::json!({
        "model_type": "bert", "vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 3, "max_position_embeddings": 4,
        "type_vocab_size": 2
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn double(value: f64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

#[test]
fn every_element_type_is_read() {
    let model = encoder(&small(), 3);
    let folder = tempfile::tempdir().unwrap();
    type Case = (Dtype, fn(f64) -> Vec<u8>, fn(f64) -> f64);
    let cases: [Case; 4] = [
        (Dtype::F64, double, |x| x),
        (
            Dtype::F32,
            |x| (x as f32).to_le_bytes().to_vec(),
            |x| f64::from(x as f32),
        ),
        (
            Dtype::F16,
            |x| f16::from_f64(x).to_le_bytes().to_vec(),
            |x| f16::from_f64(x).to_f64(),
        ),
        (
            Dtype::BF16,
            |x| bf16::from_f64(x).to_le_bytes().to_vec(),
            |x| bf16::from_f64(x).to_f64(),
        ),
    ];
    for (dtype, bytes, rounded) in cases {
        write(folder.path(), &arrays(&model, dtype, bytes));
        let loaded = BertEncoder::<f64>::load(folder.path(), Pooling::Cls).unwrap();
        for ((name, found), (_, exact)) in loaded.named_views().into_iter().zip(model.named_views())
        {
            assert_eq!(found, exact.mapv(rounded), "{name} as {dtype:?}");
        }
    }
}

#[test]
fn a_folder_that_does_not_fit_is_refused() {
    let model = encoder(&small(), 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let complete = arrays(&model, Dtype::F64, double);
    let refused = |change: &dyn Fn(&mut Arrays)| {
        let mut changed = complete.clone();
        change(&mut changed);
        write(folder.path(), &changed);
        BertEncoder::<f32>::load(folder.path(), Pooling::Cls).unwrap_err()
    };
    let key = "encoder.layer.1.attention.self.key.bias";
    let place = complete.iter().position(|(name, ..)| name == key).unwrap();

    assert_eq!(
        refused(&|arrays| drop(arrays.remove(place))),
        EncoderError::MissingTensor {
            path: path.clone(),
            name: key.to_owned()
        }
    );
    assert_eq!(
        refused(&|arrays| arrays[place].2 = vec![2, 2]),
        EncoderError::TensorShape {
            path: path.clone(),
            name: key.to_owned(),
            expected: vec![4],
            found: vec![2, 2]
        }
    );
    let unexpected = |name: &str| EncoderError::UnexpectedTensor {
        path: path.clone(),
        name: name.to_owned(),
    };
    let extra = |name: &str| (name.to_owned(), Dtype::I64, vec![1], vec![0; 8]);
    assert_eq!(
        refused(&|arrays| arrays.push(extra("encoder.layer.2.output.dense.bias"))),
        unexpected("encoder.layer.2.output.dense.bias")
    );
    let twice = refused(&|arrays| arrays.push(extra(&format!("bert.{key}"))));
    assert!(matches!(twice, EncoderError::UnexpectedTensor { .. }));
    let integers = refused(&|arrays| arrays[place].1 = Dtype::I64);
    assert!(
        integers.to_string().contains("\"I64 of encoder.layer.1"),
        "{integers}"
    );

    // Parts that are none of the encoder's do not matter.
    let mut more = complete.clone();
    for name in [
        "embeddings.position_ids",
        "pooler.dense.bias",
        "cls.predictions.bias",
    ] {
        more.push(extra(name));
    }
    write(folder.path(), &more);
    BertEncoder::<f32>::load(folder.path(), Pooling::Cls).unwrap();

    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let error = BertEncoder::<f32>::load(folder.path(), Pooling::Cls).unwrap_err();
        assert!(
            matches!(&error, EncoderError::Format { path: named, .. } if *named == path),
            "{length}: {error}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    let error = BertEncoder::<f32>::load(folder.path(), Pooling::Cls).unwrap_err();
    assert!(matches!(error, EncoderError::Io { .. }));
}

#[test]
fn weights_are_drawn_alike_in_both_precisions() {
    let draw = || rng(1, Stream::Initialisation);
    let double = BertEncoder::<f64>::new(&small(), &mut draw()).unwrap();
    let single = BertEncoder::<f32>::new(&small(), &mut draw()).unwrap();
    let batch = tokens(1, 2, 4, &small());
    let difference = single.infer(&batch).unwrap().mapv(f64::from) - double.infer(&batch).unwrap();
    assert!(difference.iter().all(|difference| difference.abs() < 1e-5));
}
