//! Finding the model bundle that ships.

use std::path::{Path, PathBuf};

/// Where it lies in the repository.
pub const RELEASED: &str = "models/released/kestrel-s";

/// `$KESTREL_BUNDLE`; else [`RELEASED`] in the folder at hand or one above it; else the same from the program's own folder.
#[must_use]
pub fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("KESTREL_BUNDLE").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let here = std::env::current_dir().ok().and_then(|folder| upward(&folder));
    here.or_else(|| std::env::current_exe().ok().and_then(|program| upward(&program)))
}

fn upward(from: &Path) -> Option<PathBuf> {
    from.ancestors().map(|folder| folder.join(RELEASED)).find(|bundle| bundle.join("manifest.json").is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn found_from_any_folder_below() {
        let root = tempfile::tempdir().unwrap();
        let bundle = root.path().join(RELEASED);
        std::fs::create_dir_all(&bundle).unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(upward(&deep), None, "a folder without a manifest is no bundle");
        std::fs::write(bundle.join("manifest.json"), b"{}").unwrap();
        assert_eq!(upward(&deep), Some(bundle));
    }
}
