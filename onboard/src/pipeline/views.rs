//! The model's graphs over the views of one frame, with every buffer kept from frame to frame.

mod together;

use std::time::Duration;

use image::RgbImage;
use kestrel_link::{AnswerTokens, Thresholds};
use kestrel_perception::proposals::{self, CODE, GEOMETRY, MOST, NAMES, PickScratch, Proposal, ProposalInputs, SPOT};
use kestrel_perception::{
    AnswerLogits, Bitmap, Letterbox, Observation, Scratch, TokenLayout, View, postprocess, preprocess, upsample_with,
    word_doubts_into,
};
use ndarray::Array4;

use super::SegmentError;
use super::arena::Arena;
use super::prepare::Prepared;
use super::shapes::Shapes;
use super::timings::{Timings, timed};
use super::words::Tokens;
use crate::engine::{Engine, Graph, Input, Tensor};
use together::Together;

/// Share of the least area under which a piece of a mask counts as a speck.
const SPECK_SHARE: f32 = 0.25;

/// One view's letterbox and what the vision graph said of it.
struct Slot {
    letterbox: Letterbox,
    seen: bool,
    features: [Tensor; 4],
    proposed: Proposed,
}

/// The things that stand out in a view, as the mask graph takes them.
#[derive(Default)]
struct Proposed {
    picked: Vec<Proposal>,
    inputs: ProposalInputs,
    /// Logits of names `[MOST, NAMES]`.
    names: Vec<f32>,
    boxes: Vec<[f32; 4]>,
    scratch: PickScratch,
}

impl Proposed {
    /// Picks what stands out among `spots`.
    fn fill(&mut self, spots: &[f32], shapes: &Shapes) -> Result<(), kestrel_perception::Error> {
        let picked = proposals::pick_with(spots, shapes.spot_side(), &mut self.scratch)?;
        self.boxes.clear();
        self.boxes.extend(picked.iter().map(|proposal| proposal.edges));
        self.inputs.fill(&self.boxes, &[shapes.size / 16, shapes.mask_side()]);
        self.names.clear();
        self.names.resize(MOST * NAMES, 0.0);
        for (names, proposal) in self.names.chunks_exact_mut(NAMES).zip(picked) {
            names.copy_from_slice(&spots[proposal.cell * SPOT + GEOMETRY..][..NAMES]);
        }
        self.picked.clear();
        self.picked.extend_from_slice(picked);
        Ok(())
    }
}

/// Views of the frame at hand.
pub(super) struct Views {
    shapes: Shapes,
    image: Array4<f32>,
    /// Time that the input of the whole frame took, when `image` holds it already.
    ahead: Option<Duration>,
    scratch: Scratch,
    slots: Vec<Slot>,
    /// Slots of the frame at hand; those behind it keep their memory.
    count: usize,
    language: [Tensor; 3],
    mask: [Tensor; 3],
    /// What the language graph was last given.
    last_layout: TokenLayout,
    together: Together,
}

/// What the model said of one view.
pub(super) struct Said<'a> {
    language: &'a [Tensor; 3],
    pub(super) drawn: Drawn<'a>,
}

/// What the mask graph drew on one view.
pub(super) struct Drawn<'a> {
    letterbox: Letterbox,
    mask: &'a [Tensor; 3],
    side: usize,
}

impl Views {
    pub(super) fn new(shapes: Shapes) -> Self {
        Self {
            shapes,
            image: Array4::zeros((1, 3, shapes.size, shapes.size)),
            ahead: None,
            scratch: Scratch::default(),
            slots: Vec::new(),
            count: 0,
            language: Default::default(),
            mask: Default::default(),
            last_layout: TokenLayout { ids: vec![0; shapes.tokens], answer_index: 0, cut: 0 },
            together: Together::default(),
        }
    }

    /// Runs every graph once on a grey picture, and holds the outputs against the manifest.
    pub(super) fn warm_up(&mut self, engine: &mut dyn Engine) -> Result<(), SegmentError> {
        let picture = RgbImage::from_pixel(8, 8, image::Rgb([114; 3]));
        self.begin(vec![View::whole(8, 8)]);
        let mut timings = Timings::default();
        self.see(0, &picture, engine, &mut timings)?;
        let layout = TokenLayout { ids: vec![0; self.shapes.tokens], answer_index: 0, cut: 0 };
        self.say(0, &layout, engine, &mut timings)?;
        let Self { shapes, slots, language, mask, .. } = &*self;
        check(engine, Graph::Vision, &slots[0].features, shapes.vision())?;
        check(engine, Graph::Language, language, shapes.language())?;
        check(engine, Graph::Mask, mask, shapes.mask())
    }

    /// Runs the graphs on the buffers as they are.
    pub(super) fn run_bare(&mut self, engine: &mut dyn Engine, timings: &mut Timings) -> Result<(), SegmentError> {
        let layout = self.last_layout.clone();
        let slot = &mut self.slots[0];
        let inputs = [Input::F32(self.image.shape(), self.image.as_slice().unwrap_or_default())];
        run(engine, Graph::Vision, &inputs, &mut slot.features, timings)?;
        self.say(0, &layout, engine, timings).map(drop)
    }

