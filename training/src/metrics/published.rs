//! Figures as the benchmarks of referring sets define them. They disagree with each other, and with [`super::report`], on empty
//! masks and on whether a threshold itself passes.
//!
//! All are computed on the square view of 512 pixels that was asked about, the published ones on pictures as they are.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Record;
use super::figure::{Figure, sums};
use crate::datasets::formats::Format;

/// A benchmark's definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Benchmark {
    /// Masks of RRSIS-D and RefSegRS (source: github.com/Lsan2401/RMSIN, `test.py`): mIoU, oIoU, P@t with IoU ≥ t; nothing
    /// shown where nothing is counts 0.
    Rrsis,
    /// Boxes of DIOR-RSVG and OPT-RSVG (source: github.com/ZhanYang-nwpu/RSVG-pytorch, `main.py`): meanIoU, cumIoU, Pr@t with
    /// IoU > t.
    Rsvg,
    /// Boxes of VRSBench's referring task (arXiv 2406.12384): Acc@0.5 and Acc@0.7.
    Vrsbench,
    /// Hard negatives of VSAI-Ref (source: github.com/phy709/Aerial-R1, `eval/`): passed where no pixel is shown, and the mean
    /// of the pixels where some are. Its masks are filled oriented boxes: against these nothing is measured here.
    VsaiRef,
}

impl Benchmark {
    /// The one of a format; most formats have none.
    pub fn of(format: Format) -> Option<Self> {
        match format {
            Format::RrsisD | Format::Refsegrs => Some(Self::Rrsis),
            Format::DiorRsvg | Format::OptRsvg => Some(Self::Rsvg),
            Format::Vrsbench => Some(Self::Vrsbench),
            Format::VsaiRef => Some(Self::VsaiRef),
            _ => None,
        }
    }

    /// Whether it compares boxes: then [`as_boxes`] makes the records that it judges.
    pub fn by_boxes(self) -> bool {
        matches!(self, Self::Rsvg | Self::Vrsbench)
    }

    /// Its figures of records with the words of the set's annotators, by its own names for them.
    pub fn figures(self, records: &[Record], seed: u64) -> BTreeMap<&'static str, Figure> {
        let present: Vec<&Record> = records.iter().filter(|r| r.present()).collect();
        let mean = |of: &dyn Fn(&Record) -> f64| sums(&present, seed, |r| Some([of(r), 1.0]), |[s, n]| s / n);
        let cumulative = || sums(&present, seed, |r| Some([r.intersection as f64, union(r)]), |[i, u]| i / u);
        let over = |t: f64| mean(&|r| f64::from(iou(r) > t));
        let from = |t: f64| mean(&|r| f64::from(iou(r) >= t));
        match self {
            Self::Rrsis => BTreeMap::from([
                ("mIoU", mean(&iou)),
                ("oIoU", cumulative()),
                ("P@0.5", from(0.5)),
                ("P@0.6", from(0.6)),
                ("P@0.7", from(0.7)),
                ("P@0.8", from(0.8)),
                ("P@0.9", from(0.9)),
            ]),
            Self::Rsvg => BTreeMap::from([
                ("meanIoU", mean(&iou)),
                ("cumIoU", cumulative()),
                ("Pr@0.5", over(0.5)),
                ("Pr@0.6", over(0.6)),
                ("Pr@0.7", over(0.7)),
                ("Pr@0.8", over(0.8)),
                ("Pr@0.9", over(0.9)),
            ]),
            Self::Vrsbench => BTreeMap::from([("Acc@0.5", over(0.5)), ("Acc@0.7", over(0.7))]),
            Self::VsaiRef => {
                let negative: Vec<&Record> = records.iter().filter(|r| r.hard_negative()).collect();
                let passed = |r: &Record| Some([f64::from(!r.shown()), 1.0]);
                let pixels = |r: &Record| r.shown().then_some([r.predicted as f64, 1.0]);
                BTreeMap::from([
                    ("pass rate", sums(&negative, seed, passed, |[s, n]| s / n)),
                    ("hallucinated pixels", sums(&negative, seed, pixels, |[s, n]| s / n)),
                ])
            }
        }
    }
}

fn union(record: &Record) -> f64 {
    (record.predicted + record.target).saturating_sub(record.intersection) as f64
}

/// Intersection over union; nothing against nothing is 0.
fn iou(record: &Record) -> f64 {
    if union(record) > 0.0 { record.iou() } else { 0.0 }
}

/// A record with the upright boxes `[x, y, width, height]` around what was shown and what is right in place of their pixels.
pub fn as_boxes(record: &Record, shown: Option<[u32; 4]>, target: Option<[u32; 4]>) -> Record {
    let area = |b: Option<[u32; 4]>| b.map_or(0, |[_, _, w, h]| u64::from(w) * u64::from(h));
    let overlap = |[ax, ay, aw, ah]: [u32; 4], [bx, by, bw, bh]: [u32; 4]| {
        let length = |a: u32, al: u32, b: u32, bl: u32| u64::from((a + al).min(b + bl).saturating_sub(a.max(b)));
        length(ax, aw, bx, bw) * length(ay, ah, by, bh)
    };
    let intersection = shown.zip(target).map_or(0, |(a, b)| overlap(a, b));
    Record { predicted: area(shown), target: area(target), intersection, sweep: Vec::new(), ..record.clone() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Kind, example};
    use super::*;

    #[test]
    fn benchmarks_disagree_where_their_programs_do() {
        // Exactly half of the union is shown and right; then nothing is shown of something.
        let records = [example(0, Kind::Mask, 10, 5, 5), example(1, Kind::Mask, 10, 0, 0)];
        let rrsis = Benchmark::Rrsis.figures(&records, 1);
        let rsvg = Benchmark::Rsvg.figures(&records, 1);
        assert_eq!((rrsis["P@0.5"].value, rsvg["Pr@0.5"].value), (0.5, 0.0), "the threshold itself passes in one");
        assert_eq!((rrsis["mIoU"].value, rrsis["oIoU"].value), (0.25, 0.25));
        let empty = [example(0, Kind::Mask, 0, 0, 0)];
        assert_eq!((empty[0].iou(), Benchmark::Rrsis.figures(&empty, 1)["mIoU"].value), (1.0, 0.0));
    }

    #[test]
    fn hard_negatives_pass_without_a_pixel() {
        let records =
            [example(0, Kind::Absent, 0, 0, 0), example(1, Kind::Absent, 0, 30, 0), example(2, Kind::Mask, 9, 9, 9)];
        let figures = Benchmark::VsaiRef.figures(&records, 1);
        assert_eq!((figures["pass rate"].value, figures["pass rate"].n), (0.5, 2));
        assert_eq!((figures["hallucinated pixels"].value, figures["hallucinated pixels"].n), (30.0, 1));
    }

    #[test]
    fn boxes_take_the_place_of_pixels() {
        let record = example(0, Kind::Mask, 7, 3, 1);
        let boxed = as_boxes(&record, Some([0, 0, 10, 10]), Some([5, 0, 10, 10]));
        assert_eq!((boxed.predicted, boxed.target, boxed.intersection), (100, 100, 50));
        assert_eq!(as_boxes(&record, None, Some([5, 0, 10, 10])).iou(), 0.0);
        assert_eq!(as_boxes(&record, Some([0, 0, 4, 4]), Some([9, 9, 4, 4])).intersection, 0);
    }
}
