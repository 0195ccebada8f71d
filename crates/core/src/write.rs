//! Files that are either whole or absent.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// How the name of a half-written file ends; it begins with a dot.
pub const PARTIAL: &str = ".partial";

/// Writes a file through a temporary sibling that is synced and then renamed, so that a reader, or
/// a crash at any moment, meets the old content or the new, never a part.
///
/// # Errors
///
/// Any error of the file system or of `content`; the target is then as it was and the sibling is
/// gone.
///
/// ```
/// use std::io::Write;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("history.csv");
/// modalign_core::write_atomically(&path, |file| file.write_all(b"epoch,loss\n"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "epoch,loss\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write_atomically(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(PARTIAL);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let sibling = builder.tempfile_in(folder)?;
    let mut writer = BufWriter::new(sibling.as_file());
    content(&mut writer)?;
    writer.flush()?;
    drop(writer);
    sibling.as_file().sync_all()?;
    sibling.persist(path).map_err(|error| error.error)?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_sibling() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("kept");
        write_atomically(&path, |file| file.write_all(b"old"))?;
        let failed = write_atomically(&path, |file| {
            file.write_all(b"new")?;
            Err(io::Error::other("interrupted"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path)?, b"old");
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }
}
