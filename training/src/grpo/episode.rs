//! A picture with its views as the frozen vision part saw them, and what is asked about each; one file a picture.
//!
//! Features are kept in half precision: a 512-pixel view takes 1.7 MB and loads in a millisecond, where seeing it anew
//! takes a third of a second of one core.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use kestrel_models::kestrel::{Config, Seen};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use crate::datasets::{DataError, Result};
use crate::losses::proposals::Thing;
use crate::reasoning::Settled;
use crate::rewards::views::Branch;
use crate::rewards::{TaskKind, Truth};
use crate::sample::{Ask, Origin, Target};
use crate::sft::example::Goal;

/// A picture with its views; the first is clean unless the picture came degraded.
#[derive(Debug)]
pub struct Episode {
    /// Where the picture comes from.
    pub origin: Origin,
    /// Its views.
    pub sights: Vec<Sight>,
}

impl Episode {
    /// With its features on a device.
    ///
    /// # Errors
    /// When they do not fit there.
    pub fn on(mut self, device: &Device) -> candle_core::Result<Self> {
        for Sight { seen, .. } in &mut self.sights {
            for part in [&mut seen.tokens, &mut seen.embed, &mut seen.fine, &mut seen.spots] {
                *part = part.to_device(device)?;
            }
        }
        Ok(self)
    }
}

/// One view.
#[derive(Debug)]
pub struct Sight {
    /// Degradation family and severity, if any.
    pub degradation: Option<(String, f32)>,
    /// What is asked about it.
    pub asked: Vec<Posed>,
    /// The labelled things, in the order of the picture's instances.
    pub things: Vec<Thing>,
    /// The tasks that the labels tell the right answer to, where episodes are made for tasks and nothing is degraded.
    pub tasks: Vec<Known>,
    /// What the vision graph gives, `[1, …]`, f32.
    pub seen: Seen<Tensor>,
}

/// A task about a view; its request is drawn when it is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The task.
    pub kind: TaskKind,
    /// What answers are scored against.
    pub truth: Truth,
}

/// A question about a view.
#[derive(Debug, Clone, PartialEq)]
pub struct Posed {
    /// The question with its right answer.
    pub ask: Ask,
    /// The same question about the first view.
    pub clean: Option<usize>,
    /// What the mask should be.
    pub goal: Goal,
    /// Why that is right, where it is certain.
    pub chain: Option<Settled>,
}

impl Posed {
    /// Under which rewards its answers fall.
    pub fn branch(&self) -> Branch {
        match self.ask.target {
            Target::Masks(_) | Target::Boxes(_) => Branch::High,
            Target::Unseeable => Branch::Low,
            Target::Absent | Target::Ambiguous(_) | Target::NotUnderstood => Branch::Absent,
        }
    }

    /// Share of every cell of the mask's grid that the target covers; empty where nothing should be shown.
    pub fn target(&self) -> &[f32] {
        match &self.goal {
            Goal::Mask(cells) => cells,
            Goal::Candidates(_) | Goal::Boxes(..) | Goal::Empty => &[],
        }
    }

