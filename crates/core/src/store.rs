//! Safetensors files: named arrays and string metadata.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};

use ndarray::{ArrayBase, ArrayD, Data, Dimension, IxDyn};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{Element, Parameters, Path, Scalar, write_atomically};

/// Named arrays with metadata, as one safetensors file holds them.
///
/// ```
/// use modalign_core::Store;
/// use ndarray::array;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("weights.safetensors");
/// let mut store = Store::default();
/// store.insert("linear.weight", &array![[1.0_f32, 2.0]]);
/// store.metadata.insert("format".to_owned(), "1".to_owned());
/// store.save(&path)?;
///
/// let loaded = Store::load(&path)?;
/// assert_eq!(loaded.array::<f32>("linear.weight")?, array![[1.0, 2.0]].into_dyn());
/// assert_eq!(loaded.metadata["format"], "1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Store {
    /// Free strings saved with the arrays, such as the configuration as JSON.
    pub metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
    origin: PathBuf,
}

#[derive(Debug, Clone, PartialEq)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Why a stored file could not be written, read or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a well-formed safetensors file.
    #[error("{}: not a valid safetensors file: {}", path.display(), described(source))]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SafeTensorError,
    },
    /// An array that is needed is not in the file.
    #[error("{}: no array named {name}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The array's name.
        name: String,
    },
    /// The file has an array that nothing asked for.
    #[error("{}: unexpected array {name}", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The array's name.
        name: String,
    },
    /// An array has another shape than the one needed.
    #[error("{}: {name} has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The array's name.
        name: String,
        /// The shape needed.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// An array has another element type than the one needed.
    #[error("{}: {name} is stored as {found:?}, expected {expected:?}", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The array's name.
        name: String,
        /// The element type needed.
        expected: Dtype,
        /// The element type in the file.
        found: Dtype,
    },
}

/// What is wrong with a file, and what was expected of it.
fn described(error: &SafeTensorError) -> String {
    let sentence = match error {
        SafeTensorError::HeaderTooSmall => "expected the 8 bytes of a header's length, found fewer",
        SafeTensorError::HeaderTooLarge => {
            "expected a header's length in its first 8 bytes, found one beyond 100 MB"
        }
        SafeTensorError::InvalidHeaderLength => {
            "expected a whole header, found the end of the file"
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            "expected as many bytes as the header describes, found another number"
        }
        error => return error.to_string(),
    };
    sentence.to_owned()
}

