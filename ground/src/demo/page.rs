//! The demo's page: frame, question and answer side by side, in one HTML file without outside assets.

use super::Row;
use crate::html::{STYLE, escape};
use kestrel_link::{Outcome, Reply};
use std::fmt::Write as _;

/// Renders the page. Picture paths in `rows` are relative to it.
pub(super) fn render(drone: &str, engine: &str, model: &str, rows: &[Row]) -> String {
    let mut html = String::new();
    let right = rows.iter().filter(|row| row.right == Some(true)).count();
    let judged = rows.iter().filter(|row| row.right.is_some()).count();
    // Writing to a String cannot fail.
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Kestrel demo</title><style>{STYLE}</style><header><h1>Kestrel</h1>\
         <p>Drone <b>{}</b> answered {} questions over a Zenoh session on this machine · model {} · engine {} · {right} of {judged} as scripted</p></header><main>",
        escape(drone),
        rows.len(),
        escape(model),
        escape(engine)
    );
    for row in rows {
        article(&mut html, row);
    }
    html.push_str("</main></html>\n");
    html
}

fn article(html: &mut String, row: &Row) {
    let _ = write!(html, "<article><figure><img src=\"{}\" alt=\"frame\">", escape(&row.frame_file));
    let _ = write!(html, "<img src=\"{}\" alt=\"answer\"></figure>", escape(&row.overlay_file));
    let _ = write!(html, "<div class=\"words\"><q>{}</q></div>", escape(&row.text));
    match &row.reply {
        Some(reply) => answer(html, reply),
        None => html.push_str("<div class=\"answer none\">no answer came</div>"),
    }
    let latency =
        row.reply.as_ref().map_or(String::new(), |r| format!("{:.0} ms on board", r.latency_micros as f64 / 1e3));
    let verdict = match row.right {
        Some(true) => "<span class=\"ok\">as scripted</span>".to_owned(),
        Some(false) => format!("<span class=\"wrong\">expected: {}</span>", escape(&row.expected)),
        None => String::new(),
    };
    let _ = write!(html, "<footer><span>{} · {}</span>{verdict}</footer></article>", escape(&row.kind), latency);
}

fn answer(html: &mut String, reply: &Reply) {
    match &reply.outcome {
        Outcome::Segmented { masks } => {
            let area: u64 = masks.iter().map(|m| m.area_pixels).sum();
            let presence = masks.iter().map(|m| m.presence).fold(0.0, f32::max);
            let quality = masks.iter().map(|m| m.predicted_iou).fold(0.0, f32::max);
            let _ = write!(
                html,
                "<div class=\"answer mask\">mask of {area} pixels</div><dl><div><dt>presence</dt><dd>{presence:.2}</dd></div>\
                 <div><dt>predicted IoU</dt><dd>{quality:.2}</dd></div></dl>"
            );
        }
        Outcome::Refused(refusal) => {
            let reason = super::reason(&refusal.verdict);
            let _ = write!(html, "<div class=\"answer refusal\">refused: {}</div>", escape(&reason));
            let _ = write!(html, "<div class=\"advice\">{}</div><dl>", escape(&refusal.advice));
            for (name, value) in refusal.evidence.iter().take(6) {
                let _ = write!(html, "<div><dt>{}</dt><dd>{value:.3}</dd></div>", escape(name));
            }
            html.push_str("</dl>");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise: P13
    #[test]
    fn an_operators_words_cannot_become_markup() {
        let row = Row {
            kind: "present".into(),
            text: "<script>alert(1)</script>".into(),
            frame_file: "a.png".into(),
            overlay_file: "b.png".into(),
            expected: "a mask".into(),
            iou: None,
            right: Some(false),
            reply: None,
        };
        let html = render("d", "e", "m", &[row]);
        assert!(!html.contains("<script>"));
        assert!(html.contains("&lt;script&gt;"));
        assert!(html.contains("no answer came"));
    }
}
