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
//! Rows are sorted by length and laid out time-major without padding (see [`Packing`]), so that the
//! rows at work in a step are the first ones of the step before. The input products of all steps
//! are one matrix product, the recurrent product is one a step, and the backward pass overwrites
//! the stored gates with their gradients, from which the weight gradients are one product each.

mod cell;
mod packing;

use modalign_core::{Parameters, Path, Scalar, check_shape};
use ndarray::{
    Array2, Array3, ArrayView2, ArrayView3, ArrayViewD, ArrayViewMutD, Axis, CowArray, s,
};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::NnError;
use crate::error::check_config;
use crate::memory::resized;
use cell::{Cell, CellState, Tape};
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
            check_config(size > 0, "lstm", parameter, "at least 1", size as f64)?;
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
pub struct LstmWorkspace<A> {
    packing: Packing,
    input: Array2<A>,
    state: CellState<A>,
}

/// What the backward pass of [`Lstm`] needs.
#[derive(Debug)]
pub struct LstmCache<A> {
    packing: Packing,
    mirror: Vec<usize>,
    layers: Vec<LayerCache<A>>,
    /// Whether there was an initial state.
    given: bool,
}

#[derive(Debug)]
struct LayerCache<A> {
    input: Array2<A>,
    tapes: Vec<Tape<A>>,
}

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
        check_config(
            input_size > 0,
            "lstm",
            "input_size",
            "at least 1",
            input_size as f64,
        )?;
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
        let (hidden, state, cache) = self.run(x, lengths, initial, true, true)?;
        let output = cache.packing.unpack(hidden.view());
        Ok((LstmOutput { output, state }, cache))
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
        let (hidden, state, cache) = self.run(x, lengths, initial, true, false)?;
        let output = cache.packing.unpack(hidden.view());
        Ok(LstmOutput { output, state })
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
        let (_, state, cache) = self.run(x, lengths, None, false, true)?;
        Ok((self.last_layer(&state.h), cache))
    }

    /// As [`forward_final`](Self::forward_final), without a cache.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn infer_final(&self, x: ArrayView3<A>, lengths: &[usize]) -> Result<Array2<A>, NnError> {
        let (_, state, _) = self.run(x, lengths, None, false, false)?;
        Ok(self.last_layer(&state.h))
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
        workspace: &mut LstmWorkspace<A>,
        h: &mut Array2<A>,
    ) -> Result<(), NnError> {
        let [cell] = &self.cells[..] else {
            *h = self.infer_final(x, lengths)?;
            return Ok(());
        };
        self.check_input(x, lengths)?;
        let LstmWorkspace {
            packing,
            input,
            state,
        } = workspace;
        packing.set(lengths, x.dim().1)?;
        *input = packing.pack_into(x, std::mem::take(input));
        for rows in [&mut state.h, &mut state.c] {
            *rows = resized(std::mem::take(rows), packing.batch(), self.output_size());
            rows.fill(A::zero());
        }
        let tape = cell.run(packing, input, state, false, None, false)?;
        cell.give_tape(tape);
        *h = resized(std::mem::take(h), packing.batch(), self.output_size());
        packing.unsort(state.h.view(), h.view_mut());
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
        cache: LstmCache<A>,
        dy: &LstmOutput<A>,
        grads: &mut Self,
    ) -> Result<LstmInputGradient<A>, NnError> {
        let packing = &cache.packing;
        let expected = [packing.batch(), packing.steps(), self.output_size()];
        check_shape("lstm backward", "dy.output", dy.output.shape(), &expected)?;
        self.check_state("lstm backward", "dy.state", &dy.state, packing.batch())?;
        self.check(&cache, grads)?;
        let doutput = packing.pack(dy.output.view());
        let given = cache.given;
        let (packing, dx, initial) =
            self.run_backward(cache, Some(doutput), &dy.state, grads, true)?;
        Ok(LstmInputGradient {
            x: packing.unpack(dx.view()),
            initial: given.then_some(initial),
        })
    }

    /// Adds the gradients of all weights to `grads`, given `dh [B, directions · H]` in what
    /// [`forward_final`](Self::forward_final) returned. The gradient in the input is not computed.
    ///
    /// # Errors
    ///
    /// As [`backward`](Self::backward).
    pub fn backward_final(
        &self,
        cache: LstmCache<A>,
        dh: ArrayView2<A>,
        grads: &mut Self,
    ) -> Result<(), NnError> {
        let batch = cache.packing.batch();
        check_shape(
            "lstm backward",
            "dh",
            dh.shape(),
            &[batch, self.output_size()],
        )?;
        self.check(&cache, grads)?;
        let size = self.cells[0].hidden_size();
        let mut dstate = self.zero_state(batch);
        let first = self.cells.len() - self.directions;
        for direction in 0..self.directions {
            let columns = s![.., direction * size..(direction + 1) * size];
            dstate
                .h
                .index_axis_mut(Axis(0), first + direction)
                .assign(&dh.slice(columns));
        }
        self.run_backward(cache, None, &dstate, grads, false)?;
        Ok(())
    }

    /// The packed hidden states of the last layer (empty unless `output` is set), the final state,
    /// and a cache (without tapes unless `record` is set).
    fn run(
        &self,
        x: ArrayView3<A>,
        lengths: &[usize],
        initial: Option<&LstmState<A>>,
        output: bool,
        record: bool,
    ) -> Result<(Array2<A>, LstmState<A>, LstmCache<A>), NnError> {
        self.check_input(x, lengths)?;
        let (batch, steps, _) = x.dim();
        if let Some(initial) = initial {
            self.check_state("lstm", "initial", initial, batch)?;
        }
        let packing = Packing::new(lengths, steps)?;
        let mirror = if self.directions == 2 {
            packing.mirror()
        } else {
            Vec::new()
        };
        let size = self.cells[0].hidden_size();
        let mut state = self.zero_state(batch);
        let mut layers = Vec::new();
        let mut input = packing.pack(x);
        let count = self.cells.len() / self.directions;
        for (layer, cells) in self.cells.chunks(self.directions).enumerate() {
            let keep = output || layer + 1 < count;
            let lines = if keep { packing.lines() } else { 0 };
            let mut hidden = Array2::zeros((lines, self.output_size()));
            let mut tapes = Vec::with_capacity(self.directions);
            for (direction, cell) in cells.iter().enumerate() {
                let index = layer * self.directions + direction;
                let sorted = |rows: &Array3<A>| packing.sort(rows.index_axis(Axis(0), index));
                let mut cell_state = CellState {
                    h: sorted(initial.map_or(&state.h, |initial| &initial.h)),
                    c: sorted(initial.map_or(&state.c, |initial| &initial.c)),
                };
                let given = initial.is_some();
                let columns = s![.., direction * size..(direction + 1) * size];
                let tape = if direction == 0 {
                    let hidden = keep.then(|| hidden.slice_mut(columns));
                    cell.run(&packing, &input, &mut cell_state, given, hidden, record)?
                } else {
                    let mirrored = input.select(Axis(0), &mirror);
                    let mut reversed = Array2::zeros((lines, size));
                    let target = keep.then(|| reversed.view_mut());
                    let tape =
                        cell.run(&packing, &mirrored, &mut cell_state, given, target, record)?;
                    if keep {
                        hidden
                            .slice_mut(columns)
                            .assign(&reversed.select(Axis(0), &mirror));
                    }
                    tape
                };
                let CellState { h, c } = cell_state;
                packing.unsort(h.view(), state.h.index_axis_mut(Axis(0), index));
                packing.unsort(c.view(), state.c.index_axis_mut(Axis(0), index));
                if record {
                    tapes.push(tape);
                } else {
                    cell.give_tape(tape);
                }
            }
            let input = std::mem::replace(&mut input, hidden);
            if record {
                layers.push(LayerCache { input, tapes });
            }
        }
        let cache = LstmCache {
            packing,
            mirror,
            layers,
            given: initial.is_some(),
        };
        Ok((input, state, cache))
    }

    /// Returns the layout, the packed gradient in the input (empty unless asked for) and the
    /// gradient in the initial state (undefined without one).
    fn run_backward(
        &self,
        cache: LstmCache<A>,
        doutput: Option<Array2<A>>,
        dstate: &LstmState<A>,
        grads: &mut Self,
        input_gradient: bool,
    ) -> Result<(Packing, Array2<A>, LstmState<A>), NnError> {
        let LstmCache {
            packing,
            mirror,
            layers,
            ..
        } = cache;
        let size = self.cells[0].hidden_size();
        let mut initial = self.zero_state(packing.batch());
        let mut dlayer = doutput;
        for (layer, LayerCache { input, tapes }) in layers.into_iter().enumerate().rev() {
            let mut dinput: Option<Array2<A>> = None;
            for (direction, mut tape) in tapes.into_iter().enumerate() {
                let index = layer * self.directions + direction;
                let (cell, grads) = (&self.cells[index], &mut grads.cells[index]);
                let reverse = direction == 1;
                let mut gradient = CellState {
                    h: packing.sort(dstate.h.index_axis(Axis(0), index)),
                    c: packing.sort(dstate.c.index_axis(Axis(0), index)),
                };
                let columns = s![.., direction * size..(direction + 1) * size];
                let dhidden = dlayer.as_ref().map(|dlayer| match dlayer.slice(columns) {
                    dhidden if reverse => CowArray::from(dhidden.select(Axis(0), &mirror)),
                    dhidden => CowArray::from(dhidden),
                });
                let dhidden = dhidden.as_ref().map(|dhidden| dhidden.view());
                cell.run_back(&packing, &mut tape, dhidden, &mut gradient)?;
                packing.unsort(gradient.h.view(), initial.h.index_axis_mut(Axis(0), index));
                packing.unsort(gradient.c.view(), initial.c.index_axis_mut(Axis(0), index));
                if reverse {
                    let mirrored = input.select(Axis(0), &mirror);
                    Cell::add_gradients(&packing, &mirrored, &tape, grads)?;
                } else {
                    Cell::add_gradients(&packing, &input, &tape, grads)?;
                }
                if layer > 0 || input_gradient {
                    let gradient = cell.input_gradient(&tape)?;
                    match &mut dinput {
                        Some(dinput) => *dinput += &gradient.select(Axis(0), &mirror),
                        None => dinput = Some(gradient),
                    }
                }
                cell.give_tape(tape);
            }
            dlayer = dinput;
        }
        Ok((packing, dlayer.unwrap_or_default(), initial))
    }

    fn zero_state(&self, batch: usize) -> LstmState<A> {
        let shape = (self.cells.len(), batch, self.cells[0].hidden_size());
        LstmState {
            h: Array3::zeros(shape),
            c: Array3::zeros(shape),
        }
    }

    /// The last layer's part of `h`, its directions side by side.
    fn last_layer(&self, h: &Array3<A>) -> Array2<A> {
        let size = self.cells[0].hidden_size();
        let first = self.cells.len() - self.directions;
        let mut last = Array2::zeros((h.dim().1, self.output_size()));
        for direction in 0..self.directions {
            last.slice_mut(s![.., direction * size..(direction + 1) * size])
                .assign(&h.index_axis(Axis(0), first + direction));
        }
        last
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

    fn check_input(&self, x: ArrayView3<A>, lengths: &[usize]) -> Result<(), NnError> {
        let (batch, steps, _) = x.dim();
        let expected = [batch, steps, self.input_size()];
        check_shape("lstm", "x", x.shape(), &expected)?;
        check_shape("lstm", "lengths", &[lengths.len()], &[batch])?;
        Ok(())
    }

    /// Fails unless cache and gradients are of this layer's form.
    fn check(&self, cache: &LstmCache<A>, grads: &Self) -> Result<(), NnError> {
        let form = [self.cells.len(), self.directions];
        let tapes: usize = cache.layers.iter().map(|layer| layer.tapes.len()).sum();
        let directions = cache.layers.first().map_or(0, |layer| layer.tapes.len());
        check_shape("lstm backward", "cache", &[tapes, directions], &form)?;
        check_shape(
            "lstm backward",
            "grads",
            &[grads.cells.len(), grads.directions],
            &form,
        )?;
        let tapes = cache.layers.iter().flat_map(|layer| &layer.tapes);
        for ((cell, tape), grads) in self.cells.iter().zip(tapes).zip(&grads.cells) {
            cell.check(&cache.packing, tape, grads)?;
        }
        check_shape(
            "lstm backward",
            "cache",
            &[cache.layers[0].input.ncols()],
            &[self.input_size()],
        )?;
        Ok(())
    }
}

impl<A: Scalar> Parameters<A> for Lstm<A> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&str, ArrayViewD<'a, A>)) {
        for (index, cell) in self.cells.iter().enumerate() {
            for (name, view) in cell.views() {
                let name = name.to_owned() + &suffix(index, self.directions);
                path.within(&name, |path| visitor(path.as_str(), view));
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
                let name = name.to_owned() + &suffix(index, directions);
                path.within(&name, |path| visitor(path.as_str(), view));
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
                let name = name.to_owned() + &suffix(index, directions);
                path.within(&name, |path| visitor(path.as_str(), view, other));
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

/// PyTorch's end of a parameter's name: `_l0`, `_l0_reverse`, `_l1`, …
fn suffix(index: usize, directions: usize) -> String {
    let layer = index / directions;
    let reverse = if index % directions == 1 {
        "_reverse"
    } else {
        ""
    };
    format!("_l{layer}{reverse}")
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
            prop_assert_eq!(&h, &lstm.last_layer(&output.state.h));

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
