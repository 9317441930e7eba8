//! Writes rendered scenes as a folder in COCO's form, to try on it what is meant for your own pictures.
//!
//! `cargo run -p kestrel-training --example write_coco -- FOLDER [PICTURES [SIDE [FIRST_SEED]]]`

use std::path::Path;

use kestrel_training::datasets::formats::write_coco;
use kestrel_training::scenes::render;

/// Scenes beyond those that train, tune and test the released model.
const FIRST_SEED: u64 = 7_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().ok_or("expected the folder to write to")?;
    let number = |i: usize, otherwise: u64| arguments.get(i).map_or(Ok(otherwise), |a| a.parse());
    let (pictures, side, first) = (number(1, 40)?, number(2, 768)?, number(3, FIRST_SEED)?);
    let side = u32::try_from(side)?;
    let written = write_coco(Path::new(folder), (first..first + pictures).map(|seed| render(seed, side)))?;
    println!("{written} pictures in {folder}");
    Ok(())
}
