//! After warm-up the stages of a frame allocate nothing (promise P5): a counting allocator proves it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod counting;

use counting::{Allocations, counted};
use image::{Rgb, RgbImage};
use kestrel_link::{MaskScratch, Outcome, Presence, Reply, Segment, Thresholds, encode_into};
use kestrel_perception::gate::{GateScratch, measure};
use kestrel_perception::proposals::{GEOMETRY, PickScratch, ProposalInputs, SPOT, pick_with};
use kestrel_perception::{
    AnswerLogits, Bitmap, Decision, GateHistory, GateThresholds, Letterbox, Observation, Scratch, SpeckScratch,
    UpsampleScratch, View, WordDoubt, decide, preprocess, segment_with, upsample_with, word_doubts_into,
};
use ndarray::Array4;

const NONE: Allocations = Allocations { count: 0, largest: 0 };
const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;
/// Side of the model's input, of the grid of spots and of the mask's logits.
const SIDE: usize = 512;
const SPOTS: usize = SIDE / 8;
const CELLS: usize = SIDE / 4;

/// Coloured fields that move from frame to frame.
fn frame(number: u32, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let x = x + 8 * number;
        let field = (x / 40).wrapping_mul(37) ^ (y / 30).wrapping_mul(91);
        Rgb([(60 + field % 120) as u8, (90 + (field / 3) % 90) as u8, (40 + (x * y) % 50) as u8])
    })
}

/// No bound that a drawn picture breaks.
fn thresholds() -> GateThresholds {
    GateThresholds {
        least_contrast: 0.0,
        most_tear: f32::MAX,
        most_noise_levels: f32::MAX,
        most_magenta: f32::MAX,
        least_sharpness: [0.0; 2],
        least_directional_sharpness: 0.0,
        most_repeated_share: 1.0,
        ..GateThresholds::default()
    }
}

/// Runs a stage on several frames until its memory has grown, then once more on each: that allocates nothing.
fn assert_steady(stage: &str, mut run: impl FnMut(u32)) {
    (0..4).for_each(&mut run);
    for number in 0..4 {
        let ((), allocations) = counted(|| run(number));
        assert_eq!(allocations, NONE, "{stage}, frame {number}");
    }
}

#[test]
fn the_counter_counts() {
    let (kept, allocations) = counted(|| std::hint::black_box(vec![0_u8; 1000]));
    assert_eq!((kept.len(), allocations), (1000, Allocations { count: 1, largest: 1000 }));
}

#[test]
fn the_gate_allocates_nothing() {
    let frames: Vec<RgbImage> = (0..4).map(|number| frame(number, WIDTH, HEIGHT)).collect();
    let (thresholds, mut scratch, mut history) = (thresholds(), GateScratch::default(), GateHistory::default());
    assert_steady("gate", |number| {
        let report = measure(&frames[number as usize], &mut scratch).judge(&thresholds, &history);
        assert_eq!(report.verdict, None, "a refusal has words");
        history = report.history;
    });
}

#[test]
fn a_frame_of_the_models_size_is_normalised_without_allocating() {
    let side = SIDE as u32;
    let frames: Vec<RgbImage> = (0..4).map(|number| frame(number, side, side)).collect();
    let (mut scratch, mut input) = (Scratch::default(), Array4::zeros((1, 3, SIDE, SIDE)));
    assert_steady("preprocessing", |number| {
        preprocess(&frames[number as usize], &View::whole(side, side), &mut input, &mut scratch).unwrap();
    });
}

/// `fast_image_resize` computes its coefficients anew for each picture: a small piece of memory for each column and row of
/// the result, and a few more. Nothing of the size of a picture is allocated, and it is always the same.
#[test]
fn resizing_allocates_the_coefficients_and_no_more() {
    let frames: Vec<RgbImage> = (0..4).map(|number| frame(number, WIDTH, HEIGHT)).collect();
    let (mut scratch, mut input) = (Scratch::default(), Array4::zeros((1, 3, SIDE, SIDE)));
    let (mut last, view) = (None, View::whole(WIDTH, HEIGHT));
    // Memory that is kept from frame to frame is taken with the first one.
    preprocess(&frames[3], &view, &mut input, &mut scratch).unwrap();
    for number in [0, 1, 2, 3, 0, 1] {
        let (letterbox, allocations) =
            counted(|| preprocess(&frames[number], &view, &mut input, &mut scratch).unwrap());
        let most = u64::from(letterbox.inner_width + letterbox.inner_height) + 16;
        let Some(before) = last.replace(allocations) else { continue };
        assert_eq!(allocations, before, "frame {number}");
        assert!(allocations.count <= most && allocations.largest < 64 * 1024, "{allocations:?}");
    }
}

#[test]
fn proposals_allocate_nothing() {
    let mut spots = vec![0.0_f32; SPOTS * SPOTS * SPOT];
    let (mut scratch, mut inputs, mut boxes) = (PickScratch::default(), ProposalInputs::default(), Vec::new());
    assert_steady("proposals", |number| {
        for (cell, spot) in spots.chunks_exact_mut(SPOT).enumerate() {
            spot[0] = if cell % (40 + number as usize) == 0 { 1.0 + (cell % 7) as f32 } else { -5.0 };
            spot[1..GEOMETRY].fill(0.1);
        }
        let picked = pick_with(&spots, SPOTS, &mut scratch).unwrap();
        assert!(picked.len() > 20, "sorting few things takes no memory anyway: {}", picked.len());
        boxes.clear();
        boxes.extend(picked.iter().map(|proposal| proposal.edges));
        inputs.fill(&boxes, &[SIDE / 16, CELLS]);
    });
}

