//! Every layer and loss at drawn extents, some of which do not fit: an error where they do not, a
//! result of the right shape where they do, and no panic.

#![allow(clippy::unwrap_used)]

use modalign_core::{Parameters, Store, Stream, rng};
use modalign_nn::{
    Activation, Dropout, Embedding, LayerNorm, Linear, Lstm, LstmConfig, LstmOutput, LstmState,
    LstmWorkspace, MultiHeadAttention, NnError, Optimizer, OptimizerConfig, ParameterGroup,
    TransformerConfig, TransformerLayer, clip_gradient_norm, global_norm, softmax,
    softmax_backward, weighted_huber, weighted_huber_value, weighted_l1, weighted_l1_value,
    weighted_squared_error, weighted_squared_error_value,
};
use ndarray::{Array1, Array2, Array3};
use proptest::prelude::*;

/// Mostly the extent that fits.
fn near(fitting: usize) -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(fitting), 1 => 0_usize..5]
}

fn matrix(rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        0.5 - ((3 * i + j) % 4) as f64 / 3.0
    })
}

fn vector(length: usize) -> Array1<f64> {
    Array1::from_shape_fn(length, |i| 1.0 + (i % 3) as f64)
}

/// Whether a call was right to succeed or fail.
fn judge<T>(what: &str, fits: bool, result: Result<T, NnError>) -> Option<T> {
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

/// Two sizes of a layer and those of its gradient and of a stranger, whose cache is no good.
fn sizes() -> impl Strategy<Value = [usize; 4]> {
    (1_usize..4, 1_usize..4).prop_flat_map(|(input, output)| {
        let fitting = |size: usize| prop_oneof![4 => Just(size), 1 => 1_usize..4];
        (fitting(input), fitting(output)).prop_map(move |(i, o)| [input, output, i, o])
    })
}

fn seeded() -> modalign_core::ChaCha8Rng {
    rng(1, Stream::Initialisation)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn linear(
        ([input, output, i, o], n, width, dn, dwidth) in sizes().prop_flat_map(|sizes| {
            (Just(sizes), 0_usize..4).prop_flat_map(|(sizes, n)| {
                (Just(sizes), Just(n), near(sizes[0]), near(n), near(sizes[1]))
            })
        }),
    ) {
        let layer = Linear::<f64>::new(input, output, &mut seeded()).unwrap();
        let other = Linear::<f64>::new(i, o, &mut seeded()).unwrap();
        let x = matrix(n, width);
        let fits = width == input;
        if let Some(y) = judge("infer", fits, layer.infer(x.view())) {
            prop_assert_eq!(y.dim(), (n, output));
        }
        let mut y = matrix(dn, dwidth);
        if judge("infer_into", fits, layer.infer_into(x.view(), &mut y)).is_some() {
            prop_assert_eq!(y.dim(), (n, output));
        }
        let dy = matrix(dn, dwidth);
        let fitting = (dn, dwidth, i, o) == (n, output, input, output);
        for parameters_alone in [false, true] {
            let Some((y, cache)) = judge("forward", fits, layer.forward(x.view())) else {
                return Ok(());
            };
            prop_assert_eq!(y.dim(), (n, output));
            let mut grads = other.zeros_like();
            if parameters_alone {
                judge("parameters", fitting, layer.backward_parameters(cache, dy.view(), &mut grads));
            } else if let Some(dx) = judge("backward", fitting, layer.backward(cache, dy.view(), &mut grads)) {
                prop_assert_eq!(dx.dim(), (n, input));
            }
        }
        // The cache of another layer.
        let (_, cache) = layer.forward(x.view()).unwrap();
        let found = other.backward(cache, matrix(n, o).view(), &mut other.zeros_like());
        judge("stranger", i == input, found);
    }

    #[test]
    fn layer_norm(
        (size, other, n, width, dn, dwidth) in (1_usize..4, 1_usize..4, 0_usize..4).prop_flat_map(|(size, other, n)| {
            (Just(size), prop_oneof![2 => Just(size), 1 => Just(other)], Just(n), near(size), near(n), near(size))
        }),
    ) {
        let layer = LayerNorm::<f64>::new(size, 1e-5).unwrap();
        let other = LayerNorm::<f64>::new(other, 1e-5).unwrap();
        let x = matrix(n, width);
        let fits = width == size;
        judge("infer", fits, layer.infer(x.view()));
        let Some((y, cache)) = judge("forward", fits, layer.forward(x.view())) else {
            return Ok(());
        };
        prop_assert_eq!(y.dim(), (n, size));
        let fitting = (dn, dwidth) == (n, size) && other.weight.len() == size;
        let dy = matrix(dn, dwidth);
        let found = layer.backward(cache, dy.view(), &mut other.zeros_like());
        if let Some(dx) = judge("backward", fitting, found) {
            prop_assert_eq!(dx.dim(), (n, size));
        }
    }

    #[test]
    fn embedding(
        rows in 1_usize..4, size in 1_usize..4,
        indices in prop::collection::vec(0_u32..4, 0..4),
        (dn, dsize, grown) in (0_usize..4, 0_usize..4, 0_usize..3),
        same in any::<bool>(),
    ) {
        let table = Embedding::<f64>::new(rows, size, &mut seeded()).unwrap();
        let fits = indices.iter().all(|&index| (index as usize) < rows);
        judge("infer", fits, table.infer(&indices));
        let Some((y, cache)) = judge("forward", fits, table.forward(&indices)) else {
            return Ok(());
        };
        prop_assert_eq!(y.dim(), (indices.len(), size));
        let (dn, dsize, grown) = if same { (indices.len(), size, 0) } else { (dn, dsize, grown) };
        let mut grads = Embedding::<f64>::new(rows + grown, size, &mut seeded()).unwrap();
        let fitting = (dn, dsize, grown) == (indices.len(), size, 0);
        judge("backward", fitting, table.backward(cache, matrix(dn, dsize).view(), &mut grads));
    }

    #[test]
    fn lstm(
        ([input, hidden, i, h], layers, bidirectional) in (sizes(), 1_usize..3, any::<bool>()),
        (batch, steps) in (0_usize..4, 0_usize..4),
        (width, count, longest) in (near(9), near(9), near(9)),
        states in [near(9), near(9), near(9)],
        gradients in [near(9), near(9), near(9)],
    ) {
        // 9 stands for the extent that fits.
        let fit = |drawn: usize, fitting: usize| if drawn == 9 { fitting } else { drawn };
        let config = LstmConfig { hidden_size: hidden, layers, bidirectional };
        let lstm = Lstm::<f64>::new(input, &config, &mut seeded()).unwrap();
        let other = Lstm::<f64>::new(i, &LstmConfig { hidden_size: h, ..config }, &mut seeded()).unwrap();
        let (width, count, longest) = (fit(width, input), fit(count, batch), fit(longest, steps));
        let x = Array3::<f64>::from_elem((batch, steps, width), 0.5);
        let lengths: Vec<usize> = (0..count).map(|row| if row == 0 { longest } else { row.min(steps) }).collect();
        let fits = width == input && count == batch && lengths.iter().all(|&length| length <= steps);
        let cells = layers * if bidirectional { 2 } else { 1 };
        let [a, b, c] = states;
        let shape = (fit(a, cells), fit(b, batch), fit(c, hidden));
        let state = |shape| LstmState { h: Array3::<f64>::zeros(shape), c: Array3::zeros(shape) };
        let initial = state(shape);
        let initial_fits = shape == (cells, batch, hidden);
        let outputs = lstm.output_size();

        judge("infer", fits && initial_fits, lstm.infer(x.view(), &lengths, Some(&initial)));
        if let Some(y) = judge("infer_final", fits, lstm.infer_final(x.view(), &lengths)) {
            prop_assert_eq!(y.dim(), (batch, outputs));
        }
        let mut y = matrix(1, 2);
        let mut workspace = LstmWorkspace::default();
        judge("infer_final_into", fits, lstm.infer_final_into(x.view(), &lengths, &mut workspace, &mut y));

        let [a, b, c] = gradients;
        let own = (i, h) == (input, hidden);
        let shape = (fit(a, batch), fit(b, steps), fit(c, outputs));
        if let Some((y, cache)) = judge("forward", fits && initial_fits, lstm.forward(x.view(), &lengths, Some(&initial))) {
            prop_assert_eq!(y.output.dim(), (batch, steps, outputs));
            let dy = LstmOutput { output: Array3::zeros(shape), state: state((cells, batch, hidden)) };
            let fitting = shape == (batch, steps, outputs) && own;
            if let Some(dx) = judge("backward", fitting, lstm.backward(cache, &dy, &mut other.zeros_like())) {
                prop_assert_eq!(dx.x.dim(), (batch, steps, input));
            }
        }
        for strange in [false, true] {
            let Some((y, cache)) = judge("forward_final", fits, lstm.forward_final(x.view(), &lengths)) else {
                return Ok(());
            };
            prop_assert_eq!(y.dim(), (batch, outputs));
            if strange {
                let dh = matrix(batch, other.output_size());
                let found = other.backward_final(cache, dh.view(), &mut other.zeros_like());
                // Without a row there is nothing to tell a cache by.
                prop_assert!(found.is_ok() == own || batch == 0);
            } else {
                let dh = matrix(shape.0, shape.2);
                let fitting = (shape.0, shape.2) == (batch, outputs) && own;
                judge("backward_final", fitting, lstm.backward_final(cache, dh.view(), &mut other.zeros_like()));
            }
        }
    }

    #[test]
    fn attention_and_transformer(
        (size, other) in (1_usize..3, 1_usize..3),
        (lengths, memory_lengths) in (prop::collection::vec(0_usize..4, 0..3), prop::collection::vec(0_usize..4, 0..3)),
        same in any::<bool>(),
        (rows, width, memory_rows, dn, dwidth) in (near(9), near(9), near(9), near(9), near(9)),
    ) {
        let fit = |drawn: usize, fitting: usize| if drawn == 9 { fitting } else { drawn };
        let memory_lengths = if same { lengths.clone() } else { memory_lengths };
        let (size, other) = (2 * size, 2 * other);
        let new = |size| MultiHeadAttention::<f64>::new(size, 2, 0.1, &mut seeded()).unwrap();
        let (layer, stranger) = (new(size), new(other));
        let sum: usize = lengths.iter().sum();
        let memory_sum: usize = memory_lengths.iter().sum();
        let (rows, width) = (fit(rows, sum), fit(width, size));
        let memory_rows = fit(memory_rows, memory_sum);
        let (x, memory) = (matrix(rows, width), matrix(memory_rows, size));
        let pairs = || lengths.iter().zip(&memory_lengths);
        let fits = (rows, width, memory_rows) == (sum, size, memory_sum)
            && lengths.len() == memory_lengths.len()
            && pairs().all(|(&length, &memory)| length == 0 || memory > 0);
        judge("infer", fits, layer.infer(x.view(), &lengths, memory.view(), &memory_lengths));
        let dy = matrix(fit(dn, sum), fit(dwidth, size));
        let fitting = dy.dim() == (sum, size) && size == other;
        let found = layer.forward(x.view(), &lengths, memory.view(), &memory_lengths, &mut seeded());
        if let Some((y, cache)) = judge("forward", fits, found) {
            prop_assert_eq!(y.dim(), (sum, size));
            let found = layer.backward(cache, dy.view(), &mut stranger.zeros_like());
            if let Some((dx, dmemory)) = judge("backward", fitting, found) {
                prop_assert_eq!((dx.dim(), dmemory.dim()), ((sum, size), (memory_sum, size)));
            }
            let (_, cache) = layer.forward(x.view(), &lengths, memory.view(), &memory_lengths, &mut seeded()).unwrap();
            let dy = matrix(sum, other);
            judge("stranger", size == other, stranger.backward(cache, dy.view(), &mut stranger.zeros_like()));
        }

        let new = |hidden_size| {
            let config = TransformerConfig { hidden_size, heads: 2, intermediate_size: 3, ..TransformerConfig::default() };
            TransformerLayer::<f64>::new(&config, &mut seeded()).unwrap()
        };
        let (layer, stranger) = (new(size), new(other));
        let fits = (rows, width) == (sum, size);
        judge("infer", fits, layer.infer(x.view(), &lengths));
        if let Some((y, cache)) = judge("forward", fits, layer.forward(x.view(), &lengths, &mut seeded())) {
            prop_assert_eq!(y.dim(), (sum, size));
            judge("backward", fitting, layer.backward(cache, dy.view(), &mut stranger.zeros_like()));
            let (_, cache) = layer.forward(x.view(), &lengths, &mut seeded()).unwrap();
            let dy = matrix(sum, other);
            judge("stranger", size == other, stranger.backward(cache, dy.view(), &mut stranger.zeros_like()));
        }
    }

    #[test]
    fn pointwise_layers(n in 0_usize..4, width in 0_usize..4, dn in 0_usize..4, dwidth in 0_usize..4, same in any::<bool>()) {
        let (dn, dwidth) = if same { (n, width) } else { (dn, dwidth) };
        let (x, dy) = (matrix(n, width), matrix(dn, dwidth));
        let fitting = x.dim() == dy.dim();
        for activation in [Activation::Relu, Activation::Tanh, Activation::Gelu] {
            let (y, cache) = activation.forward(x.clone());
            prop_assert_eq!(y.dim(), x.dim());
            prop_assert_eq!(activation.infer(x.clone()).dim(), x.dim());
            judge("activation", fitting, activation.backward(cache, dy.clone()));
        }
        for rate in [0.0, 0.5] {
            let dropout = Dropout::new(rate).unwrap();
            let (y, cache) = dropout.forward(x.clone(), &mut seeded());
            prop_assert_eq!(y.dim(), x.dim());
            prop_assert_eq!(dropout.infer(x.clone()).dim(), x.dim());
            // Where nothing is dropped, no shape is kept.
            let fitting = fitting || rate == 0.0;
            judge("dropout", fitting, dropout.backward(cache, dy.clone()));
        }
        let y = softmax(x.clone());
        prop_assert_eq!(y.dim(), x.dim());
        judge("softmax", fitting, softmax_backward(y.view(), dy.view()));
    }

    #[test]
    fn losses(n in 0_usize..4, targets in 0_usize..4, weights in 0_usize..4, same in any::<bool>()) {
        let (targets, weights) = if same { (n, n) } else { (targets, weights) };
        let (p, t, w) = (vector(n), vector(targets), vector(weights));
        let fits = n > 0 && (targets, weights) == (n, n);
        let (p, t, w) = (p.view(), t.view(), w.view());
        for (value, both) in [
            (weighted_l1_value(p, t, w), weighted_l1(p, t, w)),
            (weighted_squared_error_value(p, t, w), weighted_squared_error(p, t, w)),
            (weighted_huber_value(p, t, w, 1.0), weighted_huber(p, t, w, 1.0)),
        ] {
            judge("value", fits, value);
            if let Some((_, gradient)) = judge("value and gradient", fits, both) {
                prop_assert_eq!(gradient.len(), n);
            }
        }
    }

    #[test]
    fn optimizer([input, output, i, o] in sizes(), max_norm in 0.1_f64..10.0) {
        let mut layer = Linear::<f64>::new(input, output, &mut seeded()).unwrap();
        let mut other = Linear::<f64>::new(i, o, &mut seeded()).unwrap();
        prop_assert!(global_norm(&other) >= 0.0);
        prop_assert!(clip_gradient_norm(&mut other, max_norm) >= 0.0);
        let groups = vec![ParameterGroup { learning_rate: 0.1, weight_decay: 0.0 }];
        let mut optimizer = Optimizer::<f64>::new(&OptimizerConfig::default(), &layer, groups.clone(), |_| 0).unwrap();
        let fits = (i, o) == (input, output);
        judge("gradients", fits, optimizer.step(&mut layer, &other, 1.0));
        judge("parameters", fits, optimizer.step(&mut other.clone(), &other, 1.0));
        let (mut whole, grads) = (layer.clone(), layer.clone());
        let mut same = optimizer.clone();
        same.step(&mut whole, &grads, 0.5).unwrap();
        let (mut weight, mut bias) = optimizer.begin_step(0.5).split_at(1);
        judge("another weight", fits, weight.apply(&mut other.weight.clone(), &other.weight));
        judge("a bias too many", false, weight.apply(&mut layer.bias, &grads.bias));
        if !fits {
            weight.apply(&mut layer.weight, &grads.weight).unwrap();
        } else {
            layer.weight.assign(&whole.weight);
        }
        bias.apply(&mut layer.bias, &grads.bias).unwrap();
        prop_assert_eq!(&layer, &whole);
        let mut store = Store::default();
        optimizer.save(&mut store, "optimizer");
        let mut loaded = Optimizer::<f64>::new(&OptimizerConfig::default(), &other, groups, |_| 0).unwrap();
        prop_assert_eq!(loaded.load(&store, "optimizer").is_ok(), fits);
    }
}
