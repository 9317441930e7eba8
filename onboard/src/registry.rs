//! Fetching a pinned file from the Python package index.
//!
//! Large binaries that cannot live in the repository come from there: named, hashed, and put in the user's cache.
//! `PIP_INDEX_URL` names another index, `HTTPS_PROXY` a proxy, `SSL_CERT_FILE` other certificates, `KESTREL_CACHE` another cache.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kestrel_link::Hasher;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

const DEFAULT_INDEX: &str = "https://pypi.org/simple";
/// No pinned file is larger.
const MOST_BYTES: u64 = 512 * 1024 * 1024;
const MOST_INDEX_BYTES: u64 = 32 * 1024 * 1024;

/// One file of the index, by name and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wheel {
    /// The project it belongs to, as in its address.
    pub project: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// Hex SHA-256 of its bytes.
    pub sha256: &'static str,
}

/// Why a pinned file could not be had; [`RegistryError::hint`] says what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nothing is published for this machine.
    #[error("{project}: no file is pinned for {platform}")]
    NoWheel {
        /// The project.
        project: &'static str,
        /// Operating system and processor.
        platform: String,
    },
    /// No folder to keep it in.
    #[error("no cache folder: none of KESTREL_CACHE, XDG_CACHE_HOME and HOME is set")]
    NoCache,
    /// The index or the file could not be read.
    #[error("fetching {url}: {why}")]
    Network {
        /// What was asked for.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The index does not list the file.
    #[error("fetching {url}: expected an entry for {file}, got none")]
    NotListed {
        /// The index page.
        url: String,
        /// The file.
        file: String,
    },
    /// The bytes are not the pinned ones.
    #[error("fetching {file}: expected SHA-256 {expected}, got {got}")]
    Hash {
        /// The file.
        file: String,
        /// The pinned hash.
        expected: String,
        /// The hash of what came.
        got: String,
    },
    /// The archive lacks what is needed.
    #[error("unpacking {path}: {why}")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The cache could not be written or read.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl RegistryError {
    /// One line on what to try.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoWheel { .. } => "build or install it yourself and name its path",
            Self::NoCache => "set KESTREL_CACHE to a folder that can be written",
            Self::Network { .. } | Self::NotListed { .. } => {
                "check the network; HTTPS_PROXY names a proxy, SSL_CERT_FILE its certificates, PIP_INDEX_URL another index"
            }
            Self::Hash { .. } => "something on the way alters files, or the index is not the genuine one",
            Self::Archive { .. } => "delete the file and try again",
            Self::Io { .. } => "check the folder's permissions and the free space; KESTREL_CACHE names another",
        }
    }
}

/// `$KESTREL_CACHE`, else `$XDG_CACHE_HOME/kestrel`, else `~/.cache/kestrel`.
#[must_use]
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("KESTREL_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("kestrel")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache").join("kestrel")))
}

/// Fetches `wheel` into the folder `into` and gives its path; one that is there already and whole is not fetched again.
///
/// With `progress`, a bar is drawn on stderr.
///
/// # Errors
/// When it cannot be had or is not the pinned file; nothing is left in the folder then.
pub fn fetch_wheel(wheel: &Wheel, into: &Path, progress: bool) -> Result<PathBuf, RegistryError> {
    let index = std::env::var("PIP_INDEX_URL").ok().filter(|url| !url.is_empty());
    fetch_from(index.as_deref().unwrap_or(DEFAULT_INDEX), wheel, into, progress)
}

