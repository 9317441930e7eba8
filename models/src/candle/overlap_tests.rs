//! What counts hold for any group, and that they are those of the definition.

#![allow(clippy::unwrap_used)]

use candle_core::Device;
use proptest::prelude::*;

use super::*;

/// Cells of a mask: a grid of 4 columns whose last row is not full.
const CELLS: usize = 23;

/// Probabilities in steps of 1/64, with which every sum is exact in whatever order it is taken.
fn any_mask() -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec((0..=64u8).prop_map(|step| f32::from(step) / 64.0), CELLS)
}

fn any_group() -> impl Strategy<Value = (Vec<Vec<f32>>, Group)> {
    let member = (proptest::option::of(any_mask()), proptest::option::of(0..2usize), any::<bool>());
    let target = proptest::collection::vec(any::<bool>(), CELLS);
    let targets = proptest::collection::vec(target, 2);
    (proptest::collection::vec(member, 0..7), targets, any::<bool>()).prop_map(|(all, targets, leave_one_out)| {
        let (mut masks, mut members) = (Vec::new(), Vec::new());
        for (mask, target, votes) in all {
            let number = mask.map(|mask| {
                masks.push(mask);
                masks.len() - 1
            });
            members.push(Member { mask: number, target, votes });
        }
        (masks, Group { members, targets, leave_one_out })
    })
}

fn any_number() -> impl Strategy<Value = Option<usize>> {
    proptest::option::of(prop_oneof![0..5usize, Just(usize::MAX)])
}

fn slices(masks: &[Vec<f32>]) -> Vec<&[f32]> {
    masks.iter().map(Vec::as_slice).collect()
}

/// Counts of one member, cell by cell from the definition.
fn defined(masks: &[Vec<f32>], group: &Group, i: usize) -> Overlap {
    let p = |k: usize, cell: usize| group.members[k].mask.map_or(0.0, |number| masks[number][cell]);
    let me = group.members[i];
    let judges: Vec<usize> = (0..group.members.len())
        .filter(|&k| group.members[k].votes && !(group.leave_one_out && me.votes && k == i))
        .collect();
    let agreed = |cell: usize| judges.iter().map(|&k| p(k, cell) - 0.5).sum::<f32>() > 0.0;
    let wanted = |cell: usize| me.target.is_some_and(|number| group.targets[number][cell]);
    let drawn = |cell: usize| p(i, cell) > 0.5;
    let of = |keep: &dyn Fn(usize) -> bool| (0..CELLS).filter(|&cell| keep(cell)).count() as u64;
    let sum = |value: &dyn Fn(usize) -> usize| (0..CELLS).filter(|&c| drawn(c)).map(|c| value(c) as u64).sum();
    Overlap {
        drawn: of(&drawn),
        target: of(&wanted),
        on_target: of(&|cell| drawn(cell) && wanted(cell)),
        consensus: of(&agreed),
        on_consensus: of(&|cell| drawn(cell) && agreed(cell)),
        columns: sum(&|cell| cell % 4),
        rows: sum(&|cell| cell / 4),
        broken: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn counts_are_those_of_the_definition((masks, group) in any_group()) {
        let counts = count(&slices(&masks), &group, CELLS);
        prop_assert_eq!(counts.len(), group.members.len());
        for (i, counts) in counts.iter().enumerate() {
            prop_assert_eq!(*counts, defined(&masks, &group, i));
            prop_assert!(counts.on_target <= counts.drawn.min(counts.target));
            prop_assert!(counts.on_consensus <= counts.drawn.min(counts.consensus));
            prop_assert!(counts.drawn.max(counts.target).max(counts.consensus) <= CELLS as u64);
        }
    }

    #[test]
    fn the_order_of_the_members_changes_nothing((masks, group) in any_group()) {
        let mut turned = group.clone();
        turned.members.reverse();
        let mut counts = count(&slices(&masks), &turned, CELLS);
        counts.reverse();
        prop_assert_eq!(counts, count(&slices(&masks), &group, CELLS));
    }

    /// The consensus of two is the other's mask: what they share is the same from both sides.
    #[test]
    fn two_voters_share_what_they_share(a in any_mask(), b in any_mask()) {
        let voter = |number| Member { mask: Some(number), target: None, votes: true };
        let group = Group { members: vec![voter(0), voter(1)], targets: vec![], leave_one_out: true };
        let counts = count(&[&a, &b], &group, CELLS);
        prop_assert_eq!(counts[0].on_consensus, counts[1].on_consensus);
        prop_assert_eq!((counts[0].consensus, counts[1].consensus), (counts[1].drawn, counts[0].drawn));
    }

    /// What would break: a rollout that agrees with itself is rewarded for whatever it draws.
    #[test]
    fn a_mask_has_no_say_in_its_own_consensus((masks, mut group) in any_group(), other in any_mask()) {
        group.leave_one_out = true;
        group.members.iter_mut().for_each(|member| member.votes = true);
        let before = count(&slices(&masks), &group, CELLS);
        for (i, member) in group.members.iter().enumerate() {
            let Some(number) = member.mask else { continue };
            let mut changed = masks.clone();
            changed[number] = other.clone();
            prop_assert_eq!(count(&slices(&changed), &group, CELLS)[i].consensus, before[i].consensus);
        }
    }

    /// Whatever members name, however long masks and targets are and whatever numbers they hold.
    #[test]
    fn hostile_groups_are_counted(
        masks in proptest::collection::vec(proptest::collection::vec(proptest::num::f32::ANY, 0..9), 0..4),
        targets in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 0..9), 0..3),
        members in proptest::collection::vec((any_number(), any_number(), any::<bool>()), 0..5),
        cells in 0..12usize,
        leave_one_out in any::<bool>(),
    ) {
        let members = members.into_iter().map(|(mask, target, votes)| Member { mask, target, votes }).collect();
        let group = Group { members, targets, leave_one_out };
        for counts in count(&slices(&masks), &group, cells) {
            let most = [counts.drawn, counts.target, counts.consensus, counts.broken].into_iter().max().unwrap();
            prop_assert!(most <= cells as u64);
            prop_assert!(counts.on_target <= counts.drawn.min(counts.target));
        }
    }
}

