//! Labelled pictures as a folder in COCO's form, with run lengths for outlines: what [`super::read`] reads back.

use std::path::Path;

use kestrel_link::Mask;
use serde_json::{Value, json};

use crate::datasets::{DataError, Result};
use crate::expressions::words;
use crate::sample::{Category, Picture};

/// Writes pictures as `images/SCENE.png` and `annotations.json`; the categories are called by their commonest nouns.
///
/// # Errors
/// When the disk refuses or a mask does not decode.
pub fn write_coco(folder: &Path, pictures: impl IntoIterator<Item = Picture>) -> Result<usize> {
    let place = folder.join("images");
    std::fs::create_dir_all(&place).map_err(DataError::io("creating", &place))?;
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (id, picture) in (1..).zip(pictures) {
        let name = format!("{}.png", picture.origin.scene);
        let path = place.join(&name);
        let broken = |error: image::ImageError| DataError::io("writing", &path)(std::io::Error::other(error));
        picture.image.save(&path).map_err(broken)?;
        let (width, height) = picture.image.dimensions();
        images.push(json!({ "id": id, "file_name": name, "width": width, "height": height }));
        for (index, instance) in picture.instances.iter().enumerate() {
            let mut annotation = json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": number(instance.category),
                "bbox": instance.bounding_box, "iscrowd": 0,
            });
            if let Some(mask) = &instance.mask {
                let area = mask.area().map_err(|error| DataError::Mask {
                    instance: index,
                    dataset: picture.origin.dataset.clone(),
                    frame: name.clone(),
                    got: error.to_string(),
                })?;
                if area == 0 {
                    continue;
                }
                annotation["area"] = json!(area);
                annotation["segmentation"] = run_lengths(mask);
            }
            annotations.push(annotation);
        }
    }
    let written = images.len();
    let categories: Vec<Value> =
        Category::ALL.iter().map(|category| json!({ "id": number(*category), "name": name_of(*category) })).collect();
    let path = folder.join("annotations.json");
    let whole = json!({ "images": images, "categories": categories, "annotations": annotations });
    std::fs::write(&path, whole.to_string()).map_err(DataError::io("writing", &path))?;
    Ok(written)
}

fn number(category: Category) -> usize {
    Category::ALL.iter().position(|known| *known == category).unwrap_or_default() + 1
}

fn name_of(category: Category) -> &'static str {
    words::nouns(category).first().map_or("", |word| word.singular)
}

fn run_lengths(mask: &Mask) -> Value {
    json!({ "size": [mask.height, mask.width], "counts": mask.counts })
}
