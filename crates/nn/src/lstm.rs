//! The long short-term memory layer over sequences of different lengths.
//!
//! ```text
//! i = σ(W_ii x_t + b_ii + W_hi h + b_hi)      h, c: the state after step t − 1
//! f = σ(W_if x_t + b_if + W_hf h + b_hf)
//! g = tanh(W_ig x_t + b_ig + W_hg h + b_hg)
//! o = σ(W_io x_t + b_io + W_ho h + b_ho)
//! c_t = f c + i g,   h_t = o tanh(c_t)
//! ```
//!
//! Rows are dealt to groups, sorted by length and laid out time-major without padding (see
//! [`Packing`]), so that the rows at work in a step are the first ones of the step before. Products
//! and gates' functions of a few rows are one kernel that keeps the sums in registers; the backward
//! pass overwrites the stored gates with their gradients and sums up those of the weights while the
//! gates are in the cache. Groups may be worked on side by side.

mod cell;
mod kernel;
mod packing;
mod registers;

use std::fmt;

use modalign_core::{Parameters, Path, Scalar, check_shape, resize};
use ndarray::{
    Array2, Array3, ArrayView2, ArrayView3, ArrayViewD, ArrayViewMut1, ArrayViewMutD, Axis, s,
};
use rand::Rng;
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use crate::error::check_size;
use crate::{NnError, SequenceBatch};
use cell::{Cell, Tape};
use packing::Packing;

/// The form of an [`Lstm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LstmConfig {
    /// H, at least 1. Default 32.
    pub hidden_size: usize,
    /// Layers on top of each other, at least 1. Default 1.
    pub layers: usize,
    /// Whether each layer also reads the sequences from their ends. Default no.
    pub bidirectional: bool,
}

impl Default for LstmConfig {
    fn default() -> Self {
        Self {
            hidden_size: 32,
            layers: 1,
            bidirectional: false,
        }
    }
}

impl LstmConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] naming the value that is out of its range.
    pub fn validate(&self) -> Result<(), NnError> {
        for (parameter, size) in [("hidden_size", self.hidden_size), ("layers", self.layers)] {
            check_size("lstm", parameter, size)?;
        }
        Ok(())
    }

    /// The width of an output: H, or 2H if bidirectional.
    pub fn output_size(&self) -> usize {
        self.hidden_size * if self.bidirectional { 2 } else { 1 }
    }
}

/// The state of every layer and direction, `[layers · directions, B, H]` each, or the gradient in
/// it. Layers follow each other; the directions of a layer are together, forward first.
#[derive(Debug, Clone, PartialEq)]
pub struct LstmState<A> {
    /// The hidden states.
    pub h: Array3<A>,
    /// The cell states.
    pub c: Array3<A>,
}

/// What [`Lstm::forward`] returns, or the gradient in it.
#[derive(Debug, Clone, PartialEq)]
pub struct LstmOutput<A> {
    /// The hidden states of the last layer `[B, T, directions · H]`, zero past each row's length.
    pub output: Array3<A>,
    /// The state of every row after its own last step; after its first step for the direction that
    /// starts at the end.
    pub state: LstmState<A>,
}

/// What [`Lstm::backward`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct LstmInputGradient<A> {
    /// The gradient in the input `[B, T, D]`, zero past each row's length.
    pub x: Array3<A>,
    /// The gradient in the initial state, if there was one.
    pub initial: Option<LstmState<A>>,
}

/// A long short-term memory layer and, at the same time, the type of its gradient.
///
/// Sequences are `[B, T, D]` with a length a row, from 0 to T. What lies past a length is never
/// read. A row of length 0 keeps its initial state. Names, gate order (i, f, g, o) and initial
/// distribution (uniform in ±1/√H) are PyTorch's: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`,
/// `bias_hh_l0`, with `_l1` for the second layer and `_reverse` for the second direction.
///
/// ```
/// use modalign_core::{Parameters, Stream, rng};
/// use modalign_nn::{Lstm, LstmConfig};
/// use ndarray::{Array2, Array3};
///
/// let config = LstmConfig { hidden_size: 4, ..LstmConfig::default() };
/// let lstm = Lstm::<f32>::new(3, &config, &mut rng(1, Stream::Initialisation))?;
/// let mut x = Array3::ones((2, 5, 3));
/// let (h, cache) = lstm.forward_final(x.view(), &[5, 2])?;
/// assert_eq!(h.dim(), (2, 4));
///
/// // The second row ends after two steps.
/// x[[1, 2, 0]] = f32::NAN;
/// assert_eq!(lstm.infer_final(x.view(), &[5, 2])?, h);
///
/// let mut grads = lstm.zeros_like();
/// lstm.backward_final(cache, Array2::ones((2, 4)).view(), &mut grads)?;
/// let (name, gradient) = &grads.named_views()[0];
/// assert_eq!(name, "weight_ih_l0");
/// assert!(gradient.iter().any(|&g| g != 0.0));
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory", 1997.
/// F. A. Gers, J. Schmidhuber and F. Cummins, "Learning to Forget: Continual Prediction with LSTM",
/// 2000.
#[derive(Debug, Clone, PartialEq)]
pub struct Lstm<A> {
    /// Layer by layer, the directions of a layer together.
    cells: Vec<Cell<A>>,
    directions: usize,
}

/// Memory that [`Lstm::infer_final_into`] uses again.
#[derive(Debug, Clone, Default)]
pub struct LstmWorkspace {
    packing: Packing,
}

/// What the backward pass of [`Lstm`] needs. An empty one is the default; passes that write into a
/// cache use its memory again.
#[derive(Debug)]
pub struct LstmCache<A> {
    groups: Vec<Group<A>>,
    batch: usize,
    steps: usize,
    /// Whether there was an initial state.
    given: bool,
}

impl<A> Default for LstmCache<A> {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            batch: 0,
            steps: 0,
            given: false,
        }
    }
}

/// Rows that are worked on together.
#[derive(Debug)]
struct Group<A> {
    packing: Packing,
    /// Empty with one direction.
    mirror: Vec<usize>,
    /// One a cell.
    tapes: Vec<Tape<A>>,
    /// The packed gradient in the input of the first layer, if it was asked for.
    dinput: Array2<A>,
}

impl<A: Default> Default for Group<A> {
    fn default() -> Self {
        Self {
            packing: Packing::default(),
            mirror: Vec::new(),
            tapes: Vec::new(),
            dinput: Array2::default((0, 0)),
        }
    }
}

