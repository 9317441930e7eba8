#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// What flies by default for a minute, on an engine that is opened in a second.
fn minute() -> Plan {
    Plan { length: 60 * SECOND, frame: SECOND / 30, deadline: 2 * SECOND, reopening: SECOND }
}

fn is_of_the_engine(planned: &Planned) -> bool {
    [Fault::EngineFails, Fault::EngineStalls].contains(&planned.fault)
}

prop_compose! {
    /// Flights from some seconds to an hour in which a frame and an opening are no longer than there is room for them.
    fn plans()(
        seconds in 9_u32..4000,
        frames_per_second in 10_u32..120,
        deadline_millis in 50_u32..10_000,
        opening in 0.0..1.0_f64
    ) -> Plan {
        let plan = Plan {
            length: seconds * SECOND,
            frame: SECOND / frames_per_second,
            deadline: deadline_millis * Duration::from_millis(1),
            reopening: Duration::ZERO,
        };
        let (_, round) = plan.rounds();
        Plan { reopening: (round / 31).mul_f64(opening), ..plan }
    }
}

proptest! {
    /// What would break: a soak of which most is no flight, so that what holds in it says nothing.
    #[test]
    fn at_most_a_third_of_the_time_is_under_fault(seed: u64, plan in plans()) {
        let all: Vec<Planned> = Schedule::new(seed, plan).collect();
        let third = plan.length / 3;
        for number in 0..3 {
            let within = all.iter().filter(|planned| planned.at >= third * number);
            let within = within.filter(|planned| number == 2 || planned.at < third * (number + 1));
            let lasts: Duration = within.map(|planned| planned.lasts).sum();
            prop_assert!(lasts * 3 <= third + Duration::from_micros(1), "third {number}: {lasts:?} of {third:?}");
        }
    }

    /// What would break: a kind of fault that a short soak leaves out by chance, and thirds that are not alike.
    #[test]
    fn every_kind_comes_in_every_round_and_the_engine_fails_in_every_part(seed: u64, plan in plans()) {
        let all: Vec<Planned> = Schedule::new(seed, plan).collect();
        let (rounds, round) = plan.rounds();
        for number in 0..rounds {
            let (from, to) = (round * number, round * (number + 1));
            let within: Vec<&Planned> = all.iter().filter(|one| one.at >= from && one.at < to).collect();
            let count = |fault| within.iter().filter(|planned| planned.fault == fault).count();
            prop_assert_eq!(within.len(), 14);
            prop_assert!(Fault::ALL.iter().all(|&fault| count(fault) > 0), "{:?}", within);
            prop_assert_eq!([count(Fault::EngineStalls), count(Fault::CameraStops)], [1, 1]);
            for part in 0..PARTS {
                let (from, to) = (from + round / PARTS * part, from + round / PARTS * (part + 1));
                let fails = |planned: &&&Planned| planned.fault == Fault::EngineFails;
                let is_here = |planned: &&&Planned| planned.at >= from && planned.at < to;
                prop_assert_eq!(within.iter().filter(fails).filter(is_here).count(), 1);
            }
        }
    }

    /// What would break: an engine that is lost again before it has flown, for as long as the soak lasts.
    #[test]
    fn an_engine_that_is_opened_again_flies_before_its_next_fault(seed: u64, plan in plans()) {
        let (_, round) = plan.rounds();
        let engine: Vec<Planned> = Schedule::new(seed, plan).filter(is_of_the_engine).collect();
        for pair in engine.windows(2) {
            let quiet = pair[1].at.checked_sub(pair[0].at + pair[0].lasts);
            prop_assert!(quiet.is_some_and(|quiet| quiet >= round / 31), "{pair:?}: {quiet:?}");
        }
    }

    /// What would break: two faults at once, of which one hides the other, and one that comes too late to be seen.
    #[test]
    fn faults_come_one_after_the_other_and_end_with_the_flight(seed: u64, plan in plans()) {
        let all: Vec<Planned> = Schedule::new(seed, plan).collect();
        prop_assert!(all.windows(2).all(|pair| pair[0].at + pair[0].lasts <= pair[1].at));
        prop_assert!(all.iter().all(|planned| planned.at + planned.lasts < plan.length));
    }

    #[test]
    fn lengths_keep_to_their_bounds(seed: u64, plan in plans()) {
        for Planned { fault, lasts, runs, .. } in Schedule::new(seed, plan) {
            prop_assert_eq!(runs > 0, fault == Fault::EngineFails);
            match fault {
                Fault::EngineFails => prop_assert!(u64::from(runs) <= MOST_RUNS && lasts == plan.reopening * runs),
                Fault::EngineStalls => prop_assert!(lasts <= plan.deadline * LONGEST_STALL),
                Fault::CameraStops => prop_assert!(lasts <= LONGEST_STOP && lasts > Duration::ZERO),
                _ => prop_assert!(lasts <= plan.frame * LASTING),
            }
        }
    }

    /// What would break: a soak that cannot be flown again.
    #[test]
    fn a_seed_names_the_order_however_long_things_take(seed: u64, plan in plans()) {
        prop_assert!(Schedule::new(seed, plan).eq(Schedule::new(seed, plan)));
        let order = |plan| Schedule::new(seed, plan).map(|planned| planned.fault).take(14).collect::<Vec<_>>();
        prop_assert_eq!(order(plan), order(minute()));
    }

    /// What would break: a soak that panics at what somebody asks of it.
    #[test]
    fn no_times_are_too_odd(seed: u64, nanos: [u64; 4]) {
        let [length, frame, deadline, reopening] = nanos.map(Duration::from_nanos);
        let plan = Plan { length, frame, deadline, reopening };
        prop_assert!(Schedule::new(seed, plan).take(100).count() >= 14);
    }
}

#[test]
fn a_minute_has_stalls_that_are_late_and_stops_that_are_noticed() {
    let all = |fault| (0..50).flat_map(move |seed| Schedule::new(seed, minute()).filter(move |one| one.fault == fault));
    assert!(all(Fault::EngineStalls).any(|planned| planned.lasts > 3 * SECOND));
    assert!(all(Fault::CameraStops).all(|planned| planned.lasts >= 2 * SECOND && planned.lasts <= 4 * SECOND));
    let runs: Vec<u32> = all(Fault::EngineFails).map(|planned| planned.runs).collect();
    assert!(runs.contains(&1) && runs.contains(&2) && !runs.contains(&3), "two openings fit: {runs:?}");
    assert_eq!(minute().rounds(), (1, 60 * SECOND));
}

#[test]
fn long_flights_have_room_for_long_stalls_and_slow_engines() {
    let hour = Plan { length: 3600 * SECOND, deadline: 10 * SECOND, ..minute() };
    assert_eq!(hour.rounds(), (10, 360 * SECOND));
    assert_eq!(Plan { reopening: 20 * SECOND, ..hour }.rounds(), (6, 600 * SECOND));
    assert_eq!(
        Plan { length: 90 * SECOND, ..minute() }.rounds(),
        (1, 90 * SECOND),
        "one round, and not one and a half"
    );
}

#[test]
fn there_may_be_no_fault_at_all() {
    assert_eq!(Schedule::empty().count(), 0);
}

#[test]
fn kinds_have_names_of_their_own_and_brief_ones_are_all_but_three() {
    let mut names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Fault::ALL.len());
    let long = Fault::ALL.iter().filter(|fault| !Fault::BRIEF.contains(fault));
    assert_eq!(long.count(), 3);
}
