//! The reference of `conf.yaml` and `peers.yaml` for people: `docs/configuration.md`.

use std::fmt::Write as _;

use reload::Strategy;

use super::{CONF, Key, Kind, Need, PEERS, schema};
use crate::config::changes;

const HEAD: &str = "\
# Configuration reference

Made by `fednode reference` of the same tables as `fednode schema`; a test compares it. Do not edit.

Durations are `500ms`, `10s`, `1m30s`, `1h`; sizes `64KiB` (1024), `10MB` (1000) or a plain number of bytes. Paths are relative to the folder
of the file as it was named. Unknown keys are errors in `conf.yaml`, and warnings in `peers.yaml`. The content of every file that
`conf.yaml` names belongs to the configuration.

What *reload* says of a key:

| | |
|---|---|
| in place | the component goes on with the new value at once; nothing is closed |
| new part first | the part that the key names is opened anew before the old one is closed |
| new connections | connections that are open go on as they are; new ones meet the new value |
| restart | a reload refuses the change and says so; nothing was touched |

An editor with yaml-language-server shows all this while you write: `fednode schema > conf.schema.json` and
`fednode schema peers > peers.schema.json`, beside the files that `fednode init` wrote.
";

/// The whole page.
#[must_use]
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    text += "\n## conf.yaml\n";
    for key in CONF {
        if key.parent().is_empty() && matches!(key.kind, Kind::Section) {
            let need = if key.need == Need::Required { " Must be there." } else { "" };
            let _ = write!(text, "\n### {}\n\n{}{need}\n", key.path, key.doc);
            table(&mut text, CONF.iter().filter(|below| below.path.starts_with(&format!("{}.", key.path))));
        } else if key.parent().is_empty() {
            table(&mut text, std::iter::once(key));
        }
    }
    text += "\n## peers.yaml\n";
    table(&mut text, PEERS.iter());
    text
}

fn table<'k>(text: &mut String, keys: impl Iterator<Item = &'k Key>) {
    text.push_str("\n| key | type | default | what it is | reload |\n|---|---|---|---|---|\n");
    for key in keys {
        let default = match key.need {
            Need::Required => "must be there".to_owned(),
            Need::Default(_) if matches!(key.kind, Kind::Section) => String::new(),
            Need::Default(text) => format!("`{text}`"),
            Need::Optional => "none".to_owned(),
        };
        let reload = changes::row_of(key.path)
            .map(|(components, strategy)| format!("{}: {}", components.join(", "), how(strategy)));
        let _ = writeln!(
            text,
            "| `{}` | {} | {default} | {} | {} |",
            key.path,
            type_of(&key.kind).replace('|', "\\|"),
            key.doc.replace('|', "\\|"),
            reload.unwrap_or_default(),
        );
    }
}

fn type_of(kind: &Kind) -> String {
    let range = schema::range(kind).map(|range| format!(", {range}")).unwrap_or_default();
    match kind {
        Kind::Section => "mapping".to_owned(),
        Kind::Entries => "list of mappings".to_owned(),
        Kind::List(inner) => format!("list: {}", type_of(inner)),
        Kind::Map(_, inner) => format!("mapping of names to {}", type_of(inner)),
        Kind::Text | Kind::AnyText => "text".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Form(_, name) => (*name).to_owned(),
        Kind::Integer(..) => format!("whole number{range}"),
        Kind::Number(..) => format!("number{range}"),
        Kind::Flag => "true or false".to_owned(),
        Kind::Duration(..) => format!("duration{range}"),
        Kind::Size(..) => format!("size{range}"),
        Kind::OneOf(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        Kind::Plain => "text, number, true or false, or a list of such".to_owned(),
    }
}

/// A strategy in an operator's words.
pub(super) const fn how(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::InPlace => "in place",
        Strategy::ReplacePart => "new part first",
        Strategy::NewConnections => "new connections",
        Strategy::Restart => "restart",
    }
}
