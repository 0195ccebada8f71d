//! Adam, with weight decay coupled (Adam) or decoupled (AdamW).
//!
//! ```text
//! coupled:    g ← g + λ θ
//! decoupled:  θ ← θ (1 − η λ)
//!
//! m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
//! θ ← θ − η/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
//! ```
//!
//! With AMSGrad the largest `v` so far takes the place of `v` in the last line.

use modalign_core::{Parameters, Path, Scalar, Store, StoreError};
use modalign_linalg::vectorized;
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Ix0, arr0};
use serde::{Deserialize, Serialize};

use crate::NnError;
use crate::error::check_config;

/// How weight decay acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightDecay {
    /// Added to the gradient, so that it passes through the moments: Adam with an L2 penalty.
    Coupled,
    /// Taken from the weights directly: AdamW.
    #[default]
    Decoupled,
}

/// The hyper-parameters that all groups share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Decay of the first moment, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the second moment, above 0. Default 1e-8.
    pub epsilon: f64,
    /// How weight decay acts. Default decoupled.
    pub weight_decay_mode: WeightDecay,
    /// Divide by the largest second moment so far. Default off.
    pub amsgrad: bool,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay_mode: WeightDecay::default(),
            amsgrad: false,
        }
    }
}

impl OptimizerConfig {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] naming the value that is out of its range.
    pub fn validate(&self) -> Result<(), NnError> {
        let check = |holds, parameter, expected, found| {
            check_config(holds, "optimizer", parameter, expected, found)
        };
        check(
            (0.0..1.0).contains(&self.beta1),
            "beta1",
            "in [0, 1)",
            self.beta1,
        )?;
        check(
            (0.0..1.0).contains(&self.beta2),
            "beta2",
            "in [0, 1)",
            self.beta2,
        )?;
        let holds = self.epsilon > 0.0 && self.epsilon.is_finite();
        check(holds, "epsilon", "above 0", self.epsilon)
    }
}

/// What the parameters of one group share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// The learning rate η, 0 or above.
    pub learning_rate: f64,
    /// The weight decay λ, 0 or above.
    pub weight_decay: f64,
}

impl ParameterGroup {
    /// Checks both values.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] naming the value that is out of its range.
    pub fn validate(&self) -> Result<(), NnError> {
        for (parameter, value) in [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
        ] {
            let holds = value >= 0.0 && value.is_finite();
            check_config(holds, "parameter group", parameter, "0 or above", value)?;
        }
        Ok(())
    }
}

/// Adam or AdamW over every array of a parameter set, with groups of their own learning rate and
/// weight decay.
///
/// ```
/// use modalign_core::Parameters;
/// use modalign_nn::{Linear, Optimizer, OptimizerConfig, ParameterGroup};
/// use ndarray::array;
///
/// let mut layer = Linear { weight: array![[1.0]], bias: array![1.0] };
/// let grads = Linear { weight: array![[3.0]], bias: array![-3.0] };
/// let groups = vec![
///     ParameterGroup { learning_rate: 0.1, weight_decay: 0.0 },
///     ParameterGroup { learning_rate: 0.01, weight_decay: 0.0 },
/// ];
/// let mut optimizer = Optimizer::new(&OptimizerConfig::default(), &layer, groups, |name| {
///     usize::from(name == "bias")
/// })?;
/// optimizer.step(&mut layer, &grads, 1.0)?;
/// // The first step has the length of the learning rate, whatever the gradient.
/// assert!((layer.weight[[0, 0]] - 0.9_f64).abs() < 1e-8);
/// assert!((layer.bias[0] - 1.01_f64).abs() < 1e-8);
/// # Ok::<(), modalign_nn::NnError>(())
/// ```
///
/// # References
///
/// D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", 2014, arXiv 1412.6980.
/// I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", 2017, arXiv 1711.05101.
/// S. J. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", 2018.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer<A> {
    config: OptimizerConfig,
    groups: Vec<ParameterGroup>,
    /// The group of every parameter, in the order of the visit.
    assignment: Vec<usize>,
    steps: u64,
    first: Moments<A>,
    second: Moments<A>,
    largest: Option<Moments<A>>,
}