/// The work of a pass over a batch, which falls into parts that may be done in any order and side by
/// side. A part has the same rows in both passes of a batch; done by one thread, they stay in its cache.
///
/// ```
/// use modalign_core::{Stream, rng};
/// use modalign_nn::{Lstm, LstmCache, LstmConfig};
/// use ndarray::{Array2, Array3};
///
/// let lstm = Lstm::<f32>::new(3, &LstmConfig::default(), &mut rng(1, Stream::Initialisation))?;
/// let (x, lengths) = (Array3::ones((20, 5, 3)), [5; 20]);
/// let (mut cache, mut h) = (LstmCache::default(), Array2::zeros((0, 0)));
/// let parts = lstm.forward_final_parts(x.view().into(), &lengths, &mut cache)?;
/// assert_eq!(parts.count(), 2);
/// let (first, second) = parts.split_at(1);
/// second.run()?;
/// first.run()?;
/// lstm.last_hidden_into(&cache, &mut h)?;
/// assert_eq!(h, lstm.infer_final(x.view(), &lengths)?);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
#[derive(Debug)]
pub struct LstmParts<'a, A> {
    lstm: &'a Lstm<A>,
    groups: &'a mut [Group<A>],
    pass: Pass<'a, A>,
}

#[derive(Debug, Clone, Copy)]
enum Pass<'a, A> {
    /// The input.
    Forward(SequenceBatch<'a, A>),
    /// The gradient in the last hidden states.
    Backward(ArrayView2<'a, A>),
}

impl<'a, A: Scalar> LstmParts<'a, A> {
    /// The number of parts.
    pub fn count(&self) -> usize {
        self.groups.len()
    }

    /// The first parts, at most `count` of them, and the others.
    pub fn split_at(self, count: usize) -> (Self, Self) {
        let Self { lstm, groups, pass } = self;
        let (first, second) = groups.split_at_mut(count.min(groups.len()));
        let parts = |groups| Self { lstm, groups, pass };
        (parts(first), parts(second))
    }

    /// Does all parts, side by side where that pays.
    ///
    /// # Errors
    ///
    /// Those of the products.
    pub fn run(self) -> Result<(), NnError> {
        let work = self.work();
        self.lstm.for_each_group(self.groups, work)
    }

    fn work(&self) -> impl Fn(&mut Group<A>) -> Result<(), NnError> + Sync + Send + use<'a, A> {
        let (lstm, pass) = (self.lstm, self.pass);
        move |group| match pass {
            Pass::Forward(x) => {
                lstm.run_group(group, x, None, true);
                Ok(())
            }
            Pass::Backward(dh) => {
                let read = |packing: &Packing, index, tape: &mut Tape<A>| {
                    lstm.read_last_hidden(packing, dh, index, tape);
                };
                lstm.run_group_backward(group, None, read, false)
            }
        }
    }
}

/// Multiply-adds of a pass that pay for waking a second thread.
const WORTH_THREADS: usize = 1 << 20;

impl<A: Scalar> Lstm<A> {
    /// Draws all weights and biases uniformly from ±1/√H, as PyTorch does.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] if a size is 0.
    pub fn new(
        input_size: usize,
        config: &LstmConfig,
        rng: &mut impl Rng,
    ) -> Result<Self, NnError> {
        config.validate()?;
        check_size("lstm", "input_size", input_size)?;
        let directions = if config.bidirectional { 2 } else { 1 };
        let cells = (0..config.layers * directions)
            .map(|index| {
                let first = index < directions;
                let input_size = if first {
                    input_size
                } else {
                    config.output_size()
                };
                Cell::new(input_size, config.hidden_size, rng)
            })
            .collect();
        Ok(Self { cells, directions })
    }

    /// The width D of the input.
    pub fn input_size(&self) -> usize {
        self.cells[0].input_size()
    }

    /// The width of the output: H, or 2H if bidirectional.
    pub fn output_size(&self) -> usize {
        self.directions * self.cells[0].hidden_size()
    }

    /// Runs over `x [B, T, D]`, each row up to its length, from `initial` or from zeros.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if an array does not fit, [`NnError::Length`] if a length is above T.
    pub fn forward(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        initial: Option<&LstmState<A>>,
    ) -> Result<(LstmOutput<A>, LstmCache<A>), NnError> {
        let cache = self.run(x.into(), lengths, initial, true)?;
        Ok((self.whole_output(&cache), cache))
    }