fn fetch_from(index: &str, wheel: &Wheel, into: &Path, progress: bool) -> Result<PathBuf, RegistryError> {
    let path = into.join(wheel.file);
    if path.is_file() && hash_of(&path)? == wheel.sha256 {
        return Ok(path);
    }
    fs::create_dir_all(into).map_err(|source| io("create", into, source))?;
    let agent: Agent = Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_global(Some(Duration::from_secs(900)))
        // The system's certificates, so that a proxy with its own can be trusted.
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .user_agent(concat!("kestrel/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let url = locate(&agent, index, wheel)?;
    let network = |why: String| RegistryError::Network { url: url.clone(), why };
    let mut response = agent.get(&url).call().map_err(|error| network(error.to_string()))?;
    let length = response.body().content_length();
    let bar = bar(length, wheel.file, progress);
    let mut reader = response.body_mut().with_config().limit(MOST_BYTES).reader();
    // Written beside its place and renamed, so that a half one never passes for a whole one.
    let partial = into.join(format!(".{}.{}", wheel.file, std::process::id()));
    let result = download(&mut reader, &partial, wheel, &bar, network);
    bar.finish_and_clear();
    let result = result.and_then(|()| fs::rename(&partial, &path).map_err(|source| io("rename", &partial, source)));
    if let Err(error) = result {
        // The error that led here matters more than one of tidying up.
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    Ok(path)
}

fn bar(length: Option<u64>, file: &str, progress: bool) -> indicatif::ProgressBar {
    if !progress {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(length.unwrap_or(0));
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()));
    bar.set_message(file.to_owned());
    bar
}

fn download(
    reader: &mut impl Read,
    partial: &Path,
    wheel: &Wheel,
    bar: &indicatif::ProgressBar,
    network: impl Fn(String) -> RegistryError,
) -> Result<(), RegistryError> {
    let mut file = File::create(partial).map_err(|source| io("create", partial, source))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = reader.read(&mut buffer).map_err(|error| network(error.to_string()))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(|source| io("write", partial, source))?;
        bar.inc(count as u64);
    }
    file.sync_all().map_err(|source| io("write", partial, source))?;
    let got = hasher.finish();
    if got == wheel.sha256 {
        return Ok(());
    }
    Err(RegistryError::Hash { file: wheel.file.into(), expected: wheel.sha256.into(), got })
}

/// The file's address, from the project's page of the index (simple repository API, as JSON or HTML).
fn locate(agent: &Agent, index: &str, wheel: &Wheel) -> Result<String, RegistryError> {
    let page = format!("{}/{}/", index.trim_end_matches('/'), wheel.project);
    let network = |why: String| RegistryError::Network { url: page.clone(), why };
    let mut response = agent
        .get(&page)
        .header("Accept", "application/vnd.pypi.simple.v1+json, text/html;q=0.5")
        .call()
        .map_err(|error| network(error.to_string()))?;
    let text = response
        .body_mut()
        .with_config()
        .limit(MOST_INDEX_BYTES)
        .read_to_string()
        .map_err(|error| network(error.to_string()))?;
    let found =
        if text.trim_start().starts_with('{') { in_json(&text, wheel.file) } else { in_html(&text, wheel.file) };
    let address = found.ok_or_else(|| RegistryError::NotListed { url: page.clone(), file: wheel.file.into() })?;
    Ok(absolute(&page, &address))
}

fn in_json(text: &str, file: &str) -> Option<String> {
    let page: serde_json::Value = serde_json::from_str(text).ok()?;
    let entry = page.get("files")?.as_array()?.iter().find(|entry| entry["filename"] == file)?;
    entry["url"].as_str().map(str::to_owned)
}

fn in_html(text: &str, file: &str) -> Option<String> {
    text.split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split(['"', '#']).next())
        .find(|url| {
            let name = url.rsplit('/').next().unwrap_or(url);
            name == file
        })
        .map(|url| url.replace("&amp;", "&"))
}

/// Resolves an address of a page against the page's own.
fn absolute(page: &str, address: &str) -> String {
    if address.contains("://") {
        return address.to_owned();
    }
    let host_end = page.find("://").map_or(0, |at| at + 3);
    let path_start = page[host_end..].find('/').map_or(page.len(), |at| host_end + at);
    if address.starts_with('/') {
        return format!("{}{address}", &page[..path_start]);
    }
    let mut parts: Vec<&str> = page[path_start..].trim_end_matches('/').split('/').skip(1).collect();
    for part in address.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("{}/{}", &page[..path_start], parts.join("/"))
}