    /// The cells that are drawn, of a target or of candidates.
    fn cells(&self) -> Option<&[f32]> {
        match &self.goal {
            Goal::Mask(cells) | Goal::Candidates(cells) => Some(cells),
            Goal::Boxes(..) | Goal::Empty => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Meta {
    origin: Origin,
    sights: Vec<SightMeta>,
}

#[derive(Serialize, Deserialize)]
struct SightMeta {
    degradation: Option<(String, f32)>,
    asked: Vec<(Ask, Option<usize>, Option<Settled>)>,
    things: Vec<Thing>,
    /// Episodes that are not made for tasks are written as they always were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<Known>,
}

/// Which layout of the file this is; part of the name of the folder that episodes are kept in.
pub(super) const FORMAT: u32 = 3;

const META: &str = "kestrel";
const PARTS: [&str; 4] = ["tokens", "embed", "fine", "spots"];

/// Writes an episode beside its place and renames it, so that it appears whole or not at all.
///
/// # Errors
/// When the disk refuses or a tensor cannot be read.
pub fn write(path: &Path, episode: &Episode) -> Result<()> {
    let broken = |got: String| refuse(path, "features that can be written", got);
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (k, sight) in episode.sights.iter().enumerate() {
        let Seen { tokens, embed, fine, spots } = &sight.seen;
        for (part, tensor) in PARTS.iter().zip([tokens, embed, fine, spots]) {
            let halves: Vec<half::f16> = tensor
                .flatten_all()
                .and_then(|t| t.to_dtype(DType::F16)?.to_vec1())
                .map_err(|e| broken(e.to_string()))?;
            let bytes = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
            tensors.push((format!("{k}.{part}"), Dtype::F16, tensor.dims().to_vec(), bytes));
        }
        let with: Vec<&[f32]> = sight.asked.iter().filter_map(Posed::cells).collect();
        let cells = with.first().map_or(0, |cells| cells.len());
        let bytes = with.iter().flat_map(|cells| cells.iter().map(|t| (t * 255.0).round() as u8)).collect();
        tensors.push((format!("{k}.targets"), Dtype::U8, vec![with.len(), cells], bytes));
    }
    let sights = episode.sights.iter().map(|sight| SightMeta {
        degradation: sight.degradation.clone(),
        asked: sight.asked.iter().map(|posed| (posed.ask.clone(), posed.clean, posed.chain.clone())).collect(),
        things: sight.things.clone(),
        tasks: sight.tasks.clone(),
    });
    let meta = Meta { origin: episode.origin.clone(), sights: sights.collect() };
    let json = serde_json::to_string(&meta).map_err(|e| broken(e.to_string()))?;
    let mut views = Vec::with_capacity(tensors.len());
    for (name, kind, shape, bytes) in &tensors {
        let view = TensorView::new(*kind, shape.clone(), bytes).map_err(|e| broken(e.to_string()))?;
        views.push((name.as_str(), view));
    }
    let bytes = serialize(views, Some(HashMap::from([(META.to_owned(), json)]))).map_err(|e| broken(e.to_string()))?;
    let beside = path.with_extension("partial");
    std::fs::write(&beside, bytes).map_err(DataError::io("writing", &beside))?;
    std::fs::rename(&beside, path).map_err(DataError::io("renaming", &beside))
}

/// Reads an episode of a model of these sizes.
///
/// # Errors
/// When the file is damaged or of a model of other sizes.
pub fn read(path: &Path, config: &Config) -> Result<Episode> {
    let bytes = std::fs::read(path).map_err(DataError::io("reading", path))?;
    let damaged = |got: String| refuse(path, "an episode as this version writes it", got);
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(e.to_string()))?;
    let json = header.metadata().as_ref().and_then(|m| m.get(META)).ok_or_else(|| damaged("no description".into()))?;
    let meta: Meta = serde_json::from_str(json).map_err(|e| damaged(e.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let cells = config.mask_side().pow(2);
    let mut sights = Vec::with_capacity(meta.sights.len());
    for (k, sight) in meta.sights.into_iter().enumerate() {
        let SightMeta { degradation, asked: posed, things, tasks } = sight;
        let [tokens, embed, fine, spots] = PARTS.map(|part| features(path, &tensors, &format!("{k}.{part}")));
        let seen = Seen { tokens: tokens?, embed: embed?, fine: fine?, spots: spots? };
        if seen.fine.dims() != [1, cells, config.fine_width] {
            let expected = format!("features of {cells} cells of width {}", config.fine_width);
            return Err(refuse(path, &expected, format!("{:?}", seen.fine.dims())));
        }
        let targets = tensors.tensor(&format!("{k}.targets")).map_err(|e| damaged(e.to_string()))?;
        let mut targets = targets.data().chunks_exact(cells);
        let mut asked = Vec::with_capacity(posed.len());
        for (ask, clean, chain) in posed {
            let mut drawn = || -> Result<Vec<f32>> {
                let target = targets.next().ok_or_else(|| damaged("fewer targets than questions".into()))?;
                Ok(target.iter().map(|t| f32::from(*t) / 255.0).collect())
            };
            let goal = match ask.target {
                Target::Masks(_) => Goal::Mask(drawn()?),
                Target::Ambiguous(_) => Goal::Candidates(drawn()?),
                _ => Goal::Empty,
            };
            asked.push(Posed { ask, clean, goal, chain });
        }
        sights.push(Sight { degradation, asked, things, tasks, seen });
    }
    Ok(Episode { origin: meta.origin, sights })
}

fn features(path: &Path, tensors: &SafeTensors<'_>, name: &str) -> Result<Tensor> {
    let damaged = |got: String| refuse(path, &format!("half-precision features `{name}`"), got);
    let view = tensors.tensor(name).map_err(|e| damaged(e.to_string()))?;
    if view.dtype() != Dtype::F16 {
        return Err(damaged(format!("{:?}", view.dtype())));
    }
    let word = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f32();
    let values: Vec<f32> = view.data().chunks_exact(2).map(word).collect();
    Tensor::from_vec(values, view.shape(), &Device::Cpu).map_err(|e| damaged(e.to_string()))
}

fn refuse(path: &Path, expected: &str, got: String) -> DataError {
    DataError::Shard { path: path.to_path_buf(), expected: expected.to_owned(), got }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rewards::position::Extent;
    use crate::sample::{Category, Stratum};

    fn episode(config: &Config) -> Episode {
        let rows = |cells: usize, width: usize, at: f32| {
            Tensor::from_vec(
                (0..cells * width).map(|i| at + (i % 7) as f32 * 0.5).collect(),
                (1, cells, width),
                &Device::Cpu,
            )
            .unwrap()
        };
        let seen = |at| Seen {
            tokens: rows(config.token_side().pow(2), config.language_width, at),
            embed: rows(config.embed_side().pow(2), config.mask_width, at),
            fine: rows(config.mask_side().pow(2), config.fine_width, at),
            spots: rows(config.spot_side().pow(2), 34, at),
        };
        let ask = |target| Ask {
            text: "the red car".into(),
            hint: None,
            stratum: Stratum::Colour,
            target,
            nonsense: vec![],
            held_out_phrasing: false,
            slipped: false,
            written: false,
        };
        let mut target = vec![0.0; config.mask_side().pow(2)];
        (target[3], target[4]) = (1.0, 0.2);
        let posed = |target, clean, goal| Posed { ask: ask(target), clean, goal, chain: None };
        let there = posed(Target::Masks(vec![0]), None, Goal::Mask(target.clone()));
        let either = posed(Target::Ambiguous(vec![0, 1]), None, Goal::Candidates(target));
        let hidden = posed(Target::Unseeable, Some(0), Goal::Empty);
        let thing = Thing { category: Category::Car, colour: None, edges: [0.1, 0.2, 0.3, 0.4] };
        let sight = |degradation, asked, at| {
            let (things, tasks) = (vec![thing], vec![]);
            Sight { degradation, asked, things, tasks, seen: seen(at) }
        };
        let origin = Origin { dataset: "scenes".into(), scene: "1".into(), frame: "0".into() };
        let sights = vec![sight(None, vec![there, either], 0.0), sight(Some(("noise".into(), 0.9)), vec![hidden], 1.0)];
        Episode { origin, sights }
    }

    #[test]
    fn what_is_written_is_read() {
        let (config, folder) = (Config::tiny(), tempfile::tempdir().unwrap());
        let (path, was) = (folder.path().join("0.safetensors"), episode(&config));
        write(&path, &was).unwrap();
        let is = read(&path, &config).unwrap();
        assert_eq!((is.sights.len(), is.sights[1].degradation.clone()), (2, Some(("noise".to_owned(), 0.9))));
        assert_eq!((&is.sights[0].asked, &is.sights[0].things), (&was.sights[0].asked, &was.sights[0].things));
        assert!(!is.sights[0].asked[0].target().is_empty() && is.sights[0].asked[1].target().is_empty());
        assert_eq!((is.sights[0].asked[0].branch(), is.sights[1].asked[0].branch()), (Branch::High, Branch::Low));
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&is.sights[1].seen.fine), values(&was.sights[1].seen.fine));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the partial file stayed");
        let other = read(&path, &Config { fine_width: 8, ..config }).unwrap_err().to_string();
        assert!(other.contains("width 8"), "{other}");
    }

    /// What would break: episodes that are there already, which would be made anew.
    #[test]
    fn tasks_are_kept_where_there_are_any_and_change_nothing_where_not() {
        let (config, folder) = (Config::tiny(), tempfile::tempdir().unwrap());
        let path = folder.path().join("0.safetensors");
        let mut was = episode(&config);
        write(&path, &was).unwrap();
        assert!(!String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("tasks"));
        assert!(read(&path, &config).unwrap().sights.iter().all(|sight| sight.tasks.is_empty()));
        let (labels, boxes) = (vec!["park".to_owned()], Some(vec![[0.1, 0.2, 0.3, 0.7]]));
        let size = Some(Extent::try_from([640u32, 480]).unwrap());
        let known = Known { kind: TaskKind::Classification, truth: Truth { labels, boxes, size, texts: vec![] } };
        was.sights[0].tasks = vec![known];
        write(&path, &was).unwrap();
        let is = read(&path, &config).unwrap();
        assert_eq!(is.sights[0].tasks, was.sights[0].tasks);
        assert!(is.sights[1].tasks.is_empty() && is.sights[0].asked == was.sights[0].asked);
    }

    #[test]
    fn every_cut_is_refused() {
        let (config, folder) = (Config::tiny(), tempfile::tempdir().unwrap());
        let path = folder.path().join("0.safetensors");
        write(&path, &episode(&config)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in (0..bytes.len()).step_by(997) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(read(&path, &config).is_err(), "{cut}");
        }
    }
}
