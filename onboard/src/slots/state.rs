//! The way of a model through the slots, as a pure state machine.
//!
//! `Idle → Downloading → Verified → Staged → Trial → Committed | RolledBack`.
//! Held at every step: the committed release's slot is never the one that is written to.

use kestrel_link::PushPhase;
use serde::{Deserialize, Serialize};

/// Version of the record's form on disk.
pub const RECORD_FORMAT: u32 = 1;

/// One of the two places for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The slot that this one is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Name of its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// A model with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Where it lies.
    pub slot: Slot,
    /// Hex SHA-256 of its manifest.
    pub manifest_hash: String,
    /// `name@version`.
    pub model: String,
}

/// How far the newest release has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Phase {
    /// None was offered yet.
    Idle,
    /// Its files are being written; the slot holds parts.
    Downloading {
        /// The one being written.
        release: Release,
    },
    /// Every file arrived with the right hash and was flushed.
    Verified {
        /// The one that arrived.
        release: Release,
    },
    /// Read back from the slot, whole and signed.
    Staged {
        /// The one that waits for its trial.
        release: Release,
    },
    /// Answers its canary frames.
    Trial {
        /// The one on trial.
        release: Release,
    },
    /// Passed, and flies.
    Committed {
        /// The one that flies.
        release: Release,
    },
    /// Failed; what flew before flies on.
    RolledBack {
        /// The one that failed.
        release: Release,
        /// Which check it failed.
        why: String,
    },
}

/// All that must survive a power cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`RECORD_FORMAT`].
    pub format: u32,
    /// The last good model: the one that flies.
    pub committed: Option<Release>,
    /// The one that flew before it, as long as its slot is untouched.
    pub previous: Option<Release>,
    /// How far the newest release has come.
    pub phase: Phase,
}

/// What can happen to the newest release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A trusted key signed an offer.
    Offered {
        /// Hex SHA-256 of the offered manifest.
        manifest_hash: String,
        /// `name@version`.
        model: String,
        /// Take it even if it is the committed model, whose files are damaged.
        repair: bool,
    },
    /// The last file arrived and all are flushed.
    Received,
    /// The slot was read back whole.
    Rechecked,
    /// The trial begins.
    TrialStarted,
    /// The trial ended well.
    TrialPassed,
    /// A check failed.
    Failed {
        /// Which.
        why: String,
    },
    /// The program starts.
    Restarted,
    /// The committed model's files are damaged, and the one before it is whole.
    CommittedDamaged {
        /// What is wrong with them.
        why: String,
    },
}

/// An event that cannot happen now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransitionError {
    /// The phase does not allow it.
    #[error("model slots: expected {expected}, got {event} while {phase}")]
    Order {
        /// What can happen in this phase.
        expected: &'static str,
        /// What was to happen.
        event: &'static str,
        /// The phase.
        phase: &'static str,
    },
    /// The offered model flies already.
    #[error("model slots: expected another model than {model}, which flies already")]
    AlreadyCommitted {
        /// `name@version`.
        model: String,
    },
}

impl Default for Record {
    fn default() -> Self {
        Self { format: RECORD_FORMAT, committed: None, previous: None, phase: Phase::Idle }
    }
}

impl Record {
    /// The record after an event.
    ///
    /// # Errors
    /// When the event cannot happen in this phase; the record stays as it is.
    pub fn after(&self, event: Event) -> Result<Self, TransitionError> {
        let with = |phase| Ok(Self { phase, ..self.clone() });
        match (event, self.phase.clone()) {
            (Event::Offered { .. }, phase @ Phase::Trial { .. }) => {
                Err(order("the end of the trial", "an offer", &phase))
            }
            (Event::Offered { manifest_hash, model, repair }, _) => self.offered(manifest_hash, model, repair),
            (Event::Received, Phase::Downloading { release }) => with(Phase::Verified { release }),
            (Event::Rechecked, Phase::Verified { release }) => with(Phase::Staged { release }),
            (Event::TrialStarted, Phase::Staged { release }) => with(Phase::Trial { release }),
            (Event::TrialPassed, Phase::Trial { release }) => Ok(Self {
                format: self.format,
                committed: Some(release.clone()),
                previous: self.committed.clone(),
                phase: Phase::Committed { release },
            }),
            (Event::Failed { why }, phase) => match phase.under_way() {
                Some(release) => with(Phase::RolledBack { release: release.clone(), why }),
                None => Err(order("a push under way", "a failure", &phase)),
            },
            (Event::Restarted, phase) => Ok(self.restarted(phase)),
            (Event::CommittedDamaged { why }, phase) => self.damaged(why, phase),
            (Event::Received, phase) => Err(order("a download", "its end", &phase)),
            (Event::Rechecked, phase) => Err(order("a verified release", "its check", &phase)),
            (Event::TrialStarted, phase) => Err(order("a staged release", "a trial", &phase)),
            (Event::TrialPassed, phase) => Err(order("a trial", "its end", &phase)),
        }
    }

