//! Enough of CDDL (RFC 8610) to hold encoded messages against docs/reference/link.cddl:
//! maps with text keys, arrays, choices, text literals, `tstr .size (a..b)`, `uint`, `bool`, `float`, `nil`.

use ciborium::Value;
use std::collections::BTreeMap;

pub(crate) struct Rules(BTreeMap<String, String>);

impl Rules {
    pub(crate) fn parse(text: &str) -> Self {
        let mut rules = BTreeMap::new();
        let mut name = String::new();
        for line in text.lines().map(|line| line.split(';').next().unwrap().trim_end()) {
            let body = match line.split_once(" = ") {
                Some((rule, body)) if !line.starts_with(' ') => {
                    name = rule.to_owned();
                    body
                }
                _ => line.trim(),
            };
            if !body.is_empty() {
                let rule: &mut String = rules.entry(name.clone()).or_default();
                rule.push_str(body);
                rule.push(' ');
            }
        }
        Self(rules)
    }

    pub(crate) fn check(&self, rule: &str, value: &Value) -> Result<(), String> {
        let body = self.0.get(rule).ok_or_else(|| format!("no rule {rule:?}"))?;
        self.holds(body.trim(), value)
    }

    fn holds(&self, body: &str, value: &Value) -> Result<(), String> {
        let choices = split(body, '/');
        if choices.len() > 1 {
            let failures: Vec<String> = choices.iter().filter_map(|choice| self.holds(choice, value).err()).collect();
            return if failures.len() < choices.len() { Ok(()) } else { Err(failures.join("; ")) };
        }
        if let Some(members) = inside(body, '{', '}') {
            return self.map(members, value);
        }
        if let Some(items) = inside(body, '[', ']') {
            return self.array(items, value);
        }
        let fits = match (body.split(' ').next().unwrap_or(""), value) {
            ("tstr", Value::Text(text)) => size_holds(body, text.len()),
            ("uint", Value::Integer(number)) => i128::from(*number) >= 0,
            ("float", Value::Float(_)) | ("bool", Value::Bool(_)) | ("nil", Value::Null) => true,
            (literal, Value::Text(text)) if literal.starts_with('"') => literal.trim_matches('"') == text,
            (rule, value) if self.0.contains_key(rule) => return self.check(rule, value),
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("{value:?} is no {body}")) }
    }

    fn map(&self, members: &str, value: &Value) -> Result<(), String> {
        let Value::Map(entries) = value else { return Err(format!("{value:?} is no map")) };
        let mut known = Vec::new();
        for member in split(members, ',') {
            let (key, body) = member.split_once(": ").ok_or_else(|| format!("member {member:?}"))?;
            let name = key.trim_start_matches("? ");
            known.push(name.to_owned());
            match entries.iter().find(|(key, _)| key.as_text() == Some(name)) {
                Some((_, value)) => self.holds(body.trim(), value).map_err(|why| format!("{name}: {why}"))?,
                None if key.starts_with('?') => {}
                None => return Err(format!("{name} is missing")),
            }
        }
        for (key, _) in entries {
            if !key.as_text().is_some_and(|key| known.iter().any(|name| name == key)) {
                return Err(format!("{key:?} is not documented"));
            }
        }
        Ok(())
    }

    fn array(&self, items: &str, value: &Value) -> Result<(), String> {
        let Value::Array(values) = value else { return Err(format!("{value:?} is no array")) };
        if let Some(each) = items.strip_prefix("* ").or_else(|| items.strip_prefix("+ ")) {
            if items.starts_with('+') && values.is_empty() {
                return Err("empty array".into());
            }
            return values.iter().try_for_each(|value| self.holds(each.trim(), value));
        }
        let items = split(items, ',');
        if items.len() != values.len() {
            return Err(format!("{} items for {}", values.len(), items.len()));
        }
        items.iter().zip(values).try_for_each(|(item, value)| self.holds(item, value))
    }
}

fn size_holds(body: &str, length: usize) -> bool {
    let Some((_, range)) = body.split_once(".size (") else { return true };
    let (low, high) = range.trim_end_matches(')').split_once("..").unwrap();
    (low.parse::<usize>().unwrap()..=high.parse().unwrap()).contains(&length)
}

fn inside(body: &str, open: char, close: char) -> Option<&str> {
    body.strip_prefix(open)?.strip_suffix(close).map(str::trim)
}

/// Splits at `separator` outside brackets and quotes; drops empty parts.
fn split(body: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut depth, mut quoted, mut start) = (Vec::new(), 0i32, false, 0);
    for (at, c) in body.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '{' | '[' | '(' if !quoted => depth += 1,
            '}' | ']' | ')' if !quoted => depth -= 1,
            _ if c == separator && depth == 0 && !quoted => {
                parts.push(&body[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&body[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}
