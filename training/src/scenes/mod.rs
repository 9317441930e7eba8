//! Procedural aerial scenes: labelled pictures without a camera.
//!
//! A seed draws a place, a camera and an hour (`places`), which become triangles (`mesh`).
//! They are rasterised at 2×2 samples a pixel (`raster`), shaded under sun and sky (`shade`) and exposed on a noisy
//! sensor (`finish`). Masks come from the same samples, so they are exact: a pixel belongs to the thing with most of its
//! samples. The same seed gives the same picture on every machine.

mod camera;
mod course;
mod craft;
mod finish;
mod flight;
mod grounds;
mod haulage;
mod mesh;
mod nature;
mod noise;
mod occlusion;
mod paint;
mod places;
mod random;
mod raster;
mod shade;
mod solids;
mod structures;
mod texture;
mod vector;
mod vehicles;

#[cfg(test)]
mod tests;

use crate::colour::median_colour;
use crate::sample::{Category, Instance, Origin, Picture};
use camera::Light;
pub use course::Course;
use finish::Sensor;
pub use flight::{Viewpoint, render_moment};
use image::RgbImage;
use kestrel_link::Mask;
use mesh::{Thing, World};
pub use places::PlaceKind;
use random::Dice;
use raster::{OVERSAMPLING, SAMPLES, Seen, SunMap};
use rayon::prelude::*;
use std::ops::Range;

/// Every category that the renderer draws; all of them are labelled wherever they are seen.
pub fn categories() -> impl Iterator<Item = Category> {
    // "Vehicle" is what other data call a car whose kind they do not tell.
    Category::ALL.into_iter().filter(|c| *c != Category::Vehicle)
}

/// The data set that rendered pictures say they come from.
const DATASET: &str = "scenes";

/// The kind of place that a rendered picture shows; `None` where somebody else made it.
///
/// It is drawn again from the scene's seed, which every picture carries: kept samples need not say it.
pub fn place(picture: &Picture) -> Option<PlaceKind> {
    let ours = picture.origin.dataset == DATASET && picture.exhaustive.iter().copied().eq(categories());
    let seed = picture.origin.scene.parse::<u64>().ok().filter(|_| ours)?;
    let [_, _, mut rest] = generators(seed);
    Some(places::kind(&mut rest))
}

/// What the light, the sensor and everything else of a scene are drawn from.
fn generators(seed: u64) -> [Dice; 3] {
    let mut rest = Dice::new(seed);
    let (light, sensor) = (rest.fork(), rest.fork());
    [light, sensor, rest]
}

/// What to render.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SceneSpec {
    /// Names the scene.
    pub seed: u64,
    /// Side of the square picture in pixels.
    pub size: u32,
    /// Frames, one second apart.
    pub frames: u32,
}

/// One picture of the scene `seed`, `size` pixels square.
pub fn render(seed: u64, size: u32) -> Picture {
    let shot = Shot::take(seed, size, 0);
    let labels = (0..shot.things.len()).filter(|&i| !shot.pixels[i].is_empty()).collect::<Vec<_>>();
    shot.picture(seed, 0, &labels)
}

/// One picture of the scene `seed`, `width` × `height` pixels, no higher than wide: the middle rows of the square one.
///
/// A picture of 3840×2160 pixels takes many seconds, all processor cores and about 2 GB of memory.
pub fn render_wide(seed: u64, width: u32, height: u32) -> Picture {
    let (side, rows) = (width as usize, height.clamp(1, width.max(1)) as usize);
    let above = (side - rows) / 2;
    let shot = Shot::through(seed, Window { side, rows: above..above + rows, together: true }, 0.0, 0);
    let labels = (0..shot.things.len()).into_par_iter().filter(|&i| !shot.pixels[i].is_empty());
    let instances = labels.map(|i| shot.instance(i)).collect();
    shot.labelled(seed, 0, instances)
}

/// `frames` pictures of one scene, a second apart: camera and traffic move.
///
/// `instances[i]` is the same thing in all of them; one that is out of view has an empty mask and `visible` 0.
pub fn render_sequence(seed: u64, size: u32, frames: u32) -> Vec<Picture> {
    let shots: Vec<Shot> = (0..frames).map(|frame| Shot::take(seed, size, frame)).collect();
    let things = shots.iter().map(|s| s.things.len()).min().unwrap_or(0);
    let labels: Vec<usize> = (0..things).filter(|&i| shots.iter().any(|s| !s.pixels[i].is_empty())).collect();
    shots.into_iter().enumerate().map(|(frame, shot)| shot.picture(seed, frame, &labels)).collect()
}

impl SceneSpec {
    /// Renders what the specification asks for.
    pub fn render(&self) -> Vec<Picture> {
        render_sequence(self.seed, self.size, self.frames)
    }
}

/// A rendered frame before it is labelled.
struct Shot {
    image: RgbImage,
    things: Vec<Thing>,
    /// Pixels owned by each thing, as row-major indices in rising order.
    pixels: Vec<Vec<u32>>,
    /// Samples seen and samples it would cover alone.
    share: Vec<(u32, u32)>,
    viewpoint: Viewpoint,
}

