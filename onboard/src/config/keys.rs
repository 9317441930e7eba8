//! Keys of a TOML table: laid over each other, and the nearest to a misspelt one.

use toml::{Table, Value};

use super::ConfigError;

/// All keys of a table with their sections, e.g. `engine.name`.
pub(super) fn keys(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section) => keys.extend(section.keys().map(|key| format!("{name}.{key}"))),
            _ => keys.push(name.clone()),
        }
    }
    keys
}

pub(super) fn merge(
    into: &mut Table,
    from: Table,
    section: &str,
    origin: &str,
    keys: &[String],
) -> Result<(), ConfigError> {
    for (name, value) in from {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        match (into.get_mut(&name), value) {
            (Some(Value::Table(known)), Value::Table(given)) => merge(known, given, &key, origin, keys)?,
            (Some(known), value) => *known = value,
            (None, _) => return Err(unknown(origin, &key, keys)),
        }
    }
    Ok(())
}

pub(super) fn unknown(origin: &str, key: &str, keys: &[String]) -> ConfigError {
    let sections = keys.iter().filter_map(|key| key.split_once('.')).map(|(section, _)| section);
    let nearest =
        keys.iter().map(String::as_str).chain(sections).min_by_key(|known| distance(known, key)).unwrap_or_default();
    ConfigError::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), nearest: nearest.to_owned() }
}

/// Levenshtein's distance: how many letters must be typed anew.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}

/// Sets one known key from text: taken as it is where a string belongs, else read as a TOML value.
pub(super) fn put(table: &mut Table, key: &str, text: &str, origin: &str) -> Result<(), ConfigError> {
    let (section, name) = key.split_once('.').map_or((None, key), |(section, name)| (Some(section), name));
    let table = match section.and_then(|section| table.get_mut(section)) {
        Some(Value::Table(section)) => section,
        _ => table,
    };
    let value = match table.get(name) {
        Some(Value::String(_)) => Value::String(text.to_owned()),
        _ => {
            let mut parsed: Table = format!("value = {text}").parse().map_err(|error: toml::de::Error| {
                ConfigError::Malformed { origin: origin.to_owned(), why: format!("`{key}`: {}", error.message()) }
            })?;
            parsed.remove("value").unwrap_or(Value::Boolean(false))
        }
    };
    table.insert(name.to_owned(), value);
    Ok(())
}
