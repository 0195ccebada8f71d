//! Moments of a matrix that is stored in a `.npy` file and may be larger than memory.
//!
//! The file is read from start to end in blocks of whole rows, so one block and the D x D moments
//! are all that is resident.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::path::Path;

use modalign_core::{Scalar, npy_header};
use ndarray::ArrayView2;
use npyz::{DType, NpyHeader, Order};

use crate::{CovarianceError, StreamingMoments};

/// Bytes of a block: many rows even of wide matrices, and little beside the moments.
const BLOCK_BYTES: usize = 1 << 24;

impl<A: Scalar> StreamingMoments<A> {
    /// The moments of the rows of a `.npy` file: a matrix `[N, D]` in C order, of little-endian
    /// floats of the type `A`. With the feature `npy`.
    ///
    /// `progress` is called after every block with the rows read and the rows in all.
    ///
    /// # Errors
    ///
    /// [`CovarianceError::Read`] for a file that is not there, not a `.npy` file or cut short,
    /// [`CovarianceError::Npy`] for another shape, order or type, and as [`push`](Self::push), with
    /// rows counted from the start of the file.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use modalign_covariance::StreamingMoments;
    ///
    /// let moments = StreamingMoments::<f32>::from_npy("features.npy", |rows, total| {
    ///     eprintln!("{rows} of {total} rows");
    /// })?;
    /// let covariance = moments.covariance(1)?;
    /// # Ok::<(), modalign_covariance::CovarianceError>(())
    /// ```
    pub fn from_npy(
        path: impl AsRef<Path>,
        progress: impl FnMut(u64, u64),
    ) -> Result<Self, CovarianceError> {
        Self::read_npy(path.as_ref(), BLOCK_BYTES, progress)
    }

