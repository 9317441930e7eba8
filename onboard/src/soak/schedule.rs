//! When what goes wrong: a function of a seed and of a few times, and of nothing else.
//!
//! A flight has rounds of three parts. In each part the engine fails once, so that the thirds of a flight, by which memory
//! is judged, are alike. In one part of a round the engine stalls too, in one the camera stops, and in one every kind of
//! brief fault comes; which part that is, and the order in it, are drawn. Every fault has a slot of its own, begins in the
//! first third of it and takes a third of it at most. So two thirds of the time nothing is wrong, and there is quiet behind
//! every fault, in which the drone flies as ever before the next one comes.

use std::time::Duration;

use super::fault::Fault;
use super::seeded::Seeded;

/// A stall lasts at most this many deadlines.
pub(super) const LONGEST_STALL: u32 = 10;

/// A round is at least this long, unless the whole flight is shorter.
const ROUND: Duration = Duration::from_secs(60);
/// Rounds of a long flight have room for a stall of this many deadlines: the watchdog barks after two.
const WANTED_STALL: u32 = 3;
/// A flight that has longer rounds for that has at least this many of them.
const LEAST_ROUNDS: u32 = 10;
const PARTS: u32 = 3;
/// Slots are measured in these: so many are a part.
const UNITS: u32 = 20;
/// The slot in which the engine fails.
const FAILING: u32 = 6;
/// The slot in which it stalls, and the one in which the camera stops.
const LONG: u32 = 12;
/// The slot of any other fault.
const BRIEF: u32 = 2;
const _: () = assert!(FAILING + LONG + BRIEF == UNITS && FAILING + Fault::BRIEF.len() as u32 * BRIEF == UNITS);
/// The share of a slot that its fault takes is at most one in this many.
const SHARE: u32 = 3;
/// Frames of a picture that is wrong, where there is room for them.
const LASTING: u32 = 8;
/// The camera stops for no longer than this.
const LONGEST_STOP: Duration = Duration::from_secs(10);
/// So many runs of the engine fail one after the other at most, where there is time to open it as often.
const MOST_RUNS: u64 = 3;

/// What a schedule is made for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plan {
    /// How long the flight is.
    pub(super) length: Duration,
    /// From one frame to the next.
    pub(super) frame: Duration,
    pub(super) deadline: Duration,
    /// How long an engine that failed is expected to be gone. One that is gone for more than a thirtieth of a round is
    /// gone for more than its share.
    pub(super) reopening: Duration,
}

impl Plan {
    /// How many rounds there are, all of one length, and that length.
    fn rounds(&self) -> (u32, Duration) {
        let stall = self.deadline.saturating_mul(WANTED_STALL * PARTS * SHARE * UNITS / LONG);
        let opening = self.reopening.saturating_mul(PARTS * SHARE * UNITS / FAILING);
        let least = ROUND.max(stall.min(self.length / LEAST_ROUNDS)).max(opening.min(self.length));
        let rounds = u32::try_from(self.length.as_nanos() / least.as_nanos()).unwrap_or(u32::MAX).max(1);
        (rounds, self.length / rounds)
    }
}

/// A fault to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) fault: Fault,
    /// Since the flight began.
    pub(super) at: Duration,
    /// For how long something is expected to be wrong.
    pub(super) lasts: Duration,
    /// How many runs of the engine fail; 0 of all other faults.
    pub(super) runs: u32,
}

/// The faults of a flight, in the order in which they come.
#[derive(Debug)]
pub(super) struct Schedule {
    plan: Plan,
    numbers: Seeded,
    rounds: u32,
    round: Duration,
    begun: u32,
    coming: std::vec::IntoIter<Planned>,
}

impl Schedule {
    /// The faults that a seed names.
    pub(super) fn new(seed: u64, plan: Plan) -> Self {
        let (rounds, round) = plan.rounds();
        Self { plan, numbers: Seeded::new(seed), rounds, round, begun: 0, coming: Vec::new().into_iter() }
    }

    /// No fault at all.
    pub(super) fn empty() -> Self {
        Self { rounds: 0, ..Self::new(0, Plan::default()) }
    }

    /// The faults of a round that begins at a time.
    fn draw(&mut self, start: Duration) -> Vec<Planned> {
        let part = self.round / PARTS;
        let mut planned = Vec::new();
        for (index, slots) in (0..).zip(self.parts()) {
            let mut begins = start + part * index;
            for (fault, units) in slots {
                let slot = part * units / UNITS;
                planned.push(self.place(fault, begins, slot));
                begins += slot;
            }
        }
        planned
    }

    /// What comes in the parts of a round, and how many units are for it.
    fn parts(&mut self) -> [Vec<(Fault, u32)>; PARTS as usize] {
        let mut more = Fault::BRIEF;
        self.numbers.shuffle(&mut more);
        let [one, two, ..] = more;
        let fails = (Fault::EngineFails, FAILING);
        let mut parts = [
            vec![fails, (Fault::EngineStalls, LONG), (one, BRIEF)],
            vec![fails, (Fault::CameraStops, LONG), (two, BRIEF)],
            std::iter::once(fails).chain(Fault::BRIEF.map(|fault| (fault, BRIEF))).collect(),
        ];
        parts.iter_mut().for_each(|part| self.numbers.shuffle(part));
        self.numbers.shuffle(&mut parts);
        parts
    }

    fn place(&mut self, fault: Fault, begins: Duration, slot: Duration) -> Planned {
        let room = slot / SHARE;
        let at = begins + self.between(Duration::ZERO, room);
        let Plan { frame, deadline, reopening, .. } = self.plan;
        // As many numbers are drawn whatever room there is: the same seed names the same order.
        let (lasts, runs) = match fault {
            Fault::EngineFails => {
                let wanted = 1 + self.numbers.below(MOST_RUNS) as u32;
                let fit = room.as_nanos() / reopening.as_nanos().max(1);
                let runs = wanted.min(u32::try_from(fit).unwrap_or(wanted)).max(1);
                (reopening.saturating_mul(runs), runs)
            }
            Fault::EngineStalls => {
                let longest = deadline.saturating_mul(LONGEST_STALL).min(room);
                (self.between((deadline / 2).min(longest), longest), 0)
            }
            Fault::CameraStops => {
                let longest = LONGEST_STOP.min(room);
                (self.between(longest / 2, longest), 0)
            }
            Fault::PictureFreezes | Fault::PictureTears | Fault::PictureChangesSize => {
                (frame.saturating_mul(LASTING).min(room).max(frame), 0)
            }
            Fault::ClockJumps => (frame, 0),
            Fault::GarbageForTheCamera | Fault::GarbageForAQuery | Fault::GarbageForAPush => (Duration::ZERO, 0),
        };
        Planned { fault, at, lasts, runs }
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        least + Duration::from_nanos(self.numbers.below(span))
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        loop {
            if let Some(planned) = self.coming.next() {
                return Some(planned);
            }
            if self.begun == self.rounds {
                return None;
            }
            self.coming = self.draw(self.round * self.begun).into_iter();
            self.begun += 1;
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
