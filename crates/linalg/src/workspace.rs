//! Memory that is allocated once for each thread and used again.

use std::cell::Cell;
use std::mem::MaybeUninit;

/// One line of the cache, so that memory starts where a line does.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [MaybeUninit<u8>; 64],
}

thread_local! {
    static WORKSPACE: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Lends memory for `count` numbers, at the start of a cache line, with any content. The workspace
/// of the thread is taken while `body` runs: a call that a thread steals meanwhile has its own.
pub(crate) fn with_workspace<T, R>(count: usize, body: impl FnOnce(*mut T) -> R) -> R {
    let mut lines = WORKSPACE.take();
    let needed = (count * size_of::<T>()).div_ceil(size_of::<Line>());
    if lines.len() < needed {
        let line = Line {
            _bytes: [MaybeUninit::uninit(); 64],
        };
        lines.resize(needed, line);
    }
    let result = body(lines.as_mut_ptr().cast());
    WORKSPACE.set(lines);
    result
}