    /// Takes the views of a new frame, the whole first, and forgets what was seen of the last.
    pub(super) fn begin(&mut self, views: Vec<View>) {
        let size = self.shapes.size as u32;
        self.count = views.len();
        self.ahead = None;
        for (index, view) in views.into_iter().enumerate() {
            let letterbox = Letterbox::new(view, size);
            match self.slots.get_mut(index) {
                Some(slot) => {
                    slot.letterbox = letterbox;
                    slot.seen = false;
                }
                None => {
                    let (features, proposed) = Default::default();
                    self.slots.push(Slot { letterbox, seen: false, features, proposed });
                }
            }
        }
    }

    /// Side of the model's input in pixels.
    pub(super) fn input_size(&self) -> u32 {
        self.shapes.size as u32
    }

    /// Takes the input of the whole frame at hand where it was prepared.
    pub(super) fn take_input(&mut self, prepared: &mut Prepared) {
        self.ahead = prepared.give_input(&mut self.image);
    }

    pub(super) fn letterbox(&self, view: usize) -> Letterbox {
        self.slots[view].letterbox
    }

    /// The image tokens of a view that was seen, row-major.
    pub(super) fn image_tokens(&self, view: usize) -> &[f32] {
        &self.slots[view].features[0].data
    }

    /// What stands out in a view that was seen, as the graph that answers with reasons is told of it.
    pub(super) fn things(&self, view: usize) -> Result<Vec<f32>, SegmentError> {
        let Slot { features, proposed, .. } = &self.slots[view];
        Ok(proposals::things(&features[3].data, &proposed.picked)?)
    }

    /// The tiles of the frame, without the whole.
    pub(super) fn tiles(&self) -> Vec<View> {
        self.slots[..self.count].iter().skip(1).map(|slot| slot.letterbox.view).collect()
    }

    /// Runs the vision graph on a view unless that has happened.
    pub(super) fn see(
        &mut self,
        view: usize,
        frame: &RgbImage,
        engine: &mut dyn Engine,
        timings: &mut Timings,
    ) -> Result<(), SegmentError> {
        let slot = &mut self.slots[view];
        if slot.seen {
            return Ok(());
        }
        // Whatever is seen next is written over it.
        match self.ahead.take().filter(|_| view == 0) {
            Some(time) => timings.preprocess += time,
            None => {
                slot.letterbox = timed(&mut timings.preprocess, || {
                    preprocess(frame, &slot.letterbox.view, &mut self.image, &mut self.scratch)
                })?;
            }
        }
        let data = self.image.as_slice().unwrap_or_default();
        let inputs = [Input::F32(self.image.shape(), data)];
        run(engine, Graph::Vision, &inputs, &mut slot.features, timings)?;
        timed(&mut timings.postprocess, || slot.proposed.fill(&slot.features[3].data, &self.shapes))?;
        slot.seen = true;
        Ok(())
    }

    /// Runs the language and the mask graph on a view that was seen.
    pub(super) fn say(
        &mut self,
        view: usize,
        layout: &TokenLayout,
        engine: &mut dyn Engine,
        timings: &mut Timings,
    ) -> Result<Said<'_>, SegmentError> {
        self.last_layout.clone_from(layout);
        let slot = &self.slots[view];
        let tokens = &slot.features[0];
        let index = [layout.answer_index as i64];
        let ids_shape = [1, layout.ids.len()];
        let inputs = [tokens.as_input(), Input::I64(&ids_shape, &layout.ids), Input::I64(&[1, 1], &index)];
        run(engine, Graph::Language, &inputs, &mut self.language, timings)?;
        slot.draw(&self.language[1].data, engine, &mut self.mask, timings)?;
        let drawn = Drawn { letterbox: slot.letterbox, mask: &self.mask, side: self.shapes.mask_side() };
        Ok(Said { language: &self.language, drawn })
    }

    /// Runs the mask graph alone on a view that was seen, prompted by a `[SEG]` state of `mask_width` numbers.
    pub(super) fn draw(
        &mut self,
        view: usize,
        seg: &[f32],
        engine: &mut dyn Engine,
        timings: &mut Timings,
    ) -> Result<Drawn<'_>, SegmentError> {
        let slot = &self.slots[view];
        slot.draw(seg, engine, &mut self.mask, timings)?;
        Ok(Drawn { letterbox: slot.letterbox, mask: &self.mask, side: self.shapes.mask_side() })
    }
}

impl Slot {
    fn draw(
        &self,
        seg: &[f32],
        engine: &mut dyn Engine,
        mask: &mut [Tensor; 3],
        timings: &mut Timings,
    ) -> Result<(), SegmentError> {
        let [_, embed, fine, _] = &self.features;
        let Proposed { inputs: proposed, names, .. } = &self.proposed;
        let (state, extents) = ([1, 1, seg.len()], [1, proposed.extents.len() / MOST, MOST]);
        let inputs = [
            embed.as_input(),
            fine.as_input(),
            Input::F32(&state, seg),
            Input::F32(&[1, MOST, NAMES], names),
            Input::F32(&[1, MOST, CODE], &proposed.codes),
            Input::F32(&extents, &proposed.extents),
            Input::F32(&[1, MOST + 1, MOST + 1], &proposed.attention),
        ];
        run(engine, Graph::Mask, &inputs, mask, timings)
    }
}

