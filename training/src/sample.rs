//! A labelled picture and the questions asked about it.

use image::RgbImage;
use kestrel_link::{Hint, Mask};
use serde::{Deserialize, Serialize};

use crate::rewards::TaskKind;

/// The things a picture can hold. The order is part of the cached format and of the auxiliary head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Category {
    Car,
    Van,
    Truck,
    Bus,
    /// NWPU's "vehicle", when the kind of road vehicle is not labelled.
    Vehicle,
    Boat,
    Airplane,
    StorageTank,
    Building,
    Tree,
    Pool,
    TennisCourt,
    BasketballCourt,
    BaseballDiamond,
    GroundTrackField,
    Harbor,
    Bridge,
    Person,
    Bicycle,
    Trailer,
}

impl Category {
    /// All of them, in order.
    pub const ALL: [Self; 20] = [
        Self::Car,
        Self::Van,
        Self::Truck,
        Self::Bus,
        Self::Vehicle,
        Self::Boat,
        Self::Airplane,
        Self::StorageTank,
        Self::Building,
        Self::Tree,
        Self::Pool,
        Self::TennisCourt,
        Self::BasketballCourt,
        Self::BaseballDiamond,
        Self::GroundTrackField,
        Self::Harbor,
        Self::Bridge,
        Self::Person,
        Self::Bicycle,
        Self::Trailer,
    ];
}

/// The colours that words name, by the rule of median HSV inside the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Colour {
    White,
    Black,
    Grey,
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Brown,
}

impl Colour {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::White,
        Self::Black,
        Self::Grey,
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Blue,
        Self::Brown,
    ];
}

/// One labelled thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// What it is.
    pub category: Category,
    /// Its colour, where the rule is sure.
    pub colour: Option<Colour>,
    /// `[x, y, width, height]` in pixels, clipped to the picture.
    pub bounding_box: [f32; 4],
    /// Visible pixels; `None` for weak labels (a box is not an outline).
    pub mask: Option<Mask>,
    /// Share of the object that is visible (not occluded, not cut by the frame), 0..=1.
    pub visible: f32,
}

/// Where a picture comes from. Splits go by `scene`, never by picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// `scenes`, `nwpu_vhr10`, …
    pub dataset: String,
    /// Scene, strip, sequence or cluster: the unit of splitting.
    pub scene: String,
    /// File or frame within it.
    pub frame: String,
}

/// Pixels with their labels.
#[derive(Debug, Clone)]
pub struct Picture {
    /// 8-bit sRGB.
    pub image: RgbImage,
    /// Everything labelled in it.
    pub instances: Vec<Instance>,
    /// The categories that are *exhaustively* labelled in this picture: only these may be called absent or counted.
    pub exhaustive: Vec<Category>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What kind of question it is: the strata of every table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Stratum {
    /// "the airplane", unique by category.
    Category,
    /// "the red car".
    Colour,
    /// "the largest building".
    Size,
    /// "the car at the top left".
    Position,
    /// "the car next to the white truck".
    Relation,
    /// "the second car from the left".
    Ordinal,
    /// "all cars".
    Plural,
    /// A box or a point beside or instead of words.
    Hint,
    /// Several things fit.
    Ambiguous,
    AbsentCategory,
    AbsentColour,
    WrongRelation,
    /// Words that make no sense.
    Nonsense,
    /// The target is in the scene but cannot be seen in this degraded view.
    Unseeable,
}

/// What should be answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The union of these instances (indices into the sample's instances), all with masks.
    Masks(Vec<usize>),
    /// Weak: the union of these instances' boxes; supervises projections, never a filled mask.
    Boxes(Vec<usize>),
    /// Refuse: nothing fits.
    Absent,
    /// Refuse: these fit equally well.
    Ambiguous(Vec<usize>),
    /// Refuse: the words make no sense.
    NotUnderstood,
    /// Refuse: degraded beyond telling.
    Unseeable,
}

/// A question with its right answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The words, as typed or heard.
    pub text: String,
    /// Place in the picture, fractions.
    pub hint: Option<Hint>,
    /// The stratum it belongs to.
    pub stratum: Stratum,
    /// The right answer.
    pub target: Target,
    /// Byte ranges of `text` that make no sense (empty unless the stratum is nonsense).
    pub nonsense: Vec<(usize, usize)>,
    /// Whether the phrasing or its slips come from the held-out list.
    pub held_out_phrasing: bool,
    /// Whether typing or speech-recognition slips were put in.
    pub slipped: bool,
    /// Whether a data set's annotators wrote the words; ours are made anew all the time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub written: bool,
}

/// A task that people wrote about a picture, with a text as its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// The task.
    pub task: TaskKind,
    /// The words of the request.
    pub request: String,
    /// Texts, at least one, each of which is right.
    pub texts: Vec<String>,
}

/// A training or evaluation sample: one square picture at model input size and what is asked about it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The picture, already degraded if `degradation` says so.
    pub picture: Picture,
    /// Up to 16 questions.
    pub asks: Vec<Ask>,
    /// Degradation family and severity 0..=1, if any.
    pub degradation: Option<(String, f32)>,
    /// A later frame of the same scene, for standing queries: its picture's `instances[i]` is the same object as here
    /// (an instance that left the view has an empty mask and `visible` 0).
    pub later: Option<Picture>,
    /// Tasks that people wrote about the picture; where there are any, nothing else is asked about it.
    pub spoken: Vec<Spoken>,
}

impl Sample {
    /// Whether all that is asked about it was generated, and may be generated anew.
    pub fn is_ours(&self) -> bool {
        self.spoken.is_empty() && !self.asks.iter().any(|ask| ask.written)
    }
}
