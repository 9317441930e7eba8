//! Which recipes are taken, which are refused, and how they are written.

#![allow(clippy::unwrap_used)]
use super::*;

const SMOKE: &str = include_str!("../../recipes/grpo/smoke.toml");

fn recipe(text: &str) -> std::result::Result<Recipe, String> {
    let recipe = Recipe::of(text.parse().unwrap()).map_err(|e| e.to_string())?;
    recipe.check().map_err(|e| e.to_string())?;
    Ok(recipe)
}

#[test]
fn the_shipped_recipes_are_valid() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("recipes/grpo");
    for entry in std::fs::read_dir(folder).unwrap() {
        Recipe::load(&entry.unwrap().path()).unwrap();
    }
}

#[test]
fn the_preset_is_the_published_reward_and_own_keys_come_after_it() {
    let published = recipe(&format!("preset = \"published\"\n{SMOKE}")).unwrap();
    assert_eq!(published.reward, views::Settings::published());
    assert_eq!(published.advantage, advantage::Options::published());
    assert!(published.policy.forced_answer && published.terms.regression == 1.0);
    let own = recipe(&format!("preset = \"published\"\n{SMOKE}\n[reward]\nconsensus = 0.0")).unwrap();
    assert_eq!(own.reward, views::Settings { consensus: 0.0, ..views::Settings::published() });
}

#[test]
fn unknown_keys_and_senseless_settings_are_refused() {
    recipe(SMOKE).unwrap();
    for (from, to, named) in [
        ("seed =", "sead =", "sead"),
        ("rollouts = 4", "rollouts = 1", "policy.rollouts"),
        ("learning_rate = ", "learning_rate = -", "learning_rate"),
        ("\"seg.*\"", "\"trunk.*\"", "policy.trainable"),
        ("views = 1", "views = 0", "data.views"),
        ("name =", "preset = \"mine\"\nname =", "preset"),
        ("[policy]", "[questions]\nchains = 2\n[policy]", "questions.chains"),
        ("[policy]", "[reasoning]\nquestions = 1\nthought_tokens = 0\n[policy]", "reasoning.thought_tokens"),
        ("[policy]", "[tasks]\nrequests = 2\n[policy]", "tasks.kinds"),
        ("[policy]", "[tasks]\nkinds = { caption = 1 }\n[policy]", "tasks.kinds.caption"),
        ("[policy]", "[tasks]\nkinds = { multi_label = 0 }\n[policy]", "tasks.kinds.multi_label"),
        ("[policy]", "[tasks]\nkinds = { multi_label = 1 }\nrollouts = 1\n[policy]", "tasks.rollouts"),
        ("[policy]", "[tasks]\nkinds = { multi_label = 1 }\n[terms]\npolicy = 0.0\n[policy]", "terms.policy"),
    ] {
        assert!(SMOKE.contains(from), "{from}");
        let error = recipe(&SMOKE.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(named), "{named}: {error}");
    }
}

/// What would break: experiments that know their records by the recipe as it was written.
#[test]
fn a_recipe_without_reasoned_answers_or_tasks_is_written_as_before() {
    let written = |text: &str| serde_json::to_string(&recipe(text).unwrap()).unwrap();
    assert!(!["reasoning", "chain", "tasks"].iter().any(|setting| written(SMOKE).contains(setting)));
    assert!(written(&format!("{SMOKE}\n[tasks]\nkinds = {{ classification = 1 }}")).contains("tasks"));
    assert!(written(&format!("{SMOKE}\n[reasoning]\nquestions = 2")).contains("reasoning"));
}

#[test]
fn patterns_name_parameters() {
    let policy = recipe(SMOKE).unwrap().policy;
    assert!(policy.moves("language.layers.0.mlp.up_proj.weight") && policy.moves("seg.in.bias"));
    assert!(!policy.moves("trunk.stem.weight") && !policy.moves("mask.tokens"));
}
