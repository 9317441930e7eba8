//! How hot the drone is and whether its supply holds, as Linux says under `/sys`.
//!
//! Sources: `class/thermal/thermal_zone*/{type,temp}`, temperatures in thousandths of a degree Celsius (Linux, "Generic Thermal
//! Sysfs driver How To"), and `class/hwmon/hwmon*/oc*_event_cnt`, counts of over-current and under-voltage events (NVIDIA
//! Jetson Linux Developer Guide, "Platform Power and Performance"). The root of the tree is an argument, so that tests hold
//! up another one.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::throttle::{Level, Throttle, ThrottleLimits};

/// Readings outside are those of a sensor that is broken or not there.
const PLAUSIBLE_CELSIUS: std::ops::RangeInclusive<f64> = -60.0..=200.0;
/// No file that is read here is longer.
const MOST_BYTES: u64 = 128;
/// How long one event of over-current weighs.
const OVER_CURRENT_HOLD: Duration = Duration::from_secs(10);

/// What to measure, and what to do about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ThermalOptions {
    /// Root of the tree: `/sys`.
    pub sysfs: PathBuf,
    /// Types of thermal zones that say nothing of the heat.
    pub ignored_zones: Vec<String>,
    /// Between which temperatures the frame rate falls.
    pub limits: ThrottleLimits,
}

/// One reading of all sensors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Type and degrees Celsius of the hottest zone; `None` when none can be read.
    pub hottest: Option<(String, f64)>,
    /// Over-current and under-voltage events since the system started; `None` where nobody counts them.
    pub over_current_events: Option<u64>,
}

impl Reading {
    /// Reads every sensor under `sysfs`. What is missing or makes no sense is left out.
    #[must_use]
    pub fn take(sysfs: &Path, ignored_zones: &[String]) -> Self {
        let mut reading = Self::default();
        for zone in folders(&sysfs.join("class/thermal"), "thermal_zone") {
            let Some(name) = text(&zone.join("type")) else { continue };
            let Some(celsius) = text(&zone.join("temp")).as_deref().and_then(celsius) else { continue };
            let hotter = reading.hottest.as_ref().is_none_or(|(_, most)| celsius > *most);
            if hotter && !ignored_zones.contains(&name) {
                reading.hottest = Some((name, celsius));
            }
        }
        for monitor in folders(&sysfs.join("class/hwmon"), "hwmon") {
            for counter in folders(&monitor, "oc") {
                let counts = counter.to_str().is_some_and(|path| path.ends_with("_event_cnt"));
                if let Some(events) = counts.then(|| text(&counter)).flatten().and_then(|text| text.parse::<u64>().ok())
                {
                    let sum = reading.over_current_events.unwrap_or(0);
                    reading.over_current_events = Some(sum.saturating_add(events));
                }
            }
        }
        reading
    }
}

/// Entries of a folder whose names begin with `prefix`, sorted; none where the folder cannot be read.
fn folders(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(named).collect();
    found.sort();
    found
}

/// The first line of a small file, without white space around it.
fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let line = text.lines().next().unwrap_or_default().trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Degrees Celsius from thousandths of one, when they are plausible.
fn celsius(text: &str) -> Option<f64> {
    let thousandths: i32 = text.parse().ok()?;
    let celsius = f64::from(thousandths) / 1e3;
    PLAUSIBLE_CELSIUS.contains(&celsius).then_some(celsius)
}

/// What the drone's heat does to it now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heat {
    /// How much is throttled.
    pub level: Level,
    /// Type and degrees Celsius of the hottest zone, when one can be read.
    pub hottest: Option<(String, f64)>,
    /// Whether the supply reported over-current or under-voltage in the last seconds.
    pub over_current: bool,
    /// Frames per second to look at; `None` when nothing is throttled.
    pub frames_per_second: Option<f64>,
}

impl Heat {
    /// One line on what is throttled and why; `None` when nothing is.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let rate = self.frames_per_second?;
        let heat = self.hottest.as_ref().map(|(zone, celsius)| format!("{celsius:.1} °C at {zone}"));
        let current = self.over_current.then(|| "the supply reports over-current".to_owned());
        let why: Vec<String> = heat.into_iter().chain(current).collect();
        Some(format!("{}: {}; {rate:.1} frames per second are looked at", self.level.name(), why.join(", ")))
    }
}

/// The sensors and the controller behind them.
#[derive(Debug)]
pub struct Thermal {
    options: ThermalOptions,
    throttle: Throttle,
    events: Option<u64>,
    over_current: Option<Instant>,
    heat: Heat,
    /// Whether it has been said that there is nothing to read.
    told: bool,
}

impl Thermal {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(options: ThermalOptions) -> Self {
        let throttle = Throttle::new(options.limits);
        Self { options, throttle, events: None, over_current: None, heat: Heat::default(), told: false }
    }

