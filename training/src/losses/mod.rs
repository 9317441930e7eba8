//! Losses with their gradients, as pure functions over slices.
//!
//! Every function adds to `gradient` the derivative of what it returns, so that training attaches one number and one
//! array to each output of the model and never builds a graph of element-wise operations for a loss.

pub mod answer;
pub mod choice;
pub mod dense;
pub mod distil;
pub mod mask;
pub mod proposals;
pub mod reading;
pub mod token;

use candle_core::{Result, Tensor};

/// Gradients under this change no parameter.
const NEGLIGIBLE: f32 = 1e-20;

/// A scalar whose gradient with respect to `output` is `gradient`; its own value means nothing.
///
/// # Errors
/// When the lengths differ or candle fails.
pub fn attach(output: &Tensor, mut gradient: Vec<f32>) -> Result<Tensor> {
    // Cubes of tiny misses are denormal numbers, on which every product that follows runs ten times slower.
    gradient.iter_mut().filter(|g| g.abs() < NEGLIGIBLE).for_each(|g| *g = 0.0);
    let gradient = Tensor::from_vec(gradient, output.elem_count(), output.device())?;
    (output.flatten_all()? * gradient)?.sum_all()
}

/// `weight · |x − y|² / |y|²`: how far `x` is from what it should be, whatever the size of that.
///
/// Adds nothing where `y` is zero.
pub fn relative(x: &[f32], y: &[f32], weight: f32, gradient: &mut [f32]) -> f32 {
    let size: f32 = y.iter().map(|v| v * v).sum();
    if size == 0.0 {
        return 0.0;
    }
    let scale = weight / size;
    let mut sum = 0.0;
    for ((x, y), g) in x.iter().zip(y).zip(gradient) {
        *g += 2.0 * scale * (x - y);
        sum += scale * (x - y) * (x - y);
    }
    sum
}

/// Logistic.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `ln(1 + eˣ)` without overflow.
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Binary cross-entropy of a logit against a target in 0..=1, and its derivative.
pub fn binary(logit: f32, target: f32) -> (f32, f32) {
    (softplus(logit) - logit * target, sigmoid(logit) - target)
}

#[cfg(test)]
pub(crate) mod check {
    //! Central differences.

    /// Asserts that `gradient` is the derivative of `loss` at `x`.
    pub(crate) fn differences(x: &[f32], gradient: &[f32], loss: impl Fn(&[f32]) -> f32) {
        const STEP: f32 = 1e-2;
        let scale = gradient.iter().fold(1e-3f32, |m, g| m.max(g.abs()));
        for i in 0..x.len() {
            let at = |delta: f32| {
                let mut moved = x.to_vec();
                moved[i] += delta;
                f64::from(loss(&moved))
            };
            let expected = ((at(STEP) - at(-STEP)) / f64::from(2.0 * STEP)) as f32;
            assert!(
                (expected - gradient[i]).abs() < 0.02 * scale + 2e-4,
                "component {i}: differences give {expected}, the gradient says {}",
                gradient[i]
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn attached_gradients_reach_the_parameters() {
        let x = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let y = (x.as_tensor() * 2.0).unwrap();
        let loss = attach(&y, vec![1.0, 0.0, -1.0, 0.5]).unwrap();
        let grads = loss.backward().unwrap();
        let got = grads.get(x.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got, [2.0, 0.0, -2.0, 1.0]);
    }

    #[test]
    fn relative_distance_is_of_any_scale_and_its_gradient_its_derivative() {
        let (x, y) = ([0.3, -1.2, 2.0], [0.5, -1.0, 1.0]);
        let mut gradient = [0.0; 3];
        let loss = relative(&x, &y, 1.5, &mut gradient);
        check::differences(&x, &gradient, |x| relative(x, &y, 1.5, &mut [0.0; 3]));
        let (tenfold, goal) = (x.map(|v| 10.0 * v), y.map(|v| 10.0 * v));
        assert!((relative(&tenfold, &goal, 1.5, &mut [0.0; 3]) - loss).abs() < 1e-5);
        assert_eq!((relative(&y, &y, 1.5, &mut [0.0; 3]), relative(&x, &[0.0; 3], 1.5, &mut [0.0; 3])), (0.0, 0.0));
    }

    #[test]
    fn binary_cross_entropy_survives_large_logits() {
        assert!((binary(200.0, 0.0).0 - 200.0).abs() < 1e-3);
        assert_eq!(binary(-200.0, 0.0).0, 0.0);
        let (_, gradient) = binary(0.3, 0.7);
        check::differences(&[0.3], &[gradient], |x| binary(x[0], 0.7).0);
    }
}
