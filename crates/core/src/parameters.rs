//! Named views of trainable arrays.

use std::cell::Cell;
use std::fmt::{Display, Write};

use ndarray::{Array, ArrayViewD, ArrayViewMutD, Dimension};

use crate::Scalar;

/// The dotted name under construction during a visit, such as `audio.lstm.weight_ih_l0`.
///
/// All visits of a thread share one buffer, so visiting allocates nothing once it is long enough.
#[derive(Debug, Clone)]
pub struct Path(String);

thread_local! {
    static BUFFER: Cell<String> = const { Cell::new(String::new()) };
}

impl Default for Path {
    fn default() -> Self {
        Self(BUFFER.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.0.clear();
        let buffer = std::mem::take(&mut self.0);
        // A thread that ends may have given up its buffer already.
        let _ = BUFFER.try_with(|shared| shared.set(buffer));
    }
}

impl Path {
    /// The name so far.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Runs `inner` with `segment` appended, then takes it off again.
    pub fn within<R>(&mut self, segment: impl Display, inner: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.0.len();
        if length > 0 {
            self.0.push('.');
        }
        write!(self.0, "{segment}").expect("a string takes whatever is written to it");
        let result = inner(self);
        self.0.truncate(length);
        result
    }
}

/// A set of trainable arrays that can be walked by name, in declaration order.
///
/// Gradients and optimiser moments have the type of the parameters they belong to, so that all of
/// them walk in the same order. Optimisers, storage, norm clipping, counting and gradient checks
/// are written on these visits alone. Implement it with
/// [`impl_parameters!`](crate::impl_parameters).
///
/// ```
/// use modalign_core::{Parameters, Scalar, impl_parameters};
/// use ndarray::{Array1, Array2, array};
///
/// #[derive(Clone)]
/// struct LinearParams<A> {
///     weight: Array2<A>,
///     bias: Array1<A>,
/// }
/// impl_parameters!(LinearParams { weight, bias });
///
/// let params = LinearParams { weight: array![[1.0, 2.0]], bias: array![3.0] };
/// let names: Vec<_> = params.named_views().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["weight", "bias"]);
/// assert_eq!(params.parameter_count(), 3);
/// assert_eq!(params.zeros_like().bias, array![0.0]);
/// ```
pub trait Parameters<A: Scalar>: Clone {
    /// Calls `visitor` with the name and a view of every array, in declaration order.
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&str, ArrayViewD<'a, A>));

    /// As [`visit`](Self::visit), with mutable views.
    fn visit_mut<'a>(
        &'a mut self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>),
    );

    /// Walks two sets of one structure in step: this one mutably, `other` by reference.
    ///
    /// The structures must agree (as parameters and their gradients do); arrays that only one of
    /// them has are passed over.
    fn zip_mut<'a>(
        &'a mut self,
        other: &'a Self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>, ArrayViewD<'a, A>),
    );

    /// The same structure filled with zeros: a gradient, or an optimiser's moment.
    fn zeros_like(&self) -> Self;

    /// Every array with its dotted name.
    fn named_views(&self) -> Vec<(String, ArrayViewD<'_, A>)> {
        let mut views = Vec::new();
        self.visit(&mut Path::default(), &mut |name, view| {
            views.push((name.to_owned(), view))
        });
        views
    }

    /// Every array with its dotted name, mutably.
    fn named_views_mut(&mut self) -> Vec<(String, ArrayViewMutD<'_, A>)> {
        let mut views = Vec::new();
        self.visit_mut(&mut Path::default(), &mut |name, view| {
            views.push((name.to_owned(), view))
        });
        views
    }

    /// The number of scalars.
    fn parameter_count(&self) -> usize {
        let mut count = 0;
        self.visit(&mut Path::default(), &mut |_, view| count += view.len());
        count
    }

    /// Sets every scalar to zero, keeping the allocation.
    fn set_zero(&mut self) {
        self.visit_mut(&mut Path::default(), &mut |_, mut view| {
            view.fill(A::zero())
        });
    }

    /// Adds `other`, array by array.
    fn add_assign(&mut self, other: &Self) {
        self.zip_mut(other, &mut Path::default(), &mut |_, mut left, right| {
            left += &right
        });
    }
}

impl<A: Scalar, D: Dimension> Parameters<A> for Array<A, D> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&str, ArrayViewD<'a, A>)) {
        visitor(path.as_str(), self.view().into_dyn());
    }

    fn visit_mut<'a>(
        &'a mut self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>),
    ) {
        visitor(path.as_str(), self.view_mut().into_dyn());
    }

    fn zip_mut<'a>(
        &'a mut self,
        other: &'a Self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>, ArrayViewD<'a, A>),
    ) {
        visitor(
            path.as_str(),
            self.view_mut().into_dyn(),
            other.view().into_dyn(),
        );
    }

    fn zeros_like(&self) -> Self {
        Array::zeros(self.raw_dim())
    }
}

impl<A: Scalar, P: Parameters<A>> Parameters<A> for Option<P> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&str, ArrayViewD<'a, A>)) {
        if let Some(inner) = self {
            inner.visit(path, visitor);
        }
    }

    fn visit_mut<'a>(
        &'a mut self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>),
    ) {
        if let Some(inner) = self {
            inner.visit_mut(path, visitor);
        }
    }

    fn zip_mut<'a>(
        &'a mut self,
        other: &'a Self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>, ArrayViewD<'a, A>),
    ) {
        if let (Some(inner), Some(other)) = (self, other) {
            inner.zip_mut(other, path, visitor);
        }
    }

    fn zeros_like(&self) -> Self {
        self.as_ref().map(P::zeros_like)
    }
}

