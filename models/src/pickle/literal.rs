//! Numbers and texts as protocol 0 writes them: lines of Python literals.

use super::Value;

/// A decimal integer, or the `00` and `01` that stand for booleans.
pub(super) fn integer(line: &str) -> Result<Value, String> {
    match line {
        "00" => Ok(Value::Bool(false)),
        "01" => Ok(Value::Bool(true)),
        _ => line.parse().map(Value::Int).map_err(|_| format!("the integer {line:?}")),
    }
}

/// A decimal number.
pub(super) fn float(line: &str) -> Result<Value, String> {
    line.parse().map(Value::Float).map_err(|_| format!("the number {line:?}"))
}

/// A text between quotes with Python's escapes; bytes that are no UTF-8 become replacement characters.
pub(super) fn quoted(line: &str) -> Result<String, String> {
    let inner = ['\'', '"'].iter().find_map(|quote| line.strip_prefix(*quote)?.strip_suffix(*quote));
    let inner = inner.ok_or_else(|| format!("the text {line:?} without quotes"))?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            bytes.extend(character.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        match rest.next() {
            Some('n') => bytes.push(b'\n'),
            Some('r') => bytes.push(b'\r'),
            Some('t') => bytes.push(b'\t'),
            Some('x') => bytes.push(hexadecimal(&mut rest, 2)? as u8),
            Some(plain @ ('\\' | '\'' | '"')) => bytes.push(plain as u8),
            other => return Err(format!("the escape \\{}", other.unwrap_or(' '))),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A text with Python's raw-unicode escapes (`\u0041`, `\U00000041`); any other backslash stands for itself.
pub(super) fn escaped(line: &str) -> Result<String, String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        let digits = match (character, rest.as_str().chars().next()) {
            ('\\', Some('u')) => 4,
            ('\\', Some('U')) => 8,
            _ => {
                text.push(character);
                continue;
            }
        };
        rest.next();
        let code = hexadecimal(&mut rest, digits)?;
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    Ok(text)
}

fn hexadecimal(rest: &mut std::str::Chars<'_>, digits: usize) -> Result<u32, String> {
    let text: String = rest.take(digits).collect();
    let whole = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let code = u32::from_str_radix(&text, 16).ok().filter(|_| whole);
    code.ok_or_else(|| format!("the escape {text:?} instead of {digits} hexadecimal digits"))
}
