//! What the pages share: their look, and words that cannot become markup.

/// The look of every page.
pub(crate) const STYLE: &str = "
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
ol,ul{margin:6px 0;padding:0 16px 0 34px;color:var(--dim);font-size:14px}li b{color:var(--text);font-weight:500}h2{margin:12px 16px 0;font-size:14px}
";

/// Text that cannot become markup.
pub(crate) fn escape(text: &str) -> String {
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
