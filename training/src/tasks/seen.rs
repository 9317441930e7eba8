//! Which kinds of things a picture shows, and how sure that is.

use crate::expressions::meaning::{Facts, MIN_AREA_PIXELS, Thing};
use crate::sample::Category;
use crate::scenes;

/// The things of one category.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kind {
    pub(super) category: Category,
    /// Those that are seen well, largest first.
    pub(super) sure: Vec<usize>,
    /// Whether there are others, of which a part can be made out.
    pub(super) doubtful: bool,
}

/// The kinds of things in a picture, in the vocabulary's order; `None` where not every kind is labelled, or the kind of
/// something is not known. What is too small to be noticed counts as not there.
pub(super) fn kinds(facts: &Facts<'_>) -> Option<Vec<Kind>> {
    let complete = scenes::categories().all(|category| facts.exhaustive(&[category]));
    let vague = facts.things.iter().any(|thing| thing.category == Category::Vehicle && noticeable(facts, thing));
    if !complete || vague {
        return None;
    }
    let kinds = scenes::categories().map(|category| kind(facts, category));
    Some(kinds.filter(|kind| kind.doubtful || !kind.sure.is_empty()).collect())
}

fn kind(facts: &Facts<'_>, category: Category) -> Kind {
    let of =
        facts.things.iter().enumerate().filter(|(_, thing)| thing.category == category && noticeable(facts, thing));
    let (mut sure, mut doubtful) = (Vec::new(), false);
    for (index, thing) in of {
        if thing.sure { sure.push(index) } else { doubtful = true }
    }
    sure.sort_by(|a, b| facts.things[*b].area.total_cmp(&facts.things[*a].area));
    Kind { category, sure, doubtful }
}

/// Whether enough of a thing shows for somebody to notice it.
fn noticeable(facts: &Facts<'_>, thing: &Thing) -> bool {
    thing.area * (512.0 / facts.side).powi(2) >= MIN_AREA_PIXELS
}
