//! What a step measured: losses and times.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use super::taught::{Tasks, Taught};

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
    /// Chains of reasons, where there are any.
    #[serde(skip_serializing_if = "Chains::none")]
    pub chains: Chains,
    /// Answers to tasks, where there are any.
    #[serde(skip_serializing_if = "Tasks::none")]
    pub tasks: Tasks,
    /// What is learnt from a teacher, where there is one.
    #[serde(skip_serializing_if = "Distilled::none")]
    pub distil: Distilled,
    /// Pictures.
    pub pictures: f32,
}

/// Losses against a teacher, weighted; see [`super::recipe::Terms`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Distilled {
    /// The choice among the five answers.
    pub answer: f32,
    /// Of this, on questions that the teacher would refuse.
    pub refusals: f32,
    /// Tokens of chains of reasons.
    pub chain: f32,
    /// `[SEG]` states.
    pub seg: f32,
    /// Masks.
    pub mask: f32,
    /// Object score and predicted IoU.
    pub presence: f32,
    /// What vision sees.
    pub features: f32,
    /// Fast answers against what is concluded with reasons.
    pub reasoned: f32,
}

impl Distilled {
    fn none(&self) -> bool {
        *self == Self::default()
    }

    /// All of it.
    pub fn total(&self) -> f32 {
        self.answer + self.chain + self.seg + self.mask + self.presence + self.features + self.reasoned
    }

    /// Means over `n` pictures.
    fn mean(&self, n: f32) -> Self {
        Self {
            answer: self.answer / n,
            refusals: self.refusals / n,
            chain: self.chain / n,
            seg: self.seg / n,
            mask: self.mask / n,
            presence: self.presence / n,
            features: self.features / n,
            reasoned: self.reasoned / n,
        }
    }
}

impl AddAssign for Distilled {
    fn add_assign(&mut self, other: Self) {
        self.answer += other.answer;
        self.refusals += other.refusals;
        self.chain += other.chain;
        self.seg += other.seg;
        self.mask += other.mask;
        self.presence += other.presence;
        self.features += other.features;
        self.reasoned += other.reasoned;
    }
}

/// What was measured of chains of reasons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Chains {
    /// Chains that were taught.
    pub taught: f32,
    /// Questions whose chain was longer than the phase allows.
    pub long: f32,
    /// Questions that have no certain chain.
    pub dropped: f32,
    /// Loss of their tokens, and of where they look.
    pub loss: f32,
    /// Loss of what their `[SEG]` show.
    pub shown: f32,
    /// Share of tokens, of those that the grammar leaves open, that are the likeliest; summed over chains.
    pub right: f32,
    /// Nats of such a token, whatever it weighs; summed over chains.
    pub nats: f32,
    /// Share of locations whose likeliest is at most one off; summed over chains.
    pub near: f32,
    /// Chains with a location that is part of a thing's box, where looking at it is taught.
    #[serde(skip_serializing_if = "absent")]
    pub aims: f32,
    /// Share of these locations that look at that thing; summed over such chains.
    #[serde(skip_serializing_if = "absent")]
    pub aimed: f32,
    /// Loss of the distance of their `[SEG]` states from those of fast answers.
    pub apart: f32,
}

impl Chains {
    fn none(&self) -> bool {
        *self == Self::default()
    }

    /// Means over `n` pictures; shares of tokens are over the chains themselves.
    fn mean(&self, n: f32) -> Self {
        let [taught, long, dropped, loss, shown, aims, apart] =
            [self.taught, self.long, self.dropped, self.loss, self.shown, self.aims, self.apart].map(|sum| sum / n);
        let [right, nats, near] = [self.right, self.nats, self.near].map(|sum| sum / self.taught.max(1.0));
        let aimed = self.aimed / self.aims.max(1.0);
        Self { taught, long, dropped, loss, shown, right, nats, near, aims, aimed, apart }
    }
}

impl AddAssign for Chains {
    fn add_assign(&mut self, other: Self) {
        self.taught += other.taught;
        self.long += other.long;
        self.dropped += other.dropped;
        self.loss += other.loss;
        self.shown += other.shown;
        self.right += other.right;
        self.nats += other.nats;
        self.near += other.near;
        self.aims += other.aims;
        self.aimed += other.aimed;
        self.apart += other.apart;
    }
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
            chains: self.chains.mean(n),
            tasks: self.tasks.mean(n),
            distil: self.distil.mean(n),
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
        self.chains += other.chains;
        self.tasks += other.tasks;
        self.distil += other.distil;
        self.pictures += other.pictures;
    }
}

/// Where the time of passes goes, in milliseconds of one thread.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Times {
    /// Reading and preparing the sample.
    pub prepare: f32,
    /// The teacher, where there is one.
    #[serde(skip_serializing_if = "absent")]
    pub teacher: f32,
    /// Vision graph.
    pub vision: f32,
    /// Language graph, and chains of reasons with all that they show.
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

fn absent(millis: &f32) -> bool {
    *millis == 0.0
}

impl AddAssign for Times {
    fn add_assign(&mut self, other: Self) {
        self.prepare += other.prepare;
        self.teacher += other.teacher;
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
            teacher: self.teacher / n,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What would break: chains without anything to look at, refusals above all, would count as looks that miss.
    #[test]
    fn what_is_aimed_is_a_share_of_the_chains_that_aim() {
        let mut sums = Chains { taught: 4.0, near: 3.0, aims: 2.0, aimed: 1.5, ..Chains::default() };
        sums += Chains { taught: 2.0, ..Chains::default() };
        let mean = sums.mean(2.0);
        assert_eq!((mean.taught, mean.near, mean.aims, mean.aimed), (3.0, 0.5, 1.0, 0.75));
    }
}
