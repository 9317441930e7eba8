//! An experiment as a TOML file: one base recipe, and what each arm changes in it.

use anyhow::{Context, Result, bail, ensure};
use kestrel_training::grpo::Recipe;
use kestrel_training::grpo::recipe::merged;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// Names its folder.
    pub(super) name: String,
    /// Seeds of arms that do not say others.
    pub(super) seeds: Vec<u64>,
    /// The arm that others are compared with.
    pub(super) reference: String,
    /// Greatest share of present targets of the tuning sets that thresholds may refuse.
    pub(super) false_refusals: f64,
    /// Whether that share is of clear views alone.
    #[serde(default)]
    pub(super) clear_views_only: bool,
    /// Fewest tuning records with and without a target.
    pub(super) least_records: usize,
    /// Sets that thresholds are fitted on.
    pub(super) tune: Vec<Set>,
    /// Sets of the table.
    pub(super) test: Vec<Set>,
    /// The recipe that all arms share, without name and seed.
    pub(super) base: toml::Table,
    /// The arms.
    pub(super) arms: Vec<Arm>,
}

/// Pictures of a set of the benchmark.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    /// Its name.
    pub(super) set: String,
    /// 0 is the frozen one.
    #[serde(default)]
    pub(super) seed: u64,
    /// How many.
    pub(super) pictures: usize,
}

/// One arm.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arm {
    /// Its name in the table.
    pub(super) name: String,
    /// What it is, for the table.
    pub(super) about: String,
    /// Its own seeds.
    #[serde(default)]
    pub(super) seeds: Option<Vec<u64>>,
    /// What it changes in the base.
    #[serde(default)]
    pub(super) change: toml::Table,
}

/// One run of an arm.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    /// The arm's name.
    pub(super) arm: String,
    /// The whole recipe.
    pub(super) recipe: Recipe,
}

impl Plan {
    /// Reads and checks a plan and every recipe that it asks for.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let plan: Self =
            toml::from_str(&text).with_context(|| format!("{}: expected an experiment", path.display()))?;
        ensure!(!plan.seeds.is_empty(), "{}: seeds: expected at least one, got none", path.display());
        let mut names: Vec<&str> = plan.arms.iter().map(|arm| arm.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("{}: arms: expected different names, got `{}` twice", path.display(), twice[0]);
        }
        if !names.contains(&plan.reference.as_str()) {
            bail!("{}: reference: expected an arm ({}), got `{}`", path.display(), names.join(", "), plan.reference);
        }
        plan.cells().with_context(|| format!("in {}", path.display()))?;
        Ok(plan)
    }

    /// Every run, the first seed of all arms before the second: an experiment that is cut short has compared all arms.
    pub(super) fn cells(&self) -> Result<Vec<Cell>> {
        let most = self.arms.iter().map(|arm| self.seeds_of(arm).len()).max().unwrap_or(0);
        let mut cells = Vec::new();
        for round in 0..most {
            for arm in &self.arms {
                let Some(&seed) = self.seeds_of(arm).get(round) else { continue };
                let mut table = merged(self.base.clone(), &arm.change);
                let name = format!("{}-{}-{seed}", self.name, arm.name);
                table.insert("name".to_owned(), name.into());
                table.insert("seed".to_owned(), i64::try_from(seed)?.into());
                let recipe = Recipe::of(table).with_context(|| format!("arm `{}`", arm.name))?;
                recipe.check().with_context(|| format!("arm `{}`", arm.name))?;
                cells.push(Cell { arm: arm.name.clone(), recipe });
            }
        }
        Ok(cells)
    }

    fn seeds_of<'a>(&'a self, arm: &'a Arm) -> &'a [u64] {
        arm.seeds.as_deref().unwrap_or(&self.seeds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn plan(change: impl Fn(String) -> String) -> Result<Plan> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.toml");
        let text = include_str!("../../../training/recipes/ablation.toml").to_owned();
        std::fs::write(&path, change(text)).unwrap();
        Plan::load(&path)
    }

    #[test]
    fn the_shipped_experiment_runs_every_arm_once_before_any_twice() {
        let plan = plan(|text| text).unwrap();
        let cells = plan.cells().unwrap();
        let first: Vec<&str> = cells[..plan.arms.len()].iter().map(|cell| cell.arm.as_str()).collect();
        let arms: Vec<&str> = plan.arms.iter().map(|arm| arm.name.as_str()).collect();
        assert_eq!(first, arms);
        let core = cells.iter().filter(|cell| cell.arm == plan.reference).count();
        assert_eq!(core, 3);
        let mut names: Vec<&str> = cells.iter().map(|cell| cell.recipe.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cells.len());
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let error = |from: &str, to: &str| format!("{:#}", plan(|text| text.replacen(from, to, 1)).unwrap_err());
        assert!(error("reference = \"", "reference = \"x").contains("expected an arm"));
        assert!(error("batch = ", "bacth = ").contains("bacth"));
        assert!(error("seeds = [", "seeds = [] # ").contains("at least one"));
    }
}