/// Holds a graph's outputs against the shapes that they should have.
pub(super) fn check(
    engine: &dyn Engine,
    graph: Graph,
    outputs: &[Tensor],
    expected: impl IntoIterator<Item = Vec<usize>>,
) -> Result<(), SegmentError> {
    for ((output, expected), name) in outputs.iter().zip(expected).zip(graph.outputs()) {
        if output.shape != expected {
            let engine = engine.name().to_owned();
            return Err(SegmentError::Shape { engine, output: name, expected, got: output.shape.clone() });
        }
    }
    Ok(())
}

fn run(
    engine: &mut dyn Engine,
    graph: Graph,
    inputs: &[Input<'_>],
    outputs: &mut [Tensor],
    timings: &mut Timings,
) -> Result<(), SegmentError> {
    let mut time = std::time::Duration::ZERO;
    let result = timed(&mut time, || engine.run(graph, inputs, outputs));
    timings.add_run(graph, time);
    Ok(result?)
}

impl Drawn<'_> {
    /// The mask in pixels of the frame, cut at a probability, without specks.
    pub(super) fn mask(&self, frame: &RgbImage, level: f32, thresholds: &Thresholds) -> Result<Bitmap, SegmentError> {
        self.mask_in(frame, level, thresholds, &mut Arena::default())
    }

    /// As [`Drawn::mask`], in memory of the arena.
    fn mask_in(
        &self,
        frame: &RgbImage,
        level: f32,
        thresholds: &Thresholds,
        arena: &mut Arena,
    ) -> Result<Bitmap, SegmentError> {
        let mut mask = arena.bitmap(frame.width(), frame.height());
        let logits = self.mask[0].data.as_slice();
        upsample_with((logits, self.side), &self.letterbox, level, &mut mask, &mut arena.upsample)?;
        let least = (self.least_area(thresholds) * SPECK_SHARE).round() as u64;
        mask.remove_specks_with(least, &mut arena.specks);
        Ok(mask)
    }

    /// The least area of a mask in pixels of the frame.
    fn least_area(&self, thresholds: &Thresholds) -> f32 {
        thresholds.min_area_pixels as f32 / (self.letterbox.scale_x * self.letterbox.scale_y)
    }
}

impl Said<'_> {
    /// The numbers that the policy wants, and the mask in pixels of the frame.
    pub(super) fn observe(
        &self,
        frame: &RgbImage,
        ids: &AnswerTokens,
        thresholds: &Thresholds,
        tokens: &Tokens,
        arena: &mut Arena,
    ) -> Result<(Observation, Bitmap), SegmentError> {
        let Self { language: [logits, _, doubt], drawn } = self;
        let [_, iou, object] = drawn.mask;
        let answers = AnswerLogits::read(&logits.data, ids)?;
        let mask = drawn.mask_in(frame, thresholds.mask_threshold, thresholds, arena)?;
        let mut doubts = arena.doubts();
        word_doubts_into(&tokens.text, &tokens.offsets, &doubt.data, &mut doubts);
        let least = drawn.least_area(thresholds);
        // A scalar that is not there is as good as one that is not a number: the policy refuses both.
        let scalar = |tensor: &Tensor| tensor.data.first().copied().unwrap_or(f32::NAN);
        let mut observation = Observation {
            answers,
            object: scalar(object),
            iou: scalar(iou),
            doubts,
            area_pixels: drawn.letterbox.area_to_model(mask.area()),
            candidates: Vec::new(),
        };
        if answers.ambiguous >= answers.absent && answers.ambiguous >= answers.unseeable {
            let presence = kestrel_perception::presence(&answers, observation.object, observation.iou, thresholds);
            let predicted_iou = 1.0 / (1.0 + (-observation.iou).exp());
            if presence.is_finite() && predicted_iou.is_finite() {
                observation.candidates = postprocess::candidates(&mask, presence, predicted_iou, least.round() as u64)?;
            }
        }
        Ok((observation, mask))
    }
}

/// What the language graph said of words and a view: `logits`, `seg` and `doubt`.
pub(super) type Heard = [Tensor; 3];

impl Views {
    /// What the language graph said last.
    pub(super) fn heard(&self) -> &Heard {
        &self.language
    }

    /// Draws a view that was seen, by what the language graph said of an earlier frame.
    pub(super) fn say_again<'a>(
        &'a mut self,
        view: usize,
        heard: &'a Heard,
        engine: &mut dyn Engine,
        timings: &mut Timings,
    ) -> Result<Said<'a>, SegmentError> {
        let [_, seg, _] = heard;
        let drawn = self.draw(view, &seg.data, engine, timings)?;
        Ok(Said { language: heard, drawn })
    }
}