/// Everything behind the mask graph: the mask in pixels of the frame, the policy, run lengths, and the message.
struct Finishing {
    letterbox: Letterbox,
    logits: Vec<f32>,
    upsample: UpsampleScratch,
    specks: SpeckScratch,
    encode: MaskScratch,
    mask: Bitmap,
    observation: Observation,
    counts: String,
    masks: Vec<Segment>,
    reply: Reply,
    bytes: Vec<u8>,
}

impl Finishing {
    fn new() -> Self {
        let answers = AnswerLogits { seg: 6.0, absent: 0.0, ambiguous: 0.0, not_understood: -2.0, unseeable: 0.0 };
        Self {
            letterbox: Letterbox::new(View::whole(WIDTH, HEIGHT), SIDE as u32),
            logits: vec![0.0; CELLS * CELLS],
            upsample: UpsampleScratch::default(),
            specks: SpeckScratch::default(),
            encode: MaskScratch::default(),
            mask: Bitmap::default(),
            observation: Observation {
                answers,
                object: 3.0,
                iou: 2.0,
                doubts: Vec::<WordDoubt>::new(),
                area_pixels: 0.0,
                candidates: Vec::new(),
            },
            counts: String::new(),
            masks: Vec::new(),
            reply: Reply {
                drone: "kestrel-1".into(),
                query_id: "q".into(),
                query_text: "the red car".into(),
                frame: 0,
                frame_width: WIDTH,
                frame_height: HEIGHT,
                capture_unix_nanos: 0,
                capture_doubt: None,
                latency_micros: 0,
                frame_age_micros: Some(0),
                model: "m@1".into(),
                engine: "tract".into(),
                outcome: Outcome::Segmented { masks: Vec::new() },
                standing: None,
            },
            bytes: Vec::new(),
        }
    }

    /// A thing that moves, with specks beside it.
    fn draw(&mut self, number: u32) {
        let left = 30 + 5 * number as usize;
        for (at, logit) in self.logits.iter_mut().enumerate() {
            let (x, y) = (at % CELLS, at / CELLS);
            let inside = (left..left + 20).contains(&x) && (50..70).contains(&y);
            let speck = x % 16 == 3 && y == 40;
            *logit = if inside || speck { 4.0 } else { -4.0 };
        }
    }

    fn see(&mut self) {
        self.mask.reset(WIDTH, HEIGHT);
        let logits = self.logits.as_slice();
        upsample_with((logits, CELLS), &self.letterbox, 0.5, &mut self.mask, &mut self.upsample).unwrap();
        assert!(self.mask.remove_specks_with(2000, &mut self.specks) > 0);
    }

    fn judge(&mut self, thresholds: &Thresholds) -> (f32, f32) {
        let offsets = [(0, 3), (3, 7), (7, 11)];
        word_doubts_into("the red car", &offsets, &[-4.0, -5.0, -6.0], &mut self.observation.doubts);
        self.observation.area_pixels = self.letterbox.area_to_model(self.mask.area());
        match decide(&self.observation, thresholds) {
            Decision::Segment { presence, predicted_iou } => (presence, predicted_iou),
            Decision::Refuse(refusal) => panic!("a refusal has words: {refusal:?}"),
        }
    }

    fn send(&mut self, (presence, predicted_iou): (f32, f32)) {
        let (scratch, counts) = (&mut self.encode, &mut self.counts);
        let segment = segment_with(&self.mask, presence, predicted_iou, scratch, counts).unwrap().unwrap();
        let mut masks = std::mem::take(&mut self.masks);
        masks.push(segment);
        self.reply.outcome = Outcome::Segmented { masks };
        encode_into(&self.reply, &mut self.bytes).unwrap();
        // What was sent is used again.
        let nothing = Outcome::Segmented { masks: Vec::new() };
        if let Outcome::Segmented { mut masks } = std::mem::replace(&mut self.reply.outcome, nothing) {
            self.counts = masks.pop().unwrap().mask.counts;
            self.masks = masks;
        }
    }
}

#[test]
fn from_the_masks_logits_to_the_message_nothing_is_allocated() {
    let thresholds = Thresholds {
        model_hash: "0".repeat(64),
        presence: Presence { weights: [-1.0, 0.5, 0.5], bias: 0.0 },
        presence_threshold: 0.6,
        mask_threshold: 0.5,
        doubt_threshold: 0.7,
        min_area_pixels: 16,
        data: String::new(),
        seed: 0,
        date: String::new(),
    };
    let mut finishing = Finishing::new();
    assert_steady("mask in pixels of the frame", |number| {
        finishing.draw(number);
        finishing.see();
    });
    assert_steady("refusal policy", |_| {
        finishing.judge(&thresholds);
    });
    assert_steady("run lengths and message", |number| {
        finishing.draw(number);
        finishing.see();
        let judged = finishing.judge(&thresholds);
        finishing.send(judged);
    });
    let reply: Reply = kestrel_link::decode(&finishing.bytes).unwrap();
    let Outcome::Segmented { masks } = reply.outcome else { panic!("expected a mask") };
    assert!(masks[0].area_pixels > 10_000, "what was measured is an answer");
}
