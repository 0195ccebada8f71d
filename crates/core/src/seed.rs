//! Seeded randomness with one independent stream a purpose.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What random numbers are drawn for. Each purpose has its own stream, so that drawing more
/// numbers for one (a wider layer, say) leaves the others as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stream {
    /// Initial weights.
    Initialisation = 0,
    /// The order of training samples.
    Order = 1,
    /// Dropout masks and other noise of the training step.
    Dropout = 2,
    /// Generated data.
    Generation = 3,
    /// Splits and folds.
    Split = 4,
    /// Augmentation of training samples.
    Augmentation = 5,
}

/// The generator of one purpose in the run with this seed.
///
/// ```
/// use modalign_core::{Stream, rng};
/// use rand::RngExt;
///
/// let draw = |stream| rng(1111, stream).random::<u64>();
/// assert_eq!(draw(Stream::Order), draw(Stream::Order));
/// assert_ne!(draw(Stream::Order), draw(Stream::Dropout));
/// ```
pub fn rng(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream as u64);
    generator
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn value_stability() {
        let draw = |stream| rng(1111, stream).random::<u64>();
        assert_eq!(draw(Stream::Initialisation), 16632876334724994844);
        assert_eq!(draw(Stream::Dropout), 8238547558619280433);
    }
}
