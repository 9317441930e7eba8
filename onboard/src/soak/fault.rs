//! The kinds of faults.

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    EngineFails,
    EngineStalls,
    CameraStops,
    PictureFreezes,
    PictureTears,
    PictureChangesSize,
    ClockJumps,
    GarbageForTheCamera,
    GarbageForAQuery,
    GarbageForAPush,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::EngineFails,
        Self::EngineStalls,
        Self::CameraStops,
        Self::PictureFreezes,
        Self::PictureTears,
        Self::PictureChangesSize,
        Self::ClockJumps,
        Self::GarbageForTheCamera,
        Self::GarbageForAQuery,
        Self::GarbageForAPush,
    ];

    /// Those that last for some frames at most.
    pub(super) const BRIEF: [Self; 7] = [
        Self::PictureFreezes,
        Self::PictureTears,
        Self::PictureChangesSize,
        Self::ClockJumps,
        Self::GarbageForTheCamera,
        Self::GarbageForAQuery,
        Self::GarbageForAPush,
    ];

    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EngineFails => "engine_fails",
            Self::EngineStalls => "engine_stalls",
            Self::CameraStops => "camera_stops",
            Self::PictureFreezes => "picture_freezes",
            Self::PictureTears => "picture_tears",
            Self::PictureChangesSize => "picture_changes_size",
            Self::ClockJumps => "clock_jumps",
            Self::GarbageForTheCamera => "garbage_for_the_camera",
            Self::GarbageForAQuery => "garbage_for_a_query",
            Self::GarbageForAPush => "garbage_for_a_push",
        }
    }
}