    /// The slot that the next download is written to: never the committed one.
    #[must_use]
    pub fn spare(&self) -> Slot {
        self.committed.as_ref().map_or(Slot::A, |release| release.slot.other())
    }

    /// The slot that may be written to now.
    #[must_use]
    pub fn writable(&self) -> Option<Slot> {
        match &self.phase {
            Phase::Downloading { release } => Some(release.slot),
            _ => None,
        }
    }

    /// The phase as the link says it; `progress` is bytes received and bytes in all.
    #[must_use]
    pub fn push_phase(&self, progress: (u64, u64)) -> PushPhase {
        match &self.phase {
            Phase::Idle => PushPhase::Idle,
            Phase::Downloading { .. } => PushPhase::Downloading { received_bytes: progress.0, total_bytes: progress.1 },
            Phase::Verified { .. } => PushPhase::Verified,
            Phase::Staged { .. } => PushPhase::Staged,
            Phase::Trial { .. } => PushPhase::Trial,
            Phase::Committed { .. } => PushPhase::Committed,
            Phase::RolledBack { why, .. } => PushPhase::RolledBack { why: why.clone() },
        }
    }

    fn offered(&self, manifest_hash: String, model: String, repair: bool) -> Result<Self, TransitionError> {
        if !repair && self.committed.as_ref().is_some_and(|now| now.manifest_hash == manifest_hash) {
            return Err(TransitionError::AlreadyCommitted { model });
        }
        let release = Release { slot: self.spare(), manifest_hash, model };
        // The spare slot is about to be emptied: what flew before is no longer there to return to.
        Ok(Self { previous: None, phase: Phase::Downloading { release }, ..self.clone() })
    }

    fn restarted(&self, phase: Phase) -> Self {
        let rolled_back = |release, why: &str| Phase::RolledBack { release, why: why.into() };
        let phase = match phase {
            Phase::Downloading { release } | Phase::Verified { release } => {
                rolled_back(release, "restarted before it was staged")
            }
            // A trial that took the program down must not be tried again at every start.
            Phase::Trial { release } => rolled_back(release, "restarted during its trial"),
            other => other,
        };
        Self { phase, ..self.clone() }
    }

    fn damaged(&self, why: String, phase: Phase) -> Result<Self, TransitionError> {
        let (Some(damaged), Some(previous)) = (self.committed.clone(), self.previous.clone()) else {
            return Err(order("a release before the committed one", "a return to it", &phase));
        };
        if phase.under_way().is_some() {
            return Err(order("no push under way", "a return to the release before", &phase));
        }
        let phase = Phase::RolledBack { release: damaged, why };
        Ok(Self { format: self.format, committed: Some(previous), previous: None, phase })
    }
}

impl Phase {
    /// The release that is neither committed nor rolled back yet.
    #[must_use]
    pub fn under_way(&self) -> Option<&Release> {
        match self {
            Self::Downloading { release }
            | Self::Verified { release }
            | Self::Staged { release }
            | Self::Trial { release } => Some(release),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Downloading { .. } => "downloading",
            Self::Verified { .. } => "verified",
            Self::Staged { .. } => "staged",
            Self::Trial { .. } => "on trial",
            Self::Committed { .. } => "committed",
            Self::RolledBack { .. } => "rolled back",
        }
    }
}

fn order(expected: &'static str, event: &'static str, phase: &Phase) -> TransitionError {
    TransitionError::Order { expected, event, phase: phase.name() }
}
