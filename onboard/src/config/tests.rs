//! What a configuration takes and refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::camera::Origin;
use crate::node::ExplainOptions;
use crate::pipeline::StandingOptions;
use kestrel_perception::geo::{Choice, PosesOptions};

const LEAST: &str = "[model]\nbundle = \"b\"\n[camera]\npath = \"frames\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "test.toml", |_| None, &[])
}

#[test]
fn default_file_loads_and_holds_every_key() {
    let table: Table = DEFAULT.parse().unwrap();
    let file: File = Value::Table(table).try_into().expect("every key of the default is known, and none is missing");
    assert_eq!(file.limits.active_queries, 8);
}

/// What would break: a drone without a model's name that flies none, or another one than `onboard segment` takes.
#[test]
fn the_model_that_ships_flies_where_none_is_named() {
    let config = parse("[camera]\npath = \"frames\"\n").unwrap();
    let ModelSource::Folder(bundle) = config.node.model else { panic!("{:?}", config.node.model) };
    assert_eq!(Some(bundle), released::find());
}

#[test]
fn two_keys_are_enough() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.node.drone.as_str(), "kestrel-1");
    assert_eq!(config.node.engine.choice.to_string(), "ort/cpu");
    assert!(!config.node.engine.fetch, "a flight does not download");
}

/// What would break: a documented default that is another than the one in code.
#[test]
fn limits_have_the_defaults_of_the_code() {
    assert_eq!(parse(LEAST).unwrap().node.limits, Limits::default());
    let limits = parse(&format!("{LEAST}[limits]\nstanding_millis = 60000\n")).unwrap().node.limits;
    assert_eq!(limits.standing, Duration::from_secs(60));
}

#[test]
fn a_flight_is_recorded_where_a_file_is_named() {
    assert_eq!(parse(LEAST).unwrap().node.record, None);
    let config = parse(&format!("{LEAST}[record]\nfile = \"a.mcap\"\nmost_megabytes = 3\n")).unwrap();
    assert_eq!(config.node.record, Some(RecordOptions { file: "a.mcap".into(), most_bytes: 3_000_000 }));
}

/// What would break: a documented default that is another than the one in code.
#[test]
fn queries_stand_by_the_defaults_of_the_code() {
    assert_eq!(parse(LEAST).unwrap().node.segmenter.standing, StandingOptions::default());
    let text = format!("{LEAST}[standing]\nverify_frames = 5\nverify_presence_fall = 0.5\nkeep_frames = 0\n");
    let standing = parse(&text).unwrap().node.segmenter.standing;
    let read = (standing.verify_frames, standing.verify_presence_fall, standing.track.keep_frames);
    assert_eq!(read, (5, 0.5, 0));
}

/// What would break: a documented default that is another than the one in code.
#[test]
fn tiles_have_the_defaults_of_the_code() {
    use kestrel_perception::TileOptions;
    let segmenter = parse(LEAST).unwrap().node.segmenter;
    assert_eq!((segmenter.tiling, segmenter.tiles), (Tiling::Auto, TileOptions::default()));
    let text = format!("{LEAST}[perception]\ntiling = \"coarse_to_fine\"\n[tiling]\nbudget_millis = 250\n");
    let segmenter = parse(&text).unwrap().node.segmenter;
    assert_eq!((segmenter.tiling, segmenter.tiles.budget_millis), (Tiling::CoarseToFine, 250));
    let error = parse(&format!("{LEAST}[tiling]\nbudget_milis = 250\n")).unwrap_err();
    assert_eq!(error.hint(), "did you mean `tiling.budget_millis`?");
}

/// What would break: a documented default that is another than the one in code.
#[test]
fn explanations_and_poses_have_the_defaults_of_the_code() {
    let node = parse(LEAST).unwrap().node;
    assert_eq!((node.explain, node.poses), (Some(ExplainOptions::default()), PosesOptions::default()));
    let text = format!("{LEAST}[explain]\nenabled = false\n[position]\npose_choice = \"nearest\"\n");
    let node = parse(&text).unwrap().node;
    assert_eq!((node.explain, node.poses.choice), (None, Choice::Nearest));
}

