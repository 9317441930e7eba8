//! A logistic of three features, by Newton's method with a ridge.

use crate::CalibrationError;

/// Ridge on the weights of standardised features, in records: little against hundreds, enough against separable data.
const RIDGE: f64 = 2.0;
const ROUNDS: usize = 100;
const SETTLED: f64 = 1e-9;

/// `p = sigmoid(weights · features + bias)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logistic {
    /// One weight for each feature.
    pub weights: [f64; 3],
    /// Added.
    pub bias: f64,
}

impl Logistic {
    /// The probability.
    pub fn probability(&self, features: &[f32; 3]) -> f64 {
        let z: f64 = self.weights.iter().zip(features).map(|(w, f)| w * f64::from(*f)).sum();
        1.0 / (1.0 + (-(z + self.bias)).exp())
    }
}

/// Maximum likelihood with a ridge on the weights (not on the bias) of standardised features.
///
/// # Errors
/// When the numbers do not stay finite.
pub fn fit(data: &[([f32; 3], bool)]) -> Result<Logistic, CalibrationError> {
    let (mean, deviation) = moments(data);
    let rows: Vec<([f64; 4], f64)> = data
        .iter()
        .map(|(f, there)| {
            let z = |k: usize| (f64::from(f[k]) - mean[k]) / deviation[k];
            ([z(0), z(1), z(2), 1.0], f64::from(u8::from(*there)))
        })
        .collect();
    let mut beta = [0.0; 4];
    for _ in 0..ROUNDS {
        let step = newton_step(&rows, &beta);
        // A full step from afar overshoots on nearly separable data.
        let length = step.iter().map(|s| s * s).sum::<f64>().sqrt();
        let share = (2.0 / length.max(1e-300)).min(1.0);
        beta.iter_mut().zip(step).for_each(|(b, s)| *b -= share * s);
        if length < SETTLED {
            break;
        }
    }
    let weights = [0, 1, 2].map(|k| beta[k] / deviation[k]);
    let bias = beta[3] - weights.iter().zip(mean).map(|(w, m)| w * m).sum::<f64>();
    if weights.iter().chain([&bias]).any(|v| !v.is_finite()) {
        return Err(CalibrationError::Diverged { got: [weights[0], weights[1], weights[2], bias] });
    }
    Ok(Logistic { weights, bias })
}

fn moments(data: &[([f32; 3], bool)]) -> ([f64; 3], [f64; 3]) {
    let n = data.len().max(1) as f64;
    let mean = [0, 1, 2].map(|k| data.iter().map(|(f, _)| f64::from(f[k])).sum::<f64>() / n);
    let deviation = [0, 1, 2].map(|k: usize| {
        let square: f64 = data.iter().map(|(f, _)| (f64::from(f[k]) - mean[k]).powi(2)).sum();
        (square / n).sqrt().max(1e-6)
    });
    (mean, deviation)
}

/// Inverse Hessian times gradient of the penalised negative log-likelihood.
fn newton_step(rows: &[([f64; 4], f64)], beta: &[f64; 4]) -> [f64; 4] {
    let mut gradient = [0.0; 4];
    let mut hessian = [[0.0; 4]; 4];
    for (x, y) in rows {
        let z: f64 = x.iter().zip(beta).map(|(x, b)| x * b).sum();
        let p = 1.0 / (1.0 + (-z).exp());
        for i in 0..4 {
            gradient[i] += (p - y) * x[i];
            for j in 0..4 {
                hessian[i][j] += p * (1.0 - p) * x[i] * x[j];
            }
        }
    }
    for k in 0..3 {
        gradient[k] += RIDGE * beta[k];
        hessian[k][k] += RIDGE;
    }
    hessian[3][3] += 1e-9;
    solve(hessian, gradient)
}

/// Gaussian elimination with pivoting.
fn solve(mut a: [[f64; 4]; 4], mut b: [f64; 4]) -> [f64; 4] {
    for column in 0..4 {
        let pivot = (column..4).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs())).unwrap_or(column);
        a.swap(column, pivot);
        b.swap(column, pivot);
        let above = a[column];
        for row in column + 1..4 {
            let factor = a[row][column] / above[column];
            for (value, above) in a[row].iter_mut().zip(above) {
                *value -= factor * above;
            }
            b[row] -= factor * b[column];
        }
    }
    let mut x = [0.0; 4];
    for row in (0..4).rev() {
        let known: f64 = (row + 1..4).map(|k| a[row][k] * x[k]).sum();
        x[row] = (b[row] - known) / a[row][row];
    }
    x
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Records drawn on a grid with exact shares: `p = sigmoid(−1.5·a + 0.5·b + 1)`; the third feature is noise.
    fn data() -> Vec<([f32; 3], bool)> {
        let mut data = Vec::new();
        for i in 0..20 {
            for j in 0..20 {
                let (a, b) = (i as f32 * 0.3 - 3.0, j as f32 * 0.4 - 4.0);
                let p = 1.0 / (1.0 + (1.5 * a - 0.5 * b - 1.0).exp());
                data.extend((0..50).map(|k| ([a, b, ((k * 17) % 7) as f32], (k as f32 + 0.5) / 50.0 < p)));
            }
        }
        data
    }

    #[test]
    fn it_finds_the_truth() {
        let fitted = fit(&data()).unwrap();
        let near = |x: f64, y: f64| (x - y).abs() < 0.08;
        assert!(near(fitted.weights[0], -1.5) && near(fitted.weights[1], 0.5), "{fitted:?}");
        assert!(near(fitted.weights[2], 0.0) && (fitted.bias - 1.0).abs() < 0.2, "{fitted:?}");
        assert!((fitted.probability(&[0.0, 0.0, 3.0]) - 0.731).abs() < 0.02);
    }

    #[test]
    fn separable_data_and_a_constant_feature_stay_finite() {
        let data: Vec<([f32; 3], bool)> = (0..100).map(|i| ([i as f32 - 49.5, 2.0, 0.0], i >= 50)).collect();
        let fitted = fit(&data).unwrap();
        assert!(fitted.weights[0] > 0.0 && fitted.weights[0] < 10.0, "{fitted:?}");
        assert!(fitted.probability(&[40.0, 2.0, 0.0]) > 0.9 && fitted.probability(&[-40.0, 2.0, 0.0]) < 0.1);
    }
}
