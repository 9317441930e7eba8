//! Which GPU and which TensorRT are here, from what the system says of them; nothing of a driver is called.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What engines are built for and with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardware {
    /// The GPU's own name.
    pub gpu: String,
    /// Its architecture as NVIDIA's compilers name it, e.g. `sm_87`.
    pub architecture: String,
}

/// Why it cannot be told what is here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HardwareError {
    /// Neither a Jetson nor a GPU that nvidia-smi knows.
    #[error("no NVIDIA GPU was found: {why}")]
    NoGpu {
        /// What was asked, and what it said.
        why: String,
    },
    /// No library of TensorRT.
    #[error("no {library} was found in {searched} folders")]
    NoLibrary {
        /// How its name begins.
        library: &'static str,
        /// How many folders were searched.
        searched: usize,
    },
}

const DEVICE_TREE: &str = "/proc/device-tree";

impl Hardware {
    /// The GPU that is here: a Jetson by its device tree, else what `nvidia-smi` says of the first.
    ///
    /// # Errors
    /// When there is none.
    pub fn find() -> Result<Self, HardwareError> {
        let read = |file: &str| std::fs::read_to_string(Path::new(DEVICE_TREE).join(file)).unwrap_or_default();
        if let Some(tegra) = Self::of_device_tree(&read("model"), &read("compatible")) {
            return Ok(tegra);
        }
        let output =
            Command::new("nvidia-smi").args(["--query-gpu=name,compute_cap", "--format=csv,noheader"]).output();
        let said = match output {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(output) => {
                let text =
                    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
                return Err(HardwareError::NoGpu { why: format!("nvidia-smi: {}", first_line(&text)) });
            }
            Err(error) => return Err(HardwareError::NoGpu { why: format!("nvidia-smi: {error}") }),
        };
        Self::of_smi(&said)
            .ok_or_else(|| HardwareError::NoGpu { why: format!("nvidia-smi says {:?}", first_line(&said)) })
    }

    /// The GPU of a Jetson, from its device tree's `model` and `compatible`.
    pub(super) fn of_device_tree(model: &str, compatible: &str) -> Option<Self> {
        // Tegra chips by their numbers, with the compute capability of their GPU (source: NVIDIA's CUDA GPUs page).
        let architecture = [("tegra194", "sm_72"), ("tegra234", "sm_87"), ("tegra264", "sm_110")]
            .iter()
            .find_map(|(chip, architecture)| compatible.contains(chip).then_some(*architecture))?;
        let gpu = model.trim_matches(['\0', '\n', ' ']).to_owned();
        (!gpu.is_empty()).then(|| Self { gpu, architecture: architecture.to_owned() })
    }

    /// The first GPU in what `nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader` prints.
    pub(super) fn of_smi(text: &str) -> Option<Self> {
        let (gpu, capability) = text.lines().next()?.rsplit_once(',')?;
        let (major, minor) = capability.trim().split_once('.')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let gpu = gpu.trim();
        (digits(major) && digits(minor) && !gpu.is_empty())
            .then(|| Self { gpu: gpu.to_owned(), architecture: format!("sm_{major}{minor}") })
    }
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or("nothing").chars().take(200).collect()
}

/// The version in the name of a shared library, `libnvinfer.so.10.3.0`: the longest that is there.
pub(super) fn version_of<'a>(library: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let version = |name: &'a str| {
        let version = name.strip_prefix(library)?.strip_prefix('.')?;
        let plain = version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (plain && version.starts_with(|first: char| first.is_ascii_digit())).then_some(version)
    };
    names.into_iter().filter_map(version).max_by_key(|version| version.len()).map(str::to_owned)
}

/// The version of TensorRT whose library the loader would find.
///
/// # Errors
/// When there is none in `LD_LIBRARY_PATH` and the system's folders.
pub(super) fn tensorrt_version() -> Result<String, HardwareError> {
    const LIBRARY: &str = "libnvinfer.so";
    let arch = std::env::consts::ARCH;
    let mut folders: Vec<PathBuf> =
        std::env::var_os("LD_LIBRARY_PATH").map(|paths| std::env::split_paths(&paths).collect()).unwrap_or_default();
    folders.push(format!("/usr/lib/{arch}-linux-gnu").into());
    folders.extend(["/usr/local/tensorrt/lib", "/usr/local/lib", "/usr/lib64", "/usr/lib"].map(PathBuf::from));
    for folder in &folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        if let Some(version) = version_of(LIBRARY, names.iter().map(String::as_str)) {
            return Ok(version);
        }
    }
    Err(HardwareError::NoLibrary { library: LIBRARY, searched: folders.len() })
}