impl Store {
    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if it cannot be read, [`StoreError::Format`] if it is not safetensors.
    pub fn load(path: impl AsRef<FilePath>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes, path)
    }

    /// Reads the content of a file; `origin` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Format`] if it is not safetensors.
    pub fn from_bytes(bytes: &[u8], origin: impl AsRef<FilePath>) -> Result<Self, StoreError> {
        let origin = origin.as_ref();
        let format = |source| StoreError::Format {
            path: origin.to_owned(),
            source,
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let file = SafeTensors::deserialize(bytes).map_err(format)?;
        let tensors = file
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let tensor = Tensor {
                    dtype: view.dtype(),
                    shape: view.shape().to_vec(),
                    bytes: view.data().to_vec(),
                };
                (name, tensor)
            })
            .collect();
        let metadata =
            parse_metadata(header.metadata().clone().unwrap_or_default()).map_err(format)?;
        Ok(Self {
            metadata,
            tensors,
            origin: origin.to_owned(),
        })
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] with the path; the file is then as it was before.
    pub fn save(&self, path: impl AsRef<FilePath>) -> Result<(), StoreError> {
        let path = path.as_ref();
        let bytes = self.to_bytes().map_err(|source| StoreError::Format {
            path: path.to_owned(),
            source,
        })?;
        write_atomically(path, |file| file.write_all(&bytes)).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            source,
        })
    }

    /// What [`save`](Self::save) writes.
    ///
    /// # Errors
    ///
    /// What the format refuses, such as a header beyond its limit.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SafeTensorError> {
        let views = self
            .tensors
            .iter()
            .map(|(name, tensor)| {
                let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?;
                Ok((name, view))
            })
            .collect::<Result<Vec<_>, SafeTensorError>>()?;
        serialize(views, &self.metadata)
    }

    /// SHA-256 over all metadata and all arrays with their names, types and shapes, in hexadecimal.
    /// Equal stores have equal sums, whatever file they come from.
    ///
    /// ```
    /// use modalign_core::Store;
    /// use ndarray::array;
    ///
    /// let mut store = Store::default();
    /// store.insert("a", &array![1.0_f32]);
    /// let sum = store.checksum();
    /// assert_eq!(sum.len(), 64);
    /// store.insert("a", &array![1.0_f32 + f32::EPSILON]);
    /// assert_ne!(store.checksum(), sum);
    /// ```
    #[must_use]
    pub fn checksum(&self) -> String {
        let mut hash = Sha256::new();
        // Lengths go before contents, so that no two stores make the same sequence of bytes.
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            add(key.as_bytes());
            add(value.as_bytes());
        }
        for (name, tensor) in &self.tensors {
            add(name.as_bytes());
            add(format!("{} {:?}", tensor.dtype, tensor.shape).as_bytes());
            add(&tensor.bytes);
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Adds an array, replacing one of the same name.
    pub fn insert<A: Element, D: Dimension>(
        &mut self,
        name: impl Into<String>,
        array: &ArrayBase<impl Data<Elem = A>, D>,
    ) {
        let mut bytes = Vec::with_capacity(array.len() * size_of::<A>());
        for &value in array {
            value.write(&mut bytes);
        }
        let tensor = Tensor {
            dtype: A::DTYPE,
            shape: array.shape().to_vec(),
            bytes,
        };
        self.tensors.insert(name.into(), tensor);
    }

    /// The names of all arrays, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// One array by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] or [`StoreError::Dtype`].
    pub fn array<A: Element>(&self, name: &str) -> Result<ArrayD<A>, StoreError> {
        let tensor = self.tensor::<A>(name)?;
        let values = tensor
            .bytes
            .chunks_exact(size_of::<A>())
            .map(A::read)
            .collect();
        ArrayD::from_shape_vec(IxDyn(&tensor.shape), values).map_err(|_| StoreError::Format {
            path: self.origin.clone(),
            source: SafeTensorError::TensorInvalidInfo,
        })
    }

    /// The number of scalars in all arrays under `prefix.`, whatever they are.
    pub fn parameter_count(&self, prefix: &str) -> usize {
        let scope = format!("{prefix}.");
        let inside = self
            .tensors
            .iter()
            .filter(|(name, _)| name.starts_with(&scope));
        // The file was as long as all bytes together, so no product overflows.
        inside
            .map(|(_, tensor)| tensor.shape.iter().product::<usize>())
            .sum()
    }

    /// Adds every array of a parameter set under `prefix.`.
    pub fn insert_parameters<A: Scalar>(&mut self, prefix: &str, params: &impl Parameters<A>) {
        Path::default().within(prefix, |path| {
            params.visit(path, &mut |name, view| self.insert(name, &view));
        });
    }

    /// Fills a parameter set from the arrays under `prefix.`. Everything is checked before the
    /// first value is written: on an error `params` is as it was.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`], [`StoreError::Shape`], [`StoreError::Dtype`], or
    /// [`StoreError::Unexpected`] for an array under the prefix that `params` does not have.
    pub fn read_parameters<A: Scalar, P: Parameters<A>>(
        &self,
        prefix: &str,
        params: &mut P,
    ) -> Result<(), StoreError> {
        let mut expected = HashMap::new();
        Path::default().within(prefix, |path| {
            params.visit(path, &mut |name, view| {
                expected.insert(name.to_owned(), view.shape().to_vec());
            });
        });
        for (name, shape) in &expected {
            let tensor = self.tensor::<A>(name)?;
            if tensor.shape != *shape {
                return Err(StoreError::Shape {
                    path: self.origin.clone(),
                    name: name.clone(),
                    expected: shape.clone(),
                    found: tensor.shape.clone(),
                });
            }
        }
        let scope = format!("{prefix}.");
        if let Some(name) = self
            .names()
            .find(|name| name.starts_with(&scope) && !expected.contains_key(*name))
        {
            return Err(StoreError::Unexpected {
                path: self.origin.clone(),
                name: name.to_owned(),
            });
        }
        Path::default().within(prefix, |path| {
            params.visit_mut(path, &mut |name, mut view| {
                if let Some(tensor) = self.tensors.get(name) {
                    let values = tensor.bytes.chunks_exact(size_of::<A>()).map(A::read);
                    for (target, value) in view.iter_mut().zip(values) {
                        *target = value;
                    }
                }
            });
        });
        Ok(())
    }

    fn tensor<A: Element>(&self, name: &str) -> Result<&Tensor, StoreError> {
        let tensor = self.tensors.get(name).ok_or_else(|| StoreError::Missing {
            path: self.origin.clone(),
            name: name.to_owned(),
        })?;
        if tensor.dtype != A::DTYPE {
            return Err(StoreError::Dtype {
                path: self.origin.clone(),
                name: name.to_owned(),
                expected: A::DTYPE,
                found: tensor.dtype,
            });
        }
        Ok(tensor)
    }
}

