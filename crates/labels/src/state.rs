//! The labels and all that the next update needs: plain data, saved and read exactly.

use modalign_core::{Element, Scalar, Store, check_shape, resize};
use ndarray::{Array, Array1, Array2, ArrayView1, ArrayView2, Dimension};

use crate::space::Space;
use crate::{Class, LabelError};

/// The labels of every sample in every feature space, with the running class sums behind them.
///
/// Space 0 is the fused one, whose label is the multimodal label and never changes; then one space
/// for each of the M modalities. Made by
/// [`LabelGenerator::initial_state`](crate::LabelGenerator::initial_state). It keeps the last
/// feature of every sample, which is needed to take it out of its class sum again: for N samples
/// and spaces of widths D_s, N · Σ D_s numbers.
#[derive(Debug, Clone)]
pub struct LabelState<A> {
    /// `[M+1, N]`.
    pub(crate) labels: Array2<A>,
    pub(crate) spaces: Vec<Space<A>>,
    /// Sorted indices of the current batch; not part of what is saved.
    pub(crate) sorted: Vec<usize>,
}

impl<A: Scalar> LabelState<A> {
    /// The labels of all samples, `[M+1, N]`; row 0 holds the multimodal ones.
    pub fn labels(&self) -> ArrayView2<'_, A> {
        self.labels.view()
    }

    /// The number of samples, N.
    pub fn samples(&self) -> usize {
        self.labels.ncols()
    }

    /// The number of modalities, M.
    pub fn modalities(&self) -> usize {
        self.spaces.len() - 1
    }

    /// The centre of a class in one space, `[D]`, as the last update left it, or `None` if the class
    /// is empty or there is no such space.
    pub fn centre(&self, space: usize, class: Class) -> Option<ArrayView1<'_, f64>> {
        self.spaces.get(space)?.centre(class)
    }

    /// How many samples are in a class of one space (0 if there is no such space).
    pub fn class_size(&self, space: usize, class: Class) -> usize {
        self.spaces
            .get(space)
            .map_or(0, |space| space.count(class) as usize)
    }

    /// The labels of a batch, `[M+1, B]`: what the predictions of the fused space and of each
    /// modality are compared with.
    ///
    /// # Errors
    ///
    /// [`LabelError::IndexOutOfRange`].
    pub fn targets(&self, indices: &[usize]) -> Result<Array2<A>, LabelError> {
        let mut targets = Array2::zeros((0, 0));
        self.targets_into(indices, &mut targets)?;
        Ok(targets)
    }

    /// As [`targets`](Self::targets), into an array that takes the shape of the result in the memory
    /// it has.
    ///
    /// # Errors
    ///
    /// [`LabelError::IndexOutOfRange`].
    pub fn targets_into(
        &self,
        indices: &[usize],
        targets: &mut Array2<A>,
    ) -> Result<(), LabelError> {
        self.check_indices(indices)?;
        resize(targets, (self.spaces.len(), indices.len()));
        for ((space, row), target) in targets.indexed_iter_mut() {
            *target = self.labels[[space, indices[row]]];
        }
        Ok(())
    }

    /// The weight of each unimodal error of a batch in the loss, `[M, B]`, from 0 to 1: the further
    /// a unimodal label is from the multimodal one, the more it counts.
    ///
    /// ```text
    /// W_sb = tanh |y_sb − y_mb|
    /// ```
    ///
    /// # Errors
    ///
    /// [`LabelError::IndexOutOfRange`].
    pub fn loss_weights(&self, indices: &[usize]) -> Result<Array2<A>, LabelError> {
        let mut weights = Array2::zeros((0, 0));
        self.loss_weights_into(indices, &mut weights)?;
        Ok(weights)
    }

    /// As [`loss_weights`](Self::loss_weights), into an array that takes the shape of the result in
    /// the memory it has.
    ///
    /// # Errors
    ///
    /// [`LabelError::IndexOutOfRange`].
    pub fn loss_weights_into(
        &self,
        indices: &[usize],
        weights: &mut Array2<A>,
    ) -> Result<(), LabelError> {
        self.check_indices(indices)?;
        resize(weights, (self.modalities(), indices.len()));
        for ((modality, row), weight) in weights.indexed_iter_mut() {
            let index = indices[row];
            let shift = self.labels[[modality + 1, index]] - self.labels[[0, index]];
            *weight = shift.abs().tanh();
        }
        Ok(())
    }

    pub(crate) fn check_indices(&self, indices: &[usize]) -> Result<(), LabelError> {
        let samples = self.samples();
        match indices.iter().find(|&&index| index >= samples) {
            Some(&index) => Err(LabelError::IndexOutOfRange { index, samples }),
            None => Ok(()),
        }
    }

    /// Adds the state to a store, under names that begin with `prefix.`.
    ///
    /// | name | shape | type |
    /// | --- | --- | --- |
    /// | `labels` | `[M+1, N]` | `A` |
    /// | `<space>.features` | `[N, D]` | `A` |
    /// | `<space>.membership` | `[N]`, 1 positive, −1 negative, 0 neither | `i64` |
    /// | `<space>.sums`, `<space>.sum_errors`, `<space>.centres` | `[2, D]` | `f64` |
    pub fn insert_into(&self, store: &mut Store, prefix: &str) {
        store.insert(format!("{prefix}.labels"), &self.labels);
        for (number, space) in self.spaces.iter().enumerate() {
            let name = |array| format!("{prefix}.{number}.{array}");
            let membership = space.membership.mapv(|member| match member {
                Some(Class::Positive) => 1_i64,
                Some(Class::Negative) => -1,
                None => 0,
            });
            store.insert(name("features"), &space.features);
            store.insert(name("membership"), &membership);
            store.insert(name("sums"), &space.sums);
            store.insert(name("sum_errors"), &space.sum_errors);
            store.insert(name("centres"), &space.centres);
        }
    }

    /// Replaces this state with one that [`insert_into`](Self::insert_into) has saved, so that
    /// updates go on as if never interrupted, bit for bit. This state says what is expected: make it
    /// with the same multimodal labels and widths. On an error it is as it was.
    ///
    /// # Errors
    ///
    /// [`LabelError::Store`] if an array is missing or of another type, [`LabelError::Shape`], or
    /// [`LabelError::OtherLabels`] if the stored multimodal labels are not those of this state.
    pub fn read_from(&mut self, store: &Store, prefix: &str) -> Result<(), LabelError> {
        let labels = read(store, format!("{prefix}.labels"), "labels", &self.labels)?;
        let own = self.labels.row(0);
        if let Some(index) = (0..own.len()).find(|&index| labels[[0, index]] != own[index]) {
            return Err(LabelError::OtherLabels {
                index,
                expected: own[index].as_f64(),
                found: labels[[0, index]].as_f64(),
            });
        }
        let mut spaces = Vec::with_capacity(self.spaces.len());
        for (number, like) in self.spaces.iter().enumerate() {
            let name = |array| format!("{prefix}.{number}.{array}");
            let codes = Array1::<i64>::zeros(self.samples());
            let codes = read(store, name("membership"), "membership", &codes)?;
            let membership = codes.mapv(|code| match code.signum() {
                1 => Some(Class::Positive),
                -1 => Some(Class::Negative),
                _ => None,
            });
            let size = |class| {
                membership
                    .iter()
                    .filter(|&&member| member == Some(class))
                    .count()
            };
            spaces.push(Space {
                features: read(store, name("features"), "features", &like.features)?,
                counts: Class::BOTH
                    .map(|class| size(class) as u64)
                    .into_iter()
                    .collect(),
                membership,
                sums: read(store, name("sums"), "sums", &like.sums)?,
                sum_errors: read(store, name("sum_errors"), "sum_errors", &like.sum_errors)?,
                centres: read(store, name("centres"), "centres", &like.centres)?,
            });
        }
        self.labels = labels;
        self.spaces = spaces;
        Ok(())
    }
}

/// One array of the shape of `like`.
fn read<T: Element, D: Dimension>(
    store: &Store,
    name: String,
    operand: &'static str,
    like: &Array<T, D>,
) -> Result<Array<T, D>, LabelError> {
    let array = store.array::<T>(&name)?;
    check_shape("stored label state", operand, array.shape(), like.shape())?;
    let array = array.into_dimensionality();
    Ok(array.expect("equal shapes have one number of axes"))
}
