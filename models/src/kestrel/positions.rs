//! Fixed position codes.

/// Sine and cosine codes of a square grid, row-major, `[side², width]`: a quarter of the width each for sin x, cos x, sin y, cos y.
///
/// Positions are fractions of the picture (cell centres in 0..1), so that another resolution means the same place.
/// Frequencies run geometrically from half a wave to 8 waves a picture: more could not be told apart on the coarsest grid.
pub(super) fn grid(side: usize, width: usize) -> Vec<f32> {
    let mut codes = Vec::with_capacity(side * side * width);
    for y in 0..side {
        for x in 0..side {
            codes.extend(code([(x as f32 + 0.5) / side as f32, (y as f32 + 0.5) / side as f32], width));
        }
    }
    codes
}

/// The code of one place, given by its x and y in fractions of the picture: `width` numbers.
pub(super) fn code(place: [f32; 2], width: usize) -> Vec<f32> {
    let quarter = width / 4;
    let wave = |i: usize| std::f32::consts::PI * 16f32.powf(i as f32 / (quarter.max(2) - 1) as f32);
    let mut code = Vec::with_capacity(width);
    for p in place {
        code.extend((0..quarter).map(|i| (p * wave(i)).sin()));
        code.extend((0..quarter).map(|i| (p * wave(i)).cos()));
    }
    code.resize(width, 0.0);
    code
}

#[cfg(test)]
mod tests {
    use super::grid;

    /// What would break: a place that means another one at another input.
    #[test]
    fn the_middle_is_the_middle_of_any_grid() {
        let middle = |side: usize| grid(side, 32)[(side * side / 2) * 32..][..32].to_vec();
        assert!(middle(5).iter().zip(middle(9)).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn every_place_has_its_own_code() {
        let (side, width) = (8, 32);
        let code = grid(side, width);
        assert_eq!(code.len(), side * side * width);
        let rows: Vec<&[f32]> = code.chunks(width).collect();
        for (i, a) in rows.iter().enumerate() {
            for b in &rows[..i] {
                let distance: f32 = a.iter().zip(*b).map(|(x, y)| (x - y).powi(2)).sum();
                assert!(distance > 0.1, "two places share a code");
            }
        }
    }
}
