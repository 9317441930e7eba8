//! The beginning of a bundle: its manifest, thresholds that mean nothing yet, and the date.

use anyhow::{Context, Result, anyhow};
use kestrel_link::manifest::{FORMAT, MANIFEST_FILE, RUNTIME_VERSION};
use kestrel_link::{AnswerTokens, Manifest, Presence, Thresholds};
use kestrel_models::kestrel::Config;
use std::collections::BTreeMap;
use std::path::Path;

/// The sizes that have a name of their own.
const NAMED: &str = "kestrel-s";
/// The name of other sizes that nobody named.
const UNNAMED: &str = "kestrel";

/// The name of a model that is not given one: that of its sizes, else that of the recipe that trained it.
pub fn name(config: &Config, recipe: Option<&str>) -> String {
    let sizes = |c: &Config| {
        let language = (c.vocabulary, c.language_width, c.language_layers, c.feed_forward);
        (language, c.mask_width, c.fine_width, c.mask_layers, c.compare_layers)
    };
    let known = (sizes(config) == sizes(&Config::kestrel_s())).then_some(NAMED);
    known.or(recipe).unwrap_or(UNNAMED).to_owned()
}

/// A manifest that names no file yet.
pub fn draft(
    config: &Config,
    answer_tokens: AnswerTokens,
    (name, version): (&str, &str),
    provenance: BTreeMap<String, String>,
) -> Manifest {
    Manifest {
        format: FORMAT,
        name: name.to_owned(),
        version: version.to_owned(),
        created: today(),
        minimum_runtime: RUNTIME_VERSION.to_owned(),
        input_size: config.image as u32,
        vocabulary: config.vocabulary as u32,
        language_width: config.language_width as u32,
        mask_width: config.mask_width as u32,
        fine_width: config.fine_width as u32,
        max_tokens: config.max_tokens as u32,
        answer_tokens,
        files: BTreeMap::new(),
        provenance,
    }
}

/// Reads the manifest of a bundle whose files may have changed since.
pub fn read(dir: &Path) -> Result<Manifest> {
    let path = dir.join(MANIFEST_FILE);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("reading {}\nhint: `ground export` begins a bundle", path.display()))?;
    Ok(Manifest::from_json(&bytes)?)
}

/// Thresholds that mean nothing yet, so that graphs can be evaluated: equal trust in the three signs of presence, and the
/// middle of every scale.
pub fn uncalibrated(model_hash: &str) -> Thresholds {
    Thresholds {
        model_hash: model_hash.to_owned(),
        presence: Presence { weights: [-1.0, 1.0, 0.0], bias: 0.0 },
        presence_threshold: 0.5,
        mask_threshold: 0.5,
        doubt_threshold: 0.5,
        min_area_pixels: 4,
        data: "not calibrated".to_owned(),
        seed: 0,
        date: today(),
    }
}

/// Seconds since 1970 that count as now, for builds that must come out the same (reproducible-builds.org).
pub const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The day, as `YYYY-MM-DD` in UTC; that of [`EPOCH`] where it is set.
pub fn today() -> String {
    let fixed = std::env::var(EPOCH).ok().and_then(|seconds| seconds.parse::<u64>().ok());
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = fixed.unwrap_or_else(now);
    // A year of more than four digits is no date of ours.
    date((seconds / 86_400).min(2_932_896) as i64)
}

/// The day counted from 1970-01-01 of a date `YYYY-MM-DD`.
pub fn days(text: &str) -> Result<i64> {
    let wrong =
        || anyhow!("expected a date YYYY-MM-DD from 1970 on, got {:?}", text.chars().take(20).collect::<String>());
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return Err(wrong()) };
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return Err(wrong());
    }
    let number = |part: &str| part.parse::<u16>().map(i64::from).map_err(|_| wrong());
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    // The inverse of `date`, by the same source.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year - 400 * era;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    // What is no day of the calendar comes back as another one.
    if days >= 0 && date(days) == text { Ok(days) } else { Err(wrong()) }
}

/// Civil date of a day counted from 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: i64) -> String {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{date, days, name};
    use kestrel_models::kestrel::Config;

    /// What would break: a smaller model that flies under the name of the one that was measured.
    #[test]
    fn other_sizes_have_another_name() {
        let large = Config { things: true, ..Config::kestrel_s() };
        let small = Config { language_width: 128, ..Config::kestrel_s() };
        assert_eq!(name(&large, Some("kestrel-s-qat")), "kestrel-s");
        assert_eq!(
            (name(&small, Some("kestrel-xs-distil")), name(&small, None)),
            ("kestrel-xs-distil".into(), "kestrel".into())
        );
    }

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(20_783), "2026-11-26");
        assert_eq!(date(2_932_896), "9999-12-31");
    }

    #[test]
    fn dates_become_days() {
        for day in (0..40_000).step_by(13) {
            assert_eq!(days(&date(day)).unwrap(), day);
        }
        for wrong in ["2026-02-30", "2026-13-01", "2026-1-01", "1969-12-31", "2026-01-01T00", "+026-01-01", "", "é-é-é"]
        {
            assert!(days(wrong).unwrap_err().to_string().contains("YYYY-MM-DD"), "{wrong}");
        }
    }
}
