//! The model's graphs over the views of one frame, with every buffer kept from frame to frame.

use image::RgbImage;
use kestrel_link::{AnswerTokens, Manifest, Thresholds};
use kestrel_perception::{
    AnswerLogits, Bitmap, Letterbox, Observation, Scratch, Tiling, TokenLayout, View, plan, postprocess, preprocess,
    upsample, word_doubts,
};
use ndarray::Array4;

use super::SegmentError;
use super::timings::{Timings, timed};
use super::words::Tokens;
use crate::engine::{Engine, Graph, Input, Tensor};

/// Share of the least area under which a piece of a mask counts as a speck.
const SPECK_SHARE: f32 = 0.25;

/// The shapes that a manifest promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shapes {
    size: usize,
    language: usize,
    mask: usize,
    fine: usize,
    vocabulary: usize,
    tokens: usize,
}

impl Shapes {
    /// The shapes of a manifest.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        Self {
            size: manifest.input_size as usize,
            language: manifest.language_width as usize,
            mask: manifest.mask_width as usize,
            fine: manifest.fine_width as usize,
            vocabulary: manifest.vocabulary as usize,
            tokens: manifest.max_tokens as usize,
        }
    }

    /// Side of the mask logits.
    #[must_use]
    pub fn mask_side(&self) -> usize {
        self.size / 4
    }

    /// Shapes of a graph's outputs.
    #[must_use]
    pub fn outputs(&self, graph: Graph) -> [Vec<usize>; 3] {
        let side = self.mask_side();
        match graph {
            Graph::Vision => [
                vec![1, (self.size / 32).pow(2), self.language],
                vec![1, (self.size / 16).pow(2), self.mask],
                vec![1, side * side, self.fine],
            ],
            Graph::Language => [vec![1, self.vocabulary], vec![1, 1, self.mask], vec![1, self.tokens]],
            Graph::Mask => [vec![1, side, side], vec![1, 1], vec![1, 1]],
        }
    }
}

/// One view's letterbox and what the vision graph said of it.
struct Slot {
    letterbox: Letterbox,
    seen: bool,
    features: [Tensor; 3],
}

/// Views of the frame at hand.
pub(super) struct Views {
    shapes: Shapes,
    image: Array4<f32>,
    scratch: Scratch,
    slots: Vec<Slot>,
    /// Slots of the frame at hand; those behind it keep their memory.
    count: usize,
    language: [Tensor; 3],
    mask: [Tensor; 3],
    /// What the language graph was last given.
    last_layout: TokenLayout,
}

/// What the model said of one view.
pub(super) struct Said<'a> {
    letterbox: Letterbox,
    language: &'a [Tensor; 3],
    mask: &'a [Tensor; 3],
    side: usize,
}

impl Views {
    pub(super) fn new(shapes: Shapes) -> Self {
        Self {
            shapes,
            image: Array4::zeros((1, 3, shapes.size, shapes.size)),
            scratch: Scratch::default(),
            slots: Vec::new(),
            count: 0,
            language: Default::default(),
            mask: Default::default(),
            last_layout: TokenLayout { ids: vec![0; shapes.tokens], answer_index: 0, cut: 0 },
        }
    }

    /// Runs every graph once on a grey picture, and holds the outputs against the manifest.
    pub(super) fn warm_up(&mut self, engine: &mut dyn Engine) -> Result<(), SegmentError> {
        let picture = RgbImage::from_pixel(8, 8, image::Rgb([114; 3]));
        self.begin(&picture, Tiling::Never);
        let mut timings = Timings::default();
        self.see(0, &picture, engine, &mut timings)?;
        let layout = TokenLayout { ids: vec![0; self.shapes.tokens], answer_index: 0, cut: 0 };
        self.say(0, &layout, engine, &mut timings)?;
        for graph in Graph::ALL {
            let outputs = match graph {
                Graph::Vision => &self.slots[0].features,
                Graph::Language => &self.language,
                Graph::Mask => &self.mask,
            };
            for ((output, expected), name) in outputs.iter().zip(self.shapes.outputs(graph)).zip(graph.outputs()) {
                if output.shape != expected {
                    let engine = engine.name().to_owned();
                    return Err(SegmentError::Shape { engine, output: name, expected, got: output.shape.clone() });
                }
            }
        }
        Ok(())
    }