    fn read_npy(
        path: &Path,
        block_bytes: usize,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self, CovarianceError> {
        let unreadable = |error: std::io::Error| CovarianceError::Read {
            path: path.to_owned(),
            kind: error.kind(),
            message: error.to_string(),
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let header = npy_header(&mut file).map_err(unreadable)?;
        let header = NpyHeader::from_reader(&header[..]).map_err(unreadable)?;
        let (total, width) = Self::check_header(path, &header)?;
        let refused = |kind, message| CovarianceError::Read {
            path: path.to_owned(),
            kind,
            message,
        };
        // What the header declares, the file has, before memory is taken for it.
        let here = file.stream_position().map_err(unreadable)?;
        let found = file.metadata().map_err(unreadable)?.len() - here;
        let row_bytes = width.saturating_mul(size_of::<A>());
        let expected = total.saturating_mul(row_bytes as u64);
        if found < expected {
            return Err(refused(
                ErrorKind::UnexpectedEof,
                format!("{found} bytes follow the header, expected {expected}"),
            ));
        }
        // The moments are asked for and given back, so that what does not fit is an error here.
        let moments = width.saturating_mul(width);
        if total == 0 || Vec::<f64>::new().try_reserve_exact(moments).is_err() {
            return Err(refused(
                ErrorKind::InvalidData,
                format!("{total} rows of {width} columns have no covariance that memory holds"),
            ));
        }
        let mut moments = Self::new(width)?;
        let block_rows = (block_bytes / row_bytes).max(1);
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        let mut done = 0;
        while done < total {
            let rows =
                usize::try_from(total - done).map_or(block_rows, |left| left.min(block_rows));
            bytes.resize(rows * row_bytes, 0);
            file.read_exact(&mut bytes).map_err(unreadable)?;
            entries.clear();
            entries.extend(bytes.chunks_exact(size_of::<A>()).map(A::read));
            let block = ArrayView2::from_shape((rows, width), &entries)
                .expect("as many entries as bytes were read");
            moments.push(block).map_err(|error| match error {
                CovarianceError::NonFinite {
                    modality,
                    row,
                    column,
                } => {
                    let row = row + usize::try_from(done).unwrap_or(usize::MAX - row);
                    CovarianceError::NonFinite {
                        modality,
                        row,
                        column,
                    }
                }
                other => other,
            })?;
            done += rows as u64;
            progress(done, total);
        }
        Ok(moments)
    }

    fn check_header(path: &Path, header: &NpyHeader) -> Result<(u64, usize), CovarianceError> {
        let refused = |expected, found| CovarianceError::Npy {
            path: path.to_owned(),
            expected,
            found,
        };
        let expected_type = format!("<f{}", size_of::<A>());
        let found_type = match header.dtype() {
            DType::Plain(plain) => plain.to_string(),
            other => other.descr(),
        };
        if found_type != expected_type {
            return Err(refused(
                format!("type {expected_type}"),
                format!("type {found_type}"),
            ));
        }
        let &[rows, width] = header.shape() else {
            return Err(refused(
                "two axes".to_owned(),
                format!("shape {:?}", header.shape()),
            ));
        };
        if header.order() != Order::C && rows > 1 && width > 1 {
            return Err(refused("C order".to_owned(), "Fortran order".to_owned()));
        }
        Ok((rows, usize::try_from(width).unwrap_or(usize::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::covariance;
    use approx::assert_relative_eq;
    use ndarray::{Array, Array2};
    use npyz::WriterBuilder;

    fn write(path: &Path, x: &Array2<f32>, order: Order) {
        let file = File::create(path).unwrap();
        let shape: Vec<u64> = x.shape().iter().map(|&extent| extent as u64).collect();
        let options = npyz::WriteOptions::new()
            .default_dtype()
            .shape(&shape)
            .order(order);
        let mut writer = options.writer(file).begin_nd().unwrap();
        writer.extend(x.iter().copied()).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn a_file_of_several_blocks_has_the_covariance_of_the_matrix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let x = Array::from_shape_fn((90, 6), |(i, j)| ((i * (j + 3)) % 101) as f32 / 10.0);
        write(&path, &x, Order::C);
        let mut calls = Vec::new();
        // 41 rows of 24 bytes fit.
        let moments = StreamingMoments::<f32>::read_npy(&path, 1000, |done, total| {
            calls.push((done, total));
        })
        .unwrap();
        assert_eq!(calls, [(41, 90), (82, 90), (90, 90)]);
        let expected = covariance(x.mapv(f64::from).view(), 1).unwrap();
        let found = moments.covariance(1).unwrap().mapv(f64::from);
        assert_relative_eq!(found, expected, epsilon = 1e-5);
    }

    #[test]
    fn files_that_do_not_fit_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let read = || StreamingMoments::<f32>::from_npy(&path, |_, _| ()).map(|_| ());
        let missing = read().unwrap_err();
        let kind = std::io::ErrorKind::NotFound;
        assert!(matches!(missing, CovarianceError::Read { kind: found, .. } if found == kind));

        let mut x = Array2::<f32>::zeros((3, 2));
        write(&path, &x, Order::C);
        let wide = StreamingMoments::<f64>::from_npy(&path, |_, _| ()).map(|_| ());
        let found = "type <f4".to_owned();
        let expected = "type <f8".to_owned();
        assert_eq!(
            wide,
            Err(CovarianceError::Npy {
                path: path.clone(),
                expected,
                found
            })
        );

        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let kind = std::io::ErrorKind::UnexpectedEof;
        let cut = read().unwrap_err();
        assert!(matches!(cut, CovarianceError::Read { kind: found, .. } if found == kind));
        std::fs::write(&path, b"not numpy").unwrap();
        assert!(matches!(read(), Err(CovarianceError::Read { .. })));

        write(&path, &x, Order::Fortran);
        assert!(matches!(read(), Err(CovarianceError::Npy { .. })));
        x[[2, 1]] = f32::NAN;
        write(&path, &x, Order::C);
        assert_eq!(
            read(),
            Err(CovarianceError::NonFinite {
                modality: 0,
                row: 2,
                column: 1
            })
        );
    }
}
