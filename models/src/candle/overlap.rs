//! What the masks of a group of answers share with their targets and with what the group agrees on, in cells.
//!
//! Rewards are made of these counts elsewhere; nothing is weighed here. On the CPU [`count`] goes over probabilities. On
//! a GPU a kernel goes over logits where they are (`cuda/overlap.cu`), and eight numbers a mask come back instead of the
//! mask. Both compare and add in the same order; they may differ in a cell whose probability, or whose mean of votes,
//! lies within the rounding of an exponential function of one half.

use candle_core::Tensor;

#[cfg(feature = "cuda")]
use super::cuda;
use crate::error::{Error, Result};

/// A cell is drawn, and agreed on, over this.
const HALF: f32 = 0.5;

/// One answer of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Member {
    /// Number of its mask; without one every cell has probability 0.
    pub mask: Option<usize>,
    /// Number of the target that it should have drawn; without one no cell is right.
    pub target: Option<usize>,
    /// Whether its mask, or its silence, counts for the consensus.
    pub votes: bool,
}

/// Answers that are compared, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The answers.
    pub members: Vec<Member>,
    /// Of each target, which cells belong to it.
    pub targets: Vec<Vec<bool>>,
    /// Whether the consensus that a voter is compared with is made without its own vote.
    pub leave_one_out: bool,
}

impl Group {
    /// How many members vote.
    pub fn voters(&self) -> usize {
        self.members.iter().filter(|member| member.votes).count()
    }
}

/// Counts of one member's cells. The consensus is where the mean probability of the voters is over a half; of no voter
/// there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Cells of a probability over a half.
    pub drawn: u64,
    /// Cells of the target.
    pub target: u64,
    /// Cells that are drawn and of the target.
    pub on_target: u64,
    /// Cells of the consensus.
    pub consensus: u64,
    /// Cells that are drawn and of the consensus.
    pub on_consensus: u64,
    /// Sum of the columns of all drawn cells, in a grid of [`side`] columns.
    pub columns: u64,
    /// Sum of their rows.
    pub rows: u64,
    /// Cells that are no finite number. Where there are any, the other counts mean nothing, nor does a consensus that
    /// this member had a vote in.
    pub broken: u64,
}

impl Overlap {
    /// One cell more.
    fn add(&mut self, [column, row]: [u64; 2], probability: f32, wanted: bool, agreed: bool) {
        let drawn = probability > HALF;
        self.drawn += u64::from(drawn);
        self.target += u64::from(wanted);
        self.on_target += u64::from(drawn && wanted);
        self.consensus += u64::from(agreed);
        self.on_consensus += u64::from(drawn && agreed);
        if drawn {
            self.columns += column;
            self.rows += row;
        }
        self.broken += u64::from(!probability.is_finite());
    }
}

/// Columns of a square grid of so many cells, at least 1.
pub fn side(cells: usize) -> usize {
    cells.isqrt().max(1)
}

/// Counts over the first `cells` cells of every member's mask of probabilities, in one pass.
///
/// A mask or target that does not exist or ends earlier goes on with 0: nothing there is drawn or right.
pub fn count(masks: &[&[f32]], group: &Group, cells: usize) -> Vec<Overlap> {
    let members = &group.members;
    let drawn: Vec<&[f32]> =
        members.iter().map(|m| m.mask.and_then(|number| masks.get(number)).copied().unwrap_or_default()).collect();
    let wanted: Vec<&[bool]> = members
        .iter()
        .map(|m| m.target.and_then(|number| group.targets.get(number)).map_or(&[][..], Vec::as_slice))
        .collect();
    let (voters, side) = (group.voters() as f32, side(cells));
    let mut counts = vec![Overlap::default(); members.len()];
    for cell in 0..cells {
        let probability = |mask: &[f32]| mask.get(cell).copied().unwrap_or(0.0);
        let votes = members.iter().zip(&drawn).filter(|(member, _)| member.votes);
        let sum: f32 = votes.map(|(_, mask)| probability(mask)).sum();
        let place = [cell % side, cell / side].map(|at| at as u64);
        for (i, counts) in counts.iter_mut().enumerate() {
            let p = probability(drawn[i]);
            let apart = group.leave_one_out && members[i].votes;
            let (others, of) = if apart { (sum - p, voters - 1.0) } else { (sum, voters) };
            let agreed = of > 0.0 && others / of > HALF;
            counts.add(place, p, wanted[i].get(cell).copied().unwrap_or(false), agreed);
        }
    }
    counts
}