impl<A: Scalar> Optimizer<A> {
    /// An optimiser for parameters of this structure, before its first step. `group_of` gives the
    /// index of each parameter's group from its dotted name.
    ///
    /// # Errors
    ///
    /// [`NnError::Config`] for a value out of its range, [`NnError::Group`] for an index that
    /// `groups` does not have.
    pub fn new<P: Parameters<A>>(
        config: &OptimizerConfig,
        params: &P,
        groups: Vec<ParameterGroup>,
        mut group_of: impl FnMut(&str) -> usize,
    ) -> Result<Self, NnError> {
        config.validate()?;
        for group in &groups {
            group.validate()?;
        }
        let first = Moments::new(params);
        let mut assignment = Vec::with_capacity(first.0.len());
        for (parameter, _) in &first.0 {
            let group = group_of(parameter);
            if group >= groups.len() {
                return Err(NnError::Group {
                    parameter: parameter.clone(),
                    group,
                    groups: groups.len(),
                });
            }
            assignment.push(group);
        }
        Ok(Self {
            config: config.clone(),
            groups,
            assignment,
            steps: 0,
            second: first.clone(),
            largest: config.amsgrad.then(|| first.clone()),
            first,
        })
    }

    /// The number of steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes one step in place. `learning_rate_factor`, 1 without a schedule, multiplies the
    /// learning rate of every group.
    ///
    /// # Errors
    ///
    /// [`NnError::Parameter`] if the names or shapes are not those the optimiser was made for;
    /// everything is then as it was.
    pub fn step<P: Parameters<A>>(
        &mut self,
        params: &mut P,
        grads: &P,
        learning_rate_factor: f64,
    ) -> Result<(), NnError> {
        self.first.check(params)?;
        self.first.check(grads)?;
        self.begin_step(learning_rate_factor).apply(params, grads)
    }

    /// A step for parameters in several parts, which may be worked on side by side.
    ///
    /// ```
    /// use modalign_nn::{Linear, Optimizer, OptimizerConfig, ParameterGroup};
    /// use ndarray::array;
    ///
    /// let mut layers = [1.0, 2.0].map(|x| Linear { weight: array![[x]], bias: array![x] });
    /// let grads = layers.clone();
    /// let group = ParameterGroup { learning_rate: 0.1, weight_decay: 0.0 };
    /// let config = OptimizerConfig::default();
    /// let mut optimizer = Optimizer::new(&config, &layers[0], vec![group], |_| 0)?;
    /// let (mut weights, mut biases) = optimizer.begin_step(1.0).split_at(1);
    /// weights.apply(&mut layers[0].weight, &grads[0].weight)?;
    /// biases.apply(&mut layers[0].bias, &grads[0].bias)?;
    /// assert!((layers[0].weight[[0, 0]] - 0.9_f64).abs() < 1e-8);
    /// assert!((layers[0].bias[0] - 0.9_f64).abs() < 1e-8);
    /// # Ok::<(), modalign_nn::NnError>(())
    /// ```
    pub fn begin_step(&mut self, learning_rate_factor: f64) -> OptimizerStep<'_, A> {
        self.steps += 1;
        OptimizerStep {
            config: &self.config,
            groups: &self.groups,
            learning_rate_factor,
            steps: self.steps,
            assignment: &self.assignment,
            first: &mut self.first.0,
            second: &mut self.second.0,
            largest: self.largest.as_mut().map(|largest| &mut largest.0[..]),
        }
    }

    /// Adds the whole state to a store, under `prefix.`.
    pub fn save(&self, store: &mut Store, prefix: &str) {
        store.insert(format!("{prefix}.steps"), &arr0(self.steps));
        store.insert_parameters(&format!("{prefix}.first"), &self.first);
        store.insert_parameters(&format!("{prefix}.second"), &self.second);
        if let Some(largest) = &self.largest {
            store.insert_parameters(&format!("{prefix}.largest"), largest);
        }
    }

    /// Takes the whole state from what [`save`](Self::save) wrote. Steps that follow are bit for
    /// bit those of the optimiser that was saved.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if anything is missing or does not fit; the optimiser is then as it was.
    pub fn load(&mut self, store: &Store, prefix: &str) -> Result<(), StoreError> {
        let name = format!("{prefix}.steps");
        let steps = store.array::<u64>(&name)?;
        let found = steps.shape().to_vec();
        let steps = steps
            .into_dimensionality::<Ix0>()
            .map_err(|_| StoreError::Shape {
                path: Default::default(),
                name,
                expected: Vec::new(),
                found,
            })?;
        let mut loaded = self.clone();
        loaded.steps = steps.into_scalar();
        store.read_parameters(&format!("{prefix}.first"), &mut loaded.first)?;
        store.read_parameters(&format!("{prefix}.second"), &mut loaded.second)?;
        if let Some(largest) = &mut loaded.largest {
            store.read_parameters(&format!("{prefix}.largest"), largest)?;
        }
        *self = loaded;
        Ok(())
    }
}

