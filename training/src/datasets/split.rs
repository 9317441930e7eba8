//! Which scenes train, which tune thresholds, which test.

use std::path::Path;
use std::sync::OnceLock;

use serde::Deserialize;

/// The use that a scene is kept for; what is greater is kept further from training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Split {
    Train,
    /// Thresholds and choices between runs.
    Tune,
    Test,
}

impl Split {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Tune, Self::Test];

    /// Its name in commands and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Tune => "tune",
            Self::Test => "test",
        }
    }
}

/// The frozen table of NWPU clusters: which file numbers show the same ground, and their split.
#[derive(Deserialize)]
struct Clusters {
    train: Vec<Vec<u32>>,
    tune: Vec<Vec<u32>>,
    test: Vec<Vec<u32>>,
}

fn clusters() -> &'static Clusters {
    static TABLE: OnceLock<Clusters> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("nwpu_clusters.json")).unwrap_or_else(|error| {
            // The table is compiled in and read by a test: this branch cannot be reached in a tested build.
            tracing::error!(%error, "nwpu_clusters.json is broken: every NWPU image counts as test");
            Clusters { train: vec![], tune: vec![], test: vec![] }
        })
    })
}

/// The scene that an image belongs to, from its data set and file name.
///
/// KIT: the flight (frames 74 to 93 were cut twice from one flight, so both cuts are one scene); AU-AIR: the timestamp;
/// NWPU: the frozen cluster, named after its lowest file number; otherwise the file itself.
pub(super) fn scene(dataset: &str, file: &Path) -> String {
    let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    if dataset.starts_with("kit") {
        let digits: String = stem.rsplit("MOS").next().unwrap_or("").chars().filter(char::is_ascii_digit).collect();
        return if digits.parse::<u32>().is_ok_and(|n| n < 100) { "MOS74-93" } else { "MOS155-179" }.to_owned();
    }
    if dataset.starts_with("auair") {
        // Some frames are numbered after `_x_`, some after `_xx_`.
        return stem.split("_x").next().unwrap_or(&stem).to_owned();
    }
    if dataset.starts_with("nwpu")
        && let Ok(number) = stem.parse::<u32>()
    {
        let table = clusters();
        let all = table.train.iter().chain(&table.tune).chain(&table.test);
        let lowest = all.filter(|c| c.contains(&number)).flat_map(|c| c.iter().min()).next();
        return format!("cluster-{:03}", lowest.copied().unwrap_or(number));
    }
    stem
}

/// The split of a scene. Sets that are held out of all training test only.
pub(super) fn of(dataset: &str, scene: &str) -> Split {
    if dataset.starts_with("nwpu") {
        let number = scene.trim_start_matches("cluster-").parse::<u32>().unwrap_or(0);
        let has = |list: &[Vec<u32>]| list.iter().any(|c| c.contains(&number));
        let table = clusters();
        return if has(&table.train) {
            Split::Train
        } else if has(&table.tune) {
            Split::Tune
        } else {
            Split::Test
        };
    }
    match (dataset, scene) {
        (d, "MOS155-179") if d.starts_with("kit") => Split::Test,
        (d, _) if d.starts_with("kit") => Split::Train,
        (d, "frame_20190905112522") if d.starts_with("auair") => Split::Tune,
        (d, "frame_20190905143505") if d.starts_with("auair") => Split::Test,
        (d, _) if d.starts_with("auair") => Split::Train,
        // The chips from column 1238448 on touch each other; column 1238424 lies apart.
        (d, s) if d.starts_with("oam_kampala") && s.contains("_1238424_") => Split::Test,
        (d, _) if d.starts_with("oam_kampala") => Split::Train,
        (d, s) if d.starts_with("deepforest") && s.starts_with("OSBS") => Split::Test,
        (d, s) if d.starts_with("deepforest") && s.starts_with("SOAP") => Split::Tune,
        (d, _) if d.starts_with("deepforest") => Split::Train,
        // One survey of one ground: it trains whole, and no test is made from it.
        (d, _) if d.starts_with("brighton") => Split::Train,
        _ => Split::Test,
    }
}

/// The split of a scene as a word, for the sets whose splits are settled here; others have none.
pub(super) fn named(dataset: &str, scene: &str) -> Option<String> {
    const SETTLED: [&str; 8] = ["nwpu", "kit", "auair", "oam_kampala", "deepforest", "brighton", "odm_", "hit_uav"];
    SETTLED.iter().any(|name| dataset.starts_with(name)).then(|| of(dataset, scene).name().to_owned())
}
