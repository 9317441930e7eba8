//! What can be proven of prepared engines without a GPU: keys, records, the decision, options, and what the system says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use proptest::prelude::*;

use super::hardware::version_of;
use super::store::{RECORD_FORMAT, files, shapes};
use super::*;

fn key() -> Key {
    let graph = |name: &str| {
        let graph = GraphKey { sha256: sha256_hex(name.as_bytes()), shapes: format!("{name} 1x3") };
        (name.to_owned(), graph)
    };
    Key {
        graphs: ["vision", "language", "mask"].map(graph).into(),
        provider: "tensorrt".into(),
        provider_version: "10.3.0".into(),
        runtime_version: "git-branch=rel-1.31.1".into(),
        gpu: "NVIDIA Jetson Orin Nano".into(),
        architecture: "sm_87".into(),
        precision: Precision::Fp16,
    }
}

fn record(key: Key) -> Record {
    Record {
        format: RECORD_FORMAT,
        key,
        model: "m@1".into(),
        manifest_hash: String::new(),
        build_seconds: BTreeMap::new(),
        files: BTreeMap::new(),
    }
}

fn found(name: &str, key: Key) -> Found {
    Found { folder: name.into(), record: Ok(record(key)) }
}

#[test]
fn the_decision_is_this_table() {
    let older = Key { provider_version: "8.6.2".into(), ..key() };
    let quantised = Key { precision: Precision::Int8, ..key() };
    let elsewhere = Key { gpu: "NVIDIA H100".into(), architecture: "sm_90".into(), ..key() };
    let sibling = Key { gpu: "NVIDIA Jetson Orin NX".into(), ..key() };
    let mut other = key();
    other.graphs.get_mut("mask").unwrap().sha256 = sha256_hex(b"other");
    let mut unrelated = key();
    unrelated.graphs.values_mut().for_each(|graph| graph.sha256 = sha256_hex(b"unrelated"));
    let mut wider = key();
    wider.graphs.insert("explain".into(), GraphKey { sha256: sha256_hex(b"explain"), shapes: String::new() });
    let damaged = Found { folder: key().fingerprint().into(), record: Err("vision.engine was changed".into()) };
    let strange = Found { folder: "strange".into(), record: Err("no record".into()) };
    for (folders, words) in [
        (vec![], "none were prepared"),
        (vec![found("a", key())], "ready in a"),
        (vec![found("a", wider.clone())], "ready in a"),
        (vec![found("a", older.clone())], "those in a are of TensorRT 8.6.2, here is 10.3.0"),
        (vec![found("a", quantised)], "those in a are of int8, wanted fp16"),
        (vec![found("a", other)], "those in a are of another mask graph"),
        (
            vec![found("a", elsewhere.clone())],
            "made for NVIDIA H100 (sm_90), and here is NVIDIA Jetson Orin Nano (sm_87)",
        ),
        (vec![found("a", sibling)], "made for NVIDIA Jetson Orin NX (sm_87)"),
        (vec![found("a", unrelated)], "none were prepared"),
        (vec![strange], "none were prepared"),
        (vec![damaged.clone()], "damaged: vision.engine was changed"),
        // What is ready wins wherever it stands; of the rest the nearest is told.
        (vec![found("a", elsewhere.clone()), found("b", older.clone()), found("c", key())], "ready in c"),
        (vec![found("a", older.clone()), found("b", elsewhere)], "those in a are of TensorRT"),
        (vec![found("a", older), damaged], "damaged"),
    ] {
        let told = decide(&key(), &folders).to_string();
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(matches!(decide(&wider, &[found("a", key())]), Readiness::Stale { .. }), "a graph more than was built");
}

proptest! {
    /// What would break: an engine for other hardware, another TensorRT or another graph would fly.
    #[test]
    fn nothing_but_the_same_key_is_ever_ready(field in 0_usize..8, value in "[a-z0-9.]{1,12}") {
        let mut other = key();
        match field {
            0 => other.provider = value,
            1 => other.provider_version = value,
            2 => other.runtime_version = value,
            3 => other.gpu = value,
            4 => other.architecture = value,
            5 => other.precision = Precision::Int8,
            6 => other.graphs.get_mut("vision").unwrap().sha256 = value,
            _ => other.graphs.get_mut("vision").unwrap().shapes = value,
        }
        prop_assert!(!matches!(decide(&key(), &[found("a", other.clone())]), Readiness::Ready(_)));
        prop_assert_ne!(other.fingerprint(), key().fingerprint());
    }
}

#[test]
fn a_fingerprint_is_a_plain_name_and_always_the_same() {
    let name = key().fingerprint();
    assert_eq!(name, key().fingerprint());
    assert!(
        name.starts_with("tensorrt-sm_87-") && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    );
}

/// Setup: a folder of engines with its record. Fault: a byte changed, a file gone, one more, a record of another format,
/// garbage. Expected: each is told by name. Invariant: nothing of it is ready.
#[test]
fn a_folder_is_what_its_record_says_or_damaged() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(key().fingerprint());
    std::fs::create_dir_all(folder.join("vision")).unwrap();
    std::fs::write(folder.join("vision/a.engine"), b"engine").unwrap();
    std::fs::write(folder.join("mask.engine"), b"mask").unwrap();
    let kept = Record { files: files(&folder).unwrap(), ..record(key()) };
    let text = serde_json::to_string(&kept).unwrap();
    let write = |text: &str| std::fs::write(folder.join(RECORD), text).unwrap();
    let told = || decide(&key(), &find(root.path())).to_string();
    assert_eq!(told(), "none were prepared", "a folder without a record is no engine");
    write(&text);
    assert!(told().starts_with("ready in"), "{}", told());
    assert!(super::store::unchanged(&folder, crate::engine::Provider::TensorRt).is_ok());

    std::fs::write(folder.join("mask.engine"), b"mosk").unwrap();
    assert!(told().contains("mask.engine was changed"), "{}", told());
    std::fs::remove_file(folder.join("mask.engine")).unwrap();
    assert!(told().contains("mask.engine is missing"), "{}", told());
    std::fs::write(folder.join("mask.engine"), b"mask").unwrap();
    std::fs::write(folder.join("new.engine"), b"built at the start").unwrap();
    let error = super::store::unchanged(&folder, crate::engine::Provider::TensorRt).unwrap_err();
    assert!(error.to_string().contains("new.engine is not in the record"), "{error}");
    assert!(error.hint().contains("onboard engines build"));
    std::fs::remove_file(folder.join("new.engine")).unwrap();

    for broken in [text.replace("\"format\":1", "\"format\":9"), "{".into(), text.replace("\"model\"", "\"modle\"")] {
        write(&broken);
        assert!(told().contains("damaged: engine.json"), "{}", told());
    }
    assert!(find(Path::new("/nowhere")).is_empty());
}