    /// Runs the graphs on the buffers as they are.
    pub(super) fn run_bare(&mut self, engine: &mut dyn Engine, timings: &mut Timings) -> Result<(), SegmentError> {
        let layout = self.last_layout.clone();
        let slot = &mut self.slots[0];
        let inputs = [Input::F32(self.image.shape(), self.image.as_slice().unwrap_or_default())];
        run(engine, Graph::Vision, &inputs, &mut slot.features, timings)?;
        self.say(0, &layout, engine, timings).map(drop)
    }

    /// Plans the views of a new frame and forgets what was seen of the last.
    pub(super) fn begin(&mut self, frame: &RgbImage, tiling: Tiling) {
        let size = self.shapes.size as u32;
        let views = plan(frame.width(), frame.height(), tiling);
        self.count = views.len();
        for (index, view) in views.into_iter().enumerate() {
            let letterbox = Letterbox::new(view, size);
            match self.slots.get_mut(index) {
                Some(slot) => {
                    slot.letterbox = letterbox;
                    slot.seen = false;
                }
                None => self.slots.push(Slot { letterbox, seen: false, features: Default::default() }),
            }
        }
    }

    pub(super) fn letterbox(&self, view: usize) -> Letterbox {
        self.slots[view].letterbox
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
        let prepared = timed(&mut timings.preprocess, || {
            preprocess(frame, &slot.letterbox.view, &mut self.image, &mut self.scratch)
        })?;
        slot.letterbox = prepared;
        let data = self.image.as_slice().unwrap_or_default();
        let inputs = [Input::F32(self.image.shape(), data)];
        run(engine, Graph::Vision, &inputs, &mut slot.features, timings)?;
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
        let [tokens, embed, fine] = &slot.features;
        let index = [layout.answer_index as i64];
        let ids_shape = [1, layout.ids.len()];
        let inputs = [tokens.as_input(), Input::I64(&ids_shape, &layout.ids), Input::I64(&[1, 1], &index)];
        run(engine, Graph::Language, &inputs, &mut self.language, timings)?;
        let inputs = [embed.as_input(), fine.as_input(), self.language[1].as_input()];
        run(engine, Graph::Mask, &inputs, &mut self.mask, timings)?;
        Ok(Said {
            letterbox: slot.letterbox,
            language: &self.language,
            mask: &self.mask,
            side: self.shapes.mask_side(),
        })
    }
}

fn run(
    engine: &mut dyn Engine,
    graph: Graph,
    inputs: &[Input<'_>],
    outputs: &mut [Tensor; 3],
    timings: &mut Timings,
) -> Result<(), SegmentError> {
    let mut time = std::time::Duration::ZERO;
    let result = timed(&mut time, || engine.run(graph, inputs, outputs));
    timings.add_run(graph, time);
    Ok(result?)
}

impl Said<'_> {
    /// The numbers that the policy wants, and the mask in pixels of the frame.
    pub(super) fn observe(
        &self,
        frame: &RgbImage,
        ids: &AnswerTokens,
        thresholds: &Thresholds,
        tokens: &Tokens,
    ) -> Result<(Observation, Bitmap), SegmentError> {
        let [logits, _, doubt] = self.language;
        let [mask_logits, iou, object] = self.mask;
        let answers = AnswerLogits::read(&logits.data, ids)?;
        let mut mask = Bitmap::new(frame.width(), frame.height());
        upsample(&mask_logits.data, self.side, &self.letterbox, thresholds.mask_threshold, &mut mask)?;
        let least = thresholds.min_area_pixels as f32 / (self.letterbox.scale_x * self.letterbox.scale_y);
        mask.remove_specks((least * SPECK_SHARE).round() as u64);
        // A scalar that is not there is as good as one that is not a number: the policy refuses both.
        let scalar = |tensor: &Tensor| tensor.data.first().copied().unwrap_or(f32::NAN);
        let mut observation = Observation {
            answers,
            object: scalar(object),
            iou: scalar(iou),
            doubts: word_doubts(&tokens.text, &tokens.offsets, &doubt.data),
            area_pixels: self.letterbox.area_to_model(mask.area()),
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
