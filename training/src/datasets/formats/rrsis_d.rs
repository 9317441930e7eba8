//! RRSIS-D (source: github.com/Lsan2401/RMSIN, `refer/refer.py`): COCO's `instances.json` and `refs(unc).p`, a pickled list of
//! `{ref_id, ann_id, image_id, split, sentences: [{sent}]}`. The pickle is read as plain data; nothing in it is ever run.
//!
//! Both files lie in `rrsisd/` or in the folder itself, the pictures in `images/rrsisd/JPEGImages/` or one of the usual places.

use std::path::Path;

use kestrel_models::pickle::{Plain, plain};

use super::coco::{self, Instances, Placed};
use super::files::{self, Id};
use super::gather::{Gather, Labels};
use super::{Annotations, Format};
use crate::datasets::Result;

const REFS: &str = "refs(unc).p";

pub(super) fn read(folder: &Path) -> Result<Annotations> {
    let mut gather = Gather::new(Format::RrsisD, folder, &["images/rrsisd/JPEGImages", "rrsisd/JPEGImages"]);
    let within = folder.join("rrsisd");
    let place = if within.is_dir() { &within } else { folder };
    let instances = files::first(place, &["instances.json"])?;
    let refs = files::first(place, &[REFS])?;
    let file: Instances = files::json(&instances)?;
    let placed = coco::things(&mut gather, &instances, file, |_| None);
    let shown = refs.display().to_string();
    let pickle = plain(&files::bytes(&refs)?, &shown)
        .map_err(|error| files::form(&refs, "a pickled list of expressions", error.to_string()))?;
    let Plain::List(entries) = pickle else {
        return Err(files::form(&refs, "a pickled list of expressions", "something else".to_owned()));
    };
    for (index, entry) in entries.iter().enumerate() {
        expressions(&mut gather, &placed, entry, &format!("{REFS}[{index}]"));
    }
    Ok(gather.finish(Labels::Named))
}

fn expressions(gather: &mut Gather, placed: &Placed, entry: &Plain, at: &str) {
    let id = |key: &str| match entry.get(key)? {
        Plain::Int(number) => Some(Id(number.to_string())),
        Plain::Text(text) => Some(Id(text.clone())),
        _ => None,
    };
    let parts = (id("ann_id"), entry.get("split").and_then(Plain::text), entry.get("sentences").and_then(Plain::list));
    let (Some(annotation), Some(split), Some(sentences)) = parts else {
        return gather.skip("entry that is not of its form", at);
    };
    let Some(&(picture, thing)) = placed.get(&annotation) else {
        return gather.skip("expression of an annotation that is not listed or broken", at);
    };
    for sentence in sentences {
        // `raw` is what was typed, `sent` the same without capitals and marks.
        match sentence.get("sent").or_else(|| sentence.get("raw")).and_then(Plain::text) {
            Some(text) => gather.expression(picture, text, thing.map(|t| vec![t]), Some(split), at),
            None => gather.skip("entry that is not of its form", at),
        }
    }
}
