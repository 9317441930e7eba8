//! What waits, what replaces, what expires.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

type Meeting = Mailbox<&'static str, &'static str>;

fn query(id: &str, frames: u32) -> Query {
    Query { frames, ..Query::new(id, "the car") }
}

fn limits() -> Limits {
    Limits { active_queries: 2, ..Limits::default() }
}

/// Longer than a query waits for a frame, and shorter than it lives.
const PATIENCE: Duration = Duration::from_secs(6);

/// Ids and reasons of those that are refused.
fn told<'a>(late: &'a [(Job<&'static str>, Overdue)]) -> Vec<(&'a str, Overdue)> {
    late.iter().map(|(job, why)| (job.query.id.as_str(), *why)).collect()
}

/// Prepares the frame that has come in.
fn prepare(mailbox: &Meeting) {
    let Incoming { frame, prepared, .. } = mailbox.incoming().unwrap();
    mailbox.ready(frame, prepared);
}

fn frame(mailbox: &Meeting, at_hand: Option<&Frame>) -> Arc<Frame> {
    prepare(mailbox);
    match mailbox.wait(at_hand) {
        Wake::Frame(frame, prepared) => {
            mailbox.give_back(prepared);
            frame
        }
        _ => panic!("expected a frame"),
    }
}

/// Setup: one frame is being looked at. Fault: frames come in faster than they are looked at. Expected: each that is
/// replaced, prepared or not, is counted once. Invariant: frames in = looked at + dropped + on their way.
///
/// Promise: P1
#[test]
fn frames_on_their_way_are_replaced_and_counted() {
    let mailbox = Meeting::new(limits());
    let put = |count: u32| (0..count).for_each(|_| assert!(mailbox.put(RgbImage::new(1, 1), 0, None).is_some()));
    put(1);
    let first = frame(&mailbox, None);
    put(1);
    prepare(&mailbox);
    assert_eq!(mailbox.frames(), (2, 0), "one is looked at, one is ready");
    put(2);
    assert_eq!(mailbox.frames(), (4, 1), "the one that came in was replaced");
    let being_prepared = mailbox.incoming().unwrap();
    put(1);
    assert_eq!(mailbox.frames(), (5, 1), "one is looked at, ready, being prepared and coming in each");
    mailbox.ready(being_prepared.frame, being_prepared.prepared);
    assert_eq!(mailbox.frames(), (5, 2), "the one that was ready was replaced");
    let Wake::Frame(next, _) = mailbox.wait(Some(&first)) else { panic!("expected a frame") };
    assert_eq!(next.number, 3);
    assert_eq!(frame(&mailbox, Some(&next)).number, 4);
    assert_eq!(mailbox.frames(), (5, 2));
}

/// What would break: the books of a flight that ends: frames in = looked at + dropped.
#[test]
fn frames_on_their_way_at_the_stop_are_dropped_and_counted() {
    let mailbox = Meeting::new(limits());
    let put = || mailbox.put(RgbImage::new(1, 1), 0, None);
    put();
    let looked_at = frame(&mailbox, None);
    put();
    prepare(&mailbox);
    put();
    let being_prepared = mailbox.incoming().unwrap();
    put();
    assert_eq!(mailbox.frames(), (4, 0), "one is looked at, ready, being prepared and coming in each");
    mailbox.stop();
    assert_eq!(mailbox.frames(), (4, 2));
    mailbox.ready(being_prepared.frame, being_prepared.prepared);
    assert!(matches!(mailbox.wait(Some(&looked_at)), Wake::Stop));
    assert_eq!((put(), mailbox.skip()), (None, None));
    mailbox.stop();
    assert_eq!(mailbox.frames(), (4, 3), "each counted once");
}

/// What would break: an operator who asks about what is seen now, and is answered from the frame before.
#[test]
fn a_query_waits_for_the_frame_that_is_on_its_way() {
    let mailbox = Meeting::new(limits());
    mailbox.put(RgbImage::new(1, 1), 0, None);
    let first = frame(&mailbox, None);
    mailbox.put(RgbImage::new(1, 1), 0, None);
    mailbox.ask(query("late", 1), "a").unwrap();
    let second = frame(&mailbox, Some(&first));
    assert_eq!(second.number, 1, "and it is not asked of the first");
    assert_eq!(mailbox.take(&second).unwrap().query.id, "late");
}

#[test]
fn only_frames_that_are_asked_about_are_wanted() {
    let mailbox = Meeting::new(limits());
    mailbox.put(RgbImage::new(1, 1), 0, None);
    let incoming = mailbox.incoming().unwrap();
    assert!(!incoming.is_wanted);
    mailbox.ready(incoming.frame, incoming.prepared);
    mailbox.ask(query("once", 1), "a").unwrap();
    mailbox.put(RgbImage::new(1, 1), 0, None);
    assert!(mailbox.incoming().unwrap().is_wanted);
}

/// Promise: P1, P5
#[test]
fn newer_frame_replaces_and_is_counted() {
    let mailbox = Meeting::new(limits());
    for _ in 0..3 {
        mailbox.put(RgbImage::new(1, 1), 0, None);
    }
    assert_eq!(frame(&mailbox, None).number, 2);
    assert_eq!(mailbox.frames(), (3, 2));
    mailbox.put(RgbImage::new(1, 1), 0, None);
    assert_eq!(mailbox.frames(), (4, 2), "the frame before was looked at");
}

/// Promise: P1
#[test]
fn a_frame_left_out_is_counted() {
    let mailbox = Meeting::new(limits());
    mailbox.put(RgbImage::new(1, 1), 0, None);
    assert_eq!(frame(&mailbox, None).number, 0);
    assert_eq!(mailbox.skip(), Some(1));
    assert_eq!(mailbox.frames(), (2, 1));
    mailbox.put(RgbImage::new(1, 1), 0, None);
    assert_eq!(frame(&mailbox, None).number, 2, "numbers go on");
}

#[test]
fn an_engine_opened_anew_waits_behind_another_model() {
    let mailbox = Arc::new(Meeting::new(limits()));
    mailbox.mend("old");
    mailbox.mend("mended");
    let other = Arc::clone(&mailbox);
    let pushing = std::thread::Builder::new().spawn(move || other.switch("pushed")).unwrap();
    let mut woken = Vec::new();
    while woken.len() < 2 {
        match mailbox.wait(None) {
            Wake::Switch(model) | Wake::Mended(model) => woken.push(model),
            _ => panic!("expected a model"),
        }
    }
    assert!(pushing.join().unwrap());
    woken.sort_unstable();
    assert_eq!(woken, ["mended", "pushed"], "neither takes the other's place");
}

/// Promise: P1
#[test]
fn each_query_gets_one_job_per_frame_until_its_frames_are_used_up() {
    let mailbox = Meeting::new(limits());
    mailbox.ask(query("once", 1), "a").unwrap();
    mailbox.ask(query("standing", 0), "b").unwrap();
    mailbox.put(RgbImage::new(1, 1), 0, None);
    let first = frame(&mailbox, None);
    let jobs: Vec<_> = std::iter::from_fn(|| mailbox.take(&first)).collect();
    let ids: Vec<_> = jobs.iter().map(|job| (job.query.id.as_str(), job.asker)).collect();
    assert_eq!(ids, [("once", Some("a")), ("standing", Some("b"))]);
    let bounds: Vec<_> = jobs.iter().map(|job| (job.begins, job.ends)).collect();
    assert_eq!(bounds, [(true, true), (true, false)]);
    mailbox.put(RgbImage::new(1, 1), 0, None);
    let second = frame(&mailbox, Some(&first));
    let jobs: Vec<_> = std::iter::from_fn(|| mailbox.take(&second)).collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].query.id.as_str(), jobs[0].asker), ("standing", None));
    assert!(!jobs[0].begins && !jobs[0].ends);
    mailbox.ask(query("standing", 0), "c").unwrap();
    let again = mailbox.take(&second).unwrap();
    assert!(again.begins, "who asks anew begins anew");
}

