//! When a standing query's words are read again.
//!
//! The language model reads words and picture once; what it said is kept, and later frames are drawn from that.
//! Its word is of the frame that it read, so it is asked again every so many frames, and earlier when the picture
//! contradicts: something that was shown is no longer, something that was not shown is, or what is shown is much less surely
//! there than when the words were read.

/// Frames at least between two readings that the picture asked for: every second frame costs a reading at most.
const LEAST_APART: u32 = 2;

/// The schedule of one standing query; frames are counted, no clock is read.
///
/// What a frame shows is said by its presence, the probability of 0..=1 that the target is there; `None` stands for a frame
/// that shows nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    every_frames: u32,
    presence_fall: f32,
    /// Frames since the words were read, 0 for the frame itself; `None` before.
    age_frames: Option<u32>,
    /// Frames from one reading to the next while nothing is shown.
    pause_frames: u32,
    was_shown: bool,
    /// Presence from which a fall is counted: that of the reading, or of the first frame after it that shows something.
    from_presence: Option<f32>,
}

impl Verification {
    /// Reads the words at the first frame and every `every_frames` after that, where 0 counts as 1; and earlier where
    /// presence falls by `presence_fall` or more, of which 1 and more never happen.
    #[must_use]
    pub fn new(every_frames: u32, presence_fall: f32) -> Self {
        Self {
            every_frames: every_frames.max(1),
            presence_fall,
            age_frames: None,
            pause_frames: 1,
            was_shown: false,
            from_presence: None,
        }
    }

    /// Frames since the words were read: 0 for the frame on which they were; `None` before.
    #[must_use]
    pub fn age_frames(&self) -> Option<u32> {
        self.age_frames
    }