impl<A: Scalar, P: Parameters<A>> Parameters<A> for Vec<P> {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&str, ArrayViewD<'a, A>)) {
        for (index, inner) in self.iter().enumerate() {
            path.within(index, |path| inner.visit(path, visitor));
        }
    }

    fn visit_mut<'a>(
        &'a mut self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>),
    ) {
        for (index, inner) in self.iter_mut().enumerate() {
            path.within(index, |path| inner.visit_mut(path, visitor));
        }
    }

    fn zip_mut<'a>(
        &'a mut self,
        other: &'a Self,
        path: &mut Path,
        visitor: &mut dyn FnMut(&str, ArrayViewMutD<'a, A>, ArrayViewD<'a, A>),
    ) {
        for (index, (inner, other)) in self.iter_mut().zip(other).enumerate() {
            path.within(index, |path| inner.zip_mut(other, path, visitor));
        }
    }

    fn zeros_like(&self) -> Self {
        self.iter().map(P::zeros_like).collect()
    }
}

/// Implements [`Parameters`](crate::Parameters) for a struct `Type<A>` from the list of its fields,
/// each of which implements it too (arrays, options, vectors and other parameter structs do).
///
/// Every field must be listed: a field that is left out does not compile.
#[macro_export]
macro_rules! impl_parameters {
    ($params:ident { $($field:ident),* $(,)? }) => {
        impl<A: $crate::Scalar> $crate::Parameters<A> for $params<A> {
            fn visit<'a>(
                &'a self,
                path: &mut $crate::Path,
                visitor: &mut dyn FnMut(&str, $crate::ndarray::ArrayViewD<'a, A>),
            ) {
                $(path.within(stringify!($field), |path| {
                    $crate::Parameters::visit(&self.$field, path, visitor)
                });)*
            }

            fn visit_mut<'a>(
                &'a mut self,
                path: &mut $crate::Path,
                visitor: &mut dyn FnMut(&str, $crate::ndarray::ArrayViewMutD<'a, A>),
            ) {
                $(path.within(stringify!($field), |path| {
                    $crate::Parameters::visit_mut(&mut self.$field, path, visitor)
                });)*
            }

            fn zip_mut<'a>(
                &'a mut self,
                other: &'a Self,
                path: &mut $crate::Path,
                visitor: &mut dyn FnMut(
                    &str,
                    $crate::ndarray::ArrayViewMutD<'a, A>,
                    $crate::ndarray::ArrayViewD<'a, A>,
                ),
            ) {
                $(path.within(stringify!($field), |path| {
                    $crate::Parameters::zip_mut(&mut self.$field, &other.$field, path, visitor)
                });)*
            }

            fn zeros_like(&self) -> Self {
                Self { $($field: $crate::Parameters::zeros_like(&self.$field)),* }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2, array};

    #[derive(Clone)]
    struct Linear<A> {
        weight: Array2<A>,
        bias: Array1<A>,
    }
    crate::impl_parameters!(Linear { weight, bias });

    #[derive(Clone)]
    struct Model<A> {
        layers: Vec<Linear<A>>,
        head: Option<Linear<A>>,
        absent: Option<Linear<A>>,
    }
    crate::impl_parameters!(Model {
        layers,
        head,
        absent
    });

    fn linear(value: f64) -> Linear<f64> {
        Linear {
            weight: array![[value, 2.0 * value]],
            bias: array![value],
        }
    }

    fn model() -> Model<f64> {
        Model {
            layers: vec![linear(1.0), linear(2.0)],
            head: Some(linear(3.0)),
            absent: None,
        }
    }

    #[test]
    fn every_visit_uses_the_same_unique_names_in_the_same_order() {
        let mut params = model();
        let grads = params.zeros_like();
        let expected = [
            "layers.0.weight",
            "layers.0.bias",
            "layers.1.weight",
            "layers.1.bias",
            "head.weight",
            "head.bias",
        ];
        let names = |views: Vec<(String, ArrayViewD<f64>)>| {
            views.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(params.named_views()), expected);
        assert_eq!(names(grads.named_views()), expected);
        let mutable: Vec<_> = params
            .named_views_mut()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(mutable, expected);
        let mut zipped = Vec::new();
        params.zip_mut(&grads, &mut Path::default(), &mut |name, left, right| {
            assert_eq!(left.shape(), right.shape());
            zipped.push(name.to_owned());
        });
        assert_eq!(zipped, expected);
    }

    #[test]
    fn adding_twice_doubles() {
        let params = model();
        let mut sum = params.zeros_like();
        sum.add_assign(&params);
        sum.add_assign(&params);
        for ((_, twice), (_, once)) in sum.named_views().into_iter().zip(params.named_views()) {
            assert_eq!(twice, once.mapv(|x| 2.0 * x));
        }
        sum.set_zero();
        assert_eq!(sum.layers[1].weight, array![[0.0, 0.0]]);
        assert_eq!(sum.parameter_count(), 9);
    }
}
