//! The certificate cache's directory: whether keys may be kept there, and what makes it so.

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why the directory is no place for keys, and how to mend it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    #[error("cannot make the certificate cache {}: {source}; make the directory yourself, owned by the relay's user", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot look at the certificate cache {}: {source}; the relay's user must be allowed to", path.display())]
    Look { path: PathBuf, source: io::Error },
    #[error("the certificate cache {} is not a directory; name another with --cert-cache", path.display())]
    NotADirectory { path: PathBuf },
    #[error(
        "the certificate cache {} is open to others (mode {mode}) and belongs to user {owner}; run `chmod 700` on it as that user, or give it to the relay's user",
        path.display()
    )]
    Foreign {
        path: PathBuf,
        mode: Mode,
        owner: u32,
    },
    #[error("the certificate cache {} is open to others (mode {mode}) and cannot be closed: {source}; run `chmod 700` on it", path.display())]
    Tighten {
        path: PathBuf,
        mode: Mode,
        source: io::Error,
    },
}

/// Permission bits, shown in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// The permissions of a directory before and after it was closed to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tightened {
    pub(crate) from: Mode,
    pub(crate) to: Mode,
}

/// What a directory lacks before keys may be kept in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Nothing: other users cannot get in.
    Nothing,
    /// It is not there, and nothing speaks against making it.
    Directory,
    /// It is ours, and open to others.
    Privacy(Mode),
}

/// The permissions the directory is given.
const CLOSED: Mode = Mode(0o700);

/// Looks at the directory, and changes nothing. Blocks.
///
/// # Errors
/// [`DirectoryError`] if it is no directory, is another user's and not closed, or [`prepare`] could not make it.
pub(crate) fn look(path: &Path) -> Result<Lack, DirectoryError> {
    let path_buf = || path.to_owned();
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = may_be_made(path).map_err(|source| create_error(path, source));
            return made.map(|()| Lack::Directory);
        }
        Err(source) => {
            let path = path_buf();
            return Err(DirectoryError::Look { path, source });
        }
    };
    if !found.is_dir() {
        return Err(DirectoryError::NotADirectory { path: path_buf() });
    }
    let mode = Mode(found.mode() & 0o777);
    if mode.0 & 0o077 == 0 {
        return Ok(Lack::Nothing);
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(DirectoryError::Foreign {
            path: path_buf(),
            mode,
            owner: found.uid(),
        });
    }
    Ok(Lack::Privacy(mode))
}

fn create_error(path: &Path, source: io::Error) -> DirectoryError {
    let path = path.to_owned();
    DirectoryError::Create { path, source }
}

/// Whether a missing directory could be made where its path begins to be missing. What cannot be told without trying
/// passes.
fn may_be_made(path: &Path) -> io::Result<()> {
    for place in path.ancestors() {
        let here = place.as_os_str().is_empty();
        let place = if here { Path::new(".") } else { place };
        // A link that leads nowhere is there, and in the way.
        match std::fs::symlink_metadata(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let into = Access::WRITE_OK | Access::EXEC_OK;
                return match accessat(CWD, place, into, AtFlags::EACCESS) {
                    // Any other error can also be a sandbox that does not know this system call.
                    Err(error @ (Errno::ACCESS | Errno::ROFS | Errno::NOENT)) => Err(error.into()),
                    _ => Ok(()),
                };
            }
        }
    }
    Ok(())
}

/// Makes the directory (and its parents) if it is missing, and takes the permissions of other users
/// away if it is ours. `Some` says that this was done. Blocks.
///
/// # Errors
/// [`DirectoryError`] if [`look`] finds one, or the system refuses.
pub(crate) fn prepare(path: &Path) -> Result<Option<Tightened>, DirectoryError> {
    match look(path)? {
        Lack::Nothing => Ok(None),
        Lack::Directory => {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(CLOSED.0).create(path);
            made.map(|()| None)
                .map_err(|source| create_error(path, source))
        }
        Lack::Privacy(mode) => {
            let closed = Permissions::from_mode(CLOSED.0);
            std::fs::set_permissions(path, closed).map_err(|source| {
                let path = path.to_owned();
                DirectoryError::Tighten { path, mode, source }
            })?;
            Ok(Some(Tightened {
                from: mode,
                to: CLOSED,
            }))
        }
    }
}
