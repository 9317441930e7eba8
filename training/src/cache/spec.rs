//! What a cache is made of.

use std::fmt;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::datasets::folder::Folder;

/// Where a sample's pixels come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A rendered scene.
    Scene,
    /// A crop of NWPU.
    Nwpu,
    /// An NWPU or bare-ground crop with NWPU instances pasted in.
    Pasted,
    /// A crop of KIT (boxes).
    Kit,
    /// A crop of AU-AIR (boxes).
    Auair,
    /// A crop of the building chips.
    Buildings,
    /// A crop of the tree-crown samples.
    Trees,
    /// A crop without labels: absent targets only.
    Unlabelled,
    /// A crop of the specification's data set of this number, or a picture of it whole.
    Set(usize),
}

impl Kind {
    /// Sets the random numbers of a kind apart from those of others with the same seed.
    pub fn stream(self) -> u64 {
        match self {
            Self::Scene => 0,
            Self::Nwpu => 1,
            Self::Pasted => 2,
            Self::Kit => 3,
            Self::Auair => 4,
            Self::Buildings => 5,
            Self::Trees => 6,
            Self::Unlabelled => 7,
            Self::Set(number) => 8 + number as u64,
        }
    }
}

/// How many samples of each kind, and how they are treated. Its hash names the cache folder.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// Everything follows from it; rendered scenes use seeds below 1,000,000 (see [`crate::benchmark`]).
    pub seed: u64,
    /// Side of the pictures in pixels.
    pub size: u32,
    /// Rendered scenes.
    pub scenes: usize,
    /// NWPU crops.
    pub nwpu: usize,
    /// Crops with pasted instances.
    pub pasted: usize,
    /// KIT crops.
    pub kit: usize,
    /// AU-AIR crops.
    pub auair: usize,
    /// Building crops.
    pub buildings: usize,
    /// Tree-crown crops.
    pub trees: usize,
    /// Unlabelled crops.
    pub unlabelled: usize,
    /// Questions per picture at most.
    pub asks: usize,
    /// Share of pictures that are degraded.
    pub degraded_share: f32,
    /// Share of scenes that keep a frame a second later.
    pub later_share: f32,
    /// Share of questions with typing or speech-recognition slips.
    pub slip_share: f32,
    /// Raised when generation changes, so that old caches are not mistaken for new ones.
    pub generation: u32,
    /// Folders of somebody's own pictures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<Folder>,
}

/// The hash of this text names caches: without sets it must stay what it was before there were any.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Spec");
        text.field("seed", &self.seed).field("size", &self.size);
        for (name, count) in [
            ("scenes", self.scenes),
            ("nwpu", self.nwpu),
            ("pasted", self.pasted),
            ("kit", self.kit),
            ("auair", self.auair),
            ("buildings", self.buildings),
            ("trees", self.trees),
            ("unlabelled", self.unlabelled),
            ("asks", self.asks),
        ] {
            text.field(name, &count);
        }
        text.field("degraded_share", &self.degraded_share).field("later_share", &self.later_share);
        text.field("slip_share", &self.slip_share).field("generation", &self.generation);
        if !self.sets.is_empty() {
            text.field("sets", &self.sets);
        }
        text.finish()
    }
}

/// The generation that this code makes.
const GENERATION: u32 = 2;

impl Default for Spec {
    fn default() -> Self {
        Self {
            seed: 1,
            size: 512,
            scenes: 4000,
            nwpu: 1600,
            pasted: 800,
            kit: 150,
            auair: 200,
            buildings: 100,
            trees: 100,
            unlabelled: 50,
            asks: 16,
            degraded_share: 0.22,
            later_share: 0.2,
            slip_share: 0.15,
            generation: GENERATION,
            sets: Vec::new(),
        }
    }
}

impl Spec {
    /// Samples in all; those of sets count once [`Spec::settled`] has told how many they are.
    pub fn len(&self) -> usize {
        self.kinds().iter().map(|(_, n)| n).sum()
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.sets.is_empty()
    }

    /// Numbers by kind.
    pub fn kinds(&self) -> Vec<(Kind, usize)> {
        let mut kinds = vec![
            (Kind::Scene, self.scenes),
            (Kind::Nwpu, self.nwpu),
            (Kind::Pasted, self.pasted),
            (Kind::Kit, self.kit),
            (Kind::Auair, self.auair),
            (Kind::Buildings, self.buildings),
            (Kind::Trees, self.trees),
            (Kind::Unlabelled, self.unlabelled),
        ];
        kinds.extend(self.sets.iter().enumerate().map(|(number, set)| (Kind::Set(number), set.pictures.unwrap_or(0))));
        kinds
    }

    /// SHA-256 of the specification, hex.
    pub fn hash(&self) -> String {
        let text = format!("{self:?}");
        Sha256::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Kind and seed of every sample, mixed. The seed of the n-th sample of a kind is `seed·50,000 + n`, so scenes of
    /// training stay below 1,000,000 for run seeds under 20.
    pub fn plan(&self) -> Vec<(Kind, u64)> {
        let mut plan = Vec::with_capacity(self.len());
        for (kind, count) in self.kinds() {
            plan.extend((0..count as u64).map(|n| (kind, (self.seed * 50_000 + n) % 1_000_000)));
        }
        plan.shuffle(&mut ChaCha8Rng::seed_from_u64(self.seed));
        plan
    }
}