/// A step under way, for parameters that it has not been applied to.
#[derive(Debug)]
pub struct OptimizerStep<'a, A> {
    config: &'a OptimizerConfig,
    groups: &'a [ParameterGroup],
    learning_rate_factor: f64,
    steps: u64,
    assignment: &'a [usize],
    first: &'a mut [(String, ArrayD<A>)],
    second: &'a mut [(String, ArrayD<A>)],
    largest: Option<&'a mut [(String, ArrayD<A>)]>,
}

impl<A: Scalar> OptimizerStep<'_, A> {
    /// The step for the first arrays in the order of the visit, at most so many, and that for the
    /// others.
    pub fn split_at(self, arrays: usize) -> (Self, Self) {
        let arrays = arrays.min(self.first.len());
        let (config, groups) = (self.config, self.groups);
        let assignment = self.assignment.split_at(arrays);
        let first = self.first.split_at_mut(arrays);
        let second = self.second.split_at_mut(arrays);
        let (largest, other_largest) = match self.largest {
            Some(largest) => {
                let (largest, others) = largest.split_at_mut(arrays);
                (Some(largest), Some(others))
            }
            None => (None, None),
        };
        let step = |assignment, first, second, largest| Self {
            config,
            groups,
            learning_rate_factor: self.learning_rate_factor,
            steps: self.steps,
            assignment,
            first,
            second,
            largest,
        };
        (
            step(assignment.0, first.0, second.0, largest),
            step(assignment.1, first.1, second.1, other_largest),
        )
    }

    /// Applies the step to the next arrays.
    ///
    /// # Errors
    ///
    /// [`NnError::Parameter`] if a name or shape is not that of the next array the optimiser was made
    /// for, whose name may have more in front of it. The arrays before have then taken the step.
    pub fn apply<P: Parameters<A>>(&mut self, params: &mut P, grads: &P) -> Result<(), NnError> {
        let mut outcome = Ok(());
        params.zip_mut(grads, &mut Path::default(), &mut |name, param, grad| {
            if outcome.is_ok() {
                outcome = self.apply_to(name, param, grad);
            }
        });
        outcome
    }

    fn apply_to(
        &mut self,
        name: &str,
        mut param: ArrayViewMutD<'_, A>,
        grad: ArrayViewD<'_, A>,
    ) -> Result<(), NnError> {
        let next = self.first.first();
        let fits = |(known, array): &(String, ArrayD<A>)| {
            let shape = array.shape();
            known.ends_with(name) && shape == param.shape() && shape == grad.shape()
        };
        if !next.is_some_and(fits) {
            return Err(NnError::Parameter {
                expected: next.map(|(known, array)| (known.clone(), array.shape().to_vec())),
                found: Some((name.to_owned(), param.shape().to_vec())),
            });
        }
        let (Some((&group, assignment)), Some(first), Some(second)) = (
            self.assignment.split_first(),
            self.first.split_off_first_mut(),
            self.second.split_off_first_mut(),
        ) else {
            unreachable!("there are as many moments and groups as parameters");
        };
        self.assignment = assignment;
        let largest = self.largest.as_mut();
        let moments = Entries {
            first: entries(&mut first.1),
            second: entries(&mut second.1),
            largest: largest
                .and_then(|largest| largest.split_off_first_mut())
                .map(|largest| entries(&mut largest.1)),
        };
        let group = self.groups[group];
        let rule = Rule::new(self.config, group, self.learning_rate_factor, self.steps);
        match (param.as_slice_mut(), grad.as_slice()) {
            (Some(param), Some(grad)) => rule.update_parts(param, grad, moments),
            _ => rule.update(param.iter_mut(), grad.iter(), moments),
        }
        Ok(())
    }
}

