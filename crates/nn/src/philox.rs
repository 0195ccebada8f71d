//! Random numbers as a function of a key and a place.
//!
//! Philox with 4 words of 32 bits and 10 rounds. A round multiplies two words of the counter and mixes
//! the halves of the products with the others and the key; between rounds the key moves on:
//!
//! ```text
//! (c₀, c₁, c₂, c₃) ← (high(M₁ c₂) ⊕ c₁ ⊕ k₀, low(M₁ c₂), high(M₀ c₀) ⊕ c₃ ⊕ k₁, low(M₀ c₀))
//! (k₀, k₁) ← (k₀ + W₀, k₁ + W₁)
//! ```
//!
//! Source: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as
//! 1, 2, 3", 2011.

use crate::lanes::LANES;

/// Words of a counter, and of what becomes of it.
pub(crate) const WORDS: usize = 4;

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Random words for a counter in every lane.
#[inline(always)]
pub(crate) fn philox(
    mut counter: [[u32; LANES]; WORDS],
    mut key: [u32; 2],
) -> [[u32; LANES]; WORDS] {
    for _ in 0..ROUNDS {
        let [c0, c1, c2, c3] = &mut counter;
        for lane in 0..LANES {
            let first = u64::from(MULTIPLIERS[0]) * u64::from(c0[lane]);
            let second = u64::from(MULTIPLIERS[1]) * u64::from(c2[lane]);
            c0[lane] = (second >> 32) as u32 ^ c1[lane] ^ key[0];
            c1[lane] = second as u32;
            c2[lane] = (first >> 32) as u32 ^ c3[lane] ^ key[1];
            c3[lane] = first as u32;
        }
        for (key, step) in key.iter_mut().zip(KEY_STEPS) {
            *key = key.wrapping_add(step);
        }
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with the authors' library, Random123.
    #[test]
    fn known_answers() {
        for (counter, key, expected) in [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            let words = philox(counter.map(|word| [word; LANES]), key);
            assert_eq!(words, expected.map(|word: u32| [word; LANES]));
        }
    }
}
