//! An experiment as a TOML file: one base recipe, and what each arm changes in it.

use anyhow::{Context, Result, bail, ensure};
use kestrel_training::grpo::Recipe;
use kestrel_training::grpo::recipe::merged;
use kestrel_training::sft::recipe::Processor;
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

    /// Every run: first the arms of most seeds, one seed of all of them before the next, so that an experiment that is cut
    /// short has compared what it was made for; then the arms of fewer seeds.
    pub(super) fn cells(&self) -> Result<Vec<Cell>> {
        let most = self.arms.iter().map(|arm| self.seeds_of(arm).len()).max().unwrap_or(0);
        let (core, single): (Vec<&Arm>, Vec<&Arm>) = self.arms.iter().partition(|arm| self.seeds_of(arm).len() == most);
        let mut cells = Vec::new();
        for arms in [core, single] {
            for round in 0..most {
                for arm in &arms {
                    let Some(&seed) = self.seeds_of(arm).get(round) else { continue };
                    cells.push(self.cell(arm, seed)?);
                }
            }
        }
        Ok(cells)
    }

    /// As [`Plan::cells`], and whether each is among `only`: arms (`cot`) or single runs (`cot-1`); all of them where it is
    /// empty.
    pub(super) fn chosen(&self, only: &[String]) -> Result<Vec<(Cell, bool)>> {
        let cells = self.cells()?;
        let is =
            |cell: &Cell, name: &String| *name == cell.arm || *name == format!("{}-{}", cell.arm, cell.recipe.seed);
        if let Some(unknown) = only.iter().find(|name| !cells.iter().any(|cell| is(cell, name))) {
            let arms: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
            bail!(
                "--only: expected arms ({}), or runs such as `{}-1`, got `{unknown}`",
                arms.join(", "),
                self.reference
            );
        }
        let chosen = |cell: &Cell| only.is_empty() || only.iter().any(|name| is(cell, name));
        Ok(cells
            .into_iter()
            .map(|cell| {
                let chosen = chosen(&cell);
                (cell, chosen)
            })
            .collect())
    }

    /// What computes where no option says it: what the recipe that all arms share says.
    pub(super) fn device(&self) -> Result<Processor> {
        let said = self.base.get("device").cloned();
        said.map_or(Ok(Processor::default()), |said| said.try_into().context("base.device"))
    }

    fn cell(&self, arm: &Arm, seed: u64) -> Result<Cell> {
        let mut table = merged(self.base.clone(), &arm.change);
        table.insert("name".to_owned(), format!("{}-{}-{seed}", self.name, arm.name).into());
        table.insert("seed".to_owned(), i64::try_from(seed)?.into());
        let recipe = Recipe::of(table).with_context(|| format!("arm `{}`", arm.name))?;
        recipe.check().with_context(|| format!("arm `{}`", arm.name))?;
        Ok(Cell { arm: arm.name.clone(), recipe })
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
    fn the_shipped_experiment_compares_its_core_arms_before_the_single_ones() {
        let plan = plan(|text| text).unwrap();
        let cells = plan.cells().unwrap();
        let core: Vec<&str> = plan.arms.iter().filter(|arm| arm.seeds.is_none()).map(|arm| arm.name.as_str()).collect();
        assert!(core.contains(&plan.reference.as_str()) && core.len() >= 4);
        let seeds = plan.seeds.len();
        for (round, cells) in cells[..core.len() * seeds].chunks(core.len()).enumerate() {
            assert!(cells.iter().map(|cell| cell.arm.as_str()).eq(core.iter().copied()));
            assert!(cells.iter().all(|cell| cell.recipe.seed == plan.seeds[round]));
        }
        assert_eq!(cells.len(), core.len() * seeds + plan.arms.len() - core.len());
        let mut names: Vec<&str> = cells.iter().map(|cell| cell.recipe.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cells.len());
    }

    /// What would break: refusals of unseeable views that only drawn scenes test, or a set that no benchmark has.
    #[test]
    fn the_shipped_experiment_tests_on_degraded_photographs_too() {
        let plan = plan(|text| text).unwrap();
        let last = plan.test.last().unwrap();
        assert_eq!((last.set.as_str(), last.seed, last.pictures), ("nwpu-degraded", 0, 60));
        let known = |set: &Set| kestrel_training::benchmark::NAMES.contains(&set.set.as_str());
        assert!(plan.tune.iter().chain(&plan.test).all(known));
    }

    #[test]
    fn models_are_judged_where_the_shared_recipe_computes() {
        assert_eq!(plan(|text| text).unwrap().device().unwrap(), Processor::Cpu);
        let gpu = plan(|text| text.replacen("[base]", "[base]\ndevice = \"cuda\"", 1)).unwrap();
        assert_eq!(gpu.device().unwrap(), Processor::Cuda);
    }

    #[test]
    fn arms_and_single_runs_are_chosen_by_name() {
        let plan = plan(|text| text).unwrap();
        let chosen = |only: &[&str]| -> Result<Vec<String>> {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            let cells = plan.chosen(&only)?.into_iter().filter(|(_, chosen)| *chosen);
            Ok(cells.map(|(cell, _)| cell.recipe.name).collect())
        };
        assert_eq!(chosen(&[]).unwrap().len(), plan.cells().unwrap().len());
        assert_eq!(chosen(&["cot", "balanced-2"]).unwrap(), ["ablation-balanced-2", "ablation-cot-1"]);
        let error = chosen(&["cot", "balanced-9"]).unwrap_err().to_string();
        assert!(error.contains("`balanced-9`") && error.contains("no-views"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let error = |from: &str, to: &str| format!("{:#}", plan(|text| text.replacen(from, to, 1)).unwrap_err());
        assert!(error("reference = \"", "reference = \"x").contains("expected an arm"));
        assert!(error("batch = ", "bacth = ").contains("bacth"));
        assert!(error("seeds = [", "seeds = [] # ").contains("at least one"));
    }
}
