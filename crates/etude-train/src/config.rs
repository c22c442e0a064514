//! Knobs: the fields of a study's configuration, listed, explained, and set by name.
//!
//! A configuration is a plain serde struct with a `Default`; everything here is read off it. The text that explains a
//! knob is the field's own doc comment, taken from the study's source ([`docs_from_source`]), so it stands in one place.
//! It may end with the numbers the knob takes, both ends included: `[1..]`, `[0..1]`; they are shown and held.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One knob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Knob {
    /// Its name; a dot leads into a nested struct.
    pub name: String,
    /// Its default, as `--set` would take it.
    pub default: String,
    /// What it takes, in words.
    pub takes: &'static str,
    /// What it is for; empty when nobody wrote it down.
    pub doc: String,
}

/// The knobs of a configuration in the order of its fields. `docs` pairs names with explanations.
pub fn knobs<C: Serialize>(defaults: &C, docs: &[(String, String)]) -> Vec<Knob> {
    let mut found = Vec::new();
    walk(&to_json(defaults), "", &mut |name, value| {
        // A nested field is explained under its own last name.
        let own = name.rsplit('.').next().unwrap_or(name);
        let doc = doc_of(docs, name).or_else(|| doc_of(docs, own));
        found.push(Knob {
            name: name.to_string(),
            default: show(value),
            takes: takes(value),
            doc: doc.unwrap_or_default().to_string(),
        });
    });
    found
}

fn doc_of<'a>(docs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    docs.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
}

impl Knob {
    /// The numbers it takes, both ends included, if its explanation ends with them.
    pub fn range(&self) -> Option<(f64, f64)> {
        range(&self.doc)
    }
}

/// The range an explanation ends with: `[1..]`, `[..8]` or `[0..1]`.
fn range(doc: &str) -> Option<(f64, f64)> {
    let (_, inside) = doc.trim_end().strip_suffix(']')?.rsplit_once('[')?;
    let (low, high) = inside.split_once("..")?;
    let end = |text: &str, open: f64| if text.is_empty() { Some(open) } else { text.parse().ok() };
    Some((end(low, f64::NEG_INFINITY)?, end(high, f64::INFINITY)?))
}

/// The first number in `value` that lies outside of `range`.
fn outside(value: &Value, range: (f64, f64)) -> Option<f64> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| outside(item, range)),
        _ => value.as_f64().filter(|number| !(range.0..=range.1).contains(number)),
    }
}

/// Applies settings of the form `name=value` to a configuration, one after another.
///
/// `study` names it in errors. A value is read as TOML; what is no TOML is taken as text. `docs` hold the ranges.
pub fn apply<C: Serialize + DeserializeOwned>(
    study: &str,
    config: &C,
    settings: &[impl AsRef<str>],
    docs: &[(String, String)],
) -> Result<C> {
    let mut tree = to_json(config);
    for setting in settings {
        let setting = setting.as_ref();
        let Some((name, text)) = setting.split_once('=') else {
            return Err(Error::new(format!("--set {setting}: no `=` in it")).remedy("write --set name=value"));
        };
        let (name, text) = (name.trim(), text.trim());
        // A knob that is text takes its value literally: `--set name=1e5` is not a number there.
        set::<C>(study, &mut tree, name, parse(text), text, docs)?;
    }
    from_json(&tree).map_err(|e| Error::new(format!("{study}: {e}")))
}

/// Reads the text of a `config.toml` over the defaults: names it lacks keep their default, names it should not have
/// are errors. `place` names the file in errors.
pub fn from_toml<C: Serialize + DeserializeOwned>(
    study: &str,
    defaults: &C,
    text: &str,
    place: &str,
    docs: &[(String, String)],
) -> Result<C> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        Error::at(place, format!("line {line}: {}", first_line(e.message())))
    })?;
    let mut tree = to_json(defaults);
    let mut given = Vec::new();
    flatten_toml(&tree, "", toml::Value::Table(table), &mut given);
    for (name, value) in given {
        let text = value.to_string();
        set::<C>(study, &mut tree, &name, Some(value), &text, docs).map_err(|e| Error::at(place, e.to_string()))?;
    }
    from_json(&tree).map_err(|e| Error::at(place, format!("{study}: {e}")))
}

/// The text of `config.toml`: every knob with its value, its explanation as a comment above it.
pub fn to_toml<C: Serialize>(config: &C, docs: &[(String, String)]) -> String {
    let mut out = String::new();
    let explain = |name: &str| {
        let doc = docs.iter().find(|(n, _)| n == name);
        doc.map(|(_, text)| text.lines().map(|line| format!("# {line}\n")).collect()).unwrap_or_default()
    };
    write_table(&to_json(config), "", &explain, &mut out);
    out
}

