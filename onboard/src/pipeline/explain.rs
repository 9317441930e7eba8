//! An answer with reasons: picture and question are read, then a thought and what follows from it are written, token by
//! token, under the grammar of [`kestrel_perception::answer`].

use std::time::{Duration, Instant};

use image::RgbImage;
use kestrel_link::manifest::EXPLAIN_FILE;
use kestrel_link::{Query, Refusal, Verdict};
use kestrel_perception::decoding::{Cache, Row, Sizes};
use kestrel_perception::proposals::{MOST, THING};
use kestrel_perception::{Bitmap, Conclusion, Grammar, Letterbox, Limits, ReasonedIds, Thought, parse, policy, prompt};

use super::shapes::Shapes;
use super::timings::{Timings, timed};
use super::views::check;
use super::words::Words;
use super::{Look, SegmentError, Segmenter, engine_failure, failed, read};
use crate::bundle::Bundle;
use crate::engine::{Engine, EngineError, Graph, Input, Tensor};

/// A reasoned answer with what led to it.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What it comes to.
    pub conclusion: Concluded,
    /// What each `[SEG]` of it shows in the frame, in the order of the boxes, and without the rule on presence: what is
    /// written decides. A mask may be empty.
    pub masks: Vec<Bitmap>,
    /// The boxes that the thought names, each once, as [`Thought`] numbers them: left, top, right, bottom in fractions of
    /// the frame, cut at its edges.
    pub candidates: Vec<[f32; 4]>,
    /// What the model wrote; `None` when the gate refused or the engine failed.
    pub written: Option<Written>,
    /// Where the time went before the model began to read the question.
    pub timings: Timings,
    /// Word tokens that did not fit and were left out.
    pub words_cut: usize,
}

/// What a reasoned answer comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Concluded {
    /// A box around each target: left, top, right, bottom in fractions of the frame, cut at its edges.
    Boxes(Vec<[f32; 4]>),
    /// No target, and why.
    Refused(Refusal),
    /// Whoever listened stopped it before its end.
    Stopped,
}

/// The tokens of a reasoned answer.
#[derive(Debug, Clone)]
pub struct Written {
    /// All of them, behind `<think>`.
    pub ids: Vec<u32>,
    /// The thought as text, boxes spelled out.
    pub thought: String,
    /// The grammar that they follow before its first token, with the limits that held.
    pub grammar: Grammar,
    /// Time of reading picture and question.
    pub prefill: Duration,
    /// Time of writing.
    pub decode: Duration,
}

/// The bundle's graph that answers with reasons.
pub(super) fn graph(bundle: &Bundle) -> Result<Vec<u8>, SegmentError> {
    if !bundle.manifest.files.contains_key(EXPLAIN_FILE) {
        return Err(SegmentError::NoReasons { path: bundle.path(EXPLAIN_FILE) });
    }
    Ok(read(bundle, EXPLAIN_FILE)?)
}

/// What an answer is written behind.
struct Told<'a> {
    /// Image tokens, row-major.
    picture: &'a [f32],
    /// What stands out, [`kestrel_perception::proposals::things`].
    things: &'a [f32],
}

/// An answer as it was decoded.
struct Answered {
    /// `None` where it was stopped.
    conclusion: Option<Conclusion>,
    written: Written,
    /// The state of each `[SEG]`.
    states: Vec<Vec<f32>>,
}

/// The graph's inputs and outputs, with every buffer kept from answer to answer.
pub(super) struct Explainer {
    ids: ReasonedIds,
    vocabulary: u32,
    cache: Cache,
    /// Shapes of the inputs.
    shapes: [Vec<usize>; 6],
    /// `logits`, `seg` and `new`.
    outputs: [Tensor; 3],
    /// The last row in use of the last run.
    row: usize,
}

/// Shapes of the inputs of a graph of these sizes.
fn inputs(sizes: &Sizes) -> [Vec<usize>; 6] {
    let Sizes { rows, length, width, planes, kv_width, .. } = *sizes;
    let row = vec![1, rows];
    let (tokens, kinds) = (vec![1, rows, width], vec![1, rows, sizes.kinds()]);
    [tokens, row.clone(), kinds, row, vec![1, rows, length + rows], vec![planes, length, kv_width]]
}

/// The sizes of a graph whose inputs have these shapes; `None` where they do not fit each other.
fn sizes(shapes: &[Vec<usize>]) -> Option<Sizes> {
    let &[_, rows, width] = shapes.first()?.as_slice() else { return None };
    let &[planes, length, kv_width] = shapes.last()?.as_slice() else { return None };
    // A graph that is told of things asks of each row whether it is one.
    let things = *shapes.get(2)?.last()? == 2;
    let sizes = Sizes { rows, length, width, planes, kv_width, things };
    (rows > 0 && *shapes == inputs(&sizes)).then_some(sizes)
}

