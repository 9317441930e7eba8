//! Making a bundle of a folder: list, hash, write the manifest, sign.

use super::{Bundle, BundleError};
use kestrel_link::manifest::{MANIFEST_FILE, MAX_BUNDLE_BYTES, SIGNATURE_FILE};
use kestrel_link::signature::{SigningKey, sign_manifest};
use kestrel_link::{FileEntry, Manifest};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Folders in folders that a bundle may have.
const MAX_DEPTH: usize = 3;

/// Lists every file below `dir` in the manifest, writes it, signs it when a key is given, and opens the result.
///
/// `manifest.files` is replaced; a signature of an earlier manifest is removed.
///
/// # Errors
/// When a file cannot be read or written, or the outcome is not a bundle this runtime flies.
pub fn seal(dir: &Path, mut manifest: Manifest, key: Option<&SigningKey>) -> Result<Bundle, BundleError> {
    let mut files = BTreeMap::new();
    list(dir, "", MAX_DEPTH, &mut files)?;
    manifest.files = files;
    let path = dir.join(MANIFEST_FILE);
    let bytes = manifest.to_json().map_err(|e| BundleError::content(&path, e))?;
    fs::write(&path, &bytes).map_err(|e| BundleError::file("write", &path, e))?;
    let signature_path = dir.join(SIGNATURE_FILE);
    match key {
        Some(key) => fs::write(&signature_path, sign_manifest(&bytes, key))
            .map_err(|e| BundleError::file("write", &signature_path, e))?,
        None => match fs::remove_file(&signature_path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(BundleError::file("remove", &signature_path, e));
            }
            _ => {}
        },
    }
    Bundle::open(dir)
}

fn list(dir: &Path, prefix: &str, depth: usize, files: &mut BTreeMap<String, FileEntry>) -> Result<(), BundleError> {
    let failed = |e| BundleError::file("list", dir, e);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let metadata = fs::metadata(&path).map_err(|e| BundleError::file("open", &path, e))?;
        let relative = format!("{prefix}{name}");
        if metadata.is_dir() && depth > 0 {
            list(&path, &format!("{relative}/"), depth - 1, files)?;
        } else if relative != MANIFEST_FILE && relative != SIGNATURE_FILE {
            if metadata.len() > MAX_BUNDLE_BYTES {
                return Err(BundleError::Length { path, expected: MAX_BUNDLE_BYTES, got: metadata.len() });
            }
            let bytes = fs::read(&path).map_err(|e| BundleError::file("read", &path, e))?;
            files.insert(relative, FileEntry::of(&bytes));
        }
    }
    Ok(())
}
