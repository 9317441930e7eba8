//! Finds the layers that cost too much when they are rounded.
//!
//! Every layer alone would take as many measurements as there are layers. So parts of the model are measured first, and
//! only a part that costs is halved until single layers are left. A wide layer takes room: what costs most for its bytes is
//! kept first, and nothing that does not fit.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Share of a bound that one part alone may use up before it is looked into.
const ALONE: f64 = 0.25;

/// A part of the model, rounded alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its name, or that of its first layer.
    pub name: String,
    /// Its layers.
    pub layers: usize,
    /// Share of the bound that rounding it uses up; 1 is the bound.
    pub used: f64,
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sweep {
    /// Share of the bound that rounding everything uses up.
    pub all: f64,
    /// The parts that were measured, costliest first.
    pub parts: Vec<Part>,
    /// Layers to keep wide, the costliest for their bytes first.
    pub kept: Vec<String>,
    /// Share of the bound that rounding the others uses up.
    pub left: f64,
}

/// The part of the model that a layer belongs to: its name up to the first number, or without its last word.
pub fn group(layer: &str) -> String {
    let words: Vec<&str> = layer.split('.').collect();
    let number = words.iter().position(|word| word.bytes().all(|b| b.is_ascii_digit()) && !word.is_empty());
    let end = number.map_or(words.len().saturating_sub(1).max(1), |at| at + 1);
    words[..end].join(".")
}

/// Rounds layers and gives the share of the bound that this uses up; told what is measured.
pub(super) type Measure<'a, E> = dyn FnMut(&BTreeSet<String>, &str) -> Result<f64, E> + 'a;

/// Looks for layers to keep wide, until rounding the others stays within the bound, as `measure` says of the layers that it
/// is given, or until nothing more fits into `room`. Each layer comes with the bytes that keeping it wide takes.
///
/// # Errors
/// As `measure`.
pub fn sweep<E>(layers: &BTreeMap<String, u64>, room: u64, measure: &mut Measure<'_, E>) -> Result<Sweep, E> {
    let all = measure(&layers.keys().cloned().collect(), "all layers")?;
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for layer in layers.keys() {
        groups.entry(group(layer)).or_default().push(layer.clone());
    }
    let (mut parts, mut leaves) = (Vec::new(), Vec::new());
    let mut open: Vec<(String, Vec<String>)> = groups.into_iter().collect();
    while let Some((name, members)) = open.pop() {
        let used = measure(&members.iter().cloned().collect(), &name)?;
        parts.push(Part { name, layers: members.len(), used });
        if members.len() > 1 && used > ALONE {
            let (first, second) = members.split_at(members.len() / 2);
            open.extend([first, second].map(|half| (half[0].clone(), half.to_vec())));
        } else {
            let bytes = members.iter().filter_map(|layer| layers.get(layer)).sum();
            leaves.push(Leaf { used, bytes, members });
        }
    }
    parts.sort_by(|a, b| b.used.total_cmp(&a.used).then_with(|| a.name.cmp(&b.name)));
    leaves.sort_by(|a, b| b.for_its_bytes().total_cmp(&a.for_its_bytes()).then_with(|| a.members.cmp(&b.members)));
    let (kept, left) = keep(layers, room, all, leaves, measure)?;
    Ok(Sweep { all, parts, kept, left })
}

/// A part that was not halved any more.
struct Leaf {
    used: f64,
    bytes: u64,
    members: Vec<String>,
}

impl Leaf {
    fn for_its_bytes(&self) -> f64 {
        self.used / self.bytes.max(1) as f64
    }
}

