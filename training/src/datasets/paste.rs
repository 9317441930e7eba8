//! Real instances put onto other real ground: more unique things, more combinations.

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Labelled, Outline, Record, Result, labels, raster};
use crate::colour::colour_of;
use crate::sample::{Category, Instance, Picture};

/// An instance cut out of its image, with a soft edge.
#[derive(Debug, Clone)]
pub struct Cutout {
    /// What it is.
    pub category: Category,
    pixels: RgbImage,
    /// Coverage 0..=1, row-major, of `pixels`' size.
    alpha: Vec<f32>,
}

/// Categories that look right on other ground.
pub fn movable(category: Category) -> bool {
    use Category as C;
    matches!(category, C::Airplane | C::Boat | C::StorageTank | C::Vehicle | C::TennisCourt | C::BasketballCourt)
}

/// Cuts one outlined instance out; `None` for things without a polygon and those under 12 px.
pub fn cut_out(record: &Record, image: &RgbImage, instance: usize) -> Option<Cutout> {
    let Labelled { category, bounding_box: [x, y, w, h], outline, .. } = record.instances.get(instance)?;
    let Outline::Polygons(polygons) = outline else { return None };
    if w.min(*h) < 12.0 {
        return None;
    }
    // Two pixels around, for the soft edge.
    let (x0, y0) = ((x - 2.0).max(0.0) as u32, (y - 2.0).max(0.0) as u32);
    let width = (w.ceil() as u32 + 4).min(image.width().saturating_sub(x0));
    let height = (h.ceil() as u32 + 4).min(image.height().saturating_sub(y0));
    if width < 8 || height < 8 {
        return None;
    }
    let pixels = image::imageops::crop_imm(image, x0, y0, width, height).to_image();
    let side = width.max(height);
    let mut bits = vec![false; (side * side) as usize];
    for polygon in polygons {
        let moved: Vec<_> = polygon.iter().map(|p| [p[0] - x0 as f32, p[1] - y0 as f32]).collect();
        raster::fill(&mut bits, side, &moved);
    }
    let alpha = feather(&bits, side, width, height);
    Some(Cutout { category: *category, pixels, alpha })
}

/// 3×3 mean of the bits: a one-pixel ramp across the outline.
fn feather(bits: &[bool], side: u32, width: u32, height: u32) -> Vec<f32> {
    let at = |x: i64, y: i64| {
        let inside = x >= 0 && y >= 0 && x < i64::from(width) && y < i64::from(height);
        inside && bits[(y * i64::from(side) + x) as usize]
    };
    let mut alpha = Vec::with_capacity((width * height) as usize);
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            let n = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dx, dy))).filter(|(dx, dy)| at(x + dx, y + dy));
            alpha.push(n.count() as f32 / 9.0);
        }
    }
    alpha
}

/// Where and how a cutout is laid down.
#[derive(Debug, Clone, Copy)]
pub struct Placement {
    /// Centre, pixels of the picture.
    pub centre: [f32; 2],
    /// Output pixels per source pixel.
    pub scale: f32,
    /// Rotation.
    pub angle_radians: f32,
    /// Factor on its brightness.
    pub gain: f32,
}

/// A plausible placement inside the picture: 0.6 to 1.4 times its own scale, shrunk to half the picture at most.
pub fn placement(cutout: &Cutout, size: u32, rng: &mut ChaCha8Rng) -> Placement {
    let longest = cutout.pixels.width().max(cutout.pixels.height()) as f32;
    let scale = rng.random_range(0.6..1.4f32).min(size as f32 * 0.5 / longest);
    let reach = longest * scale * 0.5;
    let range = reach.min(size as f32 * 0.45)..(size as f32 - reach).max(size as f32 * 0.55);
    Placement {
        centre: [rng.random_range(range.clone()), rng.random_range(range)],
        scale,
        angle_radians: rng.random_range(0.0..std::f32::consts::TAU),
        gain: rng.random_range(0.88..1.12),
    }
}

