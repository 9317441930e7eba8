//! The slots on a disk: `current.json` says what flies, folders `A` and `B` hold the models.
//!
//! Every step is first made true on disk and then written down, except the first: a slot is written off before it is emptied.

use super::disk::Disk;
use super::error::SlotError;
use super::receiver::Receiver;
use super::state::{Event, Phase, RECORD_FORMAT, Record, Release, TransitionError};
use crate::bundle::Bundle;
use kestrel_link::manifest::{MANIFEST_FILE, SIGNATURE_FILE};
use kestrel_link::signature::VerifyingKey;
use kestrel_link::{ChunkRequest, PushOffer, PushState};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

const RECORD_FILE: &str = "current.json";
const NEW_RECORD_FILE: &str = "current.json.new";
const MAX_RECORD_BYTES: u64 = 64 * 1024;

/// Two model slots under one folder.
pub struct SlotStore<D> {
    disk: D,
    root: PathBuf,
    trusted: Vec<VerifyingKey>,
    record: Record,
    /// Whether the committed model could be opened at the start; one that could not may be pushed again.
    intact: bool,
}

/// What a start found.
#[derive(Debug)]
pub struct Recovery {
    /// The model to fly, whole and signed; `None` when no slot holds one.
    pub bundle: Option<Bundle>,
    /// What was not as it should be, one line each.
    pub notes: Vec<String>,
}

/// What a passed trial measured.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialReport {
    /// Canary frames that were answered.
    pub canaries: u32,
    /// Least IoU with an expected mask.
    pub worst_iou: f32,
    /// Longest answer.
    pub slowest_micros: u64,
}

/// Which check a model failed on trial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trial: {why}")]
pub struct TrialError {
    /// The check, what was expected and what came.
    pub why: String,
}

/// How a trial ended.
#[derive(Debug)]
pub enum Trialled {
    /// The new model is the last good one now.
    Committed {
        /// What to fly from here on.
        bundle: Box<Bundle>,
        /// What the trial measured.
        report: TrialReport,
    },
    /// What flew before flies on.
    RolledBack {
        /// Which check the new model failed.
        why: String,
    },
}

impl<D: Disk> SlotStore<D> {
    /// Opens the slots after any end of the program before, and gives the model to fly.
    ///
    /// # Errors
    /// When the disk fails or `current.json` is not readable; damaged models are no error but a note.
    pub fn open(disk: D, root: &Path, trusted: Vec<VerifyingKey>) -> Result<(Self, Recovery), SlotError> {
        let record = read_record(&disk, root)?;
        let mut store = Self { disk, root: root.to_owned(), trusted, record, intact: true };
        let mut notes = Vec::new();
        let restarted = store.record.after(Event::Restarted)?;
        if restarted != store.record {
            if let Phase::RolledBack { release, why } = &restarted.phase {
                notes.push(format!("{} was rolled back: {why}", release.model));
            }
            store.persist(restarted)?;
        }
        let bundle = store.recover(&mut notes);
        Ok((store, Recovery { bundle, notes }))
    }

    /// What is written down.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Where the push stands, as the link says it.
    #[must_use]
    pub fn push_state(&self, drone: &str, receiver: Option<&Receiver>) -> PushState {
        let release = match &self.record.phase {
            Phase::Idle => None,
            Phase::Committed { release } | Phase::RolledBack { release, .. } => Some(release),
            other => other.under_way(),
        };
        PushState {
            drone: drone.to_owned(),
            model: release.map(|release| release.model.clone()).unwrap_or_default(),
            manifest_hash: release.map(|release| release.manifest_hash.clone()).unwrap_or_default(),
            phase: self.record.push_phase(receiver.map_or((0, 0), Receiver::progress)),
        }
    }

    /// Opens the committed model, `None` when there is none.
    ///
    /// # Errors
    /// When its files are damaged.
    pub fn current(&self) -> Result<Option<Bundle>, SlotError> {
        self.record.committed.as_ref().map(|release| self.load(release)).transpose()
    }

    /// Takes an offer: checks it, empties the spare slot and gives the receiver that says what to ask for.
    ///
    /// # Errors
    /// When the offer is not trusted, not for this runtime, flies already, or the disk fails.
    pub fn begin(&mut self, offer: &PushOffer) -> Result<Receiver, SlotError> {
        let receiver = Receiver::new(offer, &self.trusted)?;
        let downloading = self.record.after(Event::Offered {
            manifest_hash: receiver.manifest_hash().to_owned(),
            model: receiver.manifest().model(),
            repair: !self.intact,
        })?;
        self.persist(downloading)?;
        self.prepare(offer, &receiver).or_else(|error| self.fail(error))?;
        Ok(receiver)
    }