    /// Whether the words must be read on the next frame, whatever it shows: the first time, every so many frames, and
    /// while nothing is shown after pauses that double up to that.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let Some(age) = self.next_age() else { return true };
        age >= self.every_frames || (!self.was_shown && age >= self.pause_frames.max(LEAST_APART))
    }

    /// Whether what was drawn of the next frame from what is kept must be verified on it: whether the target is `shown`
    /// has changed, either way, or it is shown and its presence has fallen.
    #[must_use]
    pub fn doubts(&self, shown: Option<f32>) -> bool {
        let fell = |(from, presence): (f32, f32)| from - presence >= self.presence_fall;
        let is_doubtful = shown.is_some() != self.was_shown || self.from_presence.zip(shown).is_some_and(fell);
        is_doubtful && self.next_age().is_none_or(|age| age >= LEAST_APART)
    }

    /// The words were read on this frame.
    pub fn heard(&mut self, shown: Option<f32>) {
        self.age_frames = Some(0);
        self.pause_frames = match shown {
            Some(_) => 1,
            None => self.pause_frames.saturating_mul(2).min(self.every_frames),
        };
        self.was_shown = shown.is_some();
        self.from_presence = shown;
    }

    /// This frame was drawn from what is kept.
    pub fn drawn(&mut self, shown: Option<f32>) {
        self.age_frames = self.next_age();
        if shown.is_some() {
            self.pause_frames = 1;
        }
        self.was_shown = shown.is_some();
        self.from_presence = self.from_presence.or(shown);
    }

    /// This frame was not looked at: the gate refused it.
    pub fn skipped(&mut self) {
        self.age_frames = self.next_age();
    }

    fn next_age(&self) -> Option<u32> {
        self.age_frames.map(|age| age.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FALL: f32 = 0.2;

    /// Frames at which the words are read when the picture shows this, surely or not at all.
    fn read_at(every: u32, shown: impl IntoIterator<Item = bool>) -> Vec<usize> {
        presence_read_at(every, shown.into_iter().map(|shown| shown.then_some(0.9)))
    }

    fn presence_read_at(every: u32, shown: impl IntoIterator<Item = Option<f32>>) -> Vec<usize> {
        let mut policy = Verification::new(every, FALL);
        let mut at = Vec::new();
        for (frame, shown) in shown.into_iter().enumerate() {
            if policy.is_due() || policy.doubts(shown) {
                policy.heard(shown);
                at.push(frame);
            } else {
                policy.drawn(shown);
            }
        }
        at
    }

    #[test]
    fn a_target_that_stays_is_verified_every_so_many_frames() {
        assert_eq!(read_at(30, [true; 100]), [0, 30, 60, 90]);
        assert_eq!(read_at(1, [true; 4]), [0, 1, 2, 3]);
        assert_eq!(read_at(0, [true; 3]), [0, 1, 2]);
    }

    #[test]
    fn a_target_that_goes_or_comes_back_is_verified_at_once() {
        let shown = (0..25).map(|frame| !(10..20).contains(&frame));
        let at = read_at(30, shown);
        assert_eq!(at[..2], [0, 10], "it is gone");
        assert!(at.contains(&20), "it is back: {at:?}");
    }

    #[test]
    fn what_stays_absent_is_asked_for_ever_less_often() {
        assert_eq!(read_at(8, [false; 40]), [0, 2, 6, 14, 22, 30, 38]);
    }

    /// What would break: a target that is hardly there any more, and goes on as surely as when it was named.
    #[test]
    fn a_presence_that_falls_is_verified_at_once_and_then_from_where_it_stands() {
        let shown = |presence: &[f32]| presence_read_at(30, presence.iter().map(|presence| Some(*presence)));
        assert_eq!(shown(&[0.95, 0.94, 0.9, 0.8, 0.76]), [0], "as it wavers");
        assert_eq!(shown(&[0.95, 0.9, 0.9, 0.62, 0.62, 0.62, 0.5]), [0, 3], "read once, and believed");
        assert_eq!(shown(&[0.95, 0.9, 0.62, 0.6, 0.55, 0.4]), [0, 2, 5], "and again where it falls on");
        assert_eq!(shown(&[0.6, 0.7, 0.9, 0.8, 0.65]), [0], "not below the reading");
        let slowly: Vec<f32> = (0..12_u8).map(|frame| 0.95 - 0.03 * f32::from(frame)).collect();
        assert_eq!(shown(&slowly), [0, 7], "however slowly");
        let mut unheeded = Verification::new(30, 1.0);
        unheeded.heard(Some(1.0));
        unheeded.drawn(Some(1.0));
        assert!(!unheeded.doubts(Some(0.01)) && unheeded.doubts(None));
    }

    /// What would break: a fall that nobody sees because the words were last read on a frame that showed nothing.
    #[test]
    fn what_came_behind_a_reading_falls_from_where_it_came() {
        let mut policy = Verification::new(30, FALL);
        policy.heard(None);
        policy.drawn(Some(0.9));
        assert!(!policy.doubts(Some(0.8)) && policy.doubts(Some(0.6)));
    }

    #[test]
    fn frames_that_the_gate_refuses_count() {
        let mut policy = Verification::new(3, FALL);
        policy.skipped();
        assert!(policy.is_due() && policy.age_frames().is_none(), "nothing was read yet");
        policy.heard(Some(0.9));
        policy.skipped();
        policy.skipped();
        assert_eq!(policy.age_frames(), Some(2));
        assert!(policy.is_due());
    }

    proptest! {
        /// What would break: the bound on the cost of a frame, when a target flickers.
        #[test]
        fn no_two_frames_in_a_row_are_read(
            every in 2_u32..40,
            shown in prop::collection::vec(prop::option::of(0.0_f32..=1.0), 1..200),
        ) {
            let at = presence_read_at(every, shown.iter().copied());
            prop_assert_eq!(at[0], 0);
            prop_assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 2), "{:?}", at);
            prop_assert!(at.windows(2).all(|pair| pair[1] - pair[0] <= every as usize), "{:?}", at);
            prop_assert!(shown.len() - at[at.len() - 1] <= every as usize);
        }
    }
}