fn write_table(tree: &Value, path: &str, explain: &dyn Fn(&str) -> String, out: &mut String) {
    let Value::Object(fields) = tree else { return };
    // TOML wants a table's own values before the tables inside it.
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_object()) {
        *out += &explain(name);
        match value {
            Value::Null => *out += &format!("# {name} is not set\n"),
            _ => *out += &format!("{} = {}\n", toml_key(name), show(value)),
        }
    }
    for (name, value) in fields.iter().filter(|(_, value)| value.is_object()) {
        let path = if path.is_empty() { toml_key(name) } else { format!("{path}.{}", toml_key(name)) };
        *out += &format!("\n{}[{path}]\n", explain(name));
        write_table(value, &path, explain, out);
    }
}

fn toml_key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_string() } else { toml::Value::from(name).to_string() }
}

/// The doc comments of the fields of `struct <name>` in Rust source text, as (field, text).
///
/// Made for the plain structs studies use: one field a line, `///` comments above it.
pub fn docs_from_source(source: &str, name: &str) -> Vec<(String, String)> {
    let opens = |line: &str| {
        let after = line.trim_start().trim_start_matches("pub ").strip_prefix("struct ")?.strip_prefix(name)?;
        after.trim_start().starts_with(['{', '<']).then_some(())
    };
    let mut lines = source.lines().skip_while(|line| opens(line).is_none()).skip(1);
    let mut docs = Vec::new();
    let mut text: Vec<&str> = Vec::new();
    for line in lines.by_ref().map(str::trim).take_while(|line| !line.starts_with('}')) {
        if let Some(comment) = line.strip_prefix("///") {
            text.push(comment.trim());
        } else if let Some((field, _)) = line.split_once(':').filter(|_| !line.starts_with(['#', '/'])) {
            let field = field.rsplit(' ').next().unwrap_or(field).trim_start_matches("r#");
            docs.push((field.to_string(), text.join(" ")));
            text.clear();
        }
    }
    docs
}

/// The candidate most like `name`, if one is near enough to be a slip of the keyboard.
///
/// Near is a third of the longer name's letters or fewer wrong, missing, added or swapped.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best =
        candidates.into_iter().map(|candidate| (distance(name, candidate), candidate)).min_by_key(|pair| pair.0)?;
    let longer = name.chars().count().max(best.1.chars().count());
    (best.0 <= (longer / 3).max(1)).then_some(best.1)
}

/// Edit distance with neighbouring letters swapped counting once (optimal string alignment), ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

/// Sets one knob in the tree, checked against the kind of its present value and against the struct as a whole.
fn set<C: DeserializeOwned>(
    study: &str,
    tree: &mut Value,
    name: &str,
    value: Option<toml::Value>,
    text: &str,
    docs: &[(String, String)],
) -> Result<()> {
    let mut names = Vec::new();
    walk(tree, "", &mut |name, _| names.push(name.to_string()));
    if !names.iter().any(|known| known == name) {
        return Err(unknown(study, name, &names));
    }
    let pointer = format!("/{}", name.replace('~', "~0").replace('.', "/"));
    let before = tree.pointer(&pointer).cloned().unwrap_or(Value::Null);
    let wrong = |why: &str| {
        let default = show(&before);
        Error::new(format!("{study}: `{name}` takes {}, not `{text}`{why} (it is {default} now)", takes(&before)))
    };
    let mut put = |value| {
        if let Some(place) = tree.pointer_mut(&pointer) {
            *place = value;
        }
        from_json::<C>(tree).map(|_| ())
    };
    // An optional knob that is set shows no sign of being optional, except that the struct takes nothing for it.
    if text == "none" && put(Value::Null).is_ok() {
        return Ok(());
    }
    let value = convert(&before, value, text).ok_or_else(|| wrong(""))?;
    if let Some(limits) = doc_of(docs, name).and_then(range)
        && let Some(number) = outside(&value, limits)
    {
        let (low, high) = limits;
        let bound = if number < low { format!("{low} at least") } else { format!("{high} at most") };
        return Err(wrong(&format!(": {bound}")));
    }
    // The struct knows more than the kind: ranges of integers, names of variants, lengths of lists.
    put(value).map_err(|e| wrong(&format!(": {e}")))
}

fn unknown(study: &str, name: &str, names: &[String]) -> Error {
    let below = names.iter().find(|known| known.strip_suffix(name).is_some_and(|path| path.ends_with('.')));
    let near = below.map(String::as_str).or_else(|| nearest(name, names.iter().map(String::as_str)));
    let list = format!("etude show {study} lists all {}", names.len());
    Error::new(format!("{study} has no knob `{name}`")).remedy(match near {
        Some(near) => format!("did you mean `{near}`? ({list})"),
        None => list,
    })
}

