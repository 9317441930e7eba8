//! Which layers stay wide: a sweep over the model's parts, and what is said where none is enough.

use anyhow::{Context, Result, anyhow};
use kestrel_calibration::ranges::{Bench, Bounds, Sweep, group, sweep};
use kestrel_models::quantise::{Observer, Scheme};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use super::{RECORD_FILE, Teller};

/// The bytes that each rounded layer takes more when it stays wide: two for one, for each number of its kernel.
pub(super) fn widened(scheme: &Scheme, observer: &Observer) -> BTreeMap<String, u64> {
    let kernels = observer.kernels();
    let bytes = |layer: &String| kernels.get(layer).map_or(0, |shape| shape.iter().product::<usize>() as u64);
    scheme.layers.keys().map(|layer| (layer.clone(), bytes(layer))).collect()
}

/// Measures parts alone, and says how long it will take once one measurement is done.
pub(super) fn look_for_costly(
    bench: &Bench<'_>,
    scheme: &Scheme,
    bounds: &Bounds,
    layers: &BTreeMap<String, u64>,
    room: u64,
    teller: &Teller,
) -> Result<Sweep> {
    let parts: BTreeSet<String> = layers.keys().map(|layer| group(layer)).collect();
    let (began, mut done) = (Instant::now(), 0);
    teller.begin("measurements, more where a part costs", parts.len() + 1);
    let mut measure = |layers: &BTreeSet<String>, what: &str| -> Result<f64> {
        let used = bounds.used(&bench.measure(scheme, layers)?);
        done += 1;
        if done == 1 {
            let seconds = began.elapsed().as_secs_f64();
            teller.words(&format!(
                "{} parts of {} layers, about {:.0} s",
                parts.len(),
                layers.len(),
                seconds * (parts.len() + 1) as f64
            ));
        }
        teller.done(done);
        teller.words(&format!("{:>6.1} % of the bound: {what}", used * 100.0));
        Ok(used)
    };
    sweep(layers, room, &mut measure)
}

/// What to say where no number of wide layers keeps the bound. The record is left for fine-tuning; a bundle is not.
pub(super) fn unbearable(out: &Path, record: &impl Serialize, swept: &Sweep) -> anyhow::Error {
    let path = out.join(RECORD_FILE);
    let write = || -> Result<()> {
        std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        std::fs::write(&path, serde_json::to_string_pretty(record)? + "\n")
            .with_context(|| format!("writing {}", path.display()))
    };
    if let Err(error) = write() {
        return error;
    }
    anyhow!(
        "what is rounded uses up {:.0} % of the bound, though {} layers stay wide, and no others that cost fit in \
         --size-bound; no bundle is written\n\
         hint: look at more frames, raise the bounds (that of size too), or fine-tune with the others rounded: \
         `ground train training/recipes/kestrel-s-qat.toml --quantisation {} --from …`, then quantise the outcome",
        swept.left * 100.0,
        swept.kept.len(),
        path.display()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What would break: a model that has to be fine-tuned, without the record that fine-tuning asks for.
    #[test]
    fn what_cannot_be_borne_leaves_its_record_and_names_fine_tuning() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("int8");
        let swept = Sweep { all: 9.0, parts: Vec::new(), kept: vec!["trunk.stem".to_owned()], left: 3.0 };
        let error = unbearable(&out, &serde_json::json!({ "scheme": 1 }), &swept).to_string();
        assert!(
            error.contains("300 % of the bound, though 1 layers") && error.contains("kestrel-s-qat.toml"),
            "{error}"
        );
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join(RECORD_FILE)).unwrap()).unwrap();
        assert_eq!(record["scheme"], 1);
        assert!(error.contains(&out.join(RECORD_FILE).display().to_string()), "{error}");
    }
}
