//! Deadlines and lives, seen from the mailbox: whose outcome is late, and whose time is over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use image::RgbImage;

use super::super::mailbox::{Incoming, Mailbox, Wake};
use super::*;

type Meeting = Mailbox<&'static str, &'static str>;

const MILLI: Duration = Duration::from_millis(1);

fn limits() -> Limits {
    Limits {
        active_queries: 4,
        deadline: 1000 * MILLI,
        reuse_frame: 60_000 * MILLI,
        frame_timeout: 40_000 * MILLI,
        standing: 60_000 * MILLI,
    }
}

fn query(id: &str, frames: u32, deadline_millis: Option<u32>, time_to_live_millis: Option<u32>) -> Query {
    Query { frames, deadline_millis, time_to_live_millis, ..Query::new(id, "the car") }
}

/// The next frame, to be looked at.
fn frame(mailbox: &Meeting, at_hand: Option<&Frame>) -> Arc<Frame> {
    mailbox.put(RgbImage::new(1, 1), 0, None).unwrap();
    let Incoming { frame, prepared, .. } = mailbox.incoming().unwrap();
    mailbox.ready(frame, prepared);
    match mailbox.wait(at_hand) {
        Wake::Frame(frame, _) => frame,
        _ => panic!("expected a frame"),
    }
}

/// Ids of all that are asked about a frame.
fn asked(mailbox: &Meeting, frame: &Frame) -> Vec<String> {
    std::iter::from_fn(|| mailbox.take(frame)).map(|job| job.query.id).collect()
}