fn logits(rows: usize, cells: usize) -> Tensor {
    let z = |i: usize| ((i * i + 5 * i) % 37) as f32 / 4.0 - 5.0;
    Tensor::from_vec((0..rows * cells).map(z).collect::<Vec<f32>>(), (rows, cells, 1), &Device::Cpu).unwrap()
}

#[test]
fn masks_of_several_tensors_are_numbered_through() {
    let (a, b, none) = (logits(2, CELLS), logits(1, CELLS), logits(0, 7));
    let drawn = Drawn::new(&[a.clone(), none, b]).unwrap();
    assert_eq!((drawn.len(), drawn.cells(), drawn.is_empty()), (3, CELLS, false));
    let member = |mask| Member { mask, target: Some(0), votes: true };
    let group = Group {
        members: vec![member(Some(2)), member(Some(1)), member(Some(0)), member(None)],
        targets: vec![(0..CELLS).map(|cell| cell % 3 == 0).collect()],
        leave_one_out: true,
    };
    let counts = drawn.count(&group, CELLS).unwrap();
    let row = |k: usize| a.get(k).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let area = |k: usize| row(k).iter().filter(|z| **z > 0.0).count() as u64;
    // The third mask holds the same numbers as the first, and what is over a half is over a logit of 0.
    assert_eq!(counts.iter().map(|c| c.drawn).collect::<Vec<_>>(), [area(0), area(1), area(0), 0]);
    assert!(area(0) != area(1) && counts.iter().all(|c| c.target == 8 && c.broken == 0));
    // Silence votes: with it among the others, less is agreed on.
    assert!(counts[3].consensus > 0 && counts[0].consensus < counts[3].consensus);
}

#[test]
fn a_broken_cell_is_counted_where_it_is() {
    let row = |values: [f32; 4]| Tensor::from_vec(values.to_vec(), (1, 4), &Device::Cpu).unwrap();
    // A logit without bound is a probability all the same.
    let sound = row([9.0, f32::INFINITY, f32::NEG_INFINITY, -9.0]);
    let drawn = Drawn::new(&[row([9.0, f32::NAN, -9.0, 9.0]), sound]).unwrap();
    let members = [0, 1].map(|number| Member { mask: Some(number), target: None, votes: false }).to_vec();
    let counts = drawn.count(&Group { members, ..Group::default() }, 4).unwrap();
    assert_eq!((counts[0].broken, counts[1].broken, counts[1].drawn), (1, 0, 2));
}

#[test]
fn what_does_not_fit_is_refused() {
    let error = Drawn::new(&[logits(1, 4), logits(1, 5)]).unwrap_err().to_string();
    assert!(error.contains("4 cells in each"), "{error}");
    let drawn = Drawn::new(&[logits(2, 4)]).unwrap();
    let refused = |mask, target, of: usize, cells| {
        let members = vec![Member { mask, target, votes: true }];
        let group = Group { members, targets: vec![vec![true; of]], leave_one_out: false };
        drawn.count(&group, cells).unwrap_err().to_string()
    };
    assert!(refused(Some(2), None, 4, 4).contains("a mask under 2"));
    assert!(refused(None, Some(1), 4, 4).contains("a target under 1"));
    assert!(refused(Some(0), None, 5, 5).contains("masks of 5 cells"));
    assert!(refused(Some(0), Some(0), 3, 4).contains("targets of 4 cells"));
    let nothing = Drawn::new(&[]).unwrap();
    assert!(nothing.is_empty() && nothing.cells() == 0);
    let silent = Group { members: vec![Member { target: Some(0), ..Member::default() }], ..Group::default() };
    let silent = Group { targets: vec![vec![true; 6]], ..silent };
    assert_eq!(nothing.count(&silent, 6).unwrap()[0], Overlap { target: 6, ..Overlap::default() });
}
