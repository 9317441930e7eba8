//! More than one view at a time: several in one run of the vision graph, and where the overview says to look.

use image::RgbImage;
use kestrel_perception::preprocess;
use kestrel_perception::tiling::Heat;

use super::{SegmentError, Views, run};
use crate::engine::{Engine, Graph, Input, Tensor};
use crate::pipeline::timings::{Timings, timed};

/// Buffers of a run over several views.
#[derive(Default)]
pub(super) struct Together {
    images: Vec<f32>,
    features: [Tensor; 4],
}

impl Views {
    /// Runs the vision graph on those of `views` that were not seen, as many in one run as the engine is best given; gives
    /// how many that were. Where that is one, views are left to be seen when they are asked about.
    pub(in crate::pipeline) fn see_all(
        &mut self,
        views: &[usize],
        frame: &RgbImage,
        engine: &mut dyn Engine,
        timings: &mut Timings,
    ) -> Result<u32, SegmentError> {
        let most = engine.views_per_run();
        if most < 2 {
            return Ok(0);
        }
        let unseen: Vec<usize> = views.iter().copied().filter(|&view| !self.slots[view].seen).collect();
        for some in unseen.chunks(most) {
            self.see_together(some, frame, engine, timings)?;
        }
        Ok(unseen.len() as u32)
    }

    fn see_together(
        &mut self,
        views: &[usize],
        frame: &RgbImage,
        engine: &mut dyn Engine,
        timings: &mut Timings,
    ) -> Result<(), SegmentError> {
        let Self { shapes, image, scratch, slots, together, .. } = self;
        let Together { images, features } = together;
        images.clear();
        for &view in views {
            let slot = &mut slots[view];
            slot.letterbox =
                timed(&mut timings.preprocess, || preprocess(frame, &slot.letterbox.view, image, scratch))?;
            images.extend_from_slice(image.as_slice().unwrap_or_default());
        }
        let shape = [views.len(), 3, shapes.size, shapes.size];
        run(engine, Graph::Vision, &[Input::F32(&shape, images)], features, timings)?;
        for ((all, mut expected), output) in features.iter().zip(shapes.vision()).zip(Graph::Vision.outputs()) {
            expected[0] = views.len();
            if all.shape != expected {
                let engine = engine.name().to_owned();
                return Err(SegmentError::Shape { engine, output, expected, got: all.shape.clone() });
            }
        }
        for (at, &view) in views.iter().enumerate() {
            let slot = &mut slots[view];
            for ((feature, all), shape) in slot.features.iter_mut().zip(&*features).zip(shapes.vision()) {
                let length = all.data.len() / views.len();
                feature.shape = shape;
                feature.data.clear();
                feature.data.extend_from_slice(&all.data[at * length..][..length]);
            }
            timed(&mut timings.postprocess, || slot.proposed.fill(&slot.features[3].data, shapes))?;
            slot.seen = true;
        }
        Ok(())
    }

    /// The views of the tiles where the overview looks, hottest first, at most `most`: by what the mask graph said last, which
    /// must have been of the overview.
    pub(in crate::pipeline) fn hottest(&self, most: usize) -> Result<Vec<usize>, SegmentError> {
        let overview = &self.slots[0];
        let picked = overview.proposed.picked.iter();
        let things: Vec<([f32; 4], f32)> = picked.map(|proposal| (proposal.edges, proposal.score)).collect();
        let heat = Heat {
            letterbox: &overview.letterbox,
            logits: &self.mask[0].data,
            side: self.shapes.mask_side(),
            things: &things,
        };
        Ok(heat.hottest(&self.tiles(), most)?.into_iter().map(|tile| tile + 1).collect())
    }
}
