//! Renders a sheet of scenes, the lower row of each pair with its masks outlined.
//!
//! `cargo run -p kestrel-training --example contact_sheet -- [FILE [FIRST_SEED [COLUMNS [PAIRS_OF_ROWS [SIDE]]]]]`

use image::{RgbImage, imageops};
use kestrel_training::scenes::render;
use kestrel_training::sheet::outlined;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, otherwise: u32| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(otherwise);
    let path = arguments.first().map_or("docs/scenes.jpg", String::as_str);
    let (first, columns, rows, side) = (number(1, 80), number(2, 5), number(3, 2), number(4, 300));
    let mut sheet = RgbImage::new(columns * side, rows * 2 * side);
    for i in 0..columns * rows {
        let started = std::time::Instant::now();
        let picture = render(u64::from(first + i), 512);
        let spent = started.elapsed();
        println!("seed {}: {} instances, {} ms", first + i, picture.instances.len(), spent.as_millis());
        let (x, y) = (i % columns * side, i / columns * 2 * side);
        for (image, down) in [(picture.image.clone(), 0), (outlined(&picture)?, side)] {
            let small = imageops::resize(&image, side, side, imageops::FilterType::Triangle);
            imageops::replace(&mut sheet, &small, i64::from(x), i64::from(y + down));
        }
    }
    if path.ends_with(".png") {
        sheet.save(path)?;
        return Ok(());
    }
    let file = std::io::BufWriter::new(std::fs::File::create(path)?);
    sheet.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(file, 84))?;
    Ok(())
}
