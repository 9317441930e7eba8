//! Finding ONNX Runtime's shared library, or fetching it.
//!
//! Order: the path that was configured, `ORT_DYLIB_PATH`, the system's folders, Python's site-packages,
//! the user's cache, and at last the pinned wheel of the package index, which then fills that cache.

use std::path::{Path, PathBuf};

use crate::registry::{self, RegistryError, Wheel};

/// The version that is fetched.
pub const VERSION: &str = "1.31.1";

/// A library that may be it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// How it was found, for logs.
    pub origin: &'static str,
}

/// The pinned wheel for this processor; `None` where none is published.
#[must_use]
pub fn wheel() -> Option<Wheel> {
    let (file, sha256) = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => (
            "onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_x86_64.whl",
            "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
        ),
        ("linux", "aarch64") => (
            "onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_aarch64.whl",
            "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
        ),
        ("macos", "aarch64") => (
            "onnxruntime-1.31.1-cp311-cp311-macosx_14_0_arm64.whl",
            "60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7",
        ),
        _ => return None,
    };
    Some(Wheel { project: "onnxruntime", file, sha256 })
}

/// Every library that is there, best first. Whether one can be used shows when it is loaded.
#[must_use]
pub fn candidates(configured: Option<&Path>) -> Vec<Candidate> {
    // Who names a file wants that file, and an error when it does not work.
    if let Some(path) = configured {
        return vec![Candidate { path: path.to_owned(), origin: "configured" }];
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return vec![Candidate { path: path.into(), origin: "ORT_DYLIB_PATH" }];
    }
    let mut found = Vec::new();
    for folder in system_folders() {
        found.extend(libraries(&folder).map(|path| Candidate { path, origin: "system" }));
    }
    for folder in site_packages() {
        let folder = folder.join("onnxruntime").join("capi");
        found.extend(libraries(&folder).map(|path| Candidate { path, origin: "Python package" }));
    }
    if let Some(folder) = cache_folder() {
        found.extend(libraries(&folder).map(|path| Candidate { path, origin: "cache" }));
    }
    found
}

/// Fetches the pinned wheel and unpacks its library into the user's cache.
///
/// # Errors
/// When there is no wheel for this processor, no cache folder, no network, or the file is not the pinned one.
pub fn fetch(progress: bool) -> Result<PathBuf, RegistryError> {
    let wheel = wheel().ok_or_else(|| RegistryError::NoWheel {
        project: "onnxruntime",
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
    })?;
    let folder = cache_folder().ok_or(RegistryError::NoCache)?;
    tracing::warn!(
        "ONNX Runtime was not found; fetching {VERSION} ({}, checked by SHA-256) into {}",
        wheel.file,
        folder.display()
    );
    let archive = registry::fetch_wheel(&wheel, &folder, progress)?;
    let library = registry::unpack(&archive, &folder, |name| {
        let file = name.rsplit('/').next().unwrap_or(name);
        name.starts_with("onnxruntime/capi/") && is_library(file)
    })?;
    // The library is what is wanted; the archive would be 24 MB for nothing.
    let _ = std::fs::remove_file(&archive);
    Ok(library)
}

/// Where a fetched library lies.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    registry::cache_folder().map(|folder| folder.join(format!("onnxruntime-{VERSION}")))
}

fn system_folders() -> Vec<PathBuf> {
    let arch = std::env::consts::ARCH;
    let mut folders: Vec<PathBuf> =
        ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/opt/onnxruntime/lib", "/opt/homebrew/lib"]
            .map(PathBuf::from)
            .into();
    folders.push(format!("/usr/lib/{arch}-linux-gnu").into());
    folders
}

/// Folders of Python packages: the active environment's first.
fn site_packages() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = Vec::new();
    for variable in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        roots.extend(std::env::var_os(variable).map(PathBuf::from));
    }
    roots.push(".venv".into());
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        roots.push(home.join(".local"));
        let versions = home.join(".pyenv/versions");
        let mut installed = entries(&versions);
        installed.sort();
        roots.extend(installed.into_iter().rev());
    }
    roots.extend(["/usr/local", "/usr"].map(PathBuf::from));
    let mut folders = Vec::new();
    for root in roots {
        for python in entries(&root.join("lib")) {
            let name = python.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("python3") {
                folders.extend(["site-packages", "dist-packages"].map(|kind| python.join(kind)));
            }
        }
    }
    folders
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

fn libraries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut found: Vec<PathBuf> = entries(folder)
        .into_iter()
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_library))
        .collect();
    // The newest version first, as far as names tell.
    found.sort();
    found.into_iter().rev()
}

/// `libonnxruntime.so`, `libonnxruntime.so.1.31.1`, `libonnxruntime.1.31.1.dylib`; not the providers' libraries.
fn is_library(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("libonnxruntime.") else { return false };
    rest == "so" || rest.starts_with("so.") || rest.ends_with("dylib")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn only_the_runtime_itself_is_a_library() {
        for name in ["libonnxruntime.so", "libonnxruntime.so.1.31.1", "libonnxruntime.1.31.1.dylib"] {
            assert!(is_library(name), "{name}");
        }
        for name in ["libonnxruntime_providers_shared.so", "onnxruntime_pybind11_state.so", "libonnxruntime.a"] {
            assert!(!is_library(name), "{name}");
        }
    }

    #[test]
    fn a_named_file_is_the_only_candidate() {
        let path = Path::new("/nowhere/libonnxruntime.so");
        assert_eq!(candidates(Some(path)), [Candidate { path: path.into(), origin: "configured" }]);
    }

    #[test]
    fn newest_version_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime.so.1.24.0", "libonnxruntime.so.1.31.1", "readme.txt"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let names: Vec<_> =
            libraries(folder.path()).map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(names, ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.24.0"]);
    }
}
