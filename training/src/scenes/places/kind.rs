//! What a kind of place is called.

/// A kind of place, as people call it; two of the renderer's ways to build one may be of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum PlaceKind {
    Suburb,
    ParkingLot,
    CityBlocks,
    Highway,
    Fields,
    Harbour,
    River,
    Airfield,
    TankFarm,
    SportsCourts,
    Stadium,
    Park,
}

impl PlaceKind {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::Suburb,
        Self::ParkingLot,
        Self::CityBlocks,
        Self::Highway,
        Self::Fields,
        Self::Harbour,
        Self::River,
        Self::Airfield,
        Self::TankFarm,
        Self::SportsCourts,
        Self::Stadium,
        Self::Park,
    ];

    /// Its label, in words.
    pub fn label(self) -> &'static str {
        match self {
            Self::Suburb => "suburb",
            Self::ParkingLot => "parking lot",
            Self::CityBlocks => "city blocks",
            Self::Highway => "highway",
            Self::Fields => "fields",
            Self::Harbour => "harbour",
            Self::River => "river",
            Self::Airfield => "airfield",
            Self::TankFarm => "tank farm",
            Self::SportsCourts => "sports courts",
            Self::Stadium => "stadium",
            Self::Park => "park",
        }
    }
}
