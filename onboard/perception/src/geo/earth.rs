//! The earth: WGS 84, and metres north, east and down of a point on it.

/// Semi-major axis in metres. Source of both: NIMA TR8350.2, 3rd ed., table 3.1.
const MAJOR: f64 = 6_378_137.0;
/// Flattening.
const FLATTENING: f64 = 1.0 / 298.257_223_563;
/// First eccentricity, squared: `f·(2 − f)`.
const ECCENTRICITY: f64 = FLATTENING * (2.0 - FLATTENING);

/// A point by latitude, longitude and height over the WGS 84 ellipsoid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geodetic {
    /// -90..=90, north positive.
    pub latitude_degrees: f64,
    /// -180..=180, east positive.
    pub longitude_degrees: f64,
    /// Above the ellipsoid.
    pub height_metres: f64,
}

impl Geodetic {
    /// The point that lies `[north, east, down]` metres from this one, along the axes of its tangent plane.
    ///
    /// Exact: by way of earth-centred coordinates, not by metres per degree.
    #[must_use]
    pub fn offset(&self, offset: [f64; 3]) -> Self {
        let centre = self.centred();
        let axes = self.axes();
        let along = |k: usize| (0..3).map(|axis| axes[axis][k] * offset[axis]).sum::<f64>();
        Self::from_centred([centre[0] + along(0), centre[1] + along(1), centre[2] + along(2)])
    }

    /// How far another point lies `[north, east, down]` of this one, in metres; the inverse of [`Self::offset`].
    #[must_use]
    pub fn offset_to(&self, other: &Self) -> [f64; 3] {
        let (from, to) = (self.centred(), other.centred());
        self.axes().map(|axis| (0..3).map(|k| axis[k] * (to[k] - from[k])).sum())
    }

    /// North, east and down as unit vectors of the earth-centred axes.
    fn axes(&self) -> [[f64; 3]; 3] {
        let (sin_lat, cos_lat) = self.latitude_degrees.to_radians().sin_cos();
        let (sin_lon, cos_lon) = self.longitude_degrees.to_radians().sin_cos();
        [
            [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
            [-sin_lon, cos_lon, 0.0],
            [-cos_lat * cos_lon, -cos_lat * sin_lon, -sin_lat],
        ]
    }

    /// Earth-centred, earth-fixed coordinates in metres.
    fn centred(&self) -> [f64; 3] {
        let (sin_lat, cos_lat) = self.latitude_degrees.to_radians().sin_cos();
        let (sin_lon, cos_lon) = self.longitude_degrees.to_radians().sin_cos();
        let normal = MAJOR / (1.0 - ECCENTRICITY * sin_lat * sin_lat).sqrt();
        let across = (normal + self.height_metres) * cos_lat;
        [across * cos_lon, across * sin_lon, (normal * (1.0 - ECCENTRICITY) + self.height_metres) * sin_lat]
    }

    /// Source: B. R. Bowring, "Transformation from spatial to geographical coordinates", Survey Review 23(181), 1976.
    /// Its step is repeated; near the ground the first is exact to a nanometre already.
    fn from_centred([x, y, z]: [f64; 3]) -> Self {
        let across = x.hypot(y);
        let minor = MAJOR * (1.0 - FLATTENING);
        let second = ECCENTRICITY / (1.0 - ECCENTRICITY);
        let mut reduced = (z * MAJOR).atan2(across * minor);
        let mut latitude = reduced;
        for _ in 0..3 {
            let (sin, cos) = reduced.sin_cos();
            latitude = (z + second * minor * sin.powi(3)).atan2(across - ECCENTRICITY * MAJOR * cos.powi(3));
            let (sin, cos) = latitude.sin_cos();
            reduced = ((1.0 - FLATTENING) * sin).atan2(cos);
        }
        let (sin, cos) = latitude.sin_cos();
        let height_metres = across * cos + z * sin - MAJOR * (1.0 - ECCENTRICITY * sin * sin).sqrt();
        Self { latitude_degrees: latitude.to_degrees(), longitude_degrees: y.atan2(x).to_degrees(), height_metres }
    }
}