    /// As [`forward`](Self::forward), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        initial: Option<&LstmState<A>>,
    ) -> Result<LstmOutput<A>, NnError> {
        let cache = self.run(x.into(), lengths, initial, false)?;
        let output = self.whole_output(&cache);
        self.give_tapes(cache);
        Ok(output)
    }

    /// The final hidden state of the last layer `[B, directions · H]` alone, from zeros. Cheaper
    /// than [`forward`](Self::forward): the hidden states of the last layer's steps are not kept.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_final(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
    ) -> Result<(Array2<A>, LstmCache<A>), NnError> {
        let (mut h, mut cache) = (Array2::default((0, 0)), LstmCache::default());
        self.forward_final_into(x, lengths, &mut cache, &mut h)?;
        Ok((h, cache))
    }

    /// As [`forward_final`](Self::forward_final), into a cache and an array whose memory is used
    /// again. With one layer and one direction nothing is allocated once a batch as large has been
    /// seen.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_final_into(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        cache: &mut LstmCache<A>,
        h: &mut Array2<A>,
    ) -> Result<(), NnError> {
        self.forward_final_parts(x.into(), lengths, cache)?.run()?;
        self.last_hidden_into(cache, h)
    }

    /// The work of [`forward_final_into`](Self::forward_final_into), for a caller who has other work
    /// to do beside it; [`last_hidden_into`](Self::last_hidden_into) is the rest.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_final_parts<'a>(
        &'a self,
        x: SequenceBatch<'a, A>,
        lengths: &[usize],
        cache: &'a mut LstmCache<A>,
    ) -> Result<LstmParts<'a, A>, NnError> {
        self.lay_out(x, lengths, None, cache)?;
        Ok(LstmParts {
            lstm: self,
            groups: &mut cache.groups,
            pass: Pass::Forward(x),
        })
    }

    /// As [`forward_final`](Self::forward_final), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer_final<'a>(
        &self,
        x: impl Into<SequenceBatch<'a, A>>,
        lengths: &[usize],
    ) -> Result<Array2<A>, NnError> {
        let cache = self.run(x.into(), lengths, None, false)?;
        let mut h = Array2::default((0, 0));
        self.last_hidden_into(&cache, &mut h)?;
        self.give_tapes(cache);
        Ok(h)
    }

    /// As [`infer_final`](Self::infer_final), into `h`, which takes the shape of the result. With
    /// one layer and one direction nothing is allocated once a batch as large has been seen.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer_final_into(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        workspace: &mut LstmWorkspace,
        h: &mut Array2<A>,
    ) -> Result<(), NnError> {
        let [cell] = &self.cells[..] else {
            *h = self.infer_final(x, lengths)?;
            return Ok(());
        };
        let x = SequenceBatch::from(x);
        self.check_input(x, lengths)?;
        let packing = &mut workspace.packing;
        resize(h, (lengths.len(), self.output_size()));
        for group in 0..Packing::groups(lengths.len()) {
            packing.set(lengths, x.dim().1, group)?;
            let mut tape = cell.spare_tape();
            cell.prepare(&mut tape, packing, false);
            read_input(packing, x, &mut tape);
            Cell::run(packing, &mut tape, false);
            for (place, &row) in packing.rows().iter().enumerate() {
                copy(tape.state(place)[0], h.row_mut(row));
            }
            cell.give_tape(tape);
        }
        Ok(())
    }

    /// Adds the gradients of all weights to `grads` and returns those in the input and the initial
    /// state. What `dy` holds past a length is not read.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `dy` or `grads` does not fit; `grads` is then as it was.
    pub fn backward(
        &self,
        mut cache: LstmCache<A>,
        dy: &LstmOutput<A>,
        grads: &mut Self,
    ) -> Result<LstmInputGradient<A>, NnError> {
        let expected = [cache.batch, cache.steps, self.output_size()];
        check_shape("lstm backward", "dy.output", dy.output.shape(), &expected)?;
        self.check_state("lstm backward", "dy.state", &dy.state, cache.batch)?;
        self.check(&cache, grads)?;
        let (given, batch, steps) = (cache.given, cache.batch, cache.steps);
        let read = |packing: &Packing, index, tape: &mut Tape<A>| {
            read_state(packing, &dy.state, index, tape);
        };
        self.run_backward(&mut cache, Some(dy.output.view()), read, true)?;
        let mut x = Array3::zeros((batch, steps, self.input_size()));
        for Group {
            packing, dinput, ..
        } in &cache.groups
        {
            for ((step, place), dinput) in packing.places().zip(dinput.rows()) {
                x.slice_mut(s![packing.rows()[place], step, ..])
                    .assign(&dinput);
            }
        }
        let initial = given.then(|| self.state(&cache));
        self.add_gradients(&cache, grads)?;
        self.give_tapes(cache);
        Ok(LstmInputGradient { x, initial })
    }

    /// Adds the gradients of all weights to `grads`, given `dh [B, directions · H]` in what
    /// [`forward_final`](Self::forward_final) returned. The gradient in the input is not computed.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_final(
        &self,
        mut cache: LstmCache<A>,
        dh: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), NnError> {
        self.backward_final_into(&mut cache, dh, grads)?;
        self.give_tapes(cache);
        Ok(())
    }

    /// As [`backward_final`](Self::backward_final), leaving the memory of the cache for the next
    /// pass; what it held is used up.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_final_into(
        &self,
        cache: &mut LstmCache<A>,
        dh: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), NnError> {
        self.check(cache, grads)?;
        self.backward_final_parts(cache, dh)?.run()?;
        self.add_gradients(cache, grads)
    }

    /// The work of [`backward_final_into`](Self::backward_final_into), for a caller who has other work
    /// to do beside it; [`add_gradients`](Self::add_gradients) is the rest.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_final_parts<'a>(
        &'a self,
        cache: &'a mut LstmCache<A>,
        dh: ArrayView2<'a, A>,
    ) -> Result<LstmParts<'a, A>, NnError> {
        let expected = [cache.batch, self.output_size()];
        check_shape("lstm backward", "dh", dh.shape(), &expected)?;
        self.check(cache, self)?;
        Ok(LstmParts {
            lstm: self,
            groups: &mut cache.groups,
            pass: Pass::Backward(dh),
        })
    }

    /// Adds the gradients of all weights to `grads`, after the work of a backward pass.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if `grads` does not fit or parts were not done; it is then as it was.
    pub fn add_gradients(&self, cache: &LstmCache<A>, grads: &mut Self) -> Result<(), NnError> {
        self.check(cache, grads)?;
        for group in &cache.groups {
            for (tape, grads) in group.tapes.iter().zip(&mut grads.cells) {
                Cell::add_gradients(tape, grads);
            }
        }
        Ok(())
    }

    /// Fills the state of a tape with the gradients `dh` in the last hidden states of the last layer.
    fn read_last_hidden(
        &self,
        packing: &Packing,
        dh: ArrayView2<A>,
        index: usize,
        tape: &mut Tape<A>,
    ) {
        let size = self.cells[0].hidden_size();
        let first = self.cells.len() - self.directions;
        for (place, &row) in packing.rows().iter().enumerate() {
            let [h, c] = tape.state_mut(place);
            c.fill(A::zero());
            match index.checked_sub(first) {
                None => h.fill(A::zero()),
                Some(direction) => {
                    let dh = dh.slice(s![row, direction * size..(direction + 1) * size]);
                    for (target, &dh) in h.iter_mut().zip(dh) {
                        *target = dh;
                    }
                }
            }
        }
    }

    /// Runs all groups. The tapes have no room for what only the backward pass needs unless `record`
    /// is set.
    fn run(
        &self,
        x: SequenceBatch<A>,
        lengths: &[usize],
        initial: Option<&LstmState<A>>,
        record: bool,
    ) -> Result<LstmCache<A>, NnError> {
        let mut cache = LstmCache::default();
        self.lay_out(x, lengths, initial, &mut cache)?;
        self.for_each_group(&mut cache.groups, |group| {
            self.run_group(group, x, initial, record);
            Ok(())
        })?;
        Ok(cache)
    }

    /// Deals the rows of a batch to the groups.
    fn lay_out(
        &self,
        x: SequenceBatch<A>,
        lengths: &[usize],
        initial: Option<&LstmState<A>>,
        cache: &mut LstmCache<A>,
    ) -> Result<(), NnError> {
        self.check_input(x, lengths)?;
        let (batch, steps, _) = x.dim();
        if let Some(initial) = initial {
            self.check_state("lstm", "initial", initial, batch)?;
        }
        // Groups of a larger batch before stay, without rows, for their memory.
        let count = Packing::groups(batch).max(cache.groups.len());
        cache.groups.resize_with(count, Group::default);
        for (index, group) in cache.groups.iter_mut().enumerate() {
            group.packing.set(lengths, steps, index)?;
            group.mirror.clear();
            if self.directions == 2 {
                group.mirror.extend(group.packing.mirror());
            }
        }
        (cache.batch, cache.steps, cache.given) = (batch, steps, initial.is_some());
        Ok(())
    }

    /// Works on all groups, side by side where that pays.
    fn for_each_group(
        &self,
        groups: &mut [Group<A>],
        work: impl Fn(&mut Group<A>) -> Result<(), NnError> + Sync + Send,
    ) -> Result<(), NnError> {
        let size = self.cells[0].hidden_size();
        let lines: usize = groups.iter().map(|group| group.packing.lines()).sum();
        let multiplications = self.cells.len() * lines * 4 * size * (size + self.input_size());
        if multiplications < WORTH_THREADS || groups.len() < 2 {
            groups.iter_mut().try_for_each(work)
        } else {
            groups.par_iter_mut().try_for_each(work)
        }
    }

    fn run_group(
        &self,
        group: &mut Group<A>,
        x: SequenceBatch<A>,
        initial: Option<&LstmState<A>>,
        record: bool,
    ) {
        let Group {
            packing,
            mirror,
            tapes,
            ..
        } = group;
        let size = self.cells[0].hidden_size();
        tapes.truncate(self.cells.len());
        for (index, cell) in self.cells.iter().enumerate() {
            if tapes.len() == index {
                tapes.push(cell.spare_tape());
            }
            let (tapes, tape) = tapes.split_at_mut(index);
            let tape = &mut tape[0];
            cell.prepare(tape, packing, record);
            let below = index / self.directions * self.directions;
            match below.checked_sub(self.directions) {
                None => read_input(packing, x, tape),
                Some(first) => {
                    for (line, (step, place)) in packing.places().enumerate() {
                        let input = tape.input_mut(line);
                        let (forward, backward) = input.split_at_mut(size);
                        forward.copy_from_slice(tapes[first].hidden(packing, step, place));
                        if self.directions == 2 {
                            let step = packing.mirrored(step, place);
                            let hidden = tapes[first + 1].hidden(packing, step, place);
                            backward.copy_from_slice(hidden);
                        }
                    }
                }
            }
            if index % self.directions == 1 {
                tape.mirror_input(mirror);
            }
            if let Some(initial) = initial {
                tape.given = true;
                read_state(packing, initial, index, tape);
            }
            Cell::run(packing, tape, record);
        }
    }

    /// Takes all groups back; the states of the tapes become the gradients in the initial states.
    /// `read` fills those of one cell with the gradients in its last states.
    fn run_backward(
        &self,
        cache: &mut LstmCache<A>,
        doutput: Option<ArrayView3<A>>,
        read: impl Fn(&Packing, usize, &mut Tape<A>) + Sync,
        input_gradient: bool,
    ) -> Result<(), NnError> {
        self.for_each_group(&mut cache.groups, |group| {
            self.run_group_backward(group, doutput, &read, input_gradient)
        })
    }

    fn run_group_backward(
        &self,
        group: &mut Group<A>,
        doutput: Option<ArrayView3<A>>,
        read: impl Fn(&Packing, usize, &mut Tape<A>),
        input_gradient: bool,
    ) -> Result<(), NnError> {
        let Group {
            packing,
            mirror,
            tapes,
            dinput,
        } = group;
        let size = self.cells[0].hidden_size();
        let last = self.cells.len() - self.directions;
        // The gradient in the input of the layer above, in its first direction's order.
        let mut above: Option<Array2<A>> = None;
        for index in (0..self.cells.len()).rev() {
            let (cell, tape) = (&self.cells[index], &mut tapes[index]);
            let direction = index % self.directions;
            let columns = direction * size..(direction + 1) * size;
            read(packing, index, tape);
            if index < last || doutput.is_some() {
                tape.expect_dhidden(packing);
                for (line, (step, place)) in packing.places().enumerate() {
                    let target = if direction == 1 { mirror[line] } else { line };
                    let target = tape.dhidden_mut(target);
                    let gradient = match (&above, &doutput) {
                        (Some(above), _) if index < last => above.slice(s![line, columns.clone()]),
                        (_, Some(doutput)) => {
                            let row = packing.rows()[place];
                            doutput.slice(s![row, step, columns.clone()])
                        }
                        _ => continue,
                    };
                    for (target, &gradient) in target.iter_mut().zip(gradient) {
                        *target = gradient;
                    }
                }
            }
            let input_gradient = index >= self.directions || input_gradient;
            Cell::run_back(packing, tape, input_gradient);
            if input_gradient {
                let gradient = cell.input_gradient(packing, tape)?;
                if direction == 1 {
                    *dinput = gradient.select(Axis(0), mirror);
                } else if self.directions == 2 {
                    *dinput += &gradient;
                } else {
                    *dinput = gradient;
                }
            }
            if direction == 0 {
                above = Some(std::mem::take(dinput));
            }
        }
        *dinput = above.unwrap_or_default();
        Ok(())
    }

    fn give_tapes(&self, cache: LstmCache<A>) {
        for group in cache.groups {
            for (cell, tape) in self.cells.iter().zip(group.tapes) {
                cell.give_tape(tape);
            }
        }
    }

    /// The states of all tapes.
    fn state(&self, cache: &LstmCache<A>) -> LstmState<A> {
        let mut state = self.zero_state(cache.batch);
        for Group { packing, tapes, .. } in &cache.groups {
            for (index, tape) in tapes.iter().enumerate() {
                for (place, &row) in packing.rows().iter().enumerate() {
                    let [h, c] = tape.state(place);
                    copy(h, state.h.slice_mut(s![index, row, ..]));
                    copy(c, state.c.slice_mut(s![index, row, ..]));
                }
            }
        }
        state
    }

    /// The hidden states of the last layer and the states of all.
    fn whole_output(&self, cache: &LstmCache<A>) -> LstmOutput<A> {
        let size = self.cells[0].hidden_size();
        let mut output = Array3::zeros((cache.batch, cache.steps, self.output_size()));
        for Group { packing, tapes, .. } in &cache.groups {
            let last = &tapes[tapes.len() - self.directions..];
            for (step, place) in packing.places() {
                let row = packing.rows()[place];
                for (direction, tape) in last.iter().enumerate() {
                    let own_step = match direction {
                        1 => packing.mirrored(step, place),
                        _ => step,
                    };
                    let columns = direction * size..(direction + 1) * size;
                    copy(
                        tape.hidden(packing, own_step, place),
                        output.slice_mut(s![row, step, columns]),
                    );
                }
            }
        }
        LstmOutput {
            output,
            state: self.state(cache),
        }
    }

    /// The last hidden states of the last layer, its directions side by side.
    ///
    /// # Errors
    ///
    /// [`NnError::Shape`] if the cache is that of a layer of another form, or parts were not done.
    pub fn last_hidden_into(&self, cache: &LstmCache<A>, h: &mut Array2<A>) -> Result<(), NnError> {
        self.check(cache, self)?;
        let size = self.cells[0].hidden_size();
        resize(h, (cache.batch, self.output_size()));
        for Group { packing, tapes, .. } in &cache.groups {
            let last = &tapes[tapes.len() - self.directions..];
            for (direction, tape) in last.iter().enumerate() {
                for (place, &row) in packing.rows().iter().enumerate() {
                    let columns = direction * size..(direction + 1) * size;
                    copy(tape.state(place)[0], h.slice_mut(s![row, columns]));
                }
            }
        }
        Ok(())
    }

    fn zero_state(&self, batch: usize) -> LstmState<A> {
        let shape = (self.cells.len(), batch, self.cells[0].hidden_size());
        LstmState {
            h: Array3::zeros(shape),
            c: Array3::zeros(shape),
        }
    }

    fn check_state(
        &self,
        operation: &'static str,
        operand: &'static str,
        state: &LstmState<A>,
        batch: usize,
    ) -> Result<(), NnError> {
        let expected = [self.cells.len(), batch, self.cells[0].hidden_size()];
        check_shape(operation, operand, state.h.shape(), &expected)?;
        check_shape(operation, operand, state.c.shape(), &expected)?;
        Ok(())
    }

    fn check_input(&self, x: SequenceBatch<A>, lengths: &[usize]) -> Result<(), NnError> {
        let (batch, steps, width) = x.dim();
        let expected = [batch, steps, self.input_size()];
        check_shape("lstm", "x", &[batch, steps, width], &expected)?;
        check_shape("lstm", "lengths", &[lengths.len()], &[batch])?;
        Ok(())
    }

    /// Fails unless cache and gradients are of this layer's form.
    fn check(&self, cache: &LstmCache<A>, grads: &Self) -> Result<(), NnError> {
        check_shape(
            "lstm backward",
            "grads",
            &[grads.cells.len(), grads.directions],
            &[self.cells.len(), self.directions],
        )?;
        for Group {
            tapes,
            mirror,
            packing,
            ..
        } in &cache.groups
        {
            let mirrored = if self.directions == 2 {
                packing.lines()
            } else {
                0
            };
            check_shape(
                "lstm backward",
                "cache",
                &[tapes.len(), mirror.len()],
                &[self.cells.len(), mirrored],
            )?;
            for ((cell, tape), grads) in self.cells.iter().zip(tapes).zip(&grads.cells) {
                cell.check(tape, grads)?;
                // Parts that were laid out and not done have the tapes of an earlier batch.
                let expected = [packing.lines(), packing.batch()];
                check_shape("lstm", "parts done", &tape.extent(), &expected)?;
            }
        }
        Ok(())
    }
}

