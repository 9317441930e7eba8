//! What a step measured: losses and times.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Sums of what was measured over pictures; [`Values::mean`] divides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Values {
    /// All losses, weighted.
    pub total: f32,
    /// Answer.
    pub answer: f32,
    /// Masks: focal and Dice, weak boxes, emptiness.
    pub mask: f32,
    /// Likeness of `[SEG]` states with places, coarse and fine.
    pub matching: f32,
    /// Object score.
    pub object: f32,
    /// Predicted IoU.
    pub iou: f32,
    /// Words without sense.
    pub doubt: f32,
    /// Dense heads.
    pub auxiliary: f32,
    /// Where the thing is that words relate their target to.
    pub anchor: f32,
    /// What stands out.
    pub proposals: f32,
    /// Which proposals are meant, and whether any.
    pub pointing: f32,
    /// Share of questions with exactly the right proposals meant.
    pub pointed: f32,
    /// Which things of a layout are meant, and whether any.
    pub layouts: f32,
    /// Share of questions about layouts with exactly the right things meant.
    pub located: f32,
    /// What words say, without a picture.
    pub reading: f32,
    /// Share of requests without a picture whose category and colour were read right.
    pub read: f32,
    /// Mask losses in later frames.
    pub later: f32,
    /// Share of right answers.
    pub right: f32,
    /// Mean IoU of decoded masks with a target.
    pub overlap: f32,
    /// Pictures.
    pub pictures: f32,
}

impl Values {
    /// Means over pictures.
    pub fn mean(&self) -> Self {
        let n = self.pictures.max(1.0);
        Self {
            total: self.total / n,
            answer: self.answer / n,
            mask: self.mask / n,
            matching: self.matching / n,
            object: self.object / n,
            iou: self.iou / n,
            doubt: self.doubt / n,
            auxiliary: self.auxiliary / n,
            anchor: self.anchor / n,
            proposals: self.proposals / n,
            pointing: self.pointing / n,
            pointed: self.pointed / n,
            layouts: self.layouts / n,
            located: self.located / n,
            reading: self.reading / n,
            read: self.read / n,
            later: self.later / n,
            right: self.right / n,
            overlap: self.overlap / n,
            pictures: self.pictures,
        }
    }
}

impl AddAssign for Values {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.answer += other.answer;
        self.mask += other.mask;
        self.matching += other.matching;
        self.object += other.object;
        self.iou += other.iou;
        self.doubt += other.doubt;
        self.auxiliary += other.auxiliary;
        self.anchor += other.anchor;
        self.proposals += other.proposals;
        self.pointing += other.pointing;
        self.pointed += other.pointed;
        self.layouts += other.layouts;
        self.located += other.located;
        self.reading += other.reading;
        self.read += other.read;
        self.later += other.later;
        self.right += other.right;
        self.overlap += other.overlap;
        self.pictures += other.pictures;
    }
}

/// Where the time of passes goes, in milliseconds of one thread.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Times {
    /// Reading and preparing the sample.
    pub prepare: f32,
    /// Vision graph.
    pub vision: f32,
    /// Language graph.
    pub language: f32,
    /// Mask graph.
    pub mask: f32,
    /// Requests without a picture, and questions about layouts, forward.
    pub reading: f32,
    /// Losses and auxiliary heads.
    pub loss: f32,
    /// Backward.
    pub backward: f32,
    /// Adding gradients up.
    pub sum: f32,
}

impl AddAssign for Times {
    fn add_assign(&mut self, other: Self) {
        self.prepare += other.prepare;
        self.vision += other.vision;
        self.language += other.language;
        self.mask += other.mask;
        self.reading += other.reading;
        self.loss += other.loss;
        self.backward += other.backward;
        self.sum += other.sum;
    }
}

impl Times {
    /// Divided by a count.
    pub fn mean(&self, count: f32) -> Self {
        let n = count.max(1.0);
        Self {
            prepare: self.prepare / n,
            vision: self.vision / n,
            language: self.language / n,
            mask: self.mask / n,
            reading: self.reading / n,
            loss: self.loss / n,
            backward: self.backward / n,
            sum: self.sum / n,
        }
    }
}

/// Adds the time since `from` to `to` and starts anew.
pub(super) fn lap(from: &mut Instant, to: &mut f32) {
    let elapsed: Duration = from.elapsed();
    *to += elapsed.as_secs_f32() * 1e3;
    *from = Instant::now();
}