/// Entries of a parameter that pay for a second thread.
const WORTH_THREADS: usize = 1 << 17;

/// The moments of some entries of a parameter.
struct Entries<'a, A> {
    first: &'a mut [A],
    second: &'a mut [A],
    largest: Option<&'a mut [A]>,
}

impl<A> Entries<'_, A> {
    fn split_at(self, middle: usize) -> (Self, Self) {
        let (first, second) = (
            self.first.split_at_mut(middle),
            self.second.split_at_mut(middle),
        );
        let (left, right) = match self.largest.map(|largest| largest.split_at_mut(middle)) {
            Some((left, right)) => (Some(left), Some(right)),
            None => (None, None),
        };
        let part = |first, second, largest| Self {
            first,
            second,
            largest,
        };
        (
            part(first.0, second.0, left),
            part(first.1, second.1, right),
        )
    }
}

fn entries<A>(moment: &mut ArrayD<A>) -> &mut [A] {
    match moment.as_slice_mut() {
        Some(entries) => entries,
        None => unreachable!("moments are made in standard layout and never replaced"),
    }
}

/// The update of one group in one step.
struct Rule<A> {
    penalty: A,
    shrink: A,
    fresh1: A,
    beta2: A,
    fresh2: A,
    rate: A,
    inverse_root: A,
    epsilon: A,
    tiny: A,
}

impl<A: Scalar> Rule<A> {
    fn new(
        config: &OptimizerConfig,
        group: ParameterGroup,
        learning_rate_factor: f64,
        steps: u64,
    ) -> Self {
        let rate = group.learning_rate * learning_rate_factor;
        let (penalty, shrink) = match config.weight_decay_mode {
            WeightDecay::Coupled => (group.weight_decay, 1.0),
            WeightDecay::Decoupled => (0.0, 1.0 - rate * group.weight_decay),
        };
        let first_correction = 1.0 - config.beta1.powf(steps as f64);
        let second_correction = 1.0 - config.beta2.powf(steps as f64);
        Self {
            penalty: A::from_f64(penalty),
            shrink: A::from_f64(shrink),
            fresh1: A::from_f64(1.0 - config.beta1),
            beta2: A::from_f64(config.beta2),
            fresh2: A::from_f64(1.0 - config.beta2),
            rate: A::from_f64(rate / first_correction),
            inverse_root: A::from_f64(second_correction.sqrt().recip()),
            epsilon: A::from_f64(config.epsilon),
            tiny: A::min_positive_value(),
        }
    }

    /// Entries that lie in order, in halves on two threads where there are many.
    fn update_parts(&self, param: &mut [A], grad: &[A], moments: Entries<'_, A>) {
        if param.len() < WORTH_THREADS {
            vectorized(
                #[inline(always)]
                || self.update(param.iter_mut(), grad.iter(), moments),
            );
            return;
        }
        let half = param.len() / 2;
        let (param, grad) = (param.split_at_mut(half), grad.split_at(half));
        let moments = moments.split_at(half);
        rayon::join(
            || self.update_parts(param.0, grad.0, moments.0),
            || self.update_parts(param.1, grad.1, moments.1),
        );
    }