    /// Takes the bytes that answer a request.
    ///
    /// # Errors
    /// After a retryable one the download goes on; any other has ended the push.
    pub fn receive(&mut self, receiver: &mut Receiver, request: &ChunkRequest, bytes: &[u8]) -> Result<(), SlotError> {
        let Some(slot) = self.record.writable() else {
            return Err(SlotError::Order(TransitionError::Order {
                expected: "a download",
                event: "a chunk",
                phase: "nothing being downloaded",
            }));
        };
        if let Err(error) = receiver.accept(request, bytes) {
            let error = SlotError::from(error);
            return if error.is_retryable() { Err(error) } else { self.fail(error) };
        }
        let path = self.root.join(slot.name()).join(&request.path);
        self.disk.append(&path, bytes).map_err(disk_error("write", &path)).or_else(|error| self.fail(error))
    }

    /// Ends a download: flushes, reads everything back from the disk and checks it.
    ///
    /// # Errors
    /// When files are missing or damaged or the disk fails; the push has then ended.
    pub fn finish(&mut self, receiver: &Receiver) -> Result<Bundle, SlotError> {
        let Phase::Downloading { release } = self.record.phase.clone() else {
            return Err(self.record.after(Event::Received).err().map_or_else(not_under_way, Into::into));
        };
        self.check(&release, receiver).or_else(|error| self.fail(error))
    }

    /// Ends a push from outside: the pusher went away, or the operator said so.
    ///
    /// # Errors
    /// When nothing is under way, or the disk fails.
    pub fn abandon(&mut self, why: &str) -> Result<(), SlotError> {
        let rolled_back = self.record.after(Event::Failed { why: why.to_owned() })?;
        self.persist(rolled_back)
    }

    /// Tries the staged model with `run` and commits to it, or rolls back.
    ///
    /// # Errors
    /// When nothing is staged or the disk fails; what flew before flies on.
    pub fn trial(
        &mut self,
        run: impl FnOnce(&Bundle) -> Result<TrialReport, TrialError>,
    ) -> Result<Trialled, SlotError> {
        let on_trial = self.record.after(Event::TrialStarted)?;
        let Some(release) = on_trial.phase.under_way().cloned() else {
            return Err(not_under_way());
        };
        // Read again: what was staged may have lain there for a long time.
        let bundle = self.load(&release).or_else(|error| self.fail(error))?;
        self.persist(on_trial).or_else(|error| self.fail(error))?;
        match run(&bundle) {
            Ok(report) => {
                let committed = self.record.after(Event::TrialPassed)?;
                self.persist(committed).or_else(|error| self.fail(error))?;
                self.intact = true;
                Ok(Trialled::Committed { bundle: Box::new(bundle), report })
            }
            Err(TrialError { why }) => {
                let rolled_back = self.record.after(Event::Failed { why: why.clone() })?;
                self.record = rolled_back.clone();
                self.persist(rolled_back)?;
                Ok(Trialled::RolledBack { why })
            }
        }
    }

    /// The committed model, or the one before it when that one's files are damaged.
    ///
    /// Nothing is written down: a wrong list of trusted keys must not cost a good model.
    fn recover(&mut self, notes: &mut Vec<String>) -> Option<Bundle> {
        let committed = self.record.committed.clone()?;
        let damage = match self.load(&committed) {
            Ok(bundle) => return Some(bundle),
            Err(error) => error.to_string(),
        };
        notes.push(format!("{} in slot {} cannot fly: {damage}", committed.model, committed.slot.name()));
        self.intact = false;
        let previous = self.record.previous.clone()?;
        match (self.load(&previous), self.record.after(Event::CommittedDamaged { why: damage })) {
            (Ok(bundle), Ok(record)) => {
                notes.push(format!("{} from before it flies instead", previous.model));
                self.record = record;
                self.intact = true;
                Some(bundle)
            }
            (Err(error), _) => {
                notes.push(format!("{} from before it cannot fly either: {error}", previous.model));
                None
            }
            (Ok(_), Err(_)) => None,
        }
    }

    fn folder(&self, release: &Release) -> PathBuf {
        self.root.join(release.slot.name())
    }

