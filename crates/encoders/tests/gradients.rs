//! Backward passes against central differences, at drawn shapes and sizes, padding included.

use modalign_core::{Parameters, Stream, rng};
use modalign_encoders::{
    Encoder, EncoderConfig, LstmEncoderConfig, PooledConfig, ProjectionHead, RegressionHead,
    RegressionHeadConfig, Statistics,
};
use modalign_gradcheck::{check_gradient, contract};
use ndarray::{Array1, Array2, Array3, ArrayD};
use proptest::prelude::*;
use rand::RngExt;

/// Checks every named array of `gradient` by differences of `loss` around `model`.
fn check_parameters<P: Parameters<f64>>(model: &P, gradient: &P, loss: impl Fn(&P) -> f64) {
    let gradients = gradient.named_views();
    for (index, (name, view)) in model.named_views().into_iter().enumerate() {
        assert_eq!(gradients[index].0, name);
        let (value, analytic) = (view.to_owned(), gradients[index].1.to_owned());
        check_gradient(&name, &value, &analytic, |changed: &ArrayD<f64>| {
            let mut model = model.clone();
            model.named_views_mut()[index].1.assign(changed);
            loss(&model)
        })
        .unwrap_or_else(|error| panic!("{error}"));
    }
}

fn sequences(seed: u64, rows: usize, steps: usize, width: usize) -> (Array3<f64>, Vec<usize>) {
    let mut rng = rng(seed, Stream::Generation);
    let x = Array3::from_shape_simple_fn((rows, steps, width), || rng.random_range(-2.0..2.0));
    let lengths = (0..rows).map(|_| rng.random_range(1..=steps)).collect();
    (x, lengths)
}

