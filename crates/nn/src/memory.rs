//! Memory that begins with a cache line.

use std::ops::{Deref, DerefMut};

use modalign_core::Scalar;

/// Numbers that begin with a cache line, so that no vector register of them lies on two. Becomes
/// shorter and longer without giving up its memory.
#[derive(Debug)]
pub(crate) struct Aligned<A> {
    numbers: Vec<A>,
    start: usize,
    length: usize,
}

const CACHE_LINE: usize = 64;

impl<A> Default for Aligned<A> {
    fn default() -> Self {
        Self {
            numbers: Vec::new(),
            start: 0,
            length: 0,
        }
    }
}

impl<A: Scalar> Aligned<A> {
    /// Takes another length. Which entries are kept is not said; they are yet to be written.
    pub(crate) fn resize(&mut self, length: usize) {
        let room = CACHE_LINE / size_of::<A>();
        if self.numbers.len() < length + room {
            self.numbers.resize(length + room, A::zero());
            // The pointer may refuse to say, which costs time and nothing else.
            self.start = self.numbers.as_ptr().align_offset(CACHE_LINE).min(room);
        }
        self.length = length;
    }

    /// So many zeros.
    pub(crate) fn clear(&mut self, length: usize) {
        self.resize(length);
        self.fill(A::zero());
    }
}

impl<A> Deref for Aligned<A> {
    type Target = [A];

    fn deref(&self) -> &[A] {
        &self.numbers[self.start..self.start + self.length]
    }
}

impl<A> DerefMut for Aligned<A> {
    fn deref_mut(&mut self) -> &mut [A] {
        &mut self.numbers[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_numbers_begin_with_a_cache_line() {
        let mut numbers = Aligned::<f32>::default();
        for length in [0, 3, 100, 5, 2000, 1, 0] {
            numbers.resize(length);
            assert_eq!(numbers.len(), length);
            numbers.fill(1.0);
            assert_eq!(numbers.as_ptr().addr() % CACHE_LINE, 0);
            numbers.clear(length);
            assert!(numbers.iter().all(|&x| x == 0.0));
        }
    }
}