/// Fills the input of a tape.
fn read_input<A: Scalar>(packing: &Packing, x: SequenceBatch<A>, tape: &mut Tape<A>) {
    let (_, steps, width) = x.dim();
    let values = x.values();
    let standard = values.as_slice();
    for (line, (step, place)) in packing.places().enumerate() {
        let (row, input) = (x.row(packing.rows()[place]), tape.input_mut(line));
        match standard {
            Some(values) => {
                let start = (row * steps + step) * width;
                input.copy_from_slice(&values[start..start + width]);
            }
            None => {
                for (input, &x) in input.iter_mut().zip(values.slice(s![row, step, ..])) {
                    *input = x;
                }
            }
        }
    }
}

/// Fills the state of a tape with the rows of one cell's.
fn read_state<A: Scalar>(
    packing: &Packing,
    state: &LstmState<A>,
    index: usize,
    tape: &mut Tape<A>,
) {
    for (place, &row) in packing.rows().iter().enumerate() {
        for (target, state) in tape.state_mut(place).into_iter().zip([&state.h, &state.c]) {
            let state = state.slice(s![index, row, ..]);
            for (target, &x) in target.iter_mut().zip(state) {
                *target = x;
            }
        }
    }
}

fn copy<A: Scalar>(from: &[A], mut to: ArrayViewMut1<A>) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = from;
    }
}