/// What would break: a gate that was calibrated and is not the one that flies.
#[test]
fn the_gate_flies_by_its_table_where_one_is_named() {
    assert_eq!(parse(LEAST).unwrap().node.segmenter.gate, Some(GateThresholds::default()));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gate.json");
    let bounds = GateThresholds::default().loosened(-0.25);
    let table = serde_json::json!({ "format": 1, "date": "2026-11-01", "loosened": -0.25, "bounds": bounds });
    std::fs::write(&file, table.to_string()).unwrap();
    let named = |more: &str| parse(&format!("{LEAST}[perception]\ngate_table = {:?}\n{more}", file.to_str().unwrap()));
    assert_eq!(named("").unwrap().node.segmenter.gate, Some(bounds));
    assert!(named("gate = false").unwrap_err().to_string().contains("perception.gate = false"));
    std::fs::write(&file, "{}").unwrap();
    let error = named("").unwrap_err();
    assert!(error.to_string().contains("gate.json") && error.hint().contains("perception.gate_table"), "{error}");
}

#[test]
fn misspelt_key_names_the_right_one() {
    let error = parse("[engine]\nnmae = \"tract\"\n").unwrap_err();
    assert_eq!(error.to_string(), "test.toml: unknown key `engine.nmae`");
    assert_eq!(error.hint(), "did you mean `engine.name`?");
    let error = parse("[engnie]\nname = \"tract\"\n").unwrap_err();
    assert_eq!(error.hint(), "did you mean `engine`?");
}

#[test]
fn a_source_may_be_named_in_the_older_way_or_the_newer() {
    assert_eq!(parse(LEAST).unwrap().camera.origin, Origin::Folder("frames".into()));
    let text = "[model]\nbundle = \"b\"\n[camera]\nsource = \"rtsp://a:b@c/d\"\nstamp_most_age_millis = 0\n";
    let camera = parse(text).unwrap().camera;
    assert_eq!(camera.origin, Origin::Stream("rtsp://a:b@c/d".into()));
    assert_eq!((camera.ffmpeg, camera.size_pixels, camera.stamps.most_age), (None, None, None));
    let both = parse(&format!("{text}path = \"frames\"\n")).unwrap_err().to_string();
    assert!(both.contains("rtsp://…@c/d") && !both.contains("a:b"), "{both}");
}

/// What would break: a file that claims to hold the defaults and does not.
#[test]
fn the_file_has_the_defaults_of_the_program() {
    let camera = parse(LEAST).unwrap().camera;
    assert_eq!(camera, crate::camera::CameraOptions::of(Origin::Folder("frames".into())));
}

/// What would break: a fallback that nobody asked for.
///
/// Promise: P3
#[test]
fn nothing_falls_back_unless_it_is_written() {
    assert_eq!(parse(LEAST).unwrap().node.upkeep.fallback, None);
    let text = format!("[engine]\nfallback = \"tract\"\n{LEAST}");
    assert_eq!(parse(&text).unwrap().node.upkeep.fallback, Some(EngineChoice::Tract));
}

#[test]
fn metrics_are_off_until_they_have_an_address() {
    assert_eq!(parse(LEAST).unwrap().node.upkeep.metrics, None);
    let text = format!("{LEAST}[metrics]\nlisten = \"127.0.0.1:9464\"\n");
    assert_eq!(parse(&text).unwrap().node.upkeep.metrics, Some(([127, 0, 0, 1], 9464).into()));
}

#[test]
fn flag_wins_over_environment_over_file() {
    let environment = |name: &str| match name {
        "KESTREL_ENGINE_THREADS" => Some("3".to_owned()),
        "KESTREL_DRONE" => Some("from-environment".to_owned()),
        _ => None,
    };
    let text = format!("drone = \"from-file\"\n{LEAST}");
    let config = Config::parse(&text, "t", environment, &["engine.threads=4".into()]).unwrap();
    assert_eq!(config.node.engine.threads, 4);
    assert_eq!(config.node.drone.as_str(), "from-environment");
}

