//! `report.html`: one file that holds everything, without an address outside itself, light or dark as the reader has it.

use super::{RunFolder, curves};
use crate::error::Result;
use crate::files;
use crate::report::{Report, Table};
use crate::units;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// The most a picture or a sound may weigh to be put into the page.
const MOST_PICTURE: u64 = 8 << 20;
/// The most a text file may weigh to be put into the page.
const MOST_TEXT: u64 = 1 << 18;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1f2937;--soft:#5b6472;--paper:#fbfbfa;--card:#fff;--line:#e2e5e9;--good:#167a4d;--bad:#c02a2a;
--c0:#2563c9;--c1:#e67814;--c2:#10966e;--c3:#c43e80;--c4:#7658ce;--c5:#14a0be}
@media(prefers-color-scheme:dark){:root{--ink:#e5e7eb;--soft:#9aa3b0;--paper:#15171a;--card:#1d2024;--line:#33383f;--good:#4cc38a;--bad:#f2777a;
--c0:#6ea0f5;--c1:#f3a04d;--c2:#41c79d;--c3:#ea7fb4;--c4:#a890f0;--c5:#54c8e0}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:32px 20px 64px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:36px 0 12px}
.soft{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
.row{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:16px}
.wide{display:block;columns:420px;column-gap:16px}.wide .card{break-inside:avoid;margin-bottom:16px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px;margin:0;overflow-x:auto}
.big{font-size:22px;font-weight:600}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:4px 12px;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}.num{text-align:right}tr:last-child td{border-bottom:0}
img{max-width:100%;height:auto;display:block;border-radius:4px;background:#fff}
figcaption{color:var(--soft);font-size:13px;margin-top:8px}
pre{margin:0;font:13px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:var(--soft)}svg .name{font-weight:600;fill:var(--ink);font-size:14px}
.grid{stroke:var(--line)}.axis{stroke:var(--soft)}.curve{fill:none;stroke-width:2;stroke-linejoin:round}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
";

/// Text as HTML shows it, safe inside elements and quoted attributes.
pub(crate) fn escaped(text: &str) -> String {
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

/// The whole page.
pub(crate) fn page(folder: &RunFolder, report: &Report) -> Result<String> {
    let about = folder.about();
    let title = format!("{} {:04}", escaped(&about.study), about.number);
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body>"
    );
    let records = folder.metrics()?;
    let mut facts = vec![format!("seed {}", about.seed)];
    if about.quick {
        facts.push("quick".into());
    }
    if let Some(last) = records.last() {
        let seconds = (last.time - about.started).max(0.0);
        facts.push(format!("{} steps", units::grouped(last.step)));
        facts.push(units::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default()));
    }
    if let Some(peak) = units::peak_memory() {
        facts.push(format!("peak memory {}", units::bytes(peak)));
    }
    let _ = write!(out, "<h1>{title}</h1><div class=\"soft\">{}</div>", facts.join(" · "));

    closing(&mut out, report);
    let charts = curves::charts(&records);
    if !charts.is_empty() {
        out += "<h2>Curves</h2><div class=\"row\">";
        for (name, chart) in &charts {
            let _ = write!(out, "<div class=\"card\">{}</div>", curves::svg(name, chart));
        }
        out += "</div>";
    }
    for table in &report.tables {
        write_table(&mut out, table);
    }
    media(&mut out, folder)?;
    let _ = write!(out, "<h2>Configuration</h2><div class=\"card\"><pre>{}</pre></div>", escaped(&folder.config()?));
    if !report.next.is_empty() {
        let _ = write!(out, "<h2>Next</h2><div class=\"card\"><pre>{}</pre></div>", escaped(&report.next.join("\n")));
    }
    Ok(out + "</body></html>\n")
}

/// Headline figures and claims.
fn closing(out: &mut String, report: &Report) {
    for (name, figures) in &report.figures {
        let _ = write!(out, "<h2>{}</h2><div class=\"row\">", escaped(name));
        for figure in figures {
            let (name, text) = (escaped(&figure.name), escaped(&figure.text()));
            let _ = write!(
                out,
                "<div class=\"card\"><div class=\"soft\">{name}</div><div class=\"big\">{text}</div></div>"
            );
        }
        *out += "</div>";
    }
    if !report.claims.is_empty() {
        *out += "<h2>Claims</h2><div class=\"card\"><table>";
        for claim in &report.claims {
            let class = if claim.held { "good" } else { "bad" };
            let found = escaped(&claim.style.text(claim.value));
            let (demand, outcome) = (escaped(&claim.demand()), escaped(&claim.outcome()));
            let _ = write!(
                out,
                "<tr><td>{demand}</td><td class=\"num\">{found}</td><td class=\"{class}\">{outcome}</td></tr>"
            );
        }
        *out += "</table></div>";
    }
}

fn write_table(out: &mut String, table: &Table) {
    let class = |column: usize| if table.numeric(column) { " class=\"num\"" } else { "" };
    let line = |cells: &[String], tag: &str| {
        let cells = cells.iter().enumerate().map(|(c, cell)| format!("<{tag}{}>{}</{tag}>", class(c), escaped(cell)));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let _ = write!(out, "<h2>{}</h2><div class=\"card\"><table>{}", escaped(&table.title), line(&table.head, "th"));
    for row in &table.rows {
        *out += &line(row, "td");
    }
    *out += "</table></div>";
}

/// Pictures, sound and text of the run; what is too large to carry is named.
fn media(out: &mut String, folder: &RunFolder) -> Result<()> {
    let names = folder.media();
    if names.is_empty() {
        return Ok(());
    }
    *out += "<h2>Media</h2><div class=\"row wide\">";
    for name in names {
        let path = folder.path().join("media").join(&name);
        let size = path.metadata().map_or(u64::MAX, |data| data.len());
        let shown = escaped(&name);
        *out += "<figure class=\"card\">";
        let kind = Path::new(&name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if matches!(kind, "png" | "gif" | "wav") && size <= MOST_PICTURE {
            let coded = files::base64(&files::read_bytes(&path, MOST_PICTURE)?);
            let _ = match kind {
                "wav" => write!(out, "<audio controls src=\"data:audio/wav;base64,{coded}\"></audio>"),
                _ => write!(out, "<img alt=\"{shown}\" src=\"data:image/{kind};base64,{coded}\">"),
            };
        } else if kind == "txt" && size <= MOST_TEXT {
            let bytes = files::read_bytes(&path, MOST_TEXT)?;
            let _ = write!(out, "<pre>{}</pre>", escaped(&String::from_utf8_lossy(&bytes)));
        }
        let _ = write!(out, "<figcaption>{shown}</figcaption></figure>");
    }
    *out += "</div>";
    Ok(())
}