    /// One pass over all arrays. The moments are in the order of the two iterators.
    #[inline(always)]
    fn update<'a>(
        &self,
        param: impl Iterator<Item = &'a mut A>,
        grad: impl Iterator<Item = &'a A>,
        moments: Entries<'_, A>,
    ) {
        let Entries {
            first,
            second,
            largest,
        } = moments;
        let pairs = param.zip(grad).zip(first).zip(second);
        match largest {
            None => {
                for (((p, &g), m), v) in pairs {
                    self.accumulate(*p, g, m, v);
                    self.descend(p, *m, *v);
                }
            }
            Some(largest) => {
                for ((((p, &g), m), v), largest) in pairs.zip(largest) {
                    self.accumulate(*p, g, m, v);
                    *largest = if *v > *largest { *v } else { *largest };
                    self.descend(p, *m, *largest);
                }
            }
        }
    }

    #[inline(always)]
    fn accumulate(&self, p: A, g: A, m: &mut A, v: &mut A) {
        let g = g + self.penalty * p;
        let moment = *m + self.fresh1 * (g - *m);
        // Where there is no gradient any more, the moment would end as a number of less than full
        // precision, which processors take a hundred times as long for.
        *m = if moment.abs() < self.tiny {
            A::zero()
        } else {
            moment
        };
        *v = self.beta2 * *v + self.fresh2 * g * g;
    }

    #[inline(always)]
    fn descend(&self, p: &mut A, m: A, v: A) {
        *p = *p * self.shrink - self.rate * m / (v.sqrt() * self.inverse_root + self.epsilon);
    }
}

/// One array a parameter, with the parameter's name and shape, in the order of the visit.
#[derive(Debug, Clone, PartialEq)]
struct Moments<A>(Vec<(String, ArrayD<A>)>);

impl<A: Scalar> Moments<A> {
    fn new(params: &impl Parameters<A>) -> Self {
        let mut moments = Vec::new();
        params.visit(&mut Path::default(), &mut |name, view| {
            moments.push((name.to_owned(), ArrayD::zeros(view.shape())));
        });
        Self(moments)
    }

    /// Compares names and shapes.
    fn check(&self, params: &impl Parameters<A>) -> Result<(), NnError> {
        let mut expected = self.0.iter();
        let mut outcome = Ok(());
        let describe = |name: &str, shape: &[usize]| Some((name.to_owned(), shape.to_vec()));
        params.visit(&mut Path::default(), &mut |name, view| {
            if outcome.is_err() {
                return;
            }
            let next = expected.next();
            if !next.is_some_and(|(known, array)| known == name && array.shape() == view.shape()) {
                outcome = Err(NnError::Parameter {
                    expected: next.and_then(|(name, array)| describe(name, array.shape())),
                    found: describe(name, view.shape()),
                });
            }
        });
        outcome?;
        match expected.next() {
            None => Ok(()),
            Some((name, array)) => Err(NnError::Parameter {
                expected: describe(name, array.shape()),
                found: None,
            }),
        }
    }
}

