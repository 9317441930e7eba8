#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::bitmap::Bitmap;

const MILLI: u64 = 1_000_000;

fn piece(bounding_box: [f32; 4], colour: [u8; 3]) -> Piece {
    Piece { bounding_box, shape: Shape::default(), appearance: Appearance::of(std::iter::once(colour)) }
}

fn white(x: f32, y: f32) -> Piece {
    piece([x, y, 10.0, 10.0], [255; 3])
}

fn ids(step: &Step) -> Vec<u64> {
    step.tracks.iter().map(|track| track.map_or(0, |track| track.id)).collect()
}

/// What would break: two alike trucks that pass each other exchange their names.
#[test]
fn who_passes_another_keeps_its_name() {
    let mut tracker = Tracker::new(TrackOptions::default());
    for frame in 0..4_u16 {
        let along = f32::from(frame) * 20.0;
        // Each is nearer to where the other was than to its own last place when they meet.
        let (east, west) = (white(along, 0.0), white(60.0 - along, 12.0));
        // The order of pieces says nothing.
        let (pieces, expected) = if frame.is_multiple_of(2) { ([east, west], [1, 2]) } else { ([west, east], [2, 1]) };
        let step = tracker.step(&pieces, 0).unwrap();
        assert_eq!(ids(&step), expected, "frame {frame}");
    }
}

#[test]
fn colours_decide_where_places_do_not() {
    let mut tracker = Tracker::new(TrackOptions::default());
    let (red, blue) = ([250, 0, 0], [0, 0, 250]);
    let at = |x: f32, colour| piece([x, 0.0, 10.0, 10.0], colour);
    assert_eq!(ids(&tracker.step(&[at(0.0, red), at(10.0, blue)], 0).unwrap()), [1, 2]);
    // Both between the two places.
    assert_eq!(ids(&tracker.step(&[at(5.0, blue), at(5.0, red)], 0).unwrap()), [2, 1]);
}

/// What would break: two alike things that lie around each other, an L and what it leaves free, exchange their names, because
/// their boxes are the same.
#[test]
fn shapes_decide_where_boxes_do_not() {
    let shaped = |inside: &dyn Fn(u32, u32) -> bool, right: f32| {
        let found = &Bitmap::from_fn(40, 40, inside).components()[0];
        Piece { shape: Shape::of(found), ..piece([100.0 + right, 50.0, 40.0, 40.0], [255; 3]) }
    };
    let corner = |x: u32, y: u32| x < 10 || y >= 30;
    let one = |right: f32| shaped(&corner, right);
    let other = |right: f32| shaped(&|x, y| corner(39 - x, 39 - y), right);
    let mut tracker = Tracker::new(TrackOptions::default());
    assert_eq!(ids(&tracker.step(&[one(0.0), other(0.0)], 0).unwrap()), [1, 2]);
    // The order of pieces says nothing, and both move on.
    assert_eq!(ids(&tracker.step(&[other(3.0), one(3.0)], 0).unwrap()), [2, 1]);
    assert_eq!(ids(&tracker.step(&[other(6.0), one(6.0)], 0).unwrap()), [2, 1]);
    assert_eq!(ids(&tracker.step(&[one(9.0), other(9.0)], 0).unwrap()), [1, 2]);
}

#[test]
fn what_passes_behind_a_tree_comes_out_as_itself() {
    let mut tracker = Tracker::new(TrackOptions::default());
    for frame in 0..20_u16 {
        let pieces = vec![white(f32::from(frame) * 6.0, 0.0)];
        let hidden = (8..13).contains(&frame);
        let step = tracker.step(if hidden { &[] } else { &pieces }, u64::from(frame) * 100 * MILLI).unwrap();
        if hidden {
            assert_eq!((step.refused, step.lost), (vec![1], vec![]), "frame {frame}");
        } else {
            let event = if frame == 0 { TrackEvent::New } else { TrackEvent::Update };
            assert_eq!(step.tracks, [Some(Track { id: 1, event, age_frames: u32::from(frame) })]);
        }
    }
}

#[test]
fn a_track_is_lost_after_the_stated_frames_or_time_and_its_id_never_comes_back() {
    let options = TrackOptions { keep_frames: 3, keep_millis: 1000 };
    let mut tracker = Tracker::new(options);
    tracker.step(&[white(0.0, 0.0)], 5000 * MILLI).unwrap();
    for frame in 1..=3 {
        assert_eq!(tracker.step(&[], (5000 + frame) * MILLI).unwrap().refused, [1]);
    }
    let step = tracker.step(&[], 5004 * MILLI).unwrap();
    assert_eq!((step.refused, step.lost, tracker.live()), (vec![], vec![1], 0));
    assert_eq!(ids(&tracker.step(&[white(0.0, 0.0)], 5005 * MILLI).unwrap()), [2]);

    // On time, to the millisecond.
    assert_eq!(ids(&tracker.step(&[white(0.0, 0.0)], 6005 * MILLI).unwrap()), [2]);
    let step = tracker.step(&[white(0.0, 0.0)], 7006 * MILLI).unwrap();
    assert_eq!((ids(&step), step.lost), (vec![3], vec![2]));
    // A clock that goes backwards ends nothing.
    assert_eq!(ids(&tracker.step(&[white(0.0, 0.0)], 0).unwrap()), [3]);
}

