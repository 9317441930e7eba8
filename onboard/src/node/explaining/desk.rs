//! The explainer's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kestrel_link::explanation::{MAX_BOXES, MAX_PIECE_BYTES, MAX_STATEMENT_BYTES, MAX_STATEMENTS};
use kestrel_link::{CutShort, ExplanationPart, Part, ReasonedConclusion, Reasons, Refusal, Unexplained, Verdict};
use kestrel_perception::{Limits, Thought, Tiling};

use super::super::upkeep::Seen;
use super::super::{Inner, NodeConfig};
use super::{ExplainOptions, GRACE, Order, Task, can_explain, head, refusal};
use crate::bundle::Bundle;
use crate::engine::{Engine, EngineError, EngineOptions, Graph, Input, Opener, Tensor};
use crate::pipeline::{Concluded, Explanation, SegmentError, Segmenter, SegmenterOptions};

/// Targets of an answer at most, as models are taught.
const TARGETS: usize = 6;

/// Runs until the node stops.
pub(in crate::node) fn run(inner: &Arc<Inner>, config: &NodeConfig) {
    let _guard = Guard(inner);
    let Some(options) = inner.explaining.options else { return };
    let mut desk = Desk { inner, config, options, bundle: None, segmenter: None };
    while let Some(task) = inner.explaining.next() {
        match task {
            Task::Load(bundle) => {
                desk.segmenter = None;
                desk.bundle = can_explain(&bundle).then_some(*bundle);
                desk.load();
            }
            Task::Explain(order) => desk.explain(&order),
        }
    }
}

/// Refuses what was left, however the thread ends.
struct Guard<'a>(&'a Arc<Inner>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let inner = self.0;
        let mut why = Unexplained::Stopping;
        if std::thread::panicking() {
            tracing::error!("the explainer's thread panicked: no answer is explained any more");
            why = Unexplained::EngineDegraded;
        }
        if let Some(order) = inner.explaining.left() {
            let first = head(inner, &order.query, order.number, Some(Seen::of(&order.frame)));
            inner.publisher.explanation(&ExplanationPart { part: refusal(why), ..first });
        }
        // Last, because a node that stops waits for this before it leaves the network.
        inner.explaining.ended();
    }
}

struct Desk<'a> {
    inner: &'a Arc<Inner>,
    config: &'a NodeConfig,
    options: ExplainOptions,
    /// The bundle that flies, where it can explain.
    bundle: Option<Bundle>,
    /// Its graphs; `None` when they could not be loaded, or the engine failed since.
    segmenter: Option<Segmenter>,
}

impl Desk<'_> {
    /// Loads the graphs of the bundle; what does not succeed is tried again with the next order.
    fn load(&mut self) {
        let Some(bundle) = &self.bundle else { return };
        match self.open(bundle) {
            Ok(segmenter) => {
                tracing::info!("{} explains on {}", segmenter.model(), segmenter.engine());
                self.segmenter = Some(segmenter);
            }
            Err(error) => tracing::error!("answers cannot be explained: {error}; hint: {}", error.hint()),
        }
    }

    fn open(&self, bundle: &Bundle) -> Result<Segmenter, SegmentError> {
        let engine = EngineOptions { threads: self.options.threads, ..self.config.engine.clone() };
        // What was looked at in flight is looked at again, whatever the gate would make of it alone.
        let look = SegmenterOptions { tiling: Tiling::Never, gate: None, explain: true, ..SegmenterOptions::default() };
        Segmenter::open_with(bundle, &self.opener(), &engine, look)
    }

    /// Opens engines that give way to queries that are being answered.
    fn opener(&self) -> Opener {
        let (opener, inner, most) = (self.config.upkeep.opener.clone(), Arc::clone(self.inner), self.options.give_way);
        Opener::new(move |graphs, options| {
            let engine = opener.open(graphs, options)?;
            Ok(Box::new(GivingWay { engine, inner: Arc::clone(&inner), most }) as Box<dyn Engine>)
        })
    }

    /// Writes one explanation to its end.
    fn explain(&mut self, order: &Order) {
        let inner = self.inner;
        let first = head(inner, &order.query, order.number, Some(Seen::of(&order.frame)));
        inner.explaining.begin(first, order.asked + self.options.deadline + GRACE);
        let part = if order.asked.elapsed() > self.options.time_to_live {
            refusal(Unexplained::Expired)
        } else {
            if self.segmenter.is_none() {
                self.load();
            }
            match &mut self.segmenter {
                None => refusal(Unexplained::EngineDegraded),
                Some(segmenter) => {
                    inner.explaining.name(segmenter.model(), segmenter.engine());
                    write(inner, &self.options, segmenter, order)
                }
            }
        };
        if matches!(part, Part::Refused { why: Unexplained::EngineDegraded, .. }) {
            // It is opened anew with the next order.
            self.segmenter = None;
        }
        if let Some(part) = inner.explaining.end(part) {
            inner.publisher.explanation(&part);
        }
    }
}