impl Explainer {
    /// Takes the graph's sizes from the engine and runs it once.
    pub(super) fn new(engine: &mut dyn Engine, words: &Words, views: &Shapes) -> Result<Self, SegmentError> {
        let shapes = engine.input_shapes(Graph::Explain)?;
        let [count, width] = views.image_tokens();
        let least = count + views.question() + Limits::LEAST;
        let room = |sizes: &Sizes| sizes.length >= least + if sizes.things { MOST } else { 0 };
        let tells = |sizes: &Sizes| !sizes.things || width >= THING;
        let Some(sizes) = sizes(&shapes).filter(|sizes| sizes.width == width && room(sizes) && tells(sizes)) else {
            return Err(SegmentError::Engine(EngineError::Names {
                engine: engine.name().to_owned(),
                graph: Graph::Explain,
                expected: format!("rows of {width} numbers behind at least {least} places"),
                got: format!("inputs of {shapes:?}"),
            }));
        };
        let mut explainer = Self {
            ids: words.reasoned()?,
            vocabulary: words.vocabulary(),
            cache: Cache::new(sizes),
            shapes: inputs(&sizes),
            outputs: Default::default(),
            row: 0,
        };
        explainer.step(engine, &[Row::Word(explainer.ids.think)])?;
        check(engine, Graph::Explain, &explainer.outputs, views.explain(&sizes))?;
        Ok(explainer)
    }

