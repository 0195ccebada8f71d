//! Reference values written by PyTorch, scikit-learn and the published Python code, and the harness
//! of the tests that compare the crates with them.
//!
//! The values are not part of the repository. The environment variable `MODALIGN_FIXTURES` names
//! the folder that holds them (`oracle/*.npz`, `data/*.npz`); without it every test of this crate
//! is listed as ignored.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use npyz::{DType, NpyFile, Order, TypeChar};

/// Where the reference values are, if they are here at all.
pub fn fixtures() -> Option<PathBuf> {
    std::env::var_os("MODALIGN_FIXTURES").map(PathBuf::from)
}

/// Runs named tests, each with the path of one fixture file below the fixture folder. They are
/// marked as ignored when there is no such folder.
pub fn run(tests: Vec<(&'static str, &'static str, fn(&Fixture))>) -> ExitCode {
    let folder = fixtures();
    let trials = tests
        .into_iter()
        .map(|(name, file, test)| {
            let path = folder.as_ref().map(|folder| folder.join(file));
            let ignored = path.is_none();
            Trial::test(name, move || {
                let path = path.ok_or("MODALIGN_FIXTURES is not set")?;
                test(&Fixture::open(&path));
                Ok(())
            })
            .with_ignored_flag(ignored)
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// One `.npz` file of reference values.
#[derive(Debug)]
pub struct Fixture {
    path: PathBuf,
    names: BTreeSet<String>,
}

impl Fixture {
    /// Opens the archive and lists its arrays.
    ///
    /// # Panics
    ///
    /// If it is not there or not an archive: the fixture folder was named, so it must be whole.
    pub fn open(path: &Path) -> Self {
        let archive = zip::ZipArchive::new(open(path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let names = archive
            .file_names()
            .filter_map(|name| Some(name.ok()?.strip_suffix(".npy")?.to_owned()))
            .collect();
        Self {
            path: path.to_owned(),
            names,
        }
    }

    /// The file this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its arrays, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether an array of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// One numeric array, widened to `f64`.
    ///
    /// # Panics
    ///
    /// If it is not there or not numeric.
    pub fn array(&self, name: &str) -> ArrayD<f64> {
        let mut archive = zip::ZipArchive::new(open(&self.path)).expect("it was opened before");
        let mut bytes = Vec::new();
        archive
            .by_name(&format!("{name}.npy"))
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", self.path.display()))
            .read_to_end(&mut bytes)
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", self.path.display()));
        let npy = NpyFile::new(&bytes[..]).expect("a .npy file");
        let shape: Vec<usize> = npy.shape().iter().map(|&extent| extent as usize).collect();
        let fortran = npy.order() == Order::Fortran;
        let DType::Plain(dtype) = npy.dtype() else {
            panic!("{name}: a structured array")
        };
        let values: Vec<f64> = match (dtype.type_char(), dtype.size_field()) {
            (TypeChar::Float, 8) => npy.into_vec::<f64>().expect("f8"),
            (TypeChar::Float, _) => widen(npy.into_vec::<f32>().expect("f4")),
            (TypeChar::Int, 8) => npy
                .into_vec::<i64>()
                .expect("i8")
                .into_iter()
                .map(|x| x as f64)
                .collect(),
            (TypeChar::Int, _) => widen(npy.into_vec::<i32>().expect("i4")),
            (other, size) => panic!("{name}: element type {other:?}{size}"),
        };
        ArrayD::from_shape_vec(IxDyn(&shape).set_f(fortran), values).expect("the header's shape")
    }

    /// A scalar of shape `()`.
    ///
    /// # Panics
    ///
    /// If it is not there or has more than one element.
    pub fn scalar(&self, name: &str) -> f64 {
        let array = self.array(name);
        assert_eq!(array.len(), 1, "{name} has shape {:?}", array.shape());
        array.iter().copied().sum()
    }
}

fn widen<T: Into<f64>>(values: Vec<T>) -> Vec<f64> {
    values.into_iter().map(Into::into).collect()
}

fn open(path: &Path) -> BufReader<File> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    BufReader::new(file)
}

/// Entries whose exact value is 0 come out as rounding errors of this size where numbers around 1 are
/// added up, on both sides of a comparison.
pub const ROUNDING: f64 = 1e-15;

/// Compares two arrays entry by entry.
///
/// # Panics
///
/// Naming the worst entry, if any differs by more than `tolerance` times the largest absolute value
/// expected and by more than [`ROUNDING`], or if the shapes differ.
pub fn assert_close<D: ndarray::Dimension>(
    what: &str,
    found: &ndarray::ArrayBase<impl ndarray::Data<Elem = f64>, D>,
    expected: &ArrayD<f64>,
    tolerance: f64,
) {
    assert_eq!(found.shape(), expected.shape(), "{what}: shapes");
    let largest = expected
        .iter()
        .fold(0.0_f64, |largest, &x| largest.max(x.abs()));
    let allowed = (tolerance * largest).max(ROUNDING);
    let worst = found
        .iter()
        .zip(expected)
        .enumerate()
        .map(|(index, (&found, &expected))| (index, found, expected, (found - expected).abs()))
        .max_by(|left, right| left.3.total_cmp(&right.3));
    if let Some((index, found, expected, error)) = worst {
        assert!(
            error <= allowed,
            "{what}: entry {index} is {found:e}, expected {expected:e}: off by {error:e}, \
             allowed {allowed:e}"
        );
    }
}