impl<A: Scalar> Parameters<A> for Lstm<A> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&str, ArrayViewD<'a, A>)) {
        for (index, cell) in self.cells.iter().enumerate() {
            for (name, view) in cell.views() {
                path.within(Name(name, index, self.directions), |path| {
                    visitor(path.as_str(), view)
                });
            }
        }
    }

    fn visit_mut<'a>(
        &'a mut self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>),
    ) {
        let directions = self.directions;
        for (index, cell) in self.cells.iter_mut().enumerate() {
            for (name, view) in cell.views_mut() {
                path.within(Name(name, index, directions), |path| {
                    visitor(path.as_str(), view)
                });
            }
        }
    }

    fn zip_mut<'a>(
        &'a mut self,
        other: &'a Self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>, ArrayViewD<'a, A>),
    ) {
        let directions = self.directions;
        for (index, (cell, other)) in self.cells.iter_mut().zip(&other.cells).enumerate() {
            for ((name, view), (_, other)) in cell.views_mut().into_iter().zip(other.views()) {
                path.within(Name(name, index, directions), |path| {
                    visitor(path.as_str(), view, other)
                });
            }
        }
    }

    fn zeros_like(&self) -> Self {
        Self {
            cells: self.cells.iter().map(Cell::zeros_like).collect(),
            directions: self.directions,
        }
    }
}

