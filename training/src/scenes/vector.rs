//! Three-vectors in metres (x east, y north, z up) and trigonometry that is the same on every machine.

use std::ops::{Add, Mul, Neg, Sub};

/// A point, direction or linear RGB triple.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct V3 {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) z: f32,
}

/// Shorthand for [`V3`].
pub(super) const fn v3(x: f32, y: f32, z: f32) -> V3 {
    V3 { x, y, z }
}

impl V3 {
    pub(super) fn dot(self, o: V3) -> f32 {
        self.x * o.x + self.y * o.y + self.z * o.z
    }

    pub(super) fn cross(self, o: V3) -> V3 {
        v3(self.y * o.z - self.z * o.y, self.z * o.x - self.x * o.z, self.x * o.y - self.y * o.x)
    }

    pub(super) fn unit(self) -> V3 {
        let length = self.dot(self).sqrt();
        if length > 1e-9 { self * (1.0 / length) } else { v3(0.0, 0.0, 1.0) }
    }

    /// Component-wise product: an albedo times a light.
    pub(super) fn times(self, o: V3) -> V3 {
        v3(self.x * o.x, self.y * o.y, self.z * o.z)
    }

    pub(super) fn mix(self, o: V3, t: f32) -> V3 {
        self * (1.0 - t) + o * t
    }
}

impl Add for V3 {
    type Output = V3;
    fn add(self, o: V3) -> V3 {
        v3(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}
impl Sub for V3 {
    type Output = V3;
    fn sub(self, o: V3) -> V3 {
        v3(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}
impl Mul<f32> for V3 {
    type Output = V3;
    fn mul(self, s: f32) -> V3 {
        v3(self.x * s, self.y * s, self.z * s)
    }
}
impl Neg for V3 {
    type Output = V3;
    fn neg(self) -> V3 {
        self * -1.0
    }
}

/// Sine and cosine. The `libm` crate, not the system's, so that a seed gives the same picture everywhere.
pub(super) fn sin_cos(radians: f32) -> (f32, f32) {
    (libm::sinf(radians), libm::cosf(radians))
}

/// A place on the ground with a heading: the local frame in which things are modelled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) origin: V3,
    cos: f32,
    sin: f32,
}

impl Frame {
    /// At `(x, y)` metres, local x axis along `heading` radians.
    pub(super) fn new(x: f32, y: f32, heading: f32) -> Self {
        let (sin, cos) = sin_cos(heading);
        Frame { origin: v3(x, y, 0.0), cos, sin }
    }

    /// Lifted by `z` metres.
    pub(super) fn lifted(mut self, z: f32) -> Self {
        self.origin.z += z;
        self
    }

    /// The world point of a local point.
    pub(super) fn at(&self, x: f32, y: f32, z: f32) -> V3 {
        self.origin + v3(x * self.cos - y * self.sin, x * self.sin + y * self.cos, z)
    }

    /// The frame at local `(x, y)`, turned by `turn` radians.
    pub(super) fn inner(&self, x: f32, y: f32, turn: f32) -> Frame {
        let p = self.at(x, y, 0.0);
        let (s, c) = sin_cos(turn);
        Frame { origin: p, cos: self.cos * c - self.sin * s, sin: self.sin * c + self.cos * s }
    }

    /// Unit vector of the local x axis.
    pub(super) fn forward(&self) -> V3 {
        v3(self.cos, self.sin, 0.0)
    }
}