/// Keeps such parts wide in their order, twice as many each time, until the others stay within the bound.
fn keep<E>(
    layers: &BTreeMap<String, u64>,
    mut room: u64,
    all: f64,
    leaves: Vec<Leaf>,
    measure: &mut Measure<'_, E>,
) -> Result<(Vec<String>, f64), E> {
    let fits = move |leaf: &Leaf| {
        let left = room.checked_sub(leaf.bytes).filter(|_| leaf.used > 0.0);
        room = left.unwrap_or(room);
        left.is_some()
    };
    let (mut kept, mut left, mut next) = (Vec::new(), all, 1);
    let mut rest: BTreeSet<String> = layers.keys().cloned().collect();
    let mut candidates = leaves.into_iter().filter(fits).map(|leaf| leaf.members).peekable();
    while left > 1.0 && candidates.peek().is_some() {
        for layer in candidates.by_ref().take(next).flatten() {
            rest.remove(&layer);
            kept.push(layer);
        }
        next *= 2;
        left = measure(&rest, &format!("all but {} layers", kept.len()))?;
    }
    Ok((kept, left))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;

    use super::*;

    /// Layers, each of which takes a hundred bytes.
    fn names() -> BTreeMap<String, u64> {
        let blocks = (0..6).flat_map(|b| ["expand", "depthwise", "project"].map(|l| format!("trunk.blocks.{b}.{l}")));
        let others = ["trunk.stem", "neck.embed", "seg.in", "seg.out", "mask.layers.0.mlp.in", "mask.up.in"];
        blocks.chain(others.map(String::from)).map(|name| (name, 100)).collect()
    }

    /// A model where layers cost what is said, and nothing else, with room for all of them.
    fn swept(costs: &[(&str, f64)]) -> (Sweep, usize) {
        swept_within(&names(), u64::MAX, costs)
    }

    fn swept_within(names: &BTreeMap<String, u64>, room: u64, costs: &[(&str, f64)]) -> (Sweep, usize) {
        let mut count = 0;
        let mut measure = |layers: &BTreeSet<String>, _: &str| -> Result<f64, Infallible> {
            count += 1;
            Ok(costs.iter().filter(|(name, _)| layers.contains(*name)).map(|(_, cost)| cost).sum())
        };
        let swept = sweep(names, room, &mut measure).unwrap();
        (swept, count)
    }

    #[test]
    fn parts_are_blocks_and_branches() {
        for (layer, part) in [
            ("trunk.blocks.12.expand", "trunk.blocks.12"),
            ("language.layers.0.self_attn.q_proj", "language.layers.0"),
            ("mask.up.in", "mask.up"),
            ("trunk.stem", "trunk"),
            ("lonely", "lonely"),
        ] {
            assert_eq!(group(layer), part);
        }
    }

    #[test]
    fn nothing_is_kept_within_the_bound() {
        let (found, _) = swept(&[("seg.in", 0.5), ("trunk.stem", 0.3)]);
        assert!(found.kept.is_empty() && (found.left - 0.8).abs() < 1e-9);
        assert_eq!(found.parts[0].name, "seg");
    }

    #[test]
    fn the_costliest_layers_are_found_with_few_measurements() {
        let (found, count) = swept(&[("trunk.blocks.3.depthwise", 3.0), ("seg.out", 0.6), ("neck.embed", 0.1)]);
        assert_eq!(found.kept, ["trunk.blocks.3.depthwise"]);
        assert!((found.all - 3.7).abs() < 1e-9 && (found.left - 0.7).abs() < 1e-9);
        assert!(count < names().len(), "{count} measurements for {} layers", names().len());
    }

    #[test]
    fn many_small_costs_are_kept_part_by_part() {
        let names = names();
        let costs: Vec<(&str, f64)> = names.keys().map(|name| (name.as_str(), 0.06)).collect();
        let (found, _) = swept(&costs);
        assert!(found.all > 1.0 && found.left <= 1.0, "{found:?}");
        assert!(!found.kept.is_empty() && found.kept.len() < names.len(), "{found:?}");
    }

    #[test]
    fn what_costs_most_for_its_bytes_is_kept_and_nothing_that_does_not_fit() {
        let mut names = names();
        names.insert("seg.out".to_owned(), 10_000);
        let costs = [("seg.out", 2.0), ("trunk.stem", 0.8), ("trunk.blocks.3.depthwise", 0.9)];
        let (found, _) = swept_within(&names, 20_000, &costs);
        assert_eq!(found.kept, ["trunk.blocks.3.depthwise", "trunk.stem", "seg.out"]);
        let (found, _) = swept_within(&names, 250, &costs);
        assert_eq!(found.kept, ["trunk.blocks.3.depthwise", "trunk.stem"]);
        assert!((found.left - 2.0).abs() < 1e-9, "{found:?}");
        assert!(swept_within(&names, 0, &costs).0.kept.is_empty());
    }

    #[test]
    fn a_measurement_that_fails_ends_the_sweep() {
        let mut measure = |layers: &BTreeSet<String>, _: &str| if layers.len() > 3 { Ok(2.0) } else { Err("broken") };
        assert_eq!(sweep(&names(), u64::MAX, &mut measure).unwrap_err(), "broken");
    }
}
