//! Values that live beside trainable arrays without being trained.

use std::marker::PhantomData;
use std::ops::Deref;

use modalign_core::{Parameters, Path, Scalar};
use ndarray::{ArrayViewD, ArrayViewMutD};

/// A value that belongs to a layer but is not trained, such as a dropout rate.
///
/// No visit sees it and [`zeros_like`](Parameters::zeros_like) copies it, so that a layer with
/// hyper-parameters can be its own parameter set.
///
/// ```
/// use modalign_core::{Parameters, impl_parameters};
/// use modalign_nn::Fixed;
/// use ndarray::{Array1, array};
///
/// #[derive(Clone)]
/// struct Scale<A> {
///     weight: Array1<A>,
///     limit: Fixed<A, f64>,
/// }
/// impl_parameters!(Scale { weight, limit });
///
/// let scale = Scale { weight: array![2.0_f32, 3.0], limit: Fixed::new(5.0) };
/// assert_eq!(scale.parameter_count(), 2);
/// assert_eq!(*scale.zeros_like().limit, 5.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed<A, T> {
    value: T,
    scalar: PhantomData<A>,
}

impl<A, T> Fixed<A, T> {
    /// Holds `value` in a layer of scalars `A`.
    pub fn new(value: T) -> Self {
        Self {
            value,
            scalar: PhantomData,
        }
    }
}

impl<A, T> Deref for Fixed<A, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<A: Scalar, T: Clone> Parameters<A> for Fixed<A, T> {
    fn visit<'a>(&'a self, _: &mut Path, _: &mut dyn FnMut(&str, ArrayViewD<'a, A>)) {}

    fn visit_mut<'a>(&'a mut self, _: &mut Path, _: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>)) {}

    fn zip_mut<'a>(
        &'a mut self,
        _: &'a Self,
        _: &mut Path,
        _: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>, ArrayViewD<'a, A>),
    ) {
    }

    fn zeros_like(&self) -> Self {
        self.clone()
    }
}
