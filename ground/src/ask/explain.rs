//! The reasons for an answer, as they come.

use anyhow::{Context, Result, anyhow};
use kestrel_link::{CutShort, DroneId, ExplanationPart, Part, ReasonedConclusion, Reasons, codec};
use std::io::Write as _;
use std::time::Duration;
use zenoh::Session;
use zenoh::handlers::FifoChannelHandler;
use zenoh::pubsub::Subscriber;
use zenoh::sample::Sample;

/// Listens to the reasons of one query. It must be there before the query is asked.
pub(super) struct Listener {
    parts: Subscriber<FifoChannelHandler<Sample>>,
    json: bool,
    /// The part that should come next.
    awaited: u32,
    /// Whether words stand in the line that is not ended.
    open: bool,
}

impl Listener {
    /// Begins to listen.
    pub(super) async fn start(session: &Session, drone: &DroneId, query_id: &str, json: bool) -> Result<Self> {
        let parts = session
            .declare_subscriber(drone.explanation(query_id)?)
            .await
            .map_err(|error| anyhow!("listening to {drone}: {error}"))?;
        Ok(Self { parts, json, awaited: 0, open: false })
    }

    /// Waits for the next part and prints it; gives whether more follow.
    pub(super) async fn next(&mut self) -> Result<bool> {
        let sample = self.parts.recv_async().await.map_err(|error| anyhow!("the link closed: {error}"))?;
        let part: ExplanationPart = codec::decode(&sample.payload().to_bytes()).context("an explanation")?;
        self.print(&part)?;
        Ok(!part.part.ends())
    }

    /// Prints what comes until the end; an end that does not come within `patience` of the part before is told.
    pub(super) async fn follow_to_end(&mut self, patience: Duration) -> Result<()> {
        loop {
            match tokio::time::timeout(patience, self.next()).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    self.end_line();
                    eprintln!("the explanation did not end within {patience:?}\nhint: an older drone gives none");
                    return Ok(());
                }
            }
        }
    }

    /// Ends a line that words stand in, so that something else can be printed.
    pub(super) fn end_line(&mut self) {
        if std::mem::take(&mut self.open) {
            println!();
        }
    }

    fn print(&mut self, part: &ExplanationPart) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(part)?);
            return Ok(());
        }
        if part.sequence == 0 {
            self.end_line();
        }
        match &part.part {
            Part::Piece { text } => {
                if !self.open {
                    print!("thinks: ");
                }
                // Pieces may be lost on a congested link; the end has them all.
                let lost = if part.sequence > self.awaited { " … " } else { "" };
                print!("{lost}{text}");
                // Who does not see it word by word sees it at the end.
                let _ = std::io::stdout().flush();
                self.open = true;
                self.awaited = part.sequence.saturating_add(1);
            }
            end => {
                self.end_line();
                self.awaited = 0;
                lines(end).iter().for_each(|line| println!("{line}"));
            }
        }
        Ok(())
    }
}

/// The end of an explanation for a person.
fn lines(part: &Part) -> Vec<String> {
    let (conclusion, reasons) = match part {
        Part::Piece { text } => return vec![text.clone()],
        Part::Refused { advice, why } => return vec![format!("not explained: {} — {advice}", name(why))],
        Part::CutShort { why, reasons } => {
            let why = match why {
                CutShort::Deadline => "its time was up",
                CutShort::Stopping => "the drone is shutting down",
                _ => "it was stopped",
            };
            (format!("cut short: {why}"), reasons)
        }
        Part::Complete { conclusion, reasons } => (concluded(conclusion), reasons),
    };
    let Reasons { statements, candidates, tokens, words_cut, prefill_micros, decode_micros } = reasons;
    let mut lines: Vec<String> = statements.iter().map(|statement| format!("  {statement}")).collect();
    lines.extend(candidates.iter().enumerate().map(|(index, edges)| format!("  [{}] is {}", index + 1, place(edges))));
    lines.push(conclusion);
    let millis = |micros: &u64| *micros as f64 / 1e3;
    let cut = if *words_cut > 0 { format!(", {words_cut} tokens of the question left out") } else { String::new() };
    lines.push(format!(
        "{tokens} tokens in {:.0} ms, picture and question read in {:.0} ms{cut}",
        millis(decode_micros),
        millis(prefill_micros)
    ));
    lines
}

fn concluded(conclusion: &ReasonedConclusion) -> String {
    match conclusion {
        ReasonedConclusion::Targets { boxes } => {
            let places: Vec<String> = boxes.iter().map(place).collect();
            format!("concludes: {}", places.join(" and "))
        }
        ReasonedConclusion::Refused(refusal) => {
            format!("concludes: {} — {}", crate::demo::reason(&refusal.verdict), refusal.advice)
        }
    }
}

/// A box as `--box` takes it.
fn place(edges: &[f32; 4]) -> String {
    let [x0, y0, x1, y1] = edges;
    format!("{x0:.3},{y0:.3},{x1:.3},{y1:.3}")
}

/// A reason's name on the wire, in words.
fn name(why: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(why).unwrap_or_default();
    value.as_str().unwrap_or("unknown").replace('_', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use kestrel_link::{Refusal, Unexplained, Verdict};

    fn reasons() -> Reasons {
        Reasons {
            statements: vec!["see two trucks [1] [2].".into(), "either [1] [2]".into()],
            candidates: vec![[0.0, 0.25, 0.5, 0.75], [0.5, 0.25, 1.0, 0.75]],
            tokens: 31,
            words_cut: 0,
            prefill_micros: 125_000,
            decode_micros: 98_000,
        }
    }

    /// What would break: an operator who reads of [2] and cannot find it.
    #[test]
    fn a_conclusion_names_what_its_statements_number() {
        let verdict = Verdict::TargetAmbiguous { candidates: vec![] };
        let refusal = Refusal { verdict, evidence: vec![], advice: "say which".into() };
        let part = Part::Complete { conclusion: ReasonedConclusion::Refused(refusal), reasons: reasons() };
        assert_eq!(
            lines(&part),
            [
                "  see two trucks [1] [2].",
                "  either [1] [2]",
                "  [1] is 0.000,0.250,0.500,0.750",
                "  [2] is 0.500,0.250,1.000,0.750",
                "concludes: target ambiguous — say which",
                "31 tokens in 98 ms, picture and question read in 125 ms",
            ]
        );
        let boxes = vec![[0.0, 0.25, 0.5, 0.75]];
        let part = Part::Complete { conclusion: ReasonedConclusion::Targets { boxes }, reasons: Reasons::default() };
        assert_eq!(lines(&part)[0], "concludes: 0.000,0.250,0.500,0.750");
    }

    #[test]
    fn what_is_not_whole_says_why() {
        let cut = lines(&Part::CutShort { why: CutShort::Deadline, reasons: reasons() });
        assert!(cut.contains(&"cut short: its time was up".to_owned()), "{cut:?}");
        let why = Unexplained::NoGraph;
        let refused = lines(&Part::Refused { why, advice: why.advice().into() });
        assert!(refused[0].starts_with("not explained: no graph — fly a bundle"), "{refused:?}");
    }
}