#[test]
fn wrong_values_name_their_key() {
    for (text, key) in [
        ("[engine]\nname = \"auto\"\n", "engine.name"),
        ("[engine]\nname = \"cuda\"\n", "engine.name"),
        ("[limits]\nactive_queries = 0\n", "limits.active_queries"),
        ("[limits]\nstanding_millis = 0\n", "limits.standing_millis"),
        ("[limits]\nstanding_millis = 86400001\n", "limits.standing_millis"),
        ("[model]\nslots = \"s\"\n", "model.trusted_keys"),
        ("[camera]\nframes_per_second = nan\n", "camera.frames_per_second"),
        ("[camera]\npath = \"\"\n", "camera.source"),
        ("[camera]\nsource = \"zenoh:\"\n", "camera.path"),
        ("[camera]\npath = \"\"\nsource = \"usb:0\"\n", "camera.source"),
        ("[camera]\nwidth_pixels = 640\n", "camera.height_pixels"),
        ("[camera]\nheight_pixels = 9000\n", "camera.height_pixels"),
        ("[camera]\nstall_millis = 0\n", "camera.stall_millis"),
        ("[camera]\nrestart_first_millis = 0\n", "camera.restart_first_millis"),
        ("[camera]\nrestart_most_millis = 100\n", "camera.restart_most_millis"),
        ("[camera]\nstamp_tolerance_millis = 0\n", "camera.stamp_tolerance_millis"),
        ("[camera]\ngap_intervals = nan\n", "camera.gap_intervals"),
        ("[position]\nmost_sigma_metres = nan\n", "position.most_sigma_metres"),
        ("[position]\ncamera = \"none.json\"\n", "position.camera"),
        ("[engine]\nfallback = \"auto\"\n", "engine.fallback"),
        ("[engine]\nfallback = \"ort/cpu\"\n", "engine.fallback"),
        ("[engine]\nrebuild_first_millis = 0\n", "engine.rebuild_first_millis"),
        ("[engine]\nrebuild_most_millis = 1\n", "engine.rebuild_most_millis"),
        ("[watchdog]\nlate_deadlines = 0.5\n", "watchdog.late_deadlines"),
        ("[watchdog]\nhung_deadlines = 1.5\n", "watchdog.hung_deadlines"),
        ("[thermal]\nhot_celsius = 10.0\n", "thermal.hot_celsius"),
        ("[thermal]\nwarm_celsius = nan\n", "thermal.warm_celsius"),
        ("[thermal]\nleast_frames_per_second = 0.0\n", "thermal.least_frames_per_second"),
        ("[metrics]\nlisten = \"0.0.0.0:9464\"\n", "metrics.listen"),
        ("[metrics]\nlisten = \"9464\"\n", "metrics.listen"),
        ("[tiling]\nbudget_millis = 3600001\n", "tiling.budget_millis"),
        ("[tiling]\nmost_views = 0\n", "tiling.most_views"),
        ("[tiling]\nsmallest_pixels = 0.5\n", "tiling.smallest_pixels"),
        ("[tiling]\nseen_pixels = 65.0\n", "tiling.seen_pixels"),
        ("[tiling]\noverlap = nan\n", "tiling.overlap"),
        ("[standing]\nverify_frames = 0\n", "standing.verify_frames"),
        ("[standing]\nverify_presence_fall = 0.0\n", "standing.verify_presence_fall"),
        ("[standing]\nverify_presence_fall = nan\n", "standing.verify_presence_fall"),
        ("[standing]\nkeep_frames = 100001\n", "standing.keep_frames"),
        ("[standing]\nkeep_millis = 3600001\n", "standing.keep_millis"),
        ("[position]\npose_most_age_millis = 10001\n", "position.pose_most_age_millis"),
        ("[explain]\nthought_tokens = 1025\n", "explain.thought_tokens"),
        ("[explain]\ndeadline_millis = 0\n", "explain.deadline_millis"),
        ("[explain]\ntime_to_live_millis = 0\n", "explain.time_to_live_millis"),
        ("[explain]\ngive_way_millis = 600001\n", "explain.give_way_millis"),
    ] {
        let mut table: Table = LEAST.parse().unwrap();
        for (section, given) in text.parse::<Table>().unwrap() {
            let target = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            target.as_table_mut().unwrap().extend(given.as_table().unwrap().clone());
        }
        let error = parse(&table.to_string()).unwrap_err();
        assert!(error.to_string().starts_with(key), "{error}");
    }
    let error = parse("[engine]\nthreads = \"two\"\n").unwrap_err();
    assert!(error.to_string().contains("threads"), "{error}");
}