/// Lays the cutout down, takes its pixels away from the masks of what it covers and appends it as the last instance.
///
/// Returns whether it was laid down: not when it would hide more than a third of a labelled thing.
///
/// # Errors
/// When a mask of the picture does not decode.
pub fn paste(picture: &mut Picture, cutout: &Cutout, place: &Placement) -> Result<bool> {
    let size = picture.image.width();
    let alpha = lay(cutout, place, size);
    let bits: Vec<bool> = alpha.iter().map(|(a, _)| *a > 0.5).collect();
    let Some(bounding_box) = raster::bounding_box(&bits, size) else { return Ok(false) };
    let Some(covered) = uncover(picture, &bits, bounding_box)? else { return Ok(false) };
    picture.instances = covered;
    for (pixel, (a, colour)) in picture.image.pixels_mut().zip(&alpha) {
        for (old, new) in pixel.0.iter_mut().zip(colour) {
            *old = (f32::from(*old) * (1.0 - a) + (new * place.gain).min(255.0) * a).round() as u8;
        }
    }
    let mask = raster::encode(&bits, size)?;
    let colour = if labels::coloured(cutout.category) { colour_of(&picture.image, &mask) } else { None };
    let category = cutout.category;
    picture.instances.push(Instance { category, colour, bounding_box, mask: Some(mask), visible: 1.0 });
    Ok(true)
}

/// Coverage and colour of every output pixel (bilinear in the cutout).
fn lay(cutout: &Cutout, place: &Placement, size: u32) -> Vec<(f32, [f32; 3])> {
    let (w, h) = cutout.pixels.dimensions();
    let (sin, cos) = place.angle_radians.sin_cos();
    let mut out = vec![(0.0, [0.0; 3]); (size * size) as usize];
    let reach = (w as f32).hypot(h as f32) * place.scale * 0.5 + 1.0;
    let from = |c: f32| (c - reach).clamp(0.0, size as f32) as u32;
    let to = |c: f32| (c + reach).ceil().clamp(0.0, size as f32) as u32;
    for y in from(place.centre[1])..to(place.centre[1]) {
        for x in from(place.centre[0])..to(place.centre[0]) {
            let (dx, dy) = (x as f32 + 0.5 - place.centre[0], y as f32 + 0.5 - place.centre[1]);
            let u = (dx * cos + dy * sin) / place.scale + w as f32 / 2.0 - 0.5;
            let v = (dy * cos - dx * sin) / place.scale + h as f32 / 2.0 - 0.5;
            if u >= 0.0 && v >= 0.0 && u < (w - 1) as f32 && v < (h - 1) as f32 {
                out[(y * size + x) as usize] = sample(cutout, u, v);
            }
        }
    }
    out
}

fn sample(cutout: &Cutout, u: f32, v: f32) -> (f32, [f32; 3]) {
    let width = cutout.pixels.width();
    let (x, y) = (u as u32, v as u32);
    let (fx, fy) = (u - x as f32, v - y as f32);
    let (mut alpha, mut colour) = (0.0, [0.0; 3]);
    for (dx, dy, weight) in
        [(0, 0, (1.0 - fx) * (1.0 - fy)), (1, 0, fx * (1.0 - fy)), (0, 1, (1.0 - fx) * fy), (1, 1, fx * fy)]
    {
        alpha += weight * cutout.alpha[((y + dy) * width + x + dx) as usize];
        let pixel = cutout.pixels.get_pixel(x + dx, y + dy);
        for (sum, value) in colour.iter_mut().zip(pixel.0) {
            *sum += weight * f32::from(value);
        }
    }
    (alpha, colour)
}

/// The instances with `bits` taken away, or `None` when one would lose too much (for boxes: when they overlap at all).
fn uncover(picture: &Picture, bits: &[bool], [x, y, w, h]: [f32; 4]) -> Result<Option<Vec<Instance>>> {
    let size = picture.image.width();
    let mut left = Vec::with_capacity(picture.instances.len() + 1);
    for (index, instance) in picture.instances.iter().enumerate() {
        let [ix, iy, iw, ih] = instance.bounding_box;
        let apart = x >= ix + iw || ix >= x + w || y >= iy + ih || iy >= y + h;
        if apart {
            left.push(instance.clone());
            continue;
        }
        let Some(mut own) = raster::bits(picture, index)? else { return Ok(None) };
        let before = own.iter().filter(|b| **b).count();
        own.iter_mut().zip(bits).for_each(|(o, b)| *o &= !b);
        let after = own.iter().filter(|b| **b).count();
        if after * 3 < before * 2 {
            return Ok(None);
        }
        let Some(bounding_box) = raster::bounding_box(&own, size) else { return Ok(None) };
        let visible = instance.visible * after as f32 / before.max(1) as f32;
        left.push(Instance { bounding_box, mask: Some(raster::encode(&own, size)?), visible, ..instance.clone() });
    }
    Ok(Some(left))
}