impl<A: Scalar> Parameters<A> for Moments<A> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&str, ArrayViewD<'a, A>)) {
        for (name, array) in &self.0 {
            path.within(name, |path| array.visit(path, visitor));
        }
    }

    fn visit_mut<'a>(
        &'a mut self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>),
    ) {
        for (name, array) in &mut self.0 {
            path.within(name, |path| array.visit_mut(path, visitor));
        }
    }

    fn zip_mut<'a>(
        &'a mut self,
        other: &'a Self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>, ArrayViewD<'a, A>),
    ) {
        for ((name, array), (_, other)) in self.0.iter_mut().zip(&other.0) {
            path.within(name, |path| array.zip_mut(other, path, visitor));
        }
    }

    fn zeros_like(&self) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, array)| (name.clone(), array.zeros_like()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Linear;
    use crate::testing::{random, rng};
    use approx::assert_relative_eq;
    use ndarray::{Array1, Array2, array};
    use proptest::prelude::*;

    /// The update as the formula states it, one scalar at a time.
    fn naive(
        config: &OptimizerConfig,
        group: ParameterGroup,
        start: f64,
        grads: &[f64],
        factors: &[f64],
    ) -> f64 {
        let (mut p, mut m, mut v, mut largest) = (start, 0.0, 0.0, 0.0_f64);
        for (index, (&g, &factor)) in grads.iter().zip(factors).enumerate() {
            let rate = group.learning_rate * factor;
            let mut g = g;
            match config.weight_decay_mode {
                WeightDecay::Coupled => g += group.weight_decay * p,
                WeightDecay::Decoupled => p -= rate * group.weight_decay * p,
            }
            m = config.beta1 * m + (1.0 - config.beta1) * g;
            v = config.beta2 * v + (1.0 - config.beta2) * g * g;
            largest = largest.max(v);
            let t = index as i32 + 1;
            let m_hat = m / (1.0 - config.beta1.powi(t));
            let v_hat = if config.amsgrad { largest } else { v } / (1.0 - config.beta2.powi(t));
            p -= rate * m_hat / (v_hat.sqrt() + config.epsilon);
        }
        p
    }

    fn config(beta1: f64, beta2: f64, coupled: bool, amsgrad: bool) -> OptimizerConfig {
        OptimizerConfig {
            beta1,
            beta2,
            epsilon: 1e-6,
            weight_decay_mode: if coupled {
                WeightDecay::Coupled
            } else {
                WeightDecay::Decoupled
            },
            amsgrad,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn steps_follow_the_formula_in_any_layout(
            betas in (0.0..0.99, 0.0..0.999),
            rates in (1e-4..0.1, 0.0..0.5),
            modes: (bool, bool),
            size in (1_usize..5, 1_usize..20),
            seed: u64,
        ) {
            let config = config(betas.0, betas.1, modes.0, modes.1);
            let group = ParameterGroup { learning_rate: rates.0, weight_decay: rates.1 };
            let mut rng = rng(seed);
            let start: Array2<f64> = random(size, &mut rng);
            let grads: Vec<Array2<f64>> = (0..4).map(|_| random(size, &mut rng)).collect();
            let factors = [0.5, 1.0, 1.0, 0.25];
            let mut params = start.clone();
            let mut strided = start.t().as_standard_layout().into_owned().reversed_axes();
            let mut optimizer = Optimizer::new(&config, &params, vec![group], |_| 0).unwrap();
            let mut other = optimizer.clone();
            for (grad, factor) in grads.iter().zip(factors) {
                optimizer.step(&mut params, grad, factor).unwrap();
                other.step(&mut strided, grad, factor).unwrap();
            }
            prop_assert_eq!(optimizer.steps(), 4);
            prop_assert_eq!(&strided, &params);
            for (index, &start) in start.indexed_iter() {
                let grads: Vec<f64> = grads.iter().map(|grad| grad[index]).collect();
                let expected = naive(&config, group, start, &grads, &factors);
                assert_relative_eq!(params[index], expected, max_relative = 1e-9, epsilon = 1e-12);
            }
        }
    }

    #[test]
    fn a_saved_state_goes_on_bit_for_bit() {
        for amsgrad in [false, true] {
            let config = config(0.9, 0.99, true, amsgrad);
            let group = ParameterGroup {
                learning_rate: 0.01,
                weight_decay: 0.1,
            };
            let mut rng = rng(5);
            let mut layer = Linear::<f32>::new(3, 2, &mut rng).unwrap();
            let grads: Vec<_> = (0..6)
                .map(|_| Linear::<f32>::new(3, 2, &mut rng).unwrap())
                .collect();
            let mut optimizer = Optimizer::new(&config, &layer, vec![group], |_| 0).unwrap();
            let fresh = optimizer.clone();
            for grad in &grads[..3] {
                optimizer.step(&mut layer, grad, 1.0).unwrap();
            }
            let mut store = Store::default();
            optimizer.save(&mut store, "optimizer");
            assert!(store.names().any(|name| name == "optimizer.second.weight"));
            let mut resumed = (layer.clone(), fresh);
            resumed.1.load(&store, "optimizer").unwrap();
            assert_eq!(resumed.1, optimizer);
            for grad in &grads[3..] {
                optimizer.step(&mut layer, grad, 1.0).unwrap();
                resumed.1.step(&mut resumed.0, grad, 1.0).unwrap();
            }
            assert_eq!(resumed, (layer, optimizer));
        }
    }

    #[test]
    fn a_state_that_does_not_fit_changes_nothing() {
        let group = ParameterGroup {
            learning_rate: 0.01,
            weight_decay: 0.1,
        };
        let config = OptimizerConfig::default();
        let make = |size| {
            let layer = Linear::<f32>::new(size, 2, &mut rng(1)).unwrap();
            Optimizer::new(&config, &layer, vec![group], |_| 0).unwrap()
        };
        let mut store = Store::default();
        make(3).save(&mut store, "optimizer");
        let mut optimizer = make(4);
        let before = optimizer.clone();
        assert!(matches!(
            optimizer.load(&store, "optimizer"),
            Err(StoreError::Shape { name, .. }) if name == "optimizer.first.weight"
        ));
        assert!(matches!(
            optimizer.load(&store, "other"),
            Err(StoreError::Missing { .. })
        ));
        store.insert("optimizer.steps", &array![1_u64, 2]);
        assert!(matches!(
            make(3).load(&store, "optimizer"),
            Err(StoreError::Shape { name, .. }) if name == "optimizer.steps"
        ));
        assert_eq!(optimizer, before);
    }

    #[test]
    fn other_parameters_are_refused_before_anything_changes() {
        let group = ParameterGroup {
            learning_rate: 0.01,
            weight_decay: 0.0,
        };
        let config = OptimizerConfig::default();
        let mut params = vec![array![1.0, 2.0], array![3.0]];
        let mut optimizer = Optimizer::new(&config, &params, vec![group], |_| 0).unwrap();
        let before = (optimizer.clone(), params.clone());
        let longer = vec![array![1.0, 2.0], array![3.0], array![4.0]];
        let wider = vec![array![1.0, 2.0], array![3.0, 4.0]];
        let entry = |name: &str, size| Some((name.to_owned(), vec![size]));
        assert_eq!(
            optimizer.step(&mut params, &longer, 1.0),
            Err(NnError::Parameter {
                expected: None,
                found: entry("2", 1)
            })
        );
        assert_eq!(
            optimizer.step(&mut params, &wider, 1.0),
            Err(NnError::Parameter {
                expected: entry("1", 1),
                found: entry("1", 2)
            })
        );
        assert_eq!(
            optimizer.step(&mut params, &vec![array![1.0, 2.0]], 1.0),
            Err(NnError::Parameter {
                expected: entry("1", 1),
                found: None
            })
        );
        assert_eq!((optimizer, params), before);
        assert_eq!(
            Optimizer::new(&config, &wider, vec![group], |name| usize::from(
                name == "1"
            )),
            Err(NnError::Group {
                parameter: "1".to_owned(),
                group: 1,
                groups: 1
            })
        );
    }

    #[test]
    fn an_undefined_gradient_is_not_hidden_by_amsgrad() {
        let group = ParameterGroup {
            learning_rate: 0.01,
            weight_decay: 0.0,
        };
        let config = config(0.9, 0.999, true, true);
        let mut params = Array1::<f32>::ones(1);
        let mut optimizer = Optimizer::new(&config, &params, vec![group], |_| 0).unwrap();
        optimizer.step(&mut params, &array![f32::NAN], 1.0).unwrap();
        assert!(params[0].is_nan());
    }

    #[test]
    fn config_contract() {
        let default = OptimizerConfig::default();
        default.validate().unwrap();
        let json = serde_json::to_string(&default).unwrap();
        assert_eq!(
            serde_json::from_str::<OptimizerConfig>(&json).unwrap(),
            default
        );
        assert!(serde_json::from_str::<OptimizerConfig>(r#"{"beta": 0.9}"#).is_err());
        let refused: [(&str, fn(&mut OptimizerConfig)); 3] = [
            ("beta1", |config| config.beta1 = 1.0),
            ("beta2", |config| config.beta2 = -0.1),
            ("epsilon", |config| config.epsilon = 0.0),
        ];
        for (name, change) in refused {
            let mut config = OptimizerConfig::default();
            change(&mut config);
            let error = Optimizer::new(&config, &array![1.0], Vec::new(), |_| 0).unwrap_err();
            assert!(matches!(error, NnError::Config { parameter, .. } if parameter == name));
        }
        for (name, group) in [
            (
                "learning_rate",
                ParameterGroup {
                    learning_rate: -1.0,
                    weight_decay: 0.0,
                },
            ),
            (
                "weight_decay",
                ParameterGroup {
                    learning_rate: 1.0,
                    weight_decay: f64::NAN,
                },
            ),
        ] {
            let error = Optimizer::new(&default, &array![1.0], vec![group], |_| 0).unwrap_err();
            assert!(matches!(error, NnError::Config { parameter, .. } if parameter == name));
        }
    }
}
