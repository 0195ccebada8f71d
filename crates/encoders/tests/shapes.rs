//! Every encoder and head at drawn extents, some of which do not fit: an error where they do not, a
//! result of the right shape where they do, and no panic.

#![allow(clippy::unwrap_used)]

use modalign_core::{ChaCha8Rng, Parameters, Stream, rng};
use modalign_encoders::{
    BertConfig, BertEncoder, Encoder, EncoderCache, EncoderConfig, EncoderError, EncoderWorkspace,
    LstmEncoderConfig, PooledConfig, Pooling, ProjectionHead, RegressionHead, RegressionHeadConfig,
    RegressionHeadWorkspace, Statistics, TokenBatch,
};
use modalign_nn::{SequenceBatch, TransformerConfig};
use ndarray::{Array1, Array2, Array3, Axis};
use proptest::prelude::*;

/// Stands for the extent that fits.
const FITS: usize = 9;

fn drawn() -> impl Strategy<Value = usize> {
    prop_oneof![5 => Just(FITS), 1 => 0_usize..5]
}

fn fit(drawn: usize, fitting: usize) -> usize {
    if drawn == FITS { fitting } else { drawn }
}

fn seeded() -> ChaCha8Rng {
    rng(1, Stream::Initialisation)
}

fn judge<T>(what: &str, fits: bool, result: Result<T, EncoderError>) -> Option<T> {
    match result {
        Ok(value) => {
            assert!(fits, "{what}: what does not fit was taken");
            Some(value)
        }
        Err(error) => {
            assert!(!fits, "{what}: {error}");
            None
        }
    }
}

