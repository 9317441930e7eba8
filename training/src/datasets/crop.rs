//! From a whole image with labels to a square [`Picture`] at model input size.

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use kestrel_link::Mask;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Labelled, Outline, Record, Result, labels, raster};
use crate::colour::colour_of;
use crate::sample::{Category, Colour, Instance, Origin, Picture};

/// A square region of an image, in its pixels (it may reach beyond the edges), and one of the eight ways to lay it down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Side.
    pub side: f32,
    /// Quarter turns (bits 0–1) and a left–right flip before them (bit 2).
    pub lay: u8,
}

impl Region {
    /// The whole image, centred in a square.
    pub fn whole(record: &Record) -> Self {
        let side = record.width.max(record.height) as f32;
        let (x, y) = ((record.width as f32 - side) / 2.0, (record.height as f32 - side) / 2.0);
        Self { x, y, side, lay: 0 }
    }

    /// A square of `side` around a centre, moved inside the image where it fits.
    pub fn around(record: &Record, centre: [f32; 2], side: f32) -> Self {
        let place = |c: f32, length: u32| {
            let length = length as f32;
            if side >= length { (length - side) / 2.0 } else { (c - side / 2.0).clamp(0.0, length - side) }
        };
        Self { x: place(centre[0], record.width), y: place(centre[1], record.height), side, lay: 0 }
    }

    /// A training crop: 0.7 to 1.6 times native resolution (0.45 to 1.2 for frames of 1,500 px and more, whose things are
    /// large), mostly around a labelled thing, laid down any way.
    ///
    /// Pictures under 1,100 px are shown whole in a quarter of the crops, so that large things are seen whole too.
    pub fn random(record: &Record, size: u32, rng: &mut ChaCha8Rng) -> Self {
        let longest = record.width.max(record.height) as f32;
        let scales = if longest >= 1500.0 { 0.45..1.2f32 } else { 0.7..1.6 };
        let native = size as f32 / rng.random_range(scales);
        let side = if longest < 1100.0 && rng.random_bool(0.25) { longest } else { native.min(longest) };
        let centre = if record.instances.is_empty() || rng.random_bool(0.15) {
            [rng.random::<f32>() * record.width as f32, rng.random::<f32>() * record.height as f32]
        } else {
            let [x, y, w, h] = record.instances[rng.random_range(0..record.instances.len())].bounding_box;
            let shift = side * 0.4;
            [x + w / 2.0 + rng.random_range(-shift..shift), y + h / 2.0 + rng.random_range(-shift..shift)]
        };
        Self { lay: rng.random_range(0..8u8), ..Self::around(record, centre, side) }
    }

    /// From image pixels to output pixels.
    pub fn map(&self, p: [f32; 2], size: u32) -> [f32; 2] {
        let s = size as f32;
        let (mut u, mut v) = ((p[0] - self.x) / self.side * s, (p[1] - self.y) / self.side * s);
        if self.lay & 4 != 0 {
            u = s - u;
        }
        for _ in 0..self.lay & 3 {
            (u, v) = (s - v, u);
        }
        [u, v]
    }

    /// From output pixels to image pixels: the inverse of [`Region::map`].
    pub fn unmap(&self, p: [f32; 2], size: u32) -> [f32; 2] {
        let s = size as f32;
        let [mut u, mut v] = p;
        for _ in 0..self.lay & 3 {
            (u, v) = (v, s - u);
        }
        if self.lay & 4 != 0 {
            u = s - u;
        }
        [self.x + u / s * self.side, self.y + v / s * self.side]
    }
}

/// Cuts the region out of the decoded image, with every label that reaches into it.
///
/// # Errors
/// When a mask cannot be encoded.
pub fn cut(record: &Record, image: &RgbImage, region: &Region, size: u32) -> Result<Picture> {
    cut_indexed(record, image, region, size).map(|(picture, _)| picture)
}

/// [`cut`], and for every instance of the record its index in the picture, `None` where the region shows nothing of it.
///
/// # Errors
/// As [`cut`].
pub fn cut_indexed(
    record: &Record,
    image: &RgbImage,
    region: &Region,
    size: u32,
) -> Result<(Picture, Vec<Option<usize>>)> {
    let pixels = pixels(image, region, size);
    let mut instances = Vec::new();
    let mut indices = Vec::with_capacity(record.instances.len());
    for labelled in &record.instances {
        let shown = instance(labelled, region, size, &pixels)?;
        indices.push(shown.is_some().then_some(instances.len()));
        instances.extend(shown);
    }
    let origin = Origin { dataset: record.dataset.clone(), scene: record.scene.clone(), frame: record.frame() };
    Ok((Picture { image: pixels, instances, exhaustive: record.exhaustive.clone(), origin }, indices))
}