/// Safetensors keeps metadata in a `HashMap`, whose order differs from run to run, while equal runs
/// must give equal bytes: all metadata is one entry, itself a sorted JSON object.
const METADATA_KEY: &str = "modalign";

fn serialize(
    views: Vec<(&String, TensorView<'_>)>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, SafeTensorError> {
    let entry = (!metadata.is_empty())
        .then(|| serde_json::to_string(metadata).map(|json| (METADATA_KEY.to_owned(), json)))
        .transpose()?;
    safetensors::serialize(views, entry.map(|entry| HashMap::from([entry])))
}

fn parse_metadata(
    mut found: HashMap<String, String>,
) -> Result<BTreeMap<String, String>, SafeTensorError> {
    match found.remove(METADATA_KEY) {
        Some(json) => Ok(serde_json::from_str(&json)?),
        None => Ok(found.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn saved(store: &Store) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        store.save(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn equal_stores_give_equal_bytes() {
        let build = || {
            let mut store = Store::default();
            for name in ["b", "a", "c"] {
                store.insert(name, &array![1.0_f64, 2.0]);
                store.metadata.insert(name.to_owned(), name.to_owned());
            }
            let (folder, path) = saved(&store);
            let bytes = std::fs::read(path).unwrap();
            drop(folder);
            bytes
        };
        assert_eq!(build(), build());
    }

    #[test]
    fn arrays_keep_their_logical_order_whatever_their_layout() {
        let matrix: Array2<f32> = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let mut store = Store::default();
        store.insert("transposed", &matrix.t());
        store.insert("counts", &array![1_u64, u64::MAX]);
        let (_folder, path) = saved(&store);
        let loaded = Store::load(path).unwrap();
        assert_eq!(
            loaded.array::<f32>("transposed").unwrap(),
            matrix.t().into_dyn()
        );
        assert_eq!(loaded.array::<u64>("counts").unwrap()[1], u64::MAX);
    }

    #[test]
    fn each_mismatch_is_its_own_error_and_changes_nothing() {
        let mut store = Store::default();
        store.insert("p.0", &array![1.0_f64, 2.0]);
        store.insert("p.1", &array![3.0_f64]);
        let (_folder, path) = saved(&store);
        let loaded = Store::load(path).unwrap();
        let original = vec![array![0.0_f64, 0.0], array![0.0]];

        let mut params = original.clone();
        loaded.read_parameters("p", &mut params).unwrap();
        assert_eq!(params, [array![1.0, 2.0], array![3.0]]);

        let mut wrong = vec![array![0.0_f64, 0.0], array![0.0, 0.0]];
        let before = wrong.clone();
        let error = loaded.read_parameters("p", &mut wrong).unwrap_err();
        assert!(matches!(error, StoreError::Shape { expected, found, .. }
            if expected == [2] && found == [1]));
        assert_eq!(wrong, before);

        let mut longer = original.clone();
        longer.push(array![0.0]);
        let error = loaded.read_parameters("p", &mut longer).unwrap_err();
        assert!(matches!(error, StoreError::Missing { name, .. } if name == "p.2"));

        let mut shorter = vec![array![0.0_f64, 0.0]];
        let error = loaded.read_parameters("p", &mut shorter).unwrap_err();
        assert!(matches!(error, StoreError::Unexpected { name, .. } if name == "p.1"));

        let mut narrow = vec![array![0.0_f32, 0.0], array![0.0]];
        let error = loaded.read_parameters("p", &mut narrow).unwrap_err();
        assert!(matches!(
            error,
            StoreError::Dtype {
                found: Dtype::F64,
                ..
            }
        ));
    }

    #[test]
    fn a_cut_file_is_refused_with_its_path() {
        let mut store = Store::default();
        store.insert("x", &array![1.0_f32, 2.0, 3.0]);
        let (_folder, path) = saved(&store);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 4, 12, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = Store::load(&path).unwrap_err();
            assert!(
                matches!(error, StoreError::Format { .. }),
                "{length}: {error}"
            );
            assert!(error.to_string().contains("a.safetensors"));
        }
        let absent = Store::load(path.with_extension("absent")).unwrap_err();
        assert!(matches!(absent, StoreError::Io { .. }));
    }
}