    fn load(&self, release: &Release) -> Result<Bundle, SlotError> {
        let path = self.folder(release);
        let bundle = Bundle::load(&path, &self.disk)?;
        bundle.verify_signature(&self.trusted)?;
        if bundle.manifest_hash != release.manifest_hash {
            return Err(SlotError::OtherBundle {
                path,
                expected: release.manifest_hash.clone(),
                got: bundle.manifest_hash,
            });
        }
        Ok(bundle)
    }

    /// Empties the spare slot and creates every file in it.
    fn prepare(&self, offer: &PushOffer, receiver: &Receiver) -> Result<(), SlotError> {
        let Some(slot) = self.record.writable() else {
            return Err(not_under_way());
        };
        let folder = self.root.join(slot.name());
        self.disk.remove_folder(&folder).map_err(disk_error("empty", &folder))?;
        for folder in folders(&folder, receiver) {
            self.disk.create_folder(&folder).map_err(disk_error("create", &folder))?;
        }
        let empty = receiver.manifest().files.keys().map(|name| (name.as_str(), ""));
        let signed = [(MANIFEST_FILE, offer.manifest.as_str()), (SIGNATURE_FILE, offer.signature.as_str())];
        for (name, text) in empty.chain(signed) {
            let path = folder.join(name);
            self.disk.write(&path, text.as_bytes()).map_err(disk_error("write", &path))?;
        }
        Ok(())
    }

    fn check(&mut self, release: &Release, receiver: &Receiver) -> Result<Bundle, SlotError> {
        let folder = self.folder(release);
        for name in receiver.manifest().files.keys().map(String::as_str).chain([MANIFEST_FILE, SIGNATURE_FILE]) {
            let path = folder.join(name);
            self.disk.sync(&path).map_err(disk_error("flush", &path))?;
        }
        // The slot's own name lies in the root, which is flushed with the record.
        for path in &folders(&folder, receiver) {
            self.disk.sync_folder(path).map_err(disk_error("flush", path))?;
        }
        self.persist(self.record.after(Event::Received)?)?;
        let bundle = self.load(release)?;
        self.persist(self.record.after(Event::Rechecked)?)?;
        Ok(bundle)
    }

    /// Ends the push with `error`. The record in memory moves on even when the disk no longer takes it:
    /// on disk the phase before it is left, and that one rolls back at the next start.
    fn fail<T>(&mut self, error: SlotError) -> Result<T, SlotError> {
        if let Ok(rolled_back) = self.record.after(Event::Failed { why: error.to_string() }) {
            self.record = rolled_back.clone();
            // The first error is the one to tell.
            let _ = self.persist(rolled_back);
        }
        Err(error)
    }

    /// Replaces `current.json` in one step; the record in memory changes only after that.
    fn persist(&mut self, record: Record) -> Result<(), SlotError> {
        let (new, current) = (self.root.join(NEW_RECORD_FILE), self.root.join(RECORD_FILE));
        let text = serde_json::to_vec_pretty(&record).map_err(|error| SlotError::Disk {
            operation: "encode",
            path: current.clone(),
            source: error.into(),
        })?;
        self.disk.write(&new, &text).map_err(disk_error("write", &new))?;
        self.disk.sync(&new).map_err(disk_error("flush", &new))?;
        self.disk.rename(&new, &current).map_err(disk_error("replace", &current))?;
        self.disk.sync_folder(&self.root).map_err(disk_error("flush", &self.root))?;
        self.record = record;
        Ok(())
    }
}

/// The slot's folder and every folder in it, outer ones first.
fn folders(slot: &Path, receiver: &Receiver) -> Vec<PathBuf> {
    let mut inner = BTreeSet::new();
    for name in receiver.manifest().files.keys() {
        inner.extend(Path::new(name).ancestors().skip(1).map(|folder| slot.join(folder)));
    }
    inner.into_iter().collect()
}

fn read_record(disk: &impl Disk, root: &Path) -> Result<Record, SlotError> {
    let path = root.join(RECORD_FILE);
    let bytes = match disk.read(&path, MAX_RECORD_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(disk_error("read", &path)(error)),
    };
    let record: Record = serde_json::from_slice(&bytes)
        .map_err(|error| SlotError::Record { path: path.clone(), got: error.to_string() })?;
    if record.format != RECORD_FORMAT {
        return Err(SlotError::Record { path, got: format!("format {}", record.format) });
    }
    Ok(record)
}

fn disk_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SlotError {
    let path = path.to_owned();
    move |source| SlotError::Disk { operation, path, source }
}

fn not_under_way() -> SlotError {
    SlotError::Order(TransitionError::Order { expected: "a push under way", event: "its next step", phase: "none is" })
}