    /// Reads the sensors, logs what changed, and says how hot it is.
    pub fn tick(&mut self, now: Instant) -> Heat {
        let reading = Reading::take(&self.options.sysfs, &self.options.ignored_zones);
        if reading.hottest.is_none() && !self.told {
            self.told = true;
            let path = self.options.sysfs.join("class/thermal");
            tracing::warn!("{}: no temperature can be read: the frame rate does not fall with heat", path.display());
        }
        if let (Some(before), Some(events)) = (self.events, reading.over_current_events)
            && events > before
        {
            self.over_current = Some(now);
        }
        self.events = reading.over_current_events.or(self.events);
        let held = |since: Instant| now.saturating_duration_since(since) < OVER_CURRENT_HOLD;
        let over_current = self.over_current.is_some_and(held);
        self.throttle.update(reading.hottest.as_ref().map(|(_, celsius)| *celsius), over_current);
        let heat = Heat {
            level: self.throttle.level(),
            hottest: reading.hottest,
            over_current,
            frames_per_second: self.throttle.frames_per_second(),
        };
        if (heat.level, heat.over_current) != (self.heat.level, self.heat.over_current) {
            match heat.told() {
                Some(told) => tracing::warn!("{told}"),
                None => tracing::info!("cool again: every frame is looked at"),
            }
        }
        self.heat = heat.clone();
        heat
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn zone(root: &Path, number: u32, name: &[u8], temp: &[u8]) {
        let folder = root.join(format!("class/thermal/thermal_zone{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("type"), name).unwrap();
        std::fs::write(folder.join("temp"), temp).unwrap();
    }

    fn events(root: &Path, count: &[u8]) {
        let folder = root.join("class/hwmon/hwmon3");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("oc1_event_cnt"), b"0\n").unwrap();
        std::fs::write(folder.join("oc3_event_cnt"), count).unwrap();
        std::fs::write(folder.join("oc3_throt_en"), b"1\n").unwrap();
    }

    fn options(root: &Path) -> ThermalOptions {
        ThermalOptions {
            sysfs: root.to_owned(),
            ignored_zones: vec!["PMIC-Die".into()],
            limits: ThrottleLimits {
                warm_celsius: 70.0,
                hot_celsius: 90.0,
                hysteresis_celsius: 2.0,
                full_frames_per_second: 5.0,
                least_frames_per_second: 1.0,
            },
        }
    }

    #[test]
    fn the_hottest_plausible_zone_counts() {
        let root = tempfile::tempdir().unwrap();
        zone(root.path(), 0, b"cpu-thermal\n", b"45500\n");
        zone(root.path(), 1, b"gpu-thermal\n", b"61000\n");
        zone(root.path(), 2, b"PMIC-Die\n", b"100000\n");
        zone(root.path(), 3, b"broken\n", b"999999999\n");
        zone(root.path(), 4, b"nonsense\n", b"hot\n");
        zone(root.path(), 5, b"\xff\xfe", b"90000\n");
        zone(root.path(), 6, b"empty\n", b"");
        events(root.path(), b"7\n");
        let reading = Reading::take(root.path(), &["PMIC-Die".into()]);
        assert_eq!(reading.hottest, Some(("gpu-thermal".into(), 61.0)));
        assert_eq!(reading.over_current_events, Some(7));
    }

    #[test]
    fn where_nothing_can_be_read_nothing_is_throttled() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("class")).unwrap();
        std::fs::write(root.path().join("class/thermal"), b"not a folder").unwrap();
        for sysfs in [root.path().to_owned(), root.path().join("nowhere")] {
            let mut thermal = Thermal::new(options(&sysfs));
            assert_eq!(thermal.tick(Instant::now()), Heat::default());
        }
    }

    #[test]
    fn events_of_over_current_weigh_for_a_while() {
        let root = tempfile::tempdir().unwrap();
        let (start, mut thermal) = (Instant::now(), Thermal::new(options(root.path())));
        events(root.path(), b"100\n");
        assert_eq!(thermal.tick(start).level, Level::Cool, "what was before the start does not count");
        events(root.path(), b"101\n");
        let heat = thermal.tick(start);
        assert_eq!((heat.level, heat.over_current), (Level::Warm, true));
        assert!(heat.told().unwrap().contains("over-current"));
        assert_eq!(thermal.tick(start + OVER_CURRENT_HOLD / 2).level, Level::Warm);
        assert_eq!(thermal.tick(start + OVER_CURRENT_HOLD).level, Level::Cool);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Promise: P13
        #[test]
        fn garbage_never_panics(name: Vec<u8>, temp: Vec<u8>, count: Vec<u8>) {
            let root = tempfile::tempdir().unwrap();
            zone(root.path(), 0, &name, &temp);
            events(root.path(), &count);
            let mut thermal = Thermal::new(options(root.path()));
            let heat = thermal.tick(Instant::now());
            prop_assert!(heat.hottest.is_none_or(|(_, celsius)| PLAUSIBLE_CELSIUS.contains(&celsius)));
        }
    }
}
