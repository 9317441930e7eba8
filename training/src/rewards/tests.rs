//! Each task from a model's text to its reward.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;

fn truth(json: &str) -> Truth {
    serde_json::from_str(json).unwrap()
}

fn scored(kind: TaskKind, answer: &str, json: &str) -> Result<Scored, Unscorable> {
    score(kind, answer, &truth(json), &Options::default(), None)
}

fn reward(kind: TaskKind, answer: &str, json: &str) -> f64 {
    scored(kind, answer, json).unwrap().reward
}

fn thought(answer: &str) -> String {
    format!("<think>It looks so.</think><answer>{answer}</answer>")
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}

#[test]
fn labels_are_right_or_wrong() {
    let storage = r#"{"labels": ["storage_tank"]}"#;
    assert_eq!(reward(TaskKind::Classification, &thought("Storage tank."), storage), 1.0);
    assert_eq!(reward(TaskKind::Classification, &thought("storage tank, harbour"), storage), 0.0);
    let found = scored(TaskKind::MultiLabel, &thought("bridge, river, farm"), r#"{"labels": ["river", "Bridge"]}"#);
    let found = found.unwrap();
    near(found.reward, 0.8);
    assert_eq!((found.parts["recall"], found.format), (1.0, 1.0));
    assert_eq!(reward(TaskKind::Temporal, r#"["new building"]"#, r#"{"labels": ["new_building"]}"#), 1.0);
}

#[test]
fn published_options_pay_for_naming_everything() {
    let two = truth(r#"{"labels": ["river", "bridge"]}"#);
    let everything = "airport, beach, bridge, farm, forest, harbour, parking, river";
    let ours = score(TaskKind::MultiLabel, everything, &two, &Options::default(), None).unwrap();
    let published = score(TaskKind::MultiLabel, everything, &two, &Options::published(), None).unwrap();
    near(ours.reward, 0.4);
    assert_eq!(published.reward, 1.0);
    assert_eq!(published.parts.keys().copied().collect::<Vec<_>>(), ["f1", "recall"]);
}

#[test]
fn boxes_are_paid_from_the_threshold_and_nothing_for_nothing() {
    let one = r#"{"boxes": [[0.1, 0.1, 0.5, 0.5]], "size": [640, 480]}"#;
    let exact = scored(TaskKind::ReferredDetection, &thought("<box>0.1 0.1 0.5 0.5</box>"), one).unwrap();
    near(exact.reward, 1.0);
    near(exact.parts["position"], 1.0);
    // A near miss is nothing to the IoU and something to the position.
    let miss = scored(TaskKind::ReferredDetection, &thought("[0.5, 0.1, 0.9, 0.5]"), one).unwrap();
    assert_eq!(miss.reward, 0.0);
    near(miss.parts["position"], (-256.0_f64 / 80.0).exp());
    let silent = scored(TaskKind::ReferredDetection, &thought("nowhere"), one).unwrap();
    assert_eq!((silent.reward, silent.parts["position"]), (0.0, 0.0));
    assert_eq!(reward(TaskKind::Detection, &thought("none"), r#"{"boxes": []}"#), 1.0);
    assert_eq!(reward(TaskKind::Detection, &thought("[0, 0, 1, 1]"), r#"{"boxes": []}"#), 0.0);
    assert!(!scored(TaskKind::Detection, "", one).unwrap().parts.contains_key("position"));
}

#[test]
fn the_surplus_guard_divides_once_more() {
    let one = truth(r#"{"boxes": [[0.0, 0.0, 0.5, 0.5]]}"#);
    let answer = "[0.0, 0.0, 0.5, 0.5] [0.5, 0.5, 1.0, 1.0]";
    let guards = Guards { surplus: true, ..Guards::default() };
    let guarded = Options { guards, ..Options::default() };
    near(score(TaskKind::Detection, answer, &one, &Options::default(), None).unwrap().reward, 0.5);
    near(score(TaskKind::Detection, answer, &one, &guarded, None).unwrap().reward, 0.25);
}

#[test]
fn a_grounded_description_is_half_words_and_half_boxes() {
    let right = r#"{"texts": ["a red car on the road"], "boxes": [[0.0, 0.0, 0.5, 1.0]]}"#;
    let kind = TaskKind::GroundingDescription;
    near(reward(kind, "a red car <box>0 0 0.5 1</box> on the road", right), 1.0);
    near(reward(kind, "a red car on the road", right), 0.5);
    near(reward(kind, "[0, 0, 0.5, 1]", right), 0.5);
    // Under any threshold, and still paid.
    near(reward(kind, "a red car on the road [0, 0, 0.1, 1]", right), 0.5 + 0.1);
}

#[test]
fn captions_are_compared_with_the_reference_most_like_them() {
    let two = truth(r#"{"texts": ["Many trees.", "A white truck beside the road"]}"#);
    let by = |caption| Options { caption, ..Options::default() };
    for caption in [Caption::Levenshtein, Caption::Lexical] {
        let found = score(TaskKind::Caption, &thought("a white truck beside the road."), &two, &by(caption), None);
        near(found.unwrap().reward, 1.0);
    }
    near(reward(TaskKind::ShortVqa, "yes, two", r#"{"texts": ["no", "Two"]}"#), 0.5);
    assert_eq!(reward(TaskKind::Caption, "<think>a white truck", r#"{"texts": ["a white truck"]}"#), 0.0);
}

#[test]
fn what_the_judge_cannot_compare_is_not_zero() {
    let lacking = |kind, json: &str| matches!(scored(kind, "a car", json), Err(Unscorable::Truth { .. }));
    for kind in TaskKind::ALL {
        assert!(lacking(kind, "{}"), "{kind:?}");
    }
    assert!(lacking(TaskKind::Classification, r#"{"labels": ["car", "bus"]}"#));
    assert!(lacking(TaskKind::Classification, r#"{"labels": ["…"]}"#));
    assert!(lacking(TaskKind::MultiLabel, r#"{"labels": ["", " "]}"#));
    assert!(lacking(TaskKind::Caption, r#"{"texts": ["!"]}"#));
    assert!(lacking(TaskKind::GroundingDescription, r#"{"texts": ["a car"]}"#));
    let error = scored(TaskKind::Detection, "[nan, 0, 1, 1]", r#"{"boxes": []}"#).unwrap_err();
    assert_eq!(error, Unscorable::NotFinite { side: "answer" });
    assert!(
        serde_json::from_str::<Truth>(r#"{"boxes": [], "size": [0, 5]}"#).unwrap_err().to_string().contains("0 x 5")
    );
}

#[test]
fn meaning_needs_the_sentence_model() {
    let right = truth(r#"{"texts": ["a white truck is parked next to the warehouse"]}"#);
    for kind in [TaskKind::RegionCaption, TaskKind::ChangeCaption] {
        let error = score(kind, "a truck", &right, &Options::default(), None).unwrap_err();
        assert_eq!(error, Unscorable::NoSentenceModel);
    }
}

#[test]
fn a_region_is_half_meaning_and_half_words() {
    let Some(model) = sbert::tests::model() else { return };
    let right = truth(r#"{"texts": ["A white truck is parked next to the warehouse."]}"#);
    let said =
        |answer: &str| score(TaskKind::RegionCaption, answer, &right, &Options::default(), Some(&model)).unwrap();
    let near_to_it = said("A pale lorry stands beside the storage building.");
    near(near_to_it.reward, (near_to_it.parts["sentence"] + near_to_it.parts["lexical"]) / 2.0);
    assert!((near_to_it.parts["sentence"] - 0.4347).abs() < 1e-3, "{near_to_it:?}");
    assert!(said("Several small boats are moored in the harbour.").reward < near_to_it.reward);
    assert!((said("a white truck is parked next to the warehouse").reward - 1.0).abs() < 0.02);
    assert_eq!(said("<think>a truck</think><answer> … </answer>").parts["sentence"], 0.0);
}

#[test]
fn parrots_and_novels_are_paid_less() {
    let right = r#"{"labels": ["car"]}"#;
    let parrot = format!("<think>{}</think><answer>car</answer>", "a car is a car and ".repeat(40));
    let found = scored(TaskKind::Classification, &parrot, right).unwrap();
    assert!(found.reward < 0.1 && found.parts["accuracy"] == 1.0, "{found:?}");
    let novel: String = (0..600).map(|i| format!("word{i} ")).collect();
    let found =
        scored(TaskKind::Classification, &format!("<think>{novel}</think><answer>car</answer>"), right).unwrap();
    assert!(found.parts["repetition"] == 1.0 && found.reward < 0.5, "{found:?}");
}

#[test]
fn a_long_text_is_scored_by_every_task() {
    let right = truth(r#"{"labels": ["car"], "texts": ["a car"], "boxes": [[0, 0, 1, 1]], "size": [64, 64]}"#);
    let long = format!("<answer>{}", "a car [0,0,1,1] <box> ".repeat(5_000));
    assert!(long.len() > 100_000);
    for kind in TaskKind::ALL.into_iter().filter(|kind| !kind.needs_sentences(&Options::default())) {
        let found = score(kind, &long, &right, &Options::default(), None).unwrap();
        assert_eq!((found.reward, found.format), (0.0, 0.0), "{kind:?}");
    }
}

proptest! {
    #[test]
    fn every_text_is_scored_in_bounds_or_refused(
        which in 0usize..10,
        answer in "(<think>|</think>|<answer>|</answer>|<box>|\\[|\\]|0\\.5|, | |car|bus|nan|é){0,30}",
        published in any::<bool>(),
    ) {
        let right = truth(r#"{"labels": ["car"], "texts": ["a car"], "boxes": [[0, 0, 0.5, 0.5]], "size": [64, 48]}"#);
        let options = if published { Options::published() } else { Options::default() };
        match score(TaskKind::ALL[which], &answer, &right, &options, None) {
            Ok(found) => {
                let all = found.parts.values().copied().chain([found.reward, found.format]);
                prop_assert!(all.into_iter().all(|value| (0.0..=1.0).contains(&value)), "{:?}", found);
            }
            Err(Unscorable::NotFinite { side }) => prop_assert!(side == "answer" && answer.contains("nan")),
            Err(Unscorable::NoSentenceModel) => prop_assert!(TaskKind::ALL[which].needs_sentences(&options)),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}