    /// Reads rows and keeps them.
    fn step(&mut self, engine: &mut dyn Engine, rows: &[Row<'_>]) -> Result<(), SegmentError> {
        let Self { cache, shapes: [tokens, ids, spoken, positions, mask, past], outputs, row, .. } = self;
        cache.stage(rows)?;
        let inputs = [
            Input::F32(tokens, &cache.tokens),
            Input::I64(ids, &cache.ids),
            Input::F32(spoken, &cache.spoken),
            Input::I64(positions, &cache.positions),
            Input::F32(mask, &cache.mask),
            Input::F32(past, &cache.past),
        ];
        engine.run(Graph::Explain, &inputs, outputs)?;
        cache.keep(&outputs[2].data)?;
        *row = rows.len() - 1;
        Ok(())
    }

    /// Logits of the token behind the last row that was read.
    fn logits(&self) -> &[f32] {
        let logits = &self.outputs[0].data;
        let width = logits.len() / self.cache.sizes().rows;
        &logits[self.row * width..][..width]
    }

    /// Reads a picture's image tokens, what stands out in it where the graph is told of that, and a prompt from the start.
    fn read(&mut self, engine: &mut dyn Engine, seen: &Told<'_>, prompt: &[u32]) -> Result<(), SegmentError> {
        let Sizes { rows, width, things, .. } = self.cache.sizes();
        self.cache.clear();
        let picture = seen.picture.chunks(width).map(Row::Picture);
        let told = if things { seen.things } else { &[] };
        let words = prompt.iter().map(|&id| Row::Word(id));
        let all: Vec<Row<'_>> = picture.chain(told.chunks(THING).map(Row::Thing)).chain(words).collect();
        all.chunks(rows).try_for_each(|rows| self.step(engine, rows))
    }

    /// The `[SEG]` state of the last row that was read.
    fn state(&self) -> &[f32] {
        let states = &self.outputs[1].data;
        let width = states.len() / self.cache.sizes().rows;
        &states[self.row * width..][..width]
    }

    /// Answers a request of the fast path about a picture; the conclusion is `None` where `on_token` stopped it.
    fn answer(
        &mut self,
        engine: &mut dyn Engine,
        words: &Words,
        (seen, request): (&Told<'_>, &[u32]),
        limits: Limits,
        on_token: &mut dyn FnMut(u32, &str) -> bool,
    ) -> Result<Answered, SegmentError> {
        let start = Instant::now();
        let prompt = prompt(request, &self.ids);
        self.read(engine, seen, &prompt)?;
        let prefill = start.elapsed();
        let room = self.cache.sizes().length - self.cache.used();
        let grammar = Grammar::new(self.ids, self.vocabulary, Limits { tokens: limits.tokens.min(room), ..limits });
        let (mut state, mut stopped) = (grammar, false);
        let (mut ids, mut pending, mut states) = (Vec::new(), Vec::new(), Vec::new());
        while !state.finished() && !stopped {
            if let Some(&last) = ids.last() {
                self.step(engine, &[Row::Word(last)])?;
                // The grammar never ends in a `[SEG]`, so that each is read.
                if last == self.ids.special.seg {
                    states.push(self.state().to_vec());
                }
            }
            let id = state.push_likeliest(self.logits())?;
            ids.push(id);
            let text = words.tell(&mut pending, id)?;
            stopped = !on_token(id, text.as_str());
        }
        let decode = start.elapsed() - prefill;
        let conclusion = match state.finished() {
            true => Some(parse(&ids, &grammar)?.outcome),
            false => None,
        };
        let end = ids.iter().position(|id| *id == self.ids.think_end).unwrap_or(ids.len());
        let thought = words.decode(&ids[..end])?;
        Ok(Answered { conclusion, written: Written { ids, thought, grammar, prefill, decode }, states })
    }
}

impl Look<'_> {
    /// Answers one query about the whole frame with reasons, within `limits` and the room that the graph has.
    ///
    /// Every token is chosen by greed among those that the grammar allows. `on_token` hears each, with the text that it
    /// adds, as soon as it is written; where it gives `false`, the answer ends there. Tiles are not looked at. The gate's
    /// refusal comes before any reason, and an engine that fails is a refusal as in [`Look::ask`].
    ///
    /// # Errors
    /// When the query is malformed, or the segmenter was not opened with [`SegmenterOptions::explain`].
    ///
    /// [`SegmenterOptions::explain`]: super::SegmenterOptions::explain
    pub fn explain(
        &mut self,
        query: &Query,
        limits: Limits,
        on_token: &mut dyn FnMut(u32, &str) -> bool,
    ) -> Result<Explanation, SegmentError> {
        query.validate()?;
        let frame = self.frame;
        let Segmenter { engine, words, views, explainer, thresholds, .. } = &mut *self.segmenter;
        let engine = engine.as_mut();
        let Some(explainer) = explainer else {
            let engine = engine.name().to_owned();
            return Err(SegmentError::Engine(EngineError::Missing { engine, graph: Graph::Explain }));
        };
        let mut timings = std::mem::take(&mut self.timings);
        if let Some(refusal) = &self.refusal {
            let conclusion = Concluded::Refused(refusal.clone());
            let (masks, candidates) = (Vec::new(), Vec::new());
            return Ok(Explanation { conclusion, masks, candidates, written: None, timings, words_cut: 0 });
        }
        let letterbox = views.letterbox(0);
        let hint = query.hint.and_then(|hint| letterbox.hint(&hint, frame.width(), frame.height()));
        let tokens = timed(&mut timings.words, || words.encode(&query.text))?;
        let layout = words.layout(&tokens, hint.as_ref());
        let request: Vec<u32> = layout.ids[..layout.used()].iter().map(|&id| id as u32).collect();
        let seen = views.see(0, frame, engine, &mut timings);
        let answer = seen.and_then(|()| {
            let things = if explainer.cache.sizes().things { views.things(0)? } else { Vec::new() };
            let told = Told { picture: views.image_tokens(0), things: &things };
            let answered = explainer.answer(engine, words, (&told, request.as_slice()), limits, on_token)?;
            let mut masks = Vec::with_capacity(answered.states.len());
            for state in &answered.states {
                let drawn = views.draw(0, state, engine, &mut timings)?;
                masks.push(drawn.mask(frame, thresholds.mask_threshold, thresholds)?);
            }
            Ok((answered, masks))
        });
        let (conclusion, masks, written) = match answer {
            Ok((Answered { conclusion, written, .. }, masks)) => {
                (concluded(conclusion, &letterbox, frame), masks, Some(written))
            }
            Err(error) => {
                engine_failure(engine.name(), error)?;
                (Concluded::Refused(failed()), Vec::new(), None)
            }
        };
        let mut thought = Thought::default();
        if let Some(written) = &written {
            thought.add(&written.thought);
        }
        let candidates = thought.boxes().into_iter().map(|edges| in_frame(edges, &letterbox, frame)).collect();
        Ok(Explanation { conclusion, masks, candidates, written, timings, words_cut: layout.cut })
    }
}

fn concluded(conclusion: Option<Conclusion>, letterbox: &Letterbox, frame: &RgbImage) -> Concluded {
    match conclusion {
        None => Concluded::Stopped,
        Some(Conclusion::Boxes(boxes)) => {
            Concluded::Boxes(boxes.into_iter().map(|edges| in_frame(edges, letterbox, frame)).collect())
        }
        Some(Conclusion::None(reason)) => {
            let verdict = match reason {
                0 => Verdict::TargetAbsent,
                1 => Verdict::TargetAmbiguous { candidates: Vec::new() },
                2 => Verdict::QueryNotUnderstood { word: None },
                _ => Verdict::TargetUnseeable,
            };
            Concluded::Refused(Refusal { advice: policy::advice(&verdict), evidence: Vec::new(), verdict })
        }
    }
}

/// Edges in fractions of the model's input, in fractions of the frame.
fn in_frame(edges: [f32; 4], letterbox: &Letterbox, frame: &RgbImage) -> [f32; 4] {
    let [x0, y0, x1, y1] = edges.map(|edge| edge * letterbox.size as f32);
    let ((x0, y0), (x1, y1)) = (letterbox.to_frame(x0, y0), letterbox.to_frame(x1, y1));
    let (width, height) = (frame.width() as f32, frame.height() as f32);
    [x0 / width, y0 / height, x1 / width, y1 / height].map(|edge| edge.clamp(0.0, 1.0))
}
