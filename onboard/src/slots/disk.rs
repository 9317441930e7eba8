//! The few file operations that the slots need, so that tests can cut the power between any two.

use crate::bundle::{FileSystem, ReadFiles};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// A disk as POSIX promises it: nothing is durable before `sync`, no name before `sync_folder`.
pub trait Disk: ReadFiles {
    /// Creates or empties a file and writes `bytes`.
    ///
    /// # Errors
    /// As the file system says; the file may then hold a part.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Adds `bytes` to the end of a file.
    ///
    /// # Errors
    /// As the file system says; the file may then hold a part.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes a file's bytes durable.
    ///
    /// # Errors
    /// As the file system says.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the file system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, replacing what has it, in one step.
    ///
    /// # Errors
    /// As the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Creates a folder and those above it.
    ///
    /// # Errors
    /// As the file system says.
    fn create_folder(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all in it; one that is not there is fine.
    ///
    /// # Errors
    /// As the file system says; a part may then be gone.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
}

/// A folder of the file system, held by one process at a time.
#[derive(Debug)]
pub struct FolderDisk {
    /// The lock lasts as long as the file is open.
    _lock: File,
}

impl FolderDisk {
    /// Creates the folder when it is not there, and locks it.
    ///
    /// # Errors
    /// When it cannot be created or another process holds it.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process uses these model slots"))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl ReadFiles for FolderDisk {
    fn length(&self, path: &Path) -> io::Result<u64> {
        FileSystem.length(path)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        FileSystem.read(path, limit)
    }
}

impl Disk for FolderDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).open(path)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        // Opened for writing: some systems flush nothing through a read-only handle.
        OpenOptions::new().append(true).open(path)?.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
