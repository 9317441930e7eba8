//! Models that were not trained as arms of one experiment, in the same table.

use super::cost::Cost;
use super::markdown::markdown;
use super::table::{self, Outcome};
use anyhow::Result;
use kestrel_training::metrics::Record;

/// One model.
#[derive(Debug)]
pub(crate) struct Arm {
    /// Its name in the table.
    pub(crate) name: String,
    /// What it is, a sentence.
    pub(crate) about: String,
    /// What it cost.
    pub(crate) cost: Cost,
    /// Its records on the same questions as the others'.
    pub(crate) records: Vec<Record>,
}

/// The table of these models, with differences to the one named `reference`, as Markdown and as JSON.
pub(crate) fn compared(arms: Vec<Arm>, reference: &str) -> Result<(String, serde_json::Value)> {
    let named: Vec<(String, String)> = arms.iter().map(|arm| (arm.name.clone(), arm.about.clone())).collect();
    let outcome = |Arm { name, cost, records, .. }: Arm| Outcome { arm: name, seed: 0, cost, records };
    let outcomes: Vec<Outcome> = arms.into_iter().map(outcome).collect();
    let tables = table::tables(&outcomes, &named, reference);
    Ok((markdown(&tables, reference), serde_json::to_value(&tables)?))
}
