//! The beginning of a bundle's manifest, and its date.

use anyhow::{Context, Result};
use kestrel_link::manifest::{FORMAT, MANIFEST_FILE, RUNTIME_VERSION};
use kestrel_link::{AnswerTokens, Manifest};
use kestrel_models::kestrel::Config;
use std::collections::BTreeMap;
use std::path::Path;

/// A manifest that names no file yet.
pub fn draft(
    config: &Config,
    answer_tokens: AnswerTokens,
    version: &str,
    provenance: BTreeMap<String, String>,
) -> Manifest {
    Manifest {
        format: FORMAT,
        name: "kestrel-s".to_owned(),
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

/// The day, as `YYYY-MM-DD` in UTC.
pub fn today() -> String {
    let days =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    date(days as i64)
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
    use super::date;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(20_783), "2026-11-26");
    }
}