#[test]
fn a_query_between_frames_is_answered_from_the_last_one() {
    let mailbox = Meeting::new(limits());
    mailbox.put(RgbImage::new(1, 1), 0, None);
    let first = frame(&mailbox, None);
    mailbox.ask(query("late", 1), "a").unwrap();
    assert!(matches!(mailbox.wait(Some(&first)), Wake::Ask));
    let strict = Meeting::new(Limits { reuse_frame: Duration::ZERO, ..limits() });
    strict.put(RgbImage::new(1, 1), 0, None);
    let first = frame(&strict, None);
    strict.ask(query("late", 1), "a").unwrap();
    assert!(strict.take(&first).is_none(), "it must wait for the next frame");
}

/// What would break: a thread that looks at such a frame again and again as long as a query waits.
///
/// Promise: P1
#[test]
fn nobody_waits_for_a_frame_that_cannot_be_looked_at() {
    let mailbox = Meeting::new(limits());
    mailbox.ask(query("standing", 0), "a").unwrap();
    mailbox.put(RgbImage::new(0, 1), 0, None);
    let unfit = frame(&mailbox, None);
    mailbox.left_out(&unfit);
    mailbox.left_out(&unfit);
    assert_eq!(mailbox.frames(), (1, 1), "counted once");
    mailbox.put(RgbImage::new(1, 1), 0, None);
    let fit = frame(&mailbox, Some(&unfit));
    assert!(mailbox.take(&fit).unwrap().begins, "the first answer is still to come");
}