/// What of a scene's square picture is drawn.
struct Window {
    side: usize,
    rows: Range<usize>,
    /// Whether all processor cores draw it; where many scenes are drawn at once, each has one.
    together: bool,
}

impl Shot {
    fn take(seed: u64, size: u32, frame: u32) -> Shot {
        Shot::at(seed, size, frame as f32, frame)
    }

    /// The scene `seconds` after its first frame; `frame` numbers the noise of the sensor.
    fn at(seed: u64, size: u32, seconds: f32, frame: u32) -> Shot {
        let side = size as usize;
        Shot::through(seed, Window { side, rows: 0..side, together: false }, seconds, frame)
    }

    fn through(seed: u64, window: Window, seconds: f32, frame: u32) -> Shot {
        let Window { side, rows, together } = window;
        let [mut light, mut sensor, mut dice] = generators(seed);
        let light = Light::draw(&mut light);
        let sensor = Sensor::draw(&mut sensor, frame);
        let world = places::build(&mut dice, seconds);
        let seen = raster::look(&world, side);
        let sun = SunMap::cast(&world, &light, side);
        let occlusion = occlusion::Occlusion::new(&world);
        let shader = shade::Shader { world: &world, light: &light, seen: &seen, sun: &sun, occlusion: &occlusion };
        let light = match together {
            true => shader.develop_together(side, rows.clone()),
            false => shader.develop(side, rows.clone()),
        };
        let image = sensor.expose(light, side);
        let (pixels, share) = owners(&world, &seen, side, rows);
        let viewpoint = Viewpoint::of(&world.camera);
        Shot { image, things: world.things, pixels, share, viewpoint }
    }

    fn picture(self, seed: u64, frame: usize, labels: &[usize]) -> Picture {
        let instances = labels.iter().map(|&i| self.instance(i)).collect();
        self.labelled(seed, frame, instances)
    }

    fn labelled(self, seed: u64, frame: usize, instances: Vec<Instance>) -> Picture {
        Picture {
            image: self.image,
            instances,
            exhaustive: categories().collect(),
            origin: Origin { dataset: DATASET.into(), scene: seed.to_string(), frame: frame.to_string() },
        }
    }

    fn instance(&self, index: usize) -> Instance {
        let (width, height) = self.image.dimensions();
        let own = &self.pixels[index];
        let (mut low, mut high) = ((u32::MAX, u32::MAX), (0, 0));
        let mut bits = vec![false; (width * height) as usize];
        for &i in own {
            let (x, y) = (i % width, i / width);
            low = (low.0.min(x), low.1.min(y));
            high = (high.0.max(x + 1), high.1.max(y + 1));
            bits[i as usize] = true;
        }
        let seen = !own.is_empty();
        let bounding_box = if seen {
            [low.0 as f32, low.1 as f32, (high.0 - low.0) as f32, (high.1 - low.1) as f32]
        } else {
            [0.0; 4]
        };
        let mask = Mask::from_bits(width, height, &bits).ok();
        let Thing { category, painted } = self.things[index];
        // A colour is said only when it shows: not in deep shade, not behind leaves.
        let pixel = |i: &u32| self.image.get_pixel(i % width, i / width).0;
        let colour = painted.filter(|_| median_colour(own.iter().map(pixel)) == painted);
        let (shown, whole) = self.share[index];
        let visible = if seen { (shown as f32 / whole.max(1) as f32).min(1.0) } else { 0.0 };
        Instance { category, colour, bounding_box, mask, visible }
    }
}

/// What a thing shows: samples seen, and samples it would cover alone.
type Share = (u32, u32);

/// Pixels in these rows of every thing by most samples (things win ties against scenery), and the shares of its samples.
fn owners(world: &World, seen: &Seen, size: usize, rows: Range<usize>) -> (Vec<Vec<u32>>, Vec<Share>) {
    let decals = world.decals.len();
    let thing = |id: u32| -> u16 {
        let i = id as usize;
        let t = if i < decals { world.decals.get(i) } else { world.solids.get(i - decals) };
        t.map_or(0, |t| t.thing)
    };
    let mut pixels = vec![Vec::new(); world.things.len()];
    let mut share: Vec<Share> = seen.whole.iter().map(|w| (0, *w)).collect();
    let above = rows.start;
    for y in rows {
        for x in 0..size {
            let mut ids = [0u32; SAMPLES];
            for (k, id) in ids.iter_mut().enumerate() {
                let at = (y * OVERSAMPLING + k / OVERSAMPLING) * seen.side + x * OVERSAMPLING + k % OVERSAMPLING;
                *id = seen.triangle[at];
            }
            let votes = if ids.iter().all(|id| *id == ids[0]) { [thing(ids[0]); SAMPLES] } else { ids.map(thing) };
            if votes == [0; SAMPLES] {
                continue;
            }
            for vote in votes.iter().filter(|v| **v > 0) {
                share[usize::from(*vote) - 1].0 += 1;
            }
            let count = |v: u16| votes.iter().filter(|o| **o == v).count();
            let best = votes.iter().copied().max_by_key(|&v| (count(v), v > 0, std::cmp::Reverse(v))).unwrap_or(0);
            if best > 0 {
                pixels[usize::from(best) - 1].push(((y - above) * size + x) as u32);
            }
        }
    }
    (pixels, share)
}