/// The value for a knob that now holds `before`; `None` when the kinds do not go together.
fn convert(before: &Value, value: Option<toml::Value>, text: &str) -> Option<Value> {
    use toml::Value as T;
    match (before, value) {
        (Value::String(_), Some(T::String(s))) => Some(s.into()),
        (Value::String(_), _) => Some(text.into()),
        (Value::Bool(_), Some(T::Boolean(b))) => Some(b.into()),
        (Value::Number(n), Some(value)) => {
            let whole = !n.is_f64();
            match value {
                T::Integer(i) if whole => Some(i.into()),
                T::Integer(i) => Some((i as f64).into()),
                // 1e5 is a whole number to a person, within what an f64 holds exactly.
                T::Float(f) if whole => (f.fract() == 0.0 && f.abs() <= 9e15).then_some((f as i64).into()),
                T::Float(f) => serde_json::Number::from_f64(f).map(Value::Number),
                _ => None,
            }
        }
        (Value::Array(_), Some(value @ T::Array(_))) => toml_to_json(value),
        (Value::Number(n), None) if !n.is_f64() => text.parse::<u64>().ok().map(Value::from),
        // An optional knob that is not set shows no kind; the struct decides.
        (Value::Null, Some(value)) => toml_to_json(value),
        (Value::Null, None) => Some(text.into()),
        _ => None,
    }
}

/// A value as TOML writes it; `None` for bare words and other text.
fn parse(text: &str) -> Option<toml::Value> {
    // A line break would let a value smuggle in further keys.
    let table: toml::Table = (!text.contains('\n')).then(|| format!("value = {text}").parse().ok())??;
    table.into_iter().next().map(|(_, value)| value)
}

fn toml_to_json(value: toml::Value) -> Option<Value> {
    Some(match value {
        toml::Value::String(s) => s.into(),
        toml::Value::Integer(i) => i.into(),
        toml::Value::Float(f) => Value::Number(serde_json::Number::from_f64(f)?),
        toml::Value::Boolean(b) => b.into(),
        toml::Value::Datetime(_) => return None,
        toml::Value::Array(items) => Value::Array(items.into_iter().map(toml_to_json).collect::<Option<_>>()?),
        toml::Value::Table(t) => {
            let fields = t.into_iter().map(|(name, value)| Some((name, toml_to_json(value)?)));
            Value::Object(fields.collect::<Option<_>>()?)
        }
    })
}

/// The settings in a TOML tree under their dotted names; descends only where the configuration has a nested struct.
fn flatten_toml(tree: &Value, path: &str, value: toml::Value, given: &mut Vec<(String, toml::Value)>) {
    match (tree, value) {
        (Value::Object(fields), toml::Value::Table(table)) => {
            for (name, value) in table {
                let below = fields.get(&name).unwrap_or(&Value::Null);
                let full = if path.is_empty() { name } else { format!("{path}.{name}") };
                flatten_toml(below, &full, value, given);
            }
        }
        (_, value) => given.push((path.to_string(), value)),
    }
}

/// Visits the knobs below `tree`: everything that is not a struct.
fn walk(tree: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    match tree {
        Value::Object(fields) if path.is_empty() || !fields.is_empty() => {
            for (name, value) in fields {
                let full = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(value, &full, visit);
            }
        }
        value => visit(path, value),
    }
}

fn takes(value: &Value) -> &'static str {
    match value {
        Value::Null => "a value or `none`",
        Value::Bool(_) => "true or false",
        Value::Number(n) if n.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list such as [1, 2]",
        Value::Object(_) => "a table",
    }
}

/// A value as `--set` and `config.toml` take it.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(s) => toml::Value::from(s.as_str()).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, v)| format!("{} = {}", toml_key(name), show(v))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// Through text, since that is where an `f32` of 0.1 is written `0.1` and not as the nearest `f64` of the nearest `f32`.
fn to_json<C: Serialize>(config: &C) -> Value {
    let text = serde_json::to_string(config).expect("a configuration is a struct of plain values");
    let tree: Value = serde_json::from_str(&text).expect("what was just written");
    assert!(tree.is_object(), "a configuration must be a struct with named fields");
    tree
}

fn from_json<C: DeserializeOwned>(tree: &Value) -> std::result::Result<C, String> {
    serde_json::from_value(tree.clone()).map_err(|e| first_line(&e.to_string()).to_string())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
