//! The centred modalities of one group, as both routes read them.

use modalign_linalg::Operand;
use ndarray::{Array1, ArrayView2};

/// One pair of a group. Its modalities are positions in the group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupPair {
    pub(crate) first: usize,
    pub(crate) second: usize,
}

impl GroupPair {
    /// The other modality of the pair, if `member` is one of the two.
    pub(crate) fn partner_of(self, member: usize) -> Option<usize> {
        if member == self.first {
            Some(self.second)
        } else if member == self.second {
            Some(self.first)
        } else {
            None
        }
    }
}

/// The modalities of one group: features of one width D, with their means and divisors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Samples<'a, A> {
    pub(crate) features: &'a [ArrayView2<'a, A>],
    /// Which of the features belong to the group.
    pub(crate) members: &'a [usize],
    pub(crate) means: &'a [Array1<A>],
    pub(crate) divisors: &'a [f64],
}

impl<'a, A> Samples<'a, A> {
    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn width(&self) -> usize {
        self.means.first().map_or(0, Array1::len)
    }

    pub(crate) fn rows(&self, member: usize) -> usize {
        self.features(member).nrows()
    }

    pub(crate) fn features(&self, member: usize) -> &'a ArrayView2<'a, A> {
        &self.features[self.members[member]]
    }

    /// `X − 1 mᵀ`.
    pub(crate) fn centered(&self, member: usize) -> Operand<'a, A> {
        Operand::from(self.features(member)).centered(&self.means[member])
    }
}