/// PyTorch's name of an array of the cell at a place, for a number of directions: `weight_ih_l0`,
/// `weight_ih_l0_reverse`, `weight_ih_l1`, …
struct Name(&'static str, usize, usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(array, index, directions) = self;
        write!(f, "{array}_l{}", index / directions)?;
        match index % directions {
            1 => f.write_str("_reverse"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_additive, check_input, check_parameters, random, rng};
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    /// A layer as its formula states it: one row, one step and one scalar at a time.
    fn naive(
        lstm: &Lstm<f64>,
        x: &Array3<f64>,
        lengths: &[usize],
        initial: Option<&LstmState<f64>>,
    ) -> LstmOutput<f64> {
        let size = lstm.cells[0].hidden_size();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (batch, steps, _) = x.dim();
        let mut state = initial.cloned().unwrap_or_else(|| lstm.zero_state(batch));
        let mut input = x.clone();
        for (layer, cells) in lstm.cells.chunks(lstm.directions).enumerate() {
            let mut output = Array3::zeros((batch, steps, lstm.output_size()));
            for (direction, cell) in cells.iter().enumerate() {
                let index = layer * lstm.directions + direction;
                for row in 0..batch {
                    for step in 0..lengths[row] {
                        let step = if direction == 1 {
                            lengths[row] - 1 - step
                        } else {
                            step
                        };
                        let before = state.h.slice(s![index, row, ..]).to_owned();
                        for unit in 0..size {
                            let sum = |gate: usize| {
                                let line = gate * size + unit;
                                let mut sum = cell.bias_ih[line] + cell.bias_hh[line];
                                for (column, &weight) in cell.weight_ih.row(line).indexed_iter() {
                                    sum += weight * input[[row, step, column]];
                                }
                                for (column, &weight) in cell.weight_hh.row(line).indexed_iter() {
                                    sum += weight * before[column];
                                }
                                sum
                            };
                            let c = &mut state.c[[index, row, unit]];
                            *c = sigmoid(sum(1)) * *c + sigmoid(sum(0)) * sum(2).tanh();
                            let h = sigmoid(sum(3)) * c.tanh();
                            state.h[[index, row, unit]] = h;
                            output[[row, step, direction * size + unit]] = h;
                        }
                    }
                }
            }
            input = output;
        }
        LstmOutput {
            output: input,
            state,
        }
    }

    /// The last layer's part of `h`, its directions side by side.
    fn last_layer(lstm: &Lstm<f64>, h: &Array3<f64>) -> Array2<f64> {
        let first = lstm.cells.len() - lstm.directions;
        let last: Vec<_> = h.axis_iter(Axis(0)).skip(first).collect();
        ndarray::concatenate(Axis(1), &last).unwrap()
    }

    /// Outputs and states in one array, so that one cotangent contracts all of them.
    fn joined(output: &LstmOutput<f64>) -> ndarray::Array1<f64> {
        let LstmOutput { output, state } = output;
        output
            .iter()
            .chain(&state.h)
            .chain(&state.c)
            .copied()
            .collect()
    }

    #[derive(Debug, Clone)]
    struct Case {
        config: LstmConfig,
        input_size: usize,
        steps: usize,
        lengths: Vec<usize>,
        given: bool,
        seed: u64,
    }

    impl Case {
        fn draw(&self) -> (Lstm<f64>, Array3<f64>, Option<LstmState<f64>>) {
            let mut rng = rng(self.seed);
            let lstm = Lstm::new(self.input_size, &self.config, &mut rng).unwrap();
            let x = random((self.lengths.len(), self.steps, self.input_size), &mut rng);
            let shape = lstm.zero_state(self.lengths.len()).h.raw_dim();
            let initial = self.given.then(|| LstmState {
                h: random(shape, &mut rng),
                c: random(shape, &mut rng),
            });
            (lstm, x, initial)
        }
    }

    fn cases() -> impl Strategy<Value = Case> {
        let sizes = (1_usize..4, 1_usize..4, 1_usize..3, any::<bool>());
        (sizes, 1_usize..5, any::<bool>(), any::<u64>()).prop_flat_map(
            |((input_size, hidden_size, layers, bidirectional), steps, given, seed)| {
                prop::collection::vec(0..=steps, 1..4).prop_map(move |lengths| Case {
                    config: LstmConfig {
                        hidden_size,
                        layers,
                        bidirectional,
                    },
                    input_size,
                    steps,
                    lengths,
                    given,
                    seed,
                })
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn gradients(case in cases()) {
            let (lstm, x, initial) = case.draw();
            let infer = |lstm: &Lstm<f64>, x: &Array3<f64>, initial: Option<&LstmState<f64>>| {
                lstm.infer(x.view(), &case.lengths, initial).unwrap()
            };
            let (output, cache) = lstm.forward(x.view(), &case.lengths, initial.as_ref()).unwrap();
            prop_assert_eq!(&output, &infer(&lstm, &x, initial.as_ref()));
            let mut rng = rng(!case.seed);
            let dy = LstmOutput {
                output: random(output.output.raw_dim(), &mut rng),
                state: LstmState {
                    h: random(output.state.h.raw_dim(), &mut rng),
                    c: random(output.state.c.raw_dim(), &mut rng),
                },
            };
            let cotangent = joined(&dy);
            let mut grads = lstm.zeros_like();
            let dx = lstm.backward(cache, &dy, &mut grads).unwrap();
            check_input("x", &x, &dx.x, &cotangent, |x| {
                joined(&infer(&lstm, x, initial.as_ref()))
            });
            check_parameters(&lstm, &grads, &cotangent, |lstm| {
                joined(&infer(lstm, &x, initial.as_ref()))
            });
            prop_assert_eq!(dx.initial.is_some(), case.given);
            if let (Some(initial), Some(dinitial)) = (&initial, dx.initial) {
                check_input("h0", &initial.h, &dinitial.h, &cotangent, |h| {
                    let initial = LstmState { h: h.clone(), c: initial.c.clone() };
                    joined(&infer(&lstm, &x, Some(&initial)))
                });
                check_input("c0", &initial.c, &dinitial.c, &cotangent, |c| {
                    let initial = LstmState { h: initial.h.clone(), c: c.clone() };
                    joined(&infer(&lstm, &x, Some(&initial)))
                });
            }
            assert_additive(&lstm, &grads, |grads| {
                let (_, cache) = lstm.forward(x.view(), &case.lengths, initial.as_ref()).unwrap();
                lstm.backward(cache, &dy, grads).unwrap();
            });
        }

        #[test]
        fn outputs_follow_the_formula(case in cases()) {
            let (lstm, x, initial) = case.draw();
            let found = lstm.infer(x.view(), &case.lengths, initial.as_ref()).unwrap();
            let expected = naive(&lstm, &x, &case.lengths, initial.as_ref());
            assert_relative_eq!(joined(&found), joined(&expected), max_relative = 1e-12);
        }

        #[test]
        fn the_final_state_alone_agrees_with_the_whole(case in cases()) {
            let (lstm, x, _) = case.draw();
            let (h, cache) = lstm.forward_final(x.view(), &case.lengths).unwrap();
            prop_assert_eq!(&h, &lstm.infer_final(x.view(), &case.lengths).unwrap());
            let (mut workspace, mut again) = (LstmWorkspace::default(), Array2::zeros((0, 0)));
            for _ in 0..2 {
                lstm.infer_final_into(x.view(), &case.lengths, &mut workspace, &mut again).unwrap();
                prop_assert_eq!(&h, &again);
            }
            let (output, whole) = lstm.forward(x.view(), &case.lengths, None).unwrap();
            prop_assert_eq!(&h, &last_layer(&lstm, &output.state.h));

            let mut dy = LstmOutput {
                output: Array3::zeros(output.output.raw_dim()),
                state: lstm.zero_state(case.lengths.len()),
            };
            let dh = random(h.raw_dim(), &mut rng(case.seed));
            let size = lstm.cells[0].hidden_size();
            let first = lstm.cells.len() - lstm.directions;
            for direction in 0..lstm.directions {
                dy.state.h.index_axis_mut(Axis(0), first + direction)
                    .assign(&dh.slice(s![.., direction * size..(direction + 1) * size]));
            }
            let (mut grads, mut expected) = (lstm.zeros_like(), lstm.zeros_like());
            lstm.backward_final(cache, dh.view(), &mut grads).unwrap();
            lstm.backward(whole, &dy, &mut expected).unwrap();
            prop_assert_eq!(grads, expected);
        }

        #[test]
        fn padding_and_the_order_of_rows_change_nothing(case in cases(), more in 0_usize..3) {
            let (lstm, x, initial) = case.draw();
            let batch = case.lengths.len();
            let reference = lstm.forward(x.view(), &case.lengths, initial.as_ref()).unwrap();
            let dy = |steps| {
                let mut rng = rng(case.seed);
                let mut output = Array3::from_elem((batch, steps, lstm.output_size()), f64::NAN);
                for (row, &length) in case.lengths.iter().enumerate() {
                    output.slice_mut(s![row, ..length, ..])
                        .assign(&random((length, lstm.output_size()), &mut rng));
                }
                let mut state = lstm.zero_state(batch);
                state.h.fill(0.5);
                state.c.fill(-0.25);
                LstmOutput { output, state }
            };
            let mut grads = lstm.zeros_like();
            let dx = lstm.backward(reference.1, &dy(case.steps), &mut grads).unwrap();

            let longer = case.steps + more;
            let mut garbage = Array3::from_elem((batch, longer, case.input_size), f64::NAN);
            for (row, &length) in case.lengths.iter().enumerate() {
                garbage.slice_mut(s![row, ..length, ..]).assign(&x.slice(s![row, ..length, ..]));
            }
            let (output, cache) =
                lstm.forward(garbage.view(), &case.lengths, initial.as_ref()).unwrap();
            prop_assert_eq!(&output.state, &reference.0.state);
            prop_assert_eq!(output.output.slice(s![.., ..case.steps, ..]), &reference.0.output);
            prop_assert!(output.output.slice(s![.., case.steps.., ..]).iter().all(|&y| y == 0.0));
            let mut other = lstm.zeros_like();
            let dx_garbage = lstm.backward(cache, &dy(longer), &mut other).unwrap();
            prop_assert_eq!(&other, &grads);
            prop_assert_eq!(dx_garbage.x.slice(s![.., ..case.steps, ..]), &dx.x);
            prop_assert!(dx_garbage.x.slice(s![.., case.steps.., ..]).iter().all(|&d| d == 0.0));

            let order: Vec<usize> = (0..batch).rev().collect();
            let lengths: Vec<usize> = order.iter().map(|&row| case.lengths[row]).collect();
            let backwards = initial.as_ref().map(|initial| LstmState {
                h: initial.h.select(Axis(1), &order),
                c: initial.c.select(Axis(1), &order),
            });
            let flipped = lstm
                .infer(x.select(Axis(0), &order).view(), &lengths, backwards.as_ref())
                .unwrap();
            assert_relative_eq!(
                flipped.output,
                reference.0.output.select(Axis(0), &order),
                max_relative = 1e-12
            );
        }
    }

    #[test]
    fn single_precision_follows_double_over_many_steps() {
        let config = LstmConfig {
            hidden_size: 21,
            layers: 2,
            bidirectional: true,
        };
        let double = Lstm::<f64>::new(5, &config, &mut rng(3)).unwrap();
        let single = Lstm::<f32>::new(5, &config, &mut rng(3)).unwrap();
        let x: Array3<f64> = random((4, 60, 5), &mut rng(4));
        let lengths = [60, 17, 1, 45];
        let dh: Array2<f64> = random((4, 42), &mut rng(5));
        let (h, cache) = double.forward_final(x.view(), &lengths).unwrap();
        let mut grads = double.zeros_like();
        double.backward_final(cache, dh.view(), &mut grads).unwrap();

        let (found, cache) = single
            .forward_final(x.mapv(|x| x as f32).view(), &lengths)
            .unwrap();
        let mut found_grads = single.zeros_like();
        let dh = dh.mapv(|d| d as f32);
        single
            .backward_final(cache, dh.view(), &mut found_grads)
            .unwrap();
        assert_relative_eq!(found.mapv(f64::from), h, epsilon = 1e-6);
        for ((name, found), (_, expected)) in found_grads
            .named_views()
            .into_iter()
            .zip(grads.named_views())
        {
            let largest = expected
                .iter()
                .fold(0.0_f64, |largest, x| largest.max(x.abs()));
            let error = (&found.mapv(f64::from) - &expected)
                .iter()
                .fold(0.0_f64, |worst, x| worst.max(x.abs()));
            assert!(error < 1e-5 * largest, "{name}: {error:e} of {largest:e}");
        }
    }

    #[test]
    fn two_threads_change_no_bit() {
        let config = LstmConfig {
            hidden_size: 24,
            layers: 2,
            bidirectional: true,
        };
        let lstm = Lstm::<f64>::new(5, &config, &mut rng(6)).unwrap();
        for lengths in [vec![60; 9], vec![240, 9, 0, 133, 240, 1], vec![600, 0]] {
            let steps = lengths[0];
            let x = random((lengths.len(), steps, 5), &mut rng(7));
            let initial = LstmState {
                h: random((4, lengths.len(), 24), &mut rng(8)),
                c: random((4, lengths.len(), 24), &mut rng(9)),
            };
            let pass = || {
                let (y, cache) = lstm.forward(x.view(), &lengths, Some(&initial)).unwrap();
                let mut grads = lstm.zeros_like();
                let dx = lstm.backward(cache, &y, &mut grads).unwrap();
                (y, dx, grads)
            };
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.unwrap().install(pass)
            };
            assert_eq!(on(1), on(2));
        }
    }

    /// With forget gates near a half, a gradient halves at every step back.
    #[test]
    fn gradients_that_vanish_are_those_of_the_last_steps() {
        let config = LstmConfig {
            hidden_size: 20,
            ..LstmConfig::default()
        };
        let lstm = Lstm::<f32>::new(3, &config, &mut rng(4)).unwrap();
        let (rows, steps) = (18, 700);
        let x: Array3<f32> = random((rows, steps, 3), &mut rng(5)).mapv(|x: f64| x as f32);
        let lengths: Vec<_> = (0..rows).map(|row| steps - 31 * row).collect();
        let dy = LstmOutput {
            output: Array3::zeros((rows, steps, 20)),
            state: LstmState {
                h: Array3::ones((1, rows, 20)),
                c: Array3::zeros((1, rows, 20)),
            },
        };
        let (_, cache) = lstm.forward(x.view(), &lengths, None).unwrap();
        let mut whole = lstm.zeros_like();
        let dx = lstm.backward(cache, &dy, &mut whole).unwrap().x;
        let (_, cache) = lstm.forward_final(x.view(), &lengths).unwrap();
        let mut last = lstm.zeros_like();
        let dh = dy.state.h.index_axis(Axis(0), 0);
        lstm.backward_final(cache, dh, &mut last).unwrap();
        // All steps were gone through for the first, few for the second.
        assert_eq!(last, whole);
        for (row, &length) in lengths.iter().enumerate() {
            let of = |step: usize| dx.slice(s![row, step, ..]);
            assert!(of(length - 1).iter().all(|&d| d != 0.0));
            assert!(of(0).iter().all(|&d| d == 0.0));
        }
        assert!(dx.iter().all(|&d| d == 0.0 || d.is_normal()));
    }

    #[test]
    fn memory_used_before_leaves_no_trace() {
        let config = LstmConfig {
            hidden_size: 3,
            ..LstmConfig::default()
        };
        let used = Lstm::<f64>::new(2, &config, &mut rng(1)).unwrap();
        let pass = |lstm: &Lstm<f64>, lengths: &[usize], dh: f64| {
            let x = random((lengths.len(), 6, 2), &mut rng(2));
            let (h, cache) = lstm.forward_final(x.view(), lengths).unwrap();
            let mut grads = lstm.zeros_like();
            let dh = Array2::from_elem(h.raw_dim(), dh);
            lstm.backward_final(cache, dh.view(), &mut grads).unwrap();
            (h, grads)
        };
        for lengths in [vec![6, 6, 6], vec![2], vec![1, 6], vec![0], vec![5, 5]] {
            pass(&used, &[4, 2], f64::NAN);
            assert_eq!(
                pass(&used, &lengths, 1.0),
                pass(&used.clone(), &lengths, 1.0)
            );
        }
    }

    #[test]
    fn parts_that_are_not_done_are_named() {
        let mut rng = rng(1);
        let lstm = Lstm::<f64>::new(2, &LstmConfig::default(), &mut rng).unwrap();
        let (few, many) = (random((2, 3, 2), &mut rng), random((20, 5, 2), &mut rng));
        let (mut cache, mut h) = (LstmCache::default(), Array2::zeros((0, 0)));
        let dh = Array2::ones((20, 32));
        let lengths = [5; 20];
        for warm in [false, true] {
            if warm {
                lstm.forward_final_into(few.view(), &[3, 1], &mut cache, &mut h)
                    .unwrap();
            }
            let parts = lstm.forward_final_parts(many.view().into(), &lengths, &mut cache);
            let (first, _) = parts.unwrap().split_at(1);
            first.run().unwrap();
            let refused = |outcome: Result<(), NnError>| {
                assert!(matches!(outcome, Err(NnError::Shape(_))), "{outcome:?}");
            };
            refused(lstm.last_hidden_into(&cache, &mut h));
            refused(lstm.backward_final_parts(&mut cache, dh.view()).map(drop));
            refused(lstm.add_gradients(&cache, &mut lstm.zeros_like()));
        }
    }

    #[test]
    fn names_are_those_of_pytorch() {
        let config = LstmConfig {
            hidden_size: 2,
            layers: 2,
            bidirectional: true,
        };
        let mut lstm = Lstm::<f32>::new(3, &config, &mut rng(1)).unwrap();
        let names: Vec<_> = lstm
            .named_views()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names[..5],
            [
                "weight_ih_l0",
                "weight_hh_l0",
                "bias_ih_l0",
                "bias_hh_l0",
                "weight_ih_l0_reverse",
            ]
        );
        assert_eq!(names[15], "bias_hh_l1_reverse");
        let mutable: Vec<_> = lstm
            .named_views_mut()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(mutable, names);
        let mut zipped = Vec::new();
        let grads = lstm.zeros_like();
        lstm.zip_mut(&grads, &mut Path::default(), &mut |name, value, grad| {
            assert_eq!(value.shape(), grad.shape());
            zipped.push(name.to_owned());
        });
        assert_eq!(zipped, names);
        assert_eq!(
            lstm.parameter_count(),
            2 * (8 * 3 + 8 * 2 + 16) + 2 * (8 * 4 + 8 * 2 + 16)
        );
    }

    #[test]
    fn value_stability() {
        let config = LstmConfig {
            hidden_size: 1,
            ..LstmConfig::default()
        };
        let lstm = Lstm::<f32>::new(1, &config, &mut rng(1)).unwrap();
        let weights: Vec<f32> = lstm.named_views()[0].1.iter().copied().collect();
        assert_eq!(weights, [-0.19502868, -0.83923256, 0.19312036, -0.5613508]);
        let bound = 1.0 / (32.0_f32).sqrt();
        let lstm = Lstm::<f32>::new(3, &LstmConfig::default(), &mut rng(1)).unwrap();
        assert!(
            lstm.named_views()
                .iter()
                .all(|(_, view)| view.iter().all(|x| x.abs() <= bound))
        );
    }

    #[test]
    fn wrong_input_is_named() {
        let lstm = Lstm::<f64>::new(3, &LstmConfig::default(), &mut rng(1)).unwrap();
        let x = Array3::zeros((2, 4, 3));
        let operand = |error: NnError| match error {
            NnError::Shape(error) => error.operand,
            error => panic!("{error}"),
        };
        let infer = |x: &Array3<f64>, lengths: &[usize]| lstm.infer(x.view(), lengths, None);
        assert_eq!(
            operand(infer(&Array3::zeros((2, 4, 2)), &[1, 1]).unwrap_err()),
            "x"
        );
        assert_eq!(operand(infer(&x, &[1]).unwrap_err()), "lengths");
        assert!(matches!(
            infer(&x, &[1, 5]),
            Err(NnError::Length {
                row: 1,
                found: 5,
                ..
            })
        ));
        let mut initial = lstm.zero_state(3);
        assert_eq!(
            operand(lstm.infer(x.view(), &[1, 1], Some(&initial)).unwrap_err()),
            "initial"
        );
        initial = lstm.zero_state(2);
        lstm.infer(x.view(), &[1, 1], Some(&initial)).unwrap();

        let cache = || lstm.forward_final(x.view(), &[1, 4]).unwrap().1;
        let mut grads = lstm.zeros_like();
        let dh = Array2::zeros((2, 31));
        let error = lstm
            .backward_final(cache(), dh.view(), &mut grads)
            .unwrap_err();
        assert_eq!(operand(error), "dh");
        let other = LstmConfig {
            hidden_size: 16,
            bidirectional: true,
            ..LstmConfig::default()
        };
        let mut other = Lstm::<f64>::new(3, &other, &mut rng(1)).unwrap();
        let dh = Array2::zeros((2, 32));
        let error = lstm
            .backward_final(cache(), dh.view(), &mut other)
            .unwrap_err();
        assert_eq!(operand(error), "grads");
        let mut grads = other.clone();
        let error = other
            .backward_final(cache(), dh.view(), &mut grads)
            .unwrap_err();
        assert_eq!(operand(error), "cache");
    }

    #[test]
    fn config_contract() {
        let default = LstmConfig::default();
        default.validate().unwrap();
        let json = serde_json::to_string(&default).unwrap();
        assert_eq!(serde_json::from_str::<LstmConfig>(&json).unwrap(), default);
        assert!(serde_json::from_str::<LstmConfig>(r#"{"hidden": 3}"#).is_err());
        for (name, config) in [
            (
                "hidden_size",
                LstmConfig {
                    hidden_size: 0,
                    ..default
                },
            ),
            (
                "layers",
                LstmConfig {
                    layers: 0,
                    ..default
                },
            ),
        ] {
            let error = Lstm::<f32>::new(1, &config, &mut rng(1)).unwrap_err();
            assert!(matches!(error, NnError::Config { parameter, .. } if parameter == name));
        }
        assert!(matches!(
            Lstm::<f32>::new(0, &default, &mut rng(1)),
            Err(NnError::Config {
                parameter: "input_size",
                ..
            })
        ));
    }
}
