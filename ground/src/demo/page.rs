//! The demo's page: frame, question and answer side by side, in one HTML file without outside assets.

use super::Row;
use kestrel_link::{Outcome, Reply};
use std::fmt::Write as _;

const STYLE: &str = "
:root{color-scheme:dark;--bg:#12161a;--card:#1b2127;--line:#2c353d;--text:#e6ebef;--dim:#93a1ad;--go:#5fd38d;--stop:#f2b35e;--bad:#ef6f6c}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--text);font:15px/1.45 system-ui,sans-serif}
header{padding:28px 32px 12px;max-width:1200px;margin:auto}h1{margin:0 0 4px;font-size:26px}header p{margin:0;color:var(--dim)}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:20px;padding:20px 32px 48px;max-width:1200px;margin:auto}
article{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden;display:flex;flex-direction:column}
figure{margin:0;display:grid;grid-template-columns:1fr 1fr;gap:2px;background:var(--line)}figure img{width:100%;display:block}
.words{padding:14px 16px 4px;font-size:17px}.words q{quotes:'“' '”'}
.answer{padding:0 16px;font-weight:600}.answer.mask{color:var(--go)}.answer.refusal{color:var(--stop)}.answer.none{color:var(--bad)}
.advice{padding:2px 16px 0;color:var(--dim)}dl{display:flex;flex-wrap:wrap;gap:2px 16px;margin:10px 16px 0;color:var(--dim);font-size:13px}
dl div{display:flex;gap:6px}dt::after{content:':'}dd{margin:0;color:var(--text)}
footer{margin-top:auto;padding:12px 16px 14px;color:var(--dim);font-size:13px;display:flex;justify-content:space-between;gap:8px}
.ok{color:var(--go)}.wrong{color:var(--bad)}
";

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

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

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
