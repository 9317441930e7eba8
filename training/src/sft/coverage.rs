//! How much of each cell of a grid the things of a picture cover.

use kestrel_link::Mask;

use super::example::{Goal, name};
use super::{Result, TrainError};
use crate::losses::dense::Grid;
use crate::sample::{Picture, Target};

/// How much of each cell every instance covers.
#[derive(Debug)]
pub(crate) struct Coverage {
    side: usize,
    instances: Vec<Vec<f32>>,
    /// Boxes as shares of columns and rows.
    boxes: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Coverage {
    pub(crate) fn of(picture: &Picture, side: usize) -> Result<Self> {
        let mut coverage = Self { side, instances: Vec::new(), boxes: Vec::new() };
        let pixels = picture.image.width() as f32;
        for (index, instance) in picture.instances.iter().enumerate() {
            let [x, y, width, height] = instance.bounding_box.map(|v| v * side as f32 / pixels);
            let (columns, rows) = (interval(side, x, x + width), interval(side, y, y + height));
            let cells = match &instance.mask {
                Some(mask) => cells(mask, side).map_err(|got| TrainError::Mask {
                    picture: name(picture),
                    instance: index,
                    got,
                })?,
                None => rows.iter().flat_map(|r| columns.iter().map(move |c| r * c)).collect(),
            };
            coverage.instances.push(cells);
            coverage.boxes.push((columns, rows));
        }
        Ok(coverage)
    }

    pub(crate) fn goal(&self, target: &Target) -> Goal {
        match target {
            Target::Masks(of) => match self.union(of) {
                mask if mask.iter().any(|&c| c > 0.0) => Goal::Mask(mask),
                _ => Goal::Empty,
            },
            Target::Ambiguous(of) => Goal::Candidates(self.union(of)),
            Target::Boxes(of) => {
                let (mut columns, mut rows) = (vec![0f32; self.side], vec![0f32; self.side]);
                for (c, r) in of.iter().filter_map(|&i| self.boxes.get(i)) {
                    columns.iter_mut().zip(c).for_each(|(to, &c)| *to = to.max(c));
                    rows.iter_mut().zip(r).for_each(|(to, &r)| *to = to.max(r));
                }
                Goal::Boxes(columns, rows)
            }
            Target::Absent | Target::NotUnderstood | Target::Unseeable => Goal::Empty,
        }
    }

    /// Visible pixels of different things never overlap, so their shares add up.
    pub(super) fn union(&self, of: &[usize]) -> Vec<f32> {
        let mut union = vec![0f32; self.side * self.side];
        for cells in of.iter().filter_map(|&i| self.instances.get(i)) {
            union.iter_mut().zip(cells).for_each(|(to, c)| *to = (*to + c).min(1.0));
        }
        union
    }

    pub(super) fn grid(&self, picture: &Picture, side: usize, centres: bool) -> Grid {
        let mut grid = Grid::new(side, &picture.exhaustive, centres);
        for (instance, fine) in picture.instances.iter().zip(&self.instances) {
            grid.add(instance.category, instance.colour, &pool(fine, self.side, side), instance.mask.is_some());
        }
        grid
    }
}

/// Share of each of `side` unit intervals between `from` and `to`.
fn interval(side: usize, from: f32, to: f32) -> Vec<f32> {
    (0..side).map(|i| (to.min(i as f32 + 1.0) - from.max(i as f32)).clamp(0.0, 1.0)).collect()
}

/// Area-averaged mask, `[side²]`.
fn cells(mask: &Mask, side: usize) -> std::result::Result<Vec<f32>, String> {
    let bits = mask.to_bits().map_err(|e| e.to_string())?;
    let (width, height) = (mask.width as usize, mask.height as usize);
    if width == 0 || width % side != 0 || height % side != 0 {
        return Err(format!("{width}x{height} does not divide into {side} cells a side"));
    }
    let (dx, dy) = (width / side, height / side);
    let mut cells = vec![0f32; side * side];
    for (y, row) in bits.chunks_exact(width).enumerate() {
        let to = &mut cells[y / dy * side..][..side];
        for (cell, bits) in to.iter_mut().zip(row.chunks_exact(dx)) {
            *cell += bits.iter().filter(|b| **b).count() as f32;
        }
    }
    let share = 1.0 / (dx * dy) as f32;
    cells.iter_mut().for_each(|c| *c *= share);
    Ok(cells)
}

/// Mean over blocks: `[from²]` to `[to²]`.
pub(super) fn pool(cells: &[f32], from: usize, to: usize) -> Vec<f32> {
    let block = (from / to.max(1)).max(1);
    let mut pooled = vec![0f32; to * to];
    for (at, c) in cells.iter().enumerate() {
        let (y, x) = (at / from / block, at % from / block);
        if let Some(cell) = pooled.get_mut(y * to + x) {
            *cell += c / (block * block) as f32;
        }
    }
    pooled
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sft::example::Goal;

    #[test]
    fn masks_become_shares_of_cells() {
        let mut bits = vec![false; 64];
        (bits[0], bits[1], bits[8], bits[63]) = (true, true, true, true);
        let mask = Mask::from_bits(8, 8, &bits).unwrap();
        let cells = cells(&mask, 4).unwrap();
        assert_eq!((cells[0], cells[15], cells.iter().sum::<f32>()), (0.75, 0.25, 1.0));
        assert_eq!(pool(&cells, 4, 2)[0], 0.1875);
        assert!(super::cells(&mask, 3).is_err());
    }

    #[test]
    fn heat_marks_a_thing_smaller_than_a_cell() {
        let mut cells = vec![0.0; 64];
        (cells[9], cells[63]) = (0.25, 0.125);
        assert_eq!(Goal::Mask(cells).heat(2), [1.0, 0.0, 0.0, 0.5]);
        assert_eq!(Goal::Empty.heat(2), [0.0; 4]);
    }

    #[test]
    fn boxes_become_shares_of_columns() {
        assert_eq!(interval(4, 0.5, 2.25), [0.5, 1.0, 0.25, 0.0]);
    }
}