fn pixels(image: &RgbImage, region: &Region, size: u32) -> RgbImage {
    let scale = size as f32 / region.side;
    let (w, h) = (image.width() as f32, image.height() as f32);
    let (x0, y0) = (region.x.max(0.0).floor(), region.y.max(0.0).floor());
    let (x1, y1) = ((region.x + region.side).min(w).ceil(), (region.y + region.side).min(h).ceil());
    // 114 is the grey that letterboxed frames are padded with in flight.
    let mut out = RgbImage::from_pixel(size, size, Rgb([114; 3]));
    if x1 > x0 && y1 > y0 {
        let part = imageops::crop_imm(image, x0 as u32, y0 as u32, (x1 - x0) as u32, (y1 - y0) as u32).to_image();
        let target = |length: f32| ((length * scale).round() as u32).clamp(1, size);
        let part = imageops::resize(&part, target(x1 - x0), target(y1 - y0), FilterType::Triangle);
        let left = ((x0 - region.x) * scale).round() as i64;
        let top = ((y0 - region.y) * scale).round() as i64;
        imageops::replace(&mut out, &part, left, top);
    }
    if region.lay & 4 != 0 {
        imageops::flip_horizontal_in_place(&mut out);
    }
    for _ in 0..region.lay & 3 {
        out = imageops::rotate90(&out);
    }
    out
}

fn instance(labelled: &Labelled, region: &Region, size: u32, image: &RgbImage) -> Result<Option<Instance>> {
    let mut bits = vec![false; (size * size) as usize];
    let mut full = 0.0;
    match &labelled.outline {
        Outline::Box => return weak_instance(labelled, region, size, image),
        Outline::Oriented(quad) => {
            let quad = quad.map(|p| region.map(p, size));
            return match oriented_instance(labelled, &quad, size, image)? {
                // Too thin to cover the centre of a pixel: the box around it is still there.
                None => weak_instance(labelled, region, size, image),
                found => Ok(found),
            };
        }
        Outline::Polygons(polygons) => {
            for polygon in polygons {
                let mapped: Vec<_> = polygon.iter().map(|p| region.map(*p, size)).collect();
                full += raster::area(&mapped);
                raster::fill(&mut bits, size, &mapped);
            }
        }
        Outline::Pixels { left, top, mask } => {
            full = raster::lay(&mut bits, size, region, [*left, *top], mask)?;
        }
    }
    let Some(bounding_box) = raster::bounding_box(&bits, size) else { return Ok(None) };
    let seen = bits.iter().filter(|b| **b).count() as f32;
    let mask = raster::encode(&bits, size)?;
    let colour = colour(labelled.category, image, &mask);
    let visible = (seen / full.max(1.0)).min(1.0) * labelled.visible;
    Ok(Some(Instance { category: labelled.category, colour, bounding_box, mask: Some(mask), visible }))
}

/// A weak instance whose box is as tight as an oriented one allows where the frame cuts it.
fn oriented_instance(
    labelled: &Labelled,
    quad: &[[f32; 2]; 4],
    size: u32,
    image: &RgbImage,
) -> Result<Option<Instance>> {
    let mut bits = vec![false; (size * size) as usize];
    raster::fill(&mut bits, size, quad);
    let Some(bounding_box) = raster::bounding_box(&bits, size) else { return Ok(None) };
    let seen = bits.iter().filter(|b| **b).count() as f32;
    let visible = (seen / raster::area(quad).max(1.0)).min(1.0) * labelled.visible;
    // As in an upright box, the middle is the thing itself.
    let centre = [0, 1].map(|axis| quad.iter().map(|p| p[axis]).sum::<f32>() / 4.0);
    let core = quad.map(|p| [0, 1].map(|axis| centre[axis] + 0.4 * (p[axis] - centre[axis])));
    bits.fill(false);
    raster::fill(&mut bits, size, &core);
    let colour = colour(labelled.category, image, &raster::encode(&bits, size)?);
    Ok(Some(Instance { category: labelled.category, colour, bounding_box, mask: None, visible }))
}

fn weak_instance(labelled: &Labelled, region: &Region, size: u32, image: &RgbImage) -> Result<Option<Instance>> {
    let [x, y, w, h] = labelled.bounding_box;
    let (a, b) = (region.map([x, y], size), region.map([x + w, y + h], size));
    let clip = |v: f32| v.clamp(0.0, size as f32);
    let (x0, x1) = (clip(a[0].min(b[0])), clip(a[0].max(b[0])));
    let (y0, y1) = (clip(a[1].min(b[1])), clip(a[1].max(b[1])));
    let full = (a[0] - b[0]).abs() * (a[1] - b[1]).abs();
    let seen = (x1 - x0) * (y1 - y0);
    if seen <= 0.0 || full <= 0.0 {
        return Ok(None);
    }
    // The centre of the box is the thing itself, its corners are ground.
    let core = |from: f32, to: f32| (from + 0.3 * (to - from), from + 0.7 * (to - from));
    let ((cx0, cx1), (cy0, cy1)) = (core(x0, x1), core(y0, y1));
    let mut bits = vec![false; (size * size) as usize];
    raster::fill(&mut bits, size, &[[cx0, cy0], [cx1, cy0], [cx1, cy1], [cx0, cy1]]);
    let colour = colour(labelled.category, image, &raster::encode(&bits, size)?);
    let bounding_box = [x0, y0, x1 - x0, y1 - y0];
    let visible = (seen / full).min(1.0) * labelled.visible;
    Ok(Some(Instance { category: labelled.category, colour, bounding_box, mask: None, visible }))
}

fn colour(category: Category, image: &RgbImage, mask: &Mask) -> Option<Colour> {
    if labels::coloured(category) { colour_of(image, mask) } else { None }
}