fn configs() -> impl Strategy<Value = EncoderConfig> {
    let pooled = |statistics| {
        EncoderConfig::Pooled(PooledConfig {
            statistics,
            output_size: 3,
            ..PooledConfig::default()
        })
    };
    prop_oneof![
        Just(EncoderConfig::Identity {}),
        Just(pooled(Statistics::Mean)),
        Just(pooled(Statistics::MeanStd)),
        Just(EncoderConfig::Lstm(LstmEncoderConfig {
            hidden_size: 2,
            output_size: 3,
            ..LstmEncoderConfig::default()
        })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn encoders(
        (config, other) in (configs(), configs()),
        (input, batch, steps) in (1_usize..4, 1_usize..4, 1_usize..4),
        (width, count, longest) in (drawn(), drawn(), drawn()),
        (dn, dwidth, stranger) in (drawn(), drawn(), drawn()),
    ) {
        let new = |config: &EncoderConfig, input| Encoder::<f64>::new(config, input, &mut seeded()).unwrap();
        let encoder = new(&config, input);
        let x = Array3::<f64>::from_elem((batch, steps, fit(width, input)), 0.5);
        let lengths: Vec<_> = (0..fit(count, batch))
            .map(|row| if row == 0 { fit(longest, steps) } else { steps })
            .collect();
        let fits = x.dim().2 == input
            && lengths.len() == batch
            && lengths.iter().all(|length| (1..=steps).contains(length));
        let expected = (batch, encoder.output_size());
        if let Some(y) = judge("infer", fits, encoder.infer(x.view(), &lengths)) {
            prop_assert_eq!(y.dim(), expected);
        }
        let mut y = Array2::zeros((1, 1));
        let mut workspace = EncoderWorkspace::default();
        let found = encoder.infer_into(x.view(), &lengths, &mut workspace, &mut y);
        if judge("infer_into", fits, found).is_some() {
            prop_assert_eq!(y.dim(), expected);
        }
        for statistics in [Statistics::Mean, Statistics::MeanStd] {
            let fits = lengths.len() == batch
                && lengths.iter().all(|length| (1..=steps).contains(length));
            if let Some(y) = judge("statistics", fits, statistics.apply(x.view(), &lengths)) {
                prop_assert_eq!(y.dim(), (batch, statistics.output_size(x.dim().2)));
            }
        }
        let forward = || encoder.forward(x.view(), &lengths, &mut seeded());
        let Some((y, cache)) = judge("forward", fits, forward()) else {
            return Ok(());
        };
        prop_assert_eq!(y.dim(), expected);
        // Gradients of this encoder, or of another input size.
        let stranger = fit(stranger, input).max(1);
        let mut grads = new(&config, stranger).zeros_like();
        let dy = Array2::ones((fit(dn, batch), fit(dwidth, encoder.output_size())));
        // An identity has nothing to compute, so nothing to refuse.
        let identity = matches!(config, EncoderConfig::Identity {});
        let fitting = identity || (dy.dim() == expected && stranger == input);
        judge("backward", fitting, encoder.backward(cache, dy.view(), &mut grads));
        // Another kind of encoder: whatever it says, it does not panic.
        let mut other = new(&other, input).zeros_like();
        let (_, cache) = forward().unwrap();
        let _ = encoder.backward(cache, Array2::ones(expected).view(), &mut other);
        let (_, cache) = forward().unwrap();
        let mut grads = other.zeros_like();
        let _ = other.backward(cache, Array2::ones(expected).view(), &mut grads);
    }

    #[test]
    fn parts(
        config in configs(),
        (all, steps, input) in (1_usize..40, 1_usize..4, 1_usize..4),
        picks in prop::collection::vec(0_usize..40, 1..40),
        (beyond, length, split) in (drawn(), drawn(), 0_usize..4),
    ) {
        let length = fit(length, steps);
        let x = Array3::from_shape_fn((all, steps, input), |(row, step, column)| {
            (row + 2 * step + 3 * column) as f64 * 0.01
        });
        let mut rows: Vec<usize> = picks.iter().map(|pick| pick % all).collect();
        let last = rows.len() - 1;
        rows[last] = if beyond == FITS { all - 1 } else { all + beyond };
        let selected = SequenceBatch::select(x.view(), &rows);
        prop_assert_eq!(selected.is_ok(), beyond == FITS);
        let Ok(selected) = selected else {
            return Ok(());
        };
        prop_assert_eq!(selected.dim(), (rows.len(), steps, input));
        let lengths = vec![length; rows.len()];
        let encoder = Encoder::<f64>::new(&config, input, &mut seeded()).unwrap();
        let copied = x.select(Axis(0), &rows);
        let (mut cache, mut y) = (EncoderCache::default(), Array2::default((0, 0)));
        let forward = |cache: &mut EncoderCache<f64>, y: &mut Array2<f64>| {
            let (noise, parts) = encoder.forward_parts(selected.view(), &lengths, cache, y)?;
            let (first, second) = parts.split_at(split);
            second.run()?;
            first.run()?;
            noise.draw(&mut seeded())?;
            encoder.finish_forward(cache, y)
        };
        let fits = (1..=steps).contains(&length);
        if judge("parts", fits, forward(&mut cache, &mut y)).is_none() {
            return Ok(());
        }
        let (expected, whole) = encoder.forward(copied.view(), &lengths, &mut seeded()).unwrap();
        prop_assert_eq!(&y, &expected);
        prop_assert_eq!(encoder.infer(selected, &lengths).unwrap().dim(), y.dim());

        let (mut grads, mut found) = (encoder.zeros_like(), encoder.zeros_like());
        encoder.backward(whole, y.view(), &mut grads).unwrap();
        let parts = encoder.backward_parts(&mut cache, y.view(), &mut found).unwrap();
        let (first, second) = parts.split_at(split);
        second.run().unwrap();
        first.run().unwrap();
        encoder.finish_backward(&cache, &mut found).unwrap();
        prop_assert_eq!(found.named_views(), grads.named_views());
    }

    #[test]
    fn heads(
        (input, size, n) in (1_usize..4, 1_usize..4, 0_usize..4),
        (width, dn, dwidth) in (drawn(), drawn(), drawn()),
        (other_input, other_size) in (drawn(), drawn()),
    ) {
        let config = |hidden_size| RegressionHeadConfig { hidden_size, ..RegressionHeadConfig::default() };
        let (other_input, other_size) = (fit(other_input, input).max(1), fit(other_size, size).max(1));
        let own = (other_input, other_size) == (input, size);
        let x = Array2::<f64>::from_elem((n, fit(width, input)), 0.5);
        let fits = x.ncols() == input;

        let head = RegressionHead::<f64>::new(input, &config(size), &mut seeded()).unwrap();
        let other = RegressionHead::<f64>::new(other_input, &config(other_size), &mut seeded()).unwrap();
        if let Some((features, y)) = judge("infer", fits, head.infer(x.view())) {
            prop_assert_eq!((features.dim(), y.len()), ((n, head.feature_size()), n));
        }
        let mut workspace = RegressionHeadWorkspace::default();
        judge("score", fits && n == 1, head.score(x.view(), &mut workspace));
        if let Some((_, _, cache)) = judge("forward", fits, head.forward(x.view(), &mut seeded())) {
            let dy = Array1::ones(fit(dn, n));
            let found = head.backward(cache, dy.view(), &mut other.zeros_like());
            if let Some(dx) = judge("backward", dy.len() == n && own, found) {
                prop_assert_eq!(dx.dim(), (n, input));
            }
            let (_, _, cache) = head.forward(x.view(), &mut seeded()).unwrap();
            let found = other.backward(cache, Array1::ones(n).view(), &mut other.zeros_like());
            judge("stranger", own, found);
        }

        let head = ProjectionHead::<f64>::new(input, size, &mut seeded()).unwrap();
        let other = ProjectionHead::<f64>::new(other_input, other_size, &mut seeded()).unwrap();
        judge("infer", fits, head.infer(x.view()));
        if let Some((y, cache)) = judge("forward", fits, head.forward(x.view())) {
            prop_assert_eq!(y.dim(), (n, size));
            let dy = Array2::ones((fit(dn, n), fit(dwidth, size)));
            let found = head.backward(cache, dy.view(), &mut other.zeros_like());
            judge("backward", dy.dim() == (n, size) && own, found);
        }
    }

    #[test]
    fn tokens(
        (rows, columns) in (1_usize..3, 1_usize..4),
        shapes in [drawn(), drawn(), drawn(), drawn()],
        (id, token_type, masked, long) in (0_u32..6, 0_u32..3, any::<bool>(), prop_oneof![4 => Just(0_usize), 1 => Just(3_usize)]),
        (dn, dwidth, layers) in (drawn(), drawn(), 1_usize..3),
    ) {
        let columns = columns + long;
        let config = |layers| BertConfig {
            vocabulary_size: 5,
            positions: 4,
            token_types: 2,
            layers,
            layer: TransformerConfig { hidden_size: 4, heads: 2, intermediate_size: 3, ..TransformerConfig::default() },
            pooling: Pooling::Mean,
            ..BertConfig::default()
        };
        let encoder = BertEncoder::<f64>::new(&config(1), &mut seeded()).unwrap();
        let [a, b, c, d] = shapes;
        let batch = TokenBatch {
            ids: Array2::from_elem((fit(a, rows), fit(b, columns)), id),
            mask: Array2::from_elem((rows, columns), !masked),
            token_types: Array2::from_elem((fit(c, rows), fit(d, columns)), token_type),
        };
        let shapes_fit = batch.ids.dim() == (rows, columns) && batch.token_types.dim() == (rows, columns);
        let fits = shapes_fit && !masked && id < 5 && token_type < 2 && columns <= 4;
        if let Some(y) = judge("infer", fits, encoder.infer(&batch)) {
            prop_assert_eq!(y.dim(), (rows, encoder.output_size()));
        }
        if let Some(y) = judge("infer_states", fits, encoder.infer_states(&batch)) {
            prop_assert_eq!(y.dim(), (rows, columns, 4));
        }
        if let Some((steps, lengths)) = judge("to_steps", shapes_fit, batch.to_steps()) {
            judge("from_steps", !masked, TokenBatch::from_steps(steps.view(), &lengths));
            let wide = Array3::<f32>::zeros((rows, columns, 3));
            judge("from_steps", false, TokenBatch::from_steps(wide.view(), &lengths));
        }
        let Some((_, cache)) = judge("forward", fits, encoder.forward(&batch, &mut seeded())) else {
            return Ok(());
        };
        let dy = Array2::ones((fit(dn, rows), fit(dwidth, encoder.output_size())));
        let other = BertEncoder::<f64>::new(&config(layers), &mut seeded()).unwrap();
        let fitting = dy.dim() == (rows, encoder.output_size()) && layers == 1;
        judge("backward", fitting, encoder.backward(cache, dy.view(), &mut other.zeros_like()));
    }
}