/// Masks as they were drawn: as probabilities in memory, or on a GPU as the logits that are there.
#[derive(Debug)]
pub struct Drawn {
    len: usize,
    cells: usize,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Host(Vec<f32>),
    #[cfg(feature = "cuda")]
    Gpu(Tensor),
}

impl Drawn {
    /// Of logits `[n, …]` with as many cells in each mask; masks are numbered in their order.
    ///
    /// # Errors
    /// When masks have different sizes or candle fails.
    pub fn new(logits: &[Tensor]) -> Result<Self> {
        let mut rows = Vec::with_capacity(logits.len());
        for some in logits.iter().filter(|some| some.elem_count() > 0) {
            let masks = some.dim(0)?;
            rows.push(some.reshape((masks, some.elem_count() / masks))?);
        }
        let cells = rows.first().map_or(Ok(0), |row| row.dim(1))?;
        for row in &rows {
            if row.dim(1)? != cells {
                return Err(Error::Shape {
                    operation: "overlap",
                    name: "masks".into(),
                    expected: format!("{cells} cells in each"),
                    got: row.dims().to_vec(),
                });
            }
        }
        let len = rows.iter().map(|row| row.dims()[0]).sum();
        Ok(Self { len, cells, held: Held::of(&rows)? })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Cells of each; 0 where there is no mask.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// What [`count`] counts of a group whose members' masks these are.
    ///
    /// # Errors
    /// When a member names a mask or target that does not exist, when a target or a named mask does not have `cells`
    /// cells, or when the GPU fails.
    pub fn count(&self, group: &Group, cells: usize) -> Result<Vec<Overlap>> {
        self.check(group, cells)?;
        match &self.held {
            Held::Host(probabilities) => {
                let masks: Vec<&[f32]> = probabilities.chunks_exact(self.cells.max(1)).collect();
                Ok(count(&masks, group, cells))
            }
            #[cfg(feature = "cuda")]
            Held::Gpu(logits) => Ok(cuda::overlap(logits, group, cells)?),
        }
    }

    fn check(&self, group: &Group, cells: usize) -> Result<()> {
        let refuse = |expected: String, got: String| Err(Error::Request { operation: "overlap", expected, got });
        for member in &group.members {
            let known = |number: Option<usize>, of: usize| number.is_none_or(|number| number < of);
            if !known(member.mask, self.len) || !known(member.target, group.targets.len()) {
                let there = format!("a mask under {} and a target under {}", self.len, group.targets.len());
                return refuse(there, format!("{member:?}"));
            }
            if member.mask.is_some() && self.cells != cells {
                return refuse(format!("masks of {cells} cells"), format!("{} cells", self.cells));
            }
        }
        match group.targets.iter().find(|target| target.len() != cells) {
            Some(target) => refuse(format!("targets of {cells} cells"), format!("{} cells", target.len())),
            None => Ok(()),
        }
    }
}

impl Held {
    /// Rows `[n, cells]`, on a GPU where they are there.
    fn of(rows: &[Tensor]) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if rows.first().is_some_and(|row| row.device().is_cuda()) {
            return Ok(Self::Gpu(Tensor::cat(rows, 0)?.contiguous()?));
        }
        let mut probabilities = Vec::with_capacity(rows.iter().map(Tensor::elem_count).sum());
        for row in rows {
            let logits = row.flatten_all()?.to_vec1::<f32>()?;
            probabilities.extend(logits.into_iter().map(|z| 1.0 / (1.0 + (-z).exp())));
        }
        Ok(Self::Host(probabilities))
    }
}

#[cfg(test)]
#[path = "overlap_tests.rs"]
mod tests;
