//! The number of parameters of a configuration, before any memory is taken for them.

use crate::{BertConfig, EncoderConfig, RegressionHeadConfig};

/// Of a linear layer; all counts stay at the largest number instead of overflowing.
fn linear(inputs: usize, outputs: usize) -> usize {
    inputs.saturating_add(1).saturating_mul(outputs)
}

impl EncoderConfig {
    /// The number of scalars that are trained, for `input_size` features a step.
    ///
    /// ```
    /// use modalign_encoders::{EncoderConfig, LstmEncoderConfig};
    ///
    /// let size = LstmEncoderConfig { hidden_size: 8, output_size: 4, ..Default::default() };
    /// assert_eq!(EncoderConfig::Lstm(size).parameter_count(3), 4 * 8 * (3 + 8 + 2) + 4 * (8 + 1));
    /// ```
    pub fn parameter_count(&self, input_size: usize) -> usize {
        match self {
            Self::Identity {} => 0,
            Self::Pooled(config) => linear(
                config.statistics.output_size(input_size),
                config.output_size,
            ),
            Self::Lstm(config) => {
                let size = config.hidden_size;
                // Of each gate: input weights, recurrent weights, two biases.
                let gate = linear(input_size, size).saturating_add(linear(size, size));
                gate.saturating_mul(4)
                    .saturating_add(linear(size, config.output_size))
            }
        }
    }
}

impl RegressionHeadConfig {
    /// The number of scalars that are trained, for representations of width `input_size`.
    pub fn parameter_count(&self, input_size: usize) -> usize {
        let size = self.hidden_size;
        linear(input_size, size)
            .saturating_add(linear(size, size))
            .saturating_add(linear(size, 1))
    }
}

impl BertConfig {
    /// The number of scalars that are trained.
    pub fn parameter_count(&self) -> usize {
        let (size, inner) = (self.layer.hidden_size, self.layer.intermediate_size);
        let norm = size.saturating_mul(2);
        let tables = [self.vocabulary_size, self.positions, self.token_types];
        let rows = tables.into_iter().fold(0, usize::saturating_add);
        let attention = linear(size, size).saturating_mul(4).saturating_add(norm);
        let feed_forward = linear(size, inner)
            .saturating_add(linear(inner, size))
            .saturating_add(norm);
        attention
            .saturating_add(feed_forward)
            .saturating_mul(self.layers)
            .saturating_add(rows.saturating_mul(size))
            .saturating_add(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BertEncoder, Encoder, LstmEncoderConfig, PooledConfig, RegressionHead, Statistics,
    };
    use modalign_core::{Parameters, Stream, rng};
    use modalign_nn::TransformerConfig;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn counts_are_those_of_what_is_built(
            input in 1..9_usize,
            hidden in 1..9_usize,
            output in 1..9_usize,
            layers in 0..3_usize,
        ) {
            let rng = &mut rng(1, Stream::Initialisation);
            let pooled = |statistics| {
                EncoderConfig::Pooled(PooledConfig { statistics, output_size: output, dropout: 0.0 })
            };
            let lstm = LstmEncoderConfig {
                hidden_size: hidden,
                output_size: output,
                dropout: 0.0,
            };
            for config in [
                EncoderConfig::Identity {},
                pooled(Statistics::Mean),
                pooled(Statistics::MeanStd),
                EncoderConfig::Lstm(lstm),
            ] {
                let built = Encoder::<f32>::new(&config, input, rng).unwrap();
                prop_assert_eq!(config.parameter_count(input), built.parameter_count());
            }
            let head = RegressionHeadConfig { hidden_size: hidden, dropout: 0.0 };
            let built = RegressionHead::<f32>::new(input, &head, rng).unwrap();
            prop_assert_eq!(head.parameter_count(input), built.parameter_count());

            let config = BertConfig {
                vocabulary_size: input,
                positions: output,
                token_types: 2,
                layers,
                layer: TransformerConfig {
                    hidden_size: 2 * hidden,
                    heads: 2,
                    intermediate_size: output,
                    ..TransformerConfig::default()
                },
                ..BertConfig::default()
            };
            let built = BertEncoder::<f32>::new(&config, rng).unwrap();
            prop_assert_eq!(config.parameter_count(), built.parameter_count());
        }
    }

    #[test]
    fn no_count_overflows() {
        let size = LstmEncoderConfig {
            hidden_size: usize::MAX,
            ..LstmEncoderConfig::default()
        };
        assert_eq!(EncoderConfig::Lstm(size).parameter_count(1), usize::MAX);
        let pooled = EncoderConfig::Pooled(PooledConfig::default());
        assert_eq!(pooled.parameter_count(usize::MAX), usize::MAX);
        let config = BertConfig {
            layers: usize::MAX,
            ..BertConfig::default()
        };
        assert_eq!(config.parameter_count(), usize::MAX);
    }
}
