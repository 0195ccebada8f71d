use std::hint::black_box;

use modalign_benches::Sampled;
use modalign_core::{Parameters, Stream, rng};
use modalign_encoders::{BertConfig, BertEncoder, TokenBatch};
use modalign_nn::{Optimizer, OptimizerConfig, ParameterGroup, TransformerConfig};
use ndarray::{Array2, s};

const ROWS: usize = 32;
const LONGEST: usize = 50;

/// What is done with the encoder that `text_encoder.py` describes.
#[derive(Clone, Copy, PartialEq)]
pub enum Work {
    /// A forward pass without a cache.
    Forward,
    /// A forward and a backward pass, with dropout at this rate.
    Both(f64),
    /// Both passes with dropout and a step of Adam.
    Step,
}

/// The formulations are `modalign`, `recompute`, which keeps the inputs of layers alone, and for a step
/// `last_2`, which trains two layers.
pub fn text_encoder(formulation: &str, extents: &[usize], work: Work) -> Option<Sampled<'static>> {
    let &[layers, hidden_size, heads, intermediate_size, shortest] = extents else {
        return None;
    };
    let dropout = match work {
        Work::Forward => 0.0,
        Work::Both(rate) => rate,
        Work::Step => 0.1,
    };
    let config = BertConfig {
        layers,
        layer: TransformerConfig {
            hidden_size,
            heads,
            intermediate_size,
            dropout,
            attention_dropout: dropout,
            ..TransformerConfig::default()
        },
        ..BertConfig::default()
    };
    let vocabulary = config.vocabulary_size;
    let mut encoder = BertEncoder::<f32>::new(&config, &mut rng(1, Stream::Initialisation))
        .expect("valid settings");
    match formulation {
        "modalign" => {}
        "recompute" => encoder.recompute_layers(true),
        "last_2" if work == Work::Step => encoder.train_last_layers(2),
        _ => return None,
    }
    let mut mask = Array2::default((ROWS, LONGEST));
    for row in 0..ROWS {
        let length = shortest + row * (LONGEST - shortest) / (ROWS - 1);
        mask.slice_mut(s![row, ..length]).fill(true);
    }
    let batch = TokenBatch {
        ids: Array2::from_shape_fn((ROWS, LONGEST), |(row, step)| {
            ((row * 977 + step * 131) % vocabulary) as u32
        }),
        mask,
        token_types: Array2::zeros((ROWS, LONGEST)),
    };
    if work == Work::Forward {
        return Some(Sampled::new(move || {
            black_box(encoder.infer(black_box(&batch)).expect("a valid batch"));
        }));
    }
    let mut gradients = encoder.zeros_like();
    let mut noise = rng(1, Stream::Dropout);
    let dy = Array2::ones((ROWS, hidden_size));
    let mut adam = (work == Work::Step).then(|| {
        let groups = [1e-5, 0.0].map(|learning_rate| ParameterGroup {
            learning_rate,
            weight_decay: 0.0,
        });
        let trained = |name: &str| usize::from(!encoder.is_trained(name));
        Optimizer::new(
            &OptimizerConfig::default(),
            &encoder,
            groups.to_vec(),
            trained,
        )
        .expect("valid settings")
    });
    Some(Sampled::new(move || {
        gradients.set_zero();
        let (_, cache) = encoder
            .forward(black_box(&batch), &mut noise)
            .expect("a valid batch");
        encoder
            .backward(cache, dy.view(), &mut gradients)
            .expect("a cache of this encoder");
        if let Some(adam) = &mut adam {
            adam.step(&mut encoder, &gradients, 1.0)
                .expect("the parameters it was made for");
        }
    }))
}
