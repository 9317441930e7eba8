//! What is followed in a film, and where it is in each frame.

use anyhow::Result;
use kestrel_perception::Bitmap;
use kestrel_training::expressions::meaning::{Expression, Facts, evaluate};
use kestrel_training::expressions::{Options, Proposed, generate};
use kestrel_training::sample::{Category, Instance, Picture, Stratum, Target};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Things that may move.
const MOVING: [Category; 8] = [
    Category::Car,
    Category::Van,
    Category::Truck,
    Category::Bus,
    Category::Boat,
    Category::Airplane,
    Category::Person,
    Category::Bicycle,
];
/// Least pixels of one thing that is followed in the first frame: 24 a side.
const LEAST_PIXELS: u64 = 24 * 24;
/// Least share of it that is seen in the first frame.
const LEAST_VISIBLE: f32 = 0.8;

/// A question about a film.
pub(super) struct Subject {
    pub(super) text: String,
    expression: Expression,
    /// The one thing that is meant; `None` where all things of a kind are.
    thing: Option<usize>,
}

/// One thing that may move, by kind or colour, and all things of a kind, as far as the first frame has them.
pub(super) fn subjects(first: &Picture, seed: u64) -> Vec<Subject> {
    let weights = vec![(Stratum::Category, 1.0), (Stratum::Colour, 1.0), (Stratum::Plural, 1.0)];
    let options = Options { count: 32, slip_share: 0.0, weights, ..Options::default() };
    let proposed = generate(first, &options, &mut ChaCha8Rng::seed_from_u64(seed));
    let one = proposed.iter().find_map(|proposed| Subject::one(first, proposed));
    let all = proposed.iter().find_map(|proposed| Subject::all(first, proposed));
    one.into_iter().chain(all).collect()
}

fn pixels(instance: &Instance) -> u64 {
    instance.mask.as_ref().and_then(|mask| mask.area().ok()).unwrap_or(0)
}

impl Subject {
    fn one(first: &Picture, proposed: &Proposed) -> Option<Self> {
        let Target::Masks(which) = &proposed.ask.target else { return None };
        let [thing] = which[..] else { return None };
        let (expression, instance) = (proposed.expression.clone()?, first.instances.get(thing)?);
        let is_fit = !expression.plural
            && MOVING.contains(&instance.category)
            && instance.visible >= LEAST_VISIBLE
            && pixels(instance) >= LEAST_PIXELS;
        is_fit.then(|| Self { text: proposed.ask.text.clone(), expression, thing: Some(thing) })
    }

    fn all(first: &Picture, proposed: &Proposed) -> Option<Self> {
        let Target::Masks(which) = &proposed.ask.target else { return None };
        let expression = proposed.expression.clone()?;
        let moving = |thing: &usize| first.instances.get(*thing).is_some_and(|i| MOVING.contains(&i.category));
        let is_fit = proposed.ask.stratum == Stratum::Plural && which.len() > 1 && which.iter().all(moving);
        is_fit.then(|| Self { text: proposed.ask.text.clone(), expression, thing: None })
    }

    /// Whether all things of a kind are meant.
    pub(super) fn is_plural(&self) -> bool {
        self.thing.is_none()
    }

    /// What is meant and seen in a frame.
    pub(super) fn truth(&self, picture: &Picture) -> Result<Truth> {
        let (meant, unsure) = match self.thing {
            Some(thing) => (vec![thing], Vec::new()),
            None => {
                let meaning = evaluate(&Facts::of(picture), &self.expression);
                (meaning.yes, meaning.unsure)
            }
        };
        let mut truth = Truth::nothing(picture.image.width(), picture.image.height());
        for thing in meant {
            if let Some(mask) = mask(picture, thing)? {
                truth.things.push((thing as u64, mask));
            }
        }
        for thing in unsure {
            if let Some(mask) = mask(picture, thing)? {
                truth.doubtful.unite(&mask)?;
            }
        }
        Ok(truth)
    }
}

/// What is right about one frame.
pub(super) struct Truth {
    /// Numbers and masks of the things that are meant.
    pub(super) things: Vec<(u64, Bitmap)>,
    /// Pixels of things that may be meant, because they are hardly seen or their colour is not sure: they count neither way.
    pub(super) doubtful: Bitmap,
}

impl Truth {
    pub(super) fn nothing(width: u32, height: u32) -> Self {
        Self { things: Vec::new(), doubtful: Bitmap::new(width, height) }
    }

    /// A mask without what is doubtful.
    pub(super) fn certain(&self, mut mask: Bitmap) -> Bitmap {
        for (bit, doubtful) in mask.bits_mut().iter_mut().zip(self.doubtful.bits()) {
            *bit &= !doubtful;
        }
        mask
    }
}

/// The mask of a thing; `None` when it is out of view.
fn mask(picture: &Picture, thing: usize) -> Result<Option<Bitmap>> {
    let Some(mask) = picture.instances.get(thing).and_then(|instance| instance.mask.as_ref()) else { return Ok(None) };
    Ok(Some(Bitmap::from_mask(mask)?).filter(|mask| mask.area() > 0))
}