#[test]
fn a_build_is_kept_whole_under_its_name() {
    let root = tempfile::tempdir().unwrap();
    let (partial, folder) = (root.path().join(".building-1"), root.path().join(key().fingerprint()));
    for engine in ["first", "second"] {
        std::fs::create_dir_all(&partial).unwrap();
        std::fs::write(partial.join("a.engine"), engine).unwrap();
        let kept = Record { files: files(&partial).unwrap(), ..record(key()) };
        build::keep(&partial, &folder, &kept).unwrap();
        assert!(!partial.exists());
        assert_eq!(decide(&key(), &find(root.path())), Readiness::Ready(folder.clone()));
        assert_eq!(std::fs::read_to_string(folder.join("a.engine")).unwrap(), engine);
    }
}

#[test]
fn what_the_system_says_of_a_gpu_is_read() {
    let compatible = "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0";
    let jetson =
        Hardware::of_device_tree("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0", compatible);
    assert_eq!(jetson.unwrap().architecture, "sm_87");
    assert_eq!(Hardware::of_device_tree("Raspberry Pi 5", "brcm,bcm2712"), None);
    assert_eq!(Hardware::of_device_tree("\0", "nvidia,tegra234"), None);
    let card = Hardware::of_smi("NVIDIA H100 80GB HBM3, 9.0\nNVIDIA H100 80GB HBM3, 9.0\n").unwrap();
    assert_eq!((card.gpu.as_str(), card.architecture.as_str()), ("NVIDIA H100 80GB HBM3", "sm_90"));
    for text in ["", "No devices were found", "card, nine.0", ", 9.0", "card, 9"] {
        assert_eq!(Hardware::of_smi(text), None, "{text}");
    }
}

#[test]
fn the_version_of_tensorrt_stands_in_the_name_of_its_library() {
    let names = [
        "libnvinfer.so",
        "libnvinfer.so.10",
        "libnvinfer.so.10.3.0",
        "libnvinfer_plugin.so.10.3.1",
        "libnvinfer.so.bak",
    ];
    assert_eq!(version_of("libnvinfer.so", names).as_deref(), Some("10.3.0"));
    assert_eq!(version_of("libnvinfer.so", ["libnvinfer.so", "readme"]), None);
}

#[test]
fn providers_are_told_where_engines_lie_and_what_they_may_round() {
    assert_eq!(tensorrt(None), [("trt_fp16_enable", "1".to_owned())]);
    let place = Place { folder: "e".into(), timings: "t".into(), graph: "mask", precision: Precision::Int8 };
    let told: BTreeMap<_, _> = tensorrt(Some(&place)).into_iter().collect();
    for (name, value) in [
        ("trt_int8_enable", "1"),
        ("trt_engine_cache_enable", "1"),
        ("trt_engine_cache_path", "e"),
        ("trt_engine_cache_prefix", "mask"),
        ("trt_timing_cache_enable", "1"),
        ("trt_timing_cache_path", "t"),
    ] {
        assert_eq!(told[name], value, "{name}");
    }
    let half = Place { precision: Precision::Fp16, ..place.clone() };
    assert!(!tensorrt(Some(&half)).iter().any(|(name, _)| *name == "trt_int8_enable"));
    assert!(plugin("Rtx", None).is_empty());
    let (name, cache) = plugin("Rtx", Some(&place)).remove(0);
    assert_eq!((name.as_str(), Path::new(&cache)), ("Rtx.nv_runtime_cache_path", Path::new("e/mask")));
}

#[test]
fn precision_and_shapes_are_the_graphs_own() {
    assert_eq!(Precision::of([&b"MatMul"[..], b"x DequantizeLinear y"]), Precision::Int8);
    assert_eq!(Precision::of([&b"MatMul"[..], b""]), Precision::Fp16);
    assert!(shapes(b"not a graph").is_err());
    assert!(shapes(b"").unwrap_err().contains("without a graph"));
}
