//! Figures of two parties that did the same work, turn by turn: ratios with their spread. Pure.

/// What one party did in one round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Round {
    /// From publishing a frame to the arrival of its outcome, one frame in flight, in milliseconds.
    pub(crate) latency_millis: Vec<f64>,
    /// Outcomes a second, two frames in flight.
    pub(crate) frames_per_second: f64,
    /// Processor time of the party's process for each frame, all threads, in milliseconds.
    pub(crate) cpu_millis: f64,
}

/// The value below which this share of the values lies (nearest rank); 0 of none.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0.0)
}

/// A figure of both parties; everything is the middle of all rounds.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Compared {
    /// What was measured, with its unit.
    pub(crate) what: &'static str,
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    /// How many times better ours is: above 1 is better. The least, the middle and the most of all rounds.
    pub(crate) ratio: [f64; 3],
}

impl Compared {
    /// Compares figures round by round, so that what weighs on both weighs on neither ratio.
    fn of(what: &'static str, ours: &[f64], peer: &[f64], is_more_better: bool) -> Self {
        let ratios: Vec<f64> =
            ours.iter().zip(peer).map(|(ours, peer)| if is_more_better { ours / peer } else { peer / ours }).collect();
        let ratio = [0.0, 0.5, 1.0].map(|share| percentile(&ratios, share));
        Self { what, ours: percentile(ours, 0.5), peer: percentile(peer, 0.5), ratio }
    }
}

/// Ratios of rounds that both parties did in turn, and of the most memory that each process ever held.
pub(crate) fn compare(ours: &[Round], peer: &[Round], [our_bytes, peer_bytes]: [u64; 2]) -> Vec<Compared> {
    let of = |rounds: &[Round], figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<_>>();
    let both = |what, figure: fn(&Round) -> f64, is_more_better| {
        Compared::of(what, &of(ours, figure), &of(peer, figure), is_more_better)
    };
    let megabytes = |bytes: u64| [bytes as f64 / 1e6];
    vec![
        both("latency, median, ms", |round| percentile(&round.latency_millis, 0.5), false),
        both("latency, 95th percentile, ms", |round| percentile(&round.latency_millis, 0.95), false),
        both("throughput, frames a second", |round| round.frames_per_second, true),
        both("processor time a frame, ms", |round| round.cpu_millis, false),
        Compared::of("most memory, MB", &megabytes(our_bytes), &megabytes(peer_bytes), false),
    ]
}

/// Whether both parties answer alike: what makes the comparison one of the same work.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub(crate) struct Agreement {
    pub(crate) frames: usize,
    /// Frames on which one showed a mask and the other refused.
    pub(crate) disagreed: usize,
    /// IoU of the masks of every frame on which both showed one.
    pub(crate) overlaps: Vec<f64>,
}

/// Mean IoU below which the masks are not the same work. Resizing with two libraries rounds differently.
pub(crate) const LEAST_OVERLAP: f64 = 0.97;

impl Agreement {
    pub(crate) fn mean(&self) -> f64 {
        self.overlaps.iter().sum::<f64>() / self.overlaps.len().max(1) as f64
    }

    /// Why the comparison is void; nothing when it holds.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.overlaps.is_empty() {
            return Some(format!("no mask was shown on {} frames: nothing is compared", self.frames));
        }
        if self.disagreed > 0 {
            return Some(format!(
                "on {} of {} frames one shows a mask and the other refuses",
                self.disagreed, self.frames
            ));
        }
        let mean = self.mean();
        (mean < LEAST_OVERLAP).then(|| format!("the masks overlap by {mean:.3}, at least {LEAST_OVERLAP} is wanted"))
    }
}

/// User and system time out of `/proc/PID/stat`, in ticks of 10 ms (source: proc(5); `USER_HZ` is 100 on Linux).
pub(crate) fn ticks_of(stat: &str) -> Option<u64> {
    // The program's name stands in brackets and may hold blanks and brackets itself.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The most memory that a process ever held, in bytes, out of `/proc/PID/status`.
pub(crate) fn most_bytes_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