/// Promise: P1, P5
#[test]
fn too_many_queries_are_given_back_and_the_same_id_replaces() {
    let mailbox = Meeting::new(limits());
    mailbox.ask(query("1", 0), "a").unwrap();
    mailbox.ask(query("2", 0), "b").unwrap();
    assert!(matches!(mailbox.ask(query("3", 0), "c"), Err("c")));
    let replaced = mailbox.ask(query("2", 1), "d").unwrap().unwrap();
    assert_eq!((replaced.asker, replaced.query.frames, replaced.begins, replaced.ends), (Some("b"), 0, true, true));
    let both: Vec<_> = mailbox.stop().into_iter().map(|job| job.asker).collect();
    assert_eq!(both, [Some("a"), Some("d")]);
}

/// Promise: P1, P2
#[test]
fn queries_without_frames_expire() {
    let mailbox = Meeting::new(limits());
    mailbox.ask(query("once", 1), "a").unwrap();
    mailbox.ask(query("standing", 0), "b").unwrap();
    let now = Instant::now();
    assert!(mailbox.expire(now, None).is_empty());
    let late = mailbox.expire(now + PATIENCE, None);
    assert_eq!(told(&late), [("once", Overdue::Frame), ("standing", Overdue::Frame)]);
    assert_eq!(
        late.iter().map(|(job, _)| (job.asker, job.ends)).collect::<Vec<_>>(),
        [(Some("a"), true), (Some("b"), false)]
    );
    assert!(mailbox.expire(now + PATIENCE, None).is_empty(), "it waits anew");
    let late = mailbox.expire(now + 2 * PATIENCE, None);
    assert_eq!(told(&late), [("standing", Overdue::Frame)], "a standing query is refused again and again");
}

/// What would break: a query for several frames that ends for want of one, while an engine slower than that looks at one.
///
/// Promise: P1, P2
#[test]
fn who_is_being_answered_does_not_wait_for_a_frame() {
    let mailbox = Meeting::new(limits());
    mailbox.ask(query("thrice", 3), "a").unwrap();
    mailbox.put(RgbImage::new(1, 1), 0, None);
    let first = frame(&mailbox, None);
    let job = mailbox.take(&first).unwrap();
    assert!(mailbox.expire(Instant::now() + PATIENCE, None).is_empty());
    mailbox.told(&job.query.id, first.number);
    assert!(mailbox.expire(Instant::now(), None).is_empty(), "it waits from now on");
    assert!(mailbox.expire(Instant::now() + PATIENCE, None)[0].0.ends);
}

#[test]
fn switch_and_stop_reach_the_thread() {
    let mailbox = Arc::new(Meeting::new(limits()));
    let other = Arc::clone(&mailbox);
    let thread = std::thread::Builder::new().spawn(move || {
        let first = other.wait(None);
        assert!(matches!(first, Wake::Switch("new")));
        matches!(other.wait(None), Wake::Stop)
    });
    assert!(mailbox.switch("new"));
    mailbox.ask(query("left", 1), "a").unwrap();
    assert_eq!(mailbox.stop().len(), 1);
    assert!(thread.unwrap().join().unwrap());
    assert_eq!(mailbox.put(RgbImage::new(1, 1), 0, None), None);
}