#[test]
fn a_thing_elsewhere_is_another_thing() {
    let mut tracker = Tracker::new(TrackOptions::default());
    tracker.step(&[white(0.0, 0.0)], 0).unwrap();
    let step = tracker.step(&[white(300.0, 0.0)], 0).unwrap();
    assert_eq!((ids(&step), step.refused), (vec![2], vec![1]));
}

/// Promise: P13
#[test]
fn hostile_boxes_are_refused_and_change_nothing() {
    let mut tracker = Tracker::new(TrackOptions::default());
    tracker.step(&[white(0.0, 0.0)], MILLI).unwrap();
    let before = tracker.clone();
    for bounding_box in [
        [f32::NAN, 0.0, 1.0, 1.0],
        [0.0, f32::INFINITY, 1.0, 1.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, 1.0, -1.0],
        [1e30, 0.0, 1.0, 1.0],
        [0.0, 0.0, f32::MAX, 1.0],
    ] {
        let hostile = piece(bounding_box, [0; 3]);
        assert!(tracker.step(&[white(0.0, 0.0), hostile], 2 * MILLI).is_err(), "{bounding_box:?}");
        assert_eq!(tracker, before);
    }
}

/// Promise: P5
#[test]
fn a_crowd_is_bounded_and_who_was_unseen_longest_makes_room() {
    let options = TrackOptions { keep_frames: 100, keep_millis: 1_000_000 };
    let mut tracker = Tracker::new(options);
    let crowd = |y: f32| (0..12_u8).map(|at| white(f32::from(at) * 100.0, y)).collect::<Vec<_>>();
    let step = tracker.step(&crowd(0.0), 0).unwrap();
    assert_eq!(ids(&step), [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0], "only so many have names");
    tracker.step(&crowd(500.0), 0).unwrap();
    let step = tracker.step(&crowd(1000.0), 0).unwrap();
    assert_eq!(step.lost, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(step.refused, [9, 10, 11, 12, 13, 14, 15, 16]);
    assert_eq!(tracker.live(), MOST_TRACKS);
}

fn scene() -> impl Strategy<Value = Vec<(u64, Vec<Piece>)>> {
    let boxes = (0.0_f32..80.0, 0.0_f32..80.0, 1.0_f32..30.0, 1.0_f32..30.0, any::<[u8; 3]>());
    let boxes = boxes.prop_map(|(x, y, width, height, colour)| piece([x, y, width, height], colour));
    prop::collection::vec((0_u64..900, prop::collection::vec(boxes, 0..11)), 1..40)
}

proptest! {
    /// One event for every live track and frame, and no id twice.
    ///
    /// Promise: P1
    #[test]
    fn every_track_has_one_event_a_frame(scene in scene(), keep_frames in 0_u32..6, keep_millis in 0_u64..2000) {
        let mut tracker = Tracker::new(TrackOptions { keep_frames, keep_millis });
        let (mut live, mut ever, mut now) = (BTreeSet::new(), BTreeSet::new(), 1_000_000 * MILLI);
        for (millis, pieces) in scene {
            now += millis * MILLI;
            let step = tracker.step(&pieces, now).unwrap();
            prop_assert_eq!(step.tracks.len(), pieces.len());
            let shown: Vec<Track> = step.tracks.iter().flatten().copied().collect();
            prop_assert_eq!(shown.len(), pieces.len().min(MOST_PIECES));
            let (new, old): (Vec<Track>, Vec<Track>) =
                shown.into_iter().partition(|track| track.event == TrackEvent::New);
            let mut told: Vec<u64> = old.iter().map(|track| track.id).collect();
            told.extend(step.refused.iter().chain(&step.lost));
            told.sort_unstable();
            prop_assert_eq!(&told, &live.iter().copied().collect::<Vec<u64>>());
            for track in &new {
                prop_assert!(ever.insert(track.id), "{} was given before", track.id);
                live.insert(track.id);
            }
            live.retain(|id| !step.lost.contains(id));
            prop_assert_eq!(live.len(), tracker.live());
            prop_assert!(live.len() <= MOST_TRACKS);
        }
    }

    /// The same answers at the same times give the same ids: what a replay rests on.
    ///
    /// Promise: P11
    #[test]
    fn tracks_are_a_function_of_the_answers(scene in scene()) {
        let (mut one, mut two) = (Tracker::new(TrackOptions::default()), Tracker::new(TrackOptions::default()));
        for (millis, pieces) in scene {
            prop_assert_eq!(one.step(&pieces, millis * MILLI).unwrap(), two.step(&pieces, millis * MILLI).unwrap());
        }
        prop_assert_eq!(one, two);
    }
}