/// Ids and reasons of those that are refused, and whether they end with it.
fn told<'a>(late: &'a [(Job<&'static str>, Overdue)]) -> Vec<(&'a str, Overdue, bool)> {
    late.iter().map(|(job, why)| (job.query.id.as_str(), *why, job.ends)).collect()
}

/// What would break: an operator whose deadline is not his own, or one that makes a drone answer later than it may.
///
/// Promise: P2
#[test]
fn an_outcome_is_due_by_the_shorter_of_two_deadlines() {
    let mailbox = Meeting::new(limits());
    for (id, own) in [("none", None), ("shorter", Some(100)), ("longer", Some(60_000))] {
        mailbox.ask(query(id, 1, own, None), id).unwrap();
    }
    let first = frame(&mailbox, None);
    let jobs = std::iter::from_fn(|| mailbox.take(&first));
    let due: Vec<_> = jobs.map(|job| (job.asker.unwrap(), job.deadline)).collect();
    assert_eq!(due, [("none", 1000 * MILLI), ("shorter", 100 * MILLI), ("longer", 1000 * MILLI)]);
}

/// Setup: the engine is at work on a frame that others wait for too, with deadlines of their own. Fault: it does not answer.
/// Expected: each is refused about that frame once its own deadline has passed, and is not put to it afterwards.
/// Invariant: one outcome for each query and frame.
///
/// Promise: P1, P2
#[test]
fn nobody_waits_behind_an_engine_for_longer_than_for_an_outcome() {
    let mailbox = Meeting::new(limits());
    mailbox.ask(query("first", 0, None, None), "first").unwrap();
    mailbox.ask(query("stands", 0, Some(200), None), "stands").unwrap();
    let before = frame(&mailbox, None);
    assert_eq!(asked(&mailbox, &before), ["first", "stands"]);
    mailbox.told("first", before.number);
    mailbox.told("stands", before.number);
    mailbox.ask(query("quick", 1, Some(100), None), "quick").unwrap();
    mailbox.ask(query("slow", 1, Some(500), None), "slow").unwrap();
    let seen = frame(&mailbox, Some(&before));
    assert_eq!(mailbox.take(&seen).unwrap().query.id, "first");

    let start = seen.admitted;
    let at_work = Some((seen.number, start));
    let answer = Overdue::Answer { frame: seen.number, start };
    assert!(mailbox.expire(start + 100 * MILLI, at_work).is_empty(), "due at that moment, and not late");
    let late = mailbox.expire(start + 101 * MILLI, at_work);
    assert_eq!(told(&late), [("quick", answer, true)]);
    assert_eq!((late[0].0.asker, late[0].0.start, late[0].0.deadline), (Some("quick"), start, 100 * MILLI));
    assert_eq!(told(&mailbox.expire(start + 201 * MILLI, at_work)), [("stands", answer, false)]);
    assert_eq!(told(&mailbox.expire(start + 501 * MILLI, at_work)), [("slow", answer, true)]);
    assert!(mailbox.take(&seen).is_none(), "nobody is left who wants to know of it");
    mailbox.told("first", seen.number);
    let next = frame(&mailbox, Some(&seen));
    assert_eq!(asked(&mailbox, &next), ["first", "stands"]);
}

/// Setup: a query that stands was told of lateness. Fault: the engine stays silent. Expected: it is refused again for each of
/// its deadlines as long as newer frames wait, and only for want of a frame when none do.
///
/// Promise: P2
#[test]
fn who_was_told_waits_for_newer_frames_and_not_for_the_engine() {
    let mailbox = Meeting::new(limits());
    mailbox.ask(query("stands", 0, Some(100), None), "a").unwrap();
    let seen = frame(&mailbox, None);
    mailbox.take(&seen).unwrap();
    mailbox.told("stands", seen.number);
    let now = Instant::now();
    let at_work = Some((seen.number, seen.admitted));
    assert!(mailbox.expire(now + 200 * MILLI, at_work).is_empty(), "it has its outcome, and there is no other frame");
    mailbox.put(RgbImage::new(1, 1), 0, None).unwrap();
    assert_eq!(told(&mailbox.expire(now + 201 * MILLI, at_work)), [("stands", Overdue::Engine, false)]);
    assert!(mailbox.expire(now + 301 * MILLI, at_work).is_empty());
    assert_eq!(told(&mailbox.expire(now + 302 * MILLI, at_work)), [("stands", Overdue::Engine, false)]);
}

/// What would break: a query that goes on from what another one of its id had understood, because it began with no answer.
#[test]
fn what_stands_begins_with_an_answer_even_if_that_is_late() {
    let mailbox = Meeting::new(limits());
    mailbox.ask(query("stands", 0, Some(100), None), "a").unwrap();
    let seen = frame(&mailbox, None);
    let late = mailbox.expire(Instant::now() + 200 * MILLI, Some((seen.number, seen.admitted)));
    assert_eq!(told(&late), [("stands", Overdue::Engine, false)]);
    assert!(mailbox.take(&seen).unwrap().begins);
}

/// What would break: forgotten queries that make a drone busy until it is started anew, and an operator who is not told that
/// nothing more comes.
///
/// Promise: P1, P5
#[test]
fn a_query_whose_time_is_over_has_one_last_outcome_and_makes_room() {
    let mailbox = Meeting::new(limits());
    let lives = [("once", 1, Some(30_000)), ("thrice", 3, Some(30_000)), ("stands", 0, None), ("single", 1, None)];
    for (id, frames, life) in lives {
        mailbox.ask(query(id, frames, None, life), id).unwrap();
    }
    assert!(mailbox.ask(query("more", 1, None, None), "more").is_err());
    let now = Instant::now();
    assert!(mailbox.expire(now, None).is_empty());
    let over = |id, millis: u32| (id, Overdue::Life(millis * MILLI), true);
    let late = mailbox.expire(now + 30_000 * MILLI, None);
    assert_eq!(told(&late), [over("once", 30_000), over("thrice", 30_000)]);
    assert_eq!(late[0].0.asker, Some("once"), "who has had no answer is told");
    assert!(mailbox.ask(query("more", 1, None, None), "more").is_ok());
    // What names no life stands for as long as the drone says, and what is asked once waits only for its frame.
    let late = mailbox.expire(now + 60_001 * MILLI, None);
    let rest = [over("stands", 60_000), ("single", Overdue::Frame, true), ("more", Overdue::Frame, true)];
    assert_eq!(told(&late), rest);
    assert_eq!(mailbox.active(), 0);
}

/// What would break: an operator who cannot take back what he asked, or whose withdrawal finds no room; and a query that is in
/// hand whenever somebody looks, and so never ends.
///
/// Promise: P1
#[test]
fn a_query_is_withdrawn_by_one_that_lives_for_no_time() {
    let mailbox = Meeting::new(Limits { active_queries: 1, ..limits() });
    let (stands, gone) = (query("s", 0, None, None), [("s", Overdue::Life(Duration::ZERO), true)]);
    mailbox.ask(stands.clone(), "a").unwrap();
    let replaced = mailbox.ask(stands.withdrawal(), "b").unwrap().unwrap();
    assert_eq!((replaced.asker, replaced.begins), (Some("a"), true), "who has had no answer is told");
    let late = mailbox.expire(Instant::now(), None);
    assert_eq!((told(&late).as_slice(), late[0].0.asker), (&gone[..], Some("b")));

    mailbox.ask(stands.clone(), "c").unwrap();
    let seen = frame(&mailbox, None);
    mailbox.take(&seen).unwrap();
    mailbox.ask(stands.withdrawal(), "d").unwrap();
    assert!(mailbox.expire(Instant::now(), None).is_empty(), "what is in hand is told first");
    mailbox.told("s", seen.number);
    let next = frame(&mailbox, Some(&seen));
    assert!(mailbox.take(&next).is_none(), "it is put to no further frame");
    let late = mailbox.expire(Instant::now(), None);
    assert_eq!((told(&late).as_slice(), late[0].0.asker, late[0].0.begins), (&gone[..], Some("d"), false));
    assert!(mailbox.ask(query("next", 1, None, None), "e").is_ok());
}

/// Setup: outcomes are sent while the next frame is looked at. Fault: a query is withdrawn while the outcome about a frame is on
/// its way and it is put to the next one. Expected: its last outcome waits for that about the next one.
#[test]
fn what_is_said_last_waits_for_the_outcome_about_the_last_frame() {
    let mailbox = Meeting::new(limits());
    let stands = query("s", 0, None, None);
    mailbox.ask(stands.clone(), "a").unwrap();
    let first = frame(&mailbox, None);
    mailbox.take(&first).unwrap();
    let second = frame(&mailbox, Some(&first));
    mailbox.take(&second).unwrap();
    mailbox.ask(stands.withdrawal(), "b").unwrap();
    mailbox.told("s", first.number);
    assert!(mailbox.expire(Instant::now(), None).is_empty(), "it is still being answered");
    mailbox.told("s", second.number);
    let late = mailbox.expire(Instant::now(), None);
    assert_eq!(told(&late), [("s", Overdue::Life(Duration::ZERO), true)]);
}

/// What would break: a query for some frames whose withdrawal says that nothing more comes, and then its answer comes.
#[test]
fn a_query_for_some_frames_is_withdrawn_behind_its_answer() {
    let mailbox = Meeting::new(limits());
    let counted = query("c", 5, None, None);
    mailbox.ask(counted.clone(), "a").unwrap();
    let seen = frame(&mailbox, None);
    mailbox.take(&seen).unwrap();
    let left = mailbox.ask(counted.withdrawal(), "b").unwrap().unwrap();
    assert_eq!((left.asker, left.begins), (None, false), "its answer goes to who asked");
    assert!(mailbox.expire(Instant::now(), None).is_empty(), "what is in hand is told first");
    mailbox.told("c", seen.number);
    let late = mailbox.expire(Instant::now(), None);
    assert_eq!(told(&late), [("c", Overdue::Life(Duration::ZERO), true)]);
    assert_eq!((late[0].0.asker, mailbox.active()), (Some("b"), 0));

    // Reasons belong to a first answer: with them it is another query.
    mailbox.ask(counted.clone(), "c").unwrap();
    let next = frame(&mailbox, Some(&seen));
    mailbox.take(&next).unwrap();
    mailbox.ask(Query { explain: true, ..counted.withdrawal() }, "d").unwrap();
    let late = mailbox.expire(Instant::now(), None);
    assert!(late[0].0.begins && late[0].0.ends, "and they are refused with it");
}

/// What would break: identities that begin again whenever a query is renewed, and a renewal that ends with its query.
#[test]
fn a_query_that_is_renewed_goes_on() {
    let mailbox = Meeting::new(limits());
    let renewal = query("s", 0, Some(100), Some(90_000));
    mailbox.ask(query("s", 0, None, None), "a").unwrap();
    let replaced = mailbox.ask(renewal.clone(), "b").unwrap().unwrap();
    assert_eq!((replaced.asker, replaced.begins), (Some("a"), true), "what has not begun cannot go on");
    let seen = frame(&mailbox, None);
    assert!(mailbox.take(&seen).unwrap().begins);
    mailbox.told("s", seen.number);
    let left = mailbox.ask(renewal, "c").unwrap().unwrap();
    assert_eq!((left.asker, left.begins), (None, false), "who has had an answer does not wait");
    assert!(mailbox.take(&seen).is_none(), "one outcome for each frame");
    let next = frame(&mailbox, Some(&seen));
    let job = mailbox.take(&next).unwrap();
    assert_eq!((job.asker, job.begins, job.deadline), (Some("c"), false, 100 * MILLI));
    mailbox.told("s", next.number);
    let late = mailbox.expire(Instant::now() + 60_001 * MILLI, None);
    assert_eq!(told(&late), [("s", Overdue::Frame, false)], "its first life would be over");
    mailbox.ask(query("s", 0, None, None), "d").unwrap();
    assert!(mailbox.take(&next).unwrap().begins, "without a life it is asked anew");
}