/// Writes the first file of a zip archive whose name `wanted` accepts into `folder`, under its own file name.
///
/// # Errors
/// When the archive cannot be read, holds no such file, or the folder cannot be written.
pub fn unpack(archive: &Path, folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf, RegistryError> {
    let failed = |why: String| RegistryError::Archive { path: archive.to_owned(), why };
    let file = File::open(archive).map_err(|source| io("open", archive, source))?;
    let mut zip = zip::ZipArchive::new(file).map_err(|error| failed(error.to_string()))?;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(|error| failed(error.to_string()))?;
        let name = entry.name().map_err(|error| failed(error.to_string()))?.into_owned();
        if !wanted(&name) {
            continue;
        }
        // Only the last part of the name is used, so that no archive can write elsewhere.
        let base = name.rsplit('/').next().filter(|base| !base.is_empty() && *base != "..");
        let base = base.ok_or_else(|| failed(format!("entry {name:?} has no file name")))?;
        let path = folder.join(base);
        let partial = folder.join(format!(".{base}.{}", std::process::id()));
        let mut out = File::create(&partial).map_err(|source| io("create", &partial, source))?;
        std::io::copy(&mut entry.by_ref().take(MOST_BYTES), &mut out)
            .and_then(|_| out.sync_all())
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|source| io("write", &partial, source))?;
        return Ok(path);
    }
    Err(failed("none of its files is the one that is needed".into()))
}

fn hash_of(path: &Path) -> Result<String, RegistryError> {
    let mut file = File::open(path).map_err(|source| io("open", path, source))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).map_err(|source| io("read", path, source))? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn io(operation: &'static str, path: &Path, source: std::io::Error) -> RegistryError {
    RegistryError::Io { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::net::TcpListener;

    const FILE: &str = "thing-1.0-py3-none-any.whl";
    const BYTES: &[u8] = b"not really a wheel";

    /// Serves one index page and one file, one request per connection, until the test ends.
    fn index(html: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::Builder::new()
            .name("index".into())
            .spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut request = [0; 4096];
                    let length = stream.read(&mut request).unwrap();
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = request.split(' ').nth(1).unwrap().to_owned();
                    let body: Vec<u8> = match path.as_str() {
                        "/simple/thing/" if html => {
                            format!("<a href=\"../../files/{FILE}#sha256=00\">{FILE}</a>").into_bytes()
                        }
                        "/simple/thing/" => {
                            format!("{{\"files\":[{{\"filename\":\"{FILE}\",\"url\":\"/files/{FILE}\"}}]}}")
                                .into_bytes()
                        }
                        path if path == format!("/files/{FILE}") => BYTES.to_vec(),
                        _ => Vec::new(),
                    };
                    let head =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    stream.write_all(head.as_bytes()).unwrap();
                    stream.write_all(&body).unwrap();
                }
            })
            .unwrap();
        format!("http://{address}/simple")
    }

    fn pinned(sha256: &'static str) -> Wheel {
        Wheel { project: "thing", file: FILE, sha256 }
    }

    fn right_hash() -> &'static str {
        Box::leak(kestrel_link::sha256_hex(BYTES).into_boxed_str())
    }

    #[test]
    fn both_forms_of_the_index_lead_to_the_file() {
        for html in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = fetch_from(&index(html), &pinned(right_hash()), folder.path(), false).unwrap();
            assert_eq!(fs::read(path).unwrap(), BYTES);
        }
    }

    #[test]
    fn other_bytes_are_refused_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let error = fetch_from(&index(false), &pinned("00"), folder.path(), false).unwrap_err();
        assert!(matches!(error, RegistryError::Hash { .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_whole_file_is_not_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), BYTES).unwrap();
        let path = fetch_from("http://127.0.0.1:9/simple", &pinned(right_hash()), folder.path(), false).unwrap();
        assert_eq!(path, folder.path().join(FILE));
    }

    #[test]
    fn a_file_that_is_not_listed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = Wheel { project: "thing", file: "other.whl", sha256: "00" };
        let error = fetch_from(&index(true), &wheel, folder.path(), false).unwrap_err();
        assert!(matches!(&error, RegistryError::NotListed { file, .. } if file == "other.whl"), "{error}");
    }

    #[test]
    fn addresses_are_resolved_against_the_page() {
        let page = "https://index.example/root/simple/thing/";
        assert_eq!(absolute(page, "https://a.example/x.whl"), "https://a.example/x.whl");
        assert_eq!(absolute(page, "/f/x.whl"), "https://index.example/f/x.whl");
        assert_eq!(absolute(page, "../../f/x.whl"), "https://index.example/root/f/x.whl");
    }
}
