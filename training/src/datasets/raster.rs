//! Polygons to pixels, and pixels to [`Mask`]s.

use kestrel_link::Mask;

use super::crop::Region;
use super::{DataError, Result};
use crate::sample::Picture;

/// Sets the pixels of `bits` (row-major, `size`×`size`) whose centres lie inside the polygon (even-odd rule).
pub fn fill(bits: &mut [bool], size: u32, polygon: &[[f32; 2]]) {
    let mut crossings: Vec<f32> = Vec::new();
    let top = polygon.iter().map(|p| p[1]).fold(f32::INFINITY, f32::min).floor().max(0.0) as u32;
    let bottom = polygon.iter().map(|p| p[1]).fold(f32::NEG_INFINITY, f32::max).ceil().clamp(0.0, size as f32) as u32;
    for y in top..bottom {
        let centre = y as f32 + 0.5;
        crossings.clear();
        for (i, a) in polygon.iter().enumerate() {
            let b = polygon[(i + 1) % polygon.len()];
            if (a[1] <= centre) != (b[1] <= centre) {
                crossings.push(a[0] + (centre - a[1]) / (b[1] - a[1]) * (b[0] - a[0]));
            }
        }
        crossings.sort_by(f32::total_cmp);
        for pair in crossings.chunks_exact(2) {
            let from = (pair[0] - 0.5).ceil().clamp(0.0, size as f32) as usize;
            let to = (pair[1] - 0.5).ceil().clamp(0.0, size as f32) as usize;
            let row = y as usize * size as usize;
            bits[row + from..row + to.max(from)].fill(true);
        }
    }
}

/// Sets the pixels of `bits` whose centres lie on a set pixel of `mask`, a part of an image with its corner at `corner`, seen
/// through a region. Returns the whole mask's area in pixels of the output.
///
/// # Errors
/// When the mask does not decode.
pub fn lay(bits: &mut [bool], size: u32, region: &Region, corner: [u32; 2], mask: &Mask) -> Result<f32> {
    let broken = |got: String| DataError::Encode { size, got };
    let part = decode(mask).map_err(broken)?;
    let area = part.iter().filter(|b| **b).count() as f32 * (size as f32 / region.side).powi(2);
    let [left, top] = corner.map(|v| v as f32);
    let (a, b) =
        (region.map([left, top], size), region.map([left + mask.width as f32, top + mask.height as f32], size));
    let range = |axis: usize| {
        let clip = |v: f32| v.clamp(0.0, size as f32) as u32;
        clip(a[axis].min(b[axis]).floor())..clip(a[axis].max(b[axis]).ceil())
    };
    for y in range(1) {
        for x in range(0) {
            let [u, v] = region.unmap([x as f32 + 0.5, y as f32 + 0.5], size);
            let (u, v) = ((u - left).floor(), (v - top).floor());
            if u >= 0.0 && v >= 0.0 && u < mask.width as f32 && v < mask.height as f32 {
                let on = part[v as usize * mask.width as usize + u as usize];
                bits[(y * size + x) as usize] |= on;
            }
        }
    }
    Ok(area)
}

/// Area of a polygon in square pixels (shoelace formula).
pub fn area(polygon: &[[f32; 2]]) -> f32 {
    let twice: f32 = polygon
        .iter()
        .enumerate()
        .map(|(i, a)| {
            let b = polygon[(i + 1) % polygon.len()];
            a[0] * b[1] - b[0] * a[1]
        })
        .sum();
    twice.abs() / 2.0
}

/// `[x, y, width, height]` of the set pixels, or `None` when there are none.
pub fn bounding_box(bits: &[bool], size: u32) -> Option<[f32; 4]> {
    let (mut x0, mut y0, mut x1, mut y1) = (u32::MAX, u32::MAX, 0, 0);
    for (y, row) in bits.chunks_exact(size as usize).enumerate() {
        let Some(first) = row.iter().position(|b| *b) else { continue };
        let last = row.iter().rposition(|b| *b).unwrap_or(first);
        x0 = x0.min(first as u32);
        x1 = x1.max(last as u32 + 1);
        y0 = y0.min(y as u32);
        y1 = y as u32 + 1;
    }
    (x0 < x1).then(|| [x0 as f32, y0 as f32, (x1 - x0) as f32, (y1 - y0) as f32])
}

/// Row-major pixels of an instance's mask; `None` for a weak label.
///
/// # Errors
/// When the stored mask does not decode.
pub fn bits(picture: &Picture, instance: usize) -> Result<Option<Vec<bool>>> {
    let Some(mask) = &picture.instances[instance].mask else { return Ok(None) };
    decode(mask).map(Some).map_err(|got| DataError::Mask {
        instance,
        dataset: picture.origin.dataset.clone(),
        frame: picture.origin.frame.clone(),
        got,
    })
}

pub(crate) fn decode(mask: &Mask) -> std::result::Result<Vec<bool>, String> {
    mask.to_bits().map_err(|e| e.to_string())
}

pub(crate) fn encode(bits: &[bool], size: u32) -> Result<Mask> {
    Mask::from_bits(size, size, bits).map_err(|e| DataError::Encode { size, got: e.to_string() })
}