/// Writes what can be written until the deadline; gives the last part.
fn write(inner: &Inner, options: &ExplainOptions, segmenter: &mut Segmenter, order: &Order) -> Part {
    let ends = order.asked + options.deadline;
    let mut thought = Thought::default();
    let mut cut = None;
    let mut tell = |_: u32, text: &str| {
        let shown = thought.add(text);
        if !shown.is_empty() {
            let text = shown[..shown.floor_char_boundary(MAX_PIECE_BYTES)].to_owned();
            match inner.explaining.piece(text) {
                Some(part) => inner.publisher.explanation(&part),
                // Its end was published: it took too long.
                None => return false,
            }
        }
        cut = if inner.explaining.stopping() {
            Some(CutShort::Stopping)
        } else if Instant::now() >= ends {
            Some(CutShort::Deadline)
        } else {
            None
        };
        cut.is_none()
    };
    let limits = Limits::roomy(options.thought_tokens, TARGETS);
    let explained =
        segmenter.look_still(&order.frame.image).and_then(|mut look| look.explain(&order.query, limits, &mut tell));
    match explained {
        Ok(explanation) => concluded(explanation, &thought, cut),
        Err(error) => {
            tracing::error!("query {} cannot be explained: {error}", order.query.id);
            refusal(Unexplained::EngineDegraded)
        }
    }
}

/// The last part of an explanation that was written, or cut short.
fn concluded(explanation: Explanation, thought: &Thought, cut: Option<CutShort>) -> Part {
    let Explanation { conclusion, candidates, written: Some(written), words_cut, .. } = explanation else {
        // The log says what the engine did.
        return refusal(Unexplained::EngineDegraded);
    };
    let reasons = Reasons {
        statements: thought.statements(MAX_STATEMENTS, MAX_STATEMENT_BYTES),
        candidates: candidates.into_iter().take(MAX_BOXES).collect(),
        tokens: written.ids.len() as u32,
        words_cut: words_cut as u32,
        prefill_micros: micros(written.prefill),
        decode_micros: micros(written.decode),
    };
    match conclusion {
        Concluded::Boxes(boxes) => Part::Complete { conclusion: ReasonedConclusion::Targets { boxes }, reasons },
        Concluded::Refused(Refusal { verdict: Verdict::EngineDegraded, .. }) => refusal(Unexplained::EngineDegraded),
        Concluded::Refused(refusal) => Part::Complete { conclusion: ReasonedConclusion::Refused(refusal), reasons },
        Concluded::Stopped => Part::CutShort { why: cut.unwrap_or(CutShort::Deadline), reasons },
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// An engine that waits before each run until no query is being answered, for a bounded time.
struct GivingWay {
    engine: Box<dyn Engine>,
    inner: Arc<Inner>,
    most: Duration,
}

impl Engine for GivingWay {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn input_shapes(&self, graph: Graph) -> Result<Vec<Vec<usize>>, EngineError> {
        self.engine.input_shapes(graph)
    }

    fn run(&mut self, graph: Graph, inputs: &[Input<'_>], outputs: &mut [Tensor]) -> Result<(), EngineError> {
        self.inner.upkeep.running.give_way(self.most);
        self.engine.run(graph, inputs, outputs)
    }
}