fn configs() -> impl Strategy<Value = EncoderConfig> {
    prop_oneof![
        (
            1_usize..5,
            prop::bool::ANY,
            prop_oneof![Just(0.0), 0.1..0.8]
        )
            .prop_map(|(output_size, both, dropout)| {
                let statistics = if both {
                    Statistics::MeanStd
                } else {
                    Statistics::Mean
                };
                EncoderConfig::Pooled(PooledConfig {
                    statistics,
                    dropout,
                    output_size,
                })
            }),
        (1_usize..5, 1_usize..5, prop_oneof![Just(0.0), 0.1..0.8]).prop_map(
            |(hidden_size, output_size, dropout)| {
                EncoderConfig::Lstm(LstmEncoderConfig {
                    hidden_size,
                    dropout,
                    output_size,
                })
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn encoders_agree_with_differences(
        config in configs(),
        (rows, steps, width) in (1_usize..4, 1_usize..5, 1_usize..4),
        seed in 0_u64..1000,
    ) {
        let (x, lengths) = sequences(seed, rows, steps, width);
        let encoder =
            Encoder::<f64>::new(&config, width, &mut rng(seed, Stream::Initialisation)).unwrap();
        let noise = || rng(seed, Stream::Dropout);
        let (y, cache) = encoder.forward(x.view(), &lengths, &mut noise()).unwrap();
        prop_assert_eq!(y.dim(), (rows, config.output_size(width)));
        // A pre-activation within a difference step of ReLU's kink has no single slope.
        prop_assume!(y.iter().all(|&y| y == 0.0 || y.abs() > 1e-4));
        let mut draw = rng(seed, Stream::Order);
        let cotangent = Array2::from_shape_simple_fn(y.dim(), || draw.random_range(-1.0..1.0));
        let mut grads = encoder.zeros_like();
        encoder.backward(cache, cotangent.view(), &mut grads).unwrap();
        check_parameters(&encoder, &grads, |encoder| {
            contract(&encoder.forward(x.view(), &lengths, &mut noise()).unwrap().0, &cotangent)
        });
    }

    #[test]
    fn padding_changes_nothing(config in configs(), seed in 0_u64..1000) {
        let (x, lengths) = sequences(seed, 3, 5, 2);
        let mut garbage = x.clone();
        for (row, &length) in lengths.iter().enumerate() {
            garbage.slice_mut(ndarray::s![row, length.., ..]).fill(1e30);
        }
        let encoder =
            Encoder::<f64>::new(&config, 2, &mut rng(seed, Stream::Initialisation)).unwrap();
        let results = [&x, &garbage].map(|x| {
            let (y, cache) =
                encoder.forward(x.view(), &lengths, &mut rng(seed, Stream::Dropout)).unwrap();
            let mut grads = encoder.zeros_like();
            encoder.backward(cache, y.view(), &mut grads).unwrap();
            let inferred = encoder.infer(x.view(), &lengths).unwrap();
            let grads: Vec<_> =
                grads.named_views().into_iter().map(|(_, view)| view.to_owned()).collect();
            (y, inferred, grads)
        });
        prop_assert_eq!(&results[0], &results[1]);
    }

    #[test]
    fn regression_head_agrees_with_differences(
        (rows, width, hidden_size) in (1_usize..4, 1_usize..5, 1_usize..6),
        dropout in prop_oneof![Just(0.0), 0.1..0.8],
        seed in 0_u64..1000,
    ) {
        let mut draw = rng(seed, Stream::Generation);
        let x = Array2::from_shape_simple_fn((rows, width), || draw.random_range(-2.0..2.0));
        let cotangent = Array1::from_shape_simple_fn(rows, || draw.random_range(-1.0..1.0));
        let config = RegressionHeadConfig { hidden_size, dropout };
        let mut initial = rng(seed, Stream::Initialisation);
        let head = RegressionHead::<f64>::new(width, &config, &mut initial).unwrap();
        let forward = |head: &RegressionHead<f64>, x: &Array2<f64>| {
            head.forward(x.view(), &mut rng(seed, Stream::Dropout)).unwrap()
        };
        let (feature, score, cache) = forward(&head, &x);
        prop_assert_eq!(feature.dim(), (rows, hidden_size));
        prop_assert_eq!(score.dim(), rows);
        prop_assume!(feature.iter().all(|&f| f == 0.0 || f > 1e-4));
        let hidden = head.l2.infer(feature.view()).unwrap();
        prop_assume!(hidden.iter().all(|z| z.abs() > 1e-4));
        let mut grads = head.zeros_like();
        let dx = head.backward(cache, cotangent.view(), &mut grads).unwrap();
        check_gradient("x", &x, &dx, |x| contract(&forward(&head, x).1, &cotangent)).unwrap();
        check_parameters(&head, &grads, |head| contract(&forward(head, &x).1, &cotangent));
    }

    #[test]
    fn projection_head_agrees_with_differences(
        (rows, width, shared) in (1_usize..4, 1_usize..5, 1_usize..5),
        seed in 0_u64..1000,
    ) {
        let mut draw = rng(seed, Stream::Generation);
        let x = Array2::from_shape_simple_fn((rows, width), || draw.random_range(-2.0..2.0));
        let cotangent = Array2::from_shape_simple_fn((rows, shared), || draw.random_range(-1.0..1.0));
        let head =
            ProjectionHead::<f64>::new(width, shared, &mut rng(seed, Stream::Initialisation))
                .unwrap();
        let (_, cache) = head.forward(x.view()).unwrap();
        let mut grads = head.zeros_like();
        let dx = head.backward(cache, cotangent.view(), &mut grads).unwrap();
        let loss = |head: &ProjectionHead<f64>, x: &Array2<f64>| {
            contract(&head.infer(x.view()).unwrap(), &cotangent)
        };
        check_gradient("x", &x, &dx, |x| loss(&head, x)).unwrap();
        check_parameters(&head, &grads, |head| loss(head, &x));
    }
}

#[test]
fn backward_adds() {
    let config = RegressionHeadConfig {
        hidden_size: 3,
        dropout: 0.0,
    };
    let mut noise = rng(1, Stream::Initialisation);
    let head = RegressionHead::<f64>::new(2, &config, &mut noise).unwrap();
    let x = ndarray::array![[1.0, -2.0], [0.5, 3.0]];
    let dy = ndarray::array![1.0, -1.0];
    let run = |times: usize| {
        let mut grads = head.zeros_like();
        for _ in 0..times {
            let (.., cache) = head
                .forward(x.view(), &mut rng(1, Stream::Dropout))
                .unwrap();
            head.backward(cache, dy.view(), &mut grads).unwrap();
        }
        grads
    };
    let (once, twice) = (run(1), run(2));
    for ((_, twice), (_, once)) in twice.named_views().into_iter().zip(once.named_views()) {
        assert_eq!(twice, once.mapv(|g| 2.0 * g));
    }
}
