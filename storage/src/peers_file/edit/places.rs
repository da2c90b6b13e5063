//! Where in the text of a `peers.yaml` something stands, and the edits that are made there.

use yamlpath::{Document, Feature, FeatureKind, Route, route};

use super::Entry;

/// A text and the edits that are gathered for it. Every method is `None` where the text has no place for what is asked.
pub(super) struct Places<'t> {
    text: &'t str,
    document: Document,
    edits: Vec<Edit>,
    line_end: &'static str,
}

/// Replaces the bytes from `from` to `to`.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) with: String,
}

/// How far the entries of a list that is begun here are indented.
const INDENT: &str = "  ";

// === impl Places ===

impl<'t> Places<'t> {
    pub(super) fn new(text: &'t str) -> Option<Self> {
        let document = Document::new(text).ok()?;
        let first = text.split_inclusive('\n').next().unwrap_or_default();
        let line_end = if first.ends_with("\r\n") { "\r\n" } else { "\n" };
        Some(Self { text, document, edits: Vec::new(), line_end })
    }

    pub(super) fn into_edits(self) -> Vec<Edit> {
        self.edits
    }

    /// Takes these entries of `count` out, with the comments inside of them. Comments between entries stay. `empties` the list, as
    /// far as the file as a whole is concerned.
    pub(super) fn remove_entries(&mut self, which: &[usize], count: usize, empties: bool) -> Option<()> {
        if which.is_empty() {
            return Some(());
        }
        let list = self.list()??;
        match list.kind() {
            FeatureKind::BlockSequence => {
                which.iter().try_for_each(|index| self.remove_item(&route!("peers"), *index))?;
                if empties {
                    // A person who looks for the members is to find that there are none.
                    let after = self.after_colon(&route!("peers"))?;
                    self.edit(after, after, " []".to_owned());
                }
                Some(())
            }
            FeatureKind::FlowSequence if which.len() == count => {
                let (from, to) = list.location.byte_span;
                self.edit(from, to, "[]".to_owned());
                Some(())
            }
            FeatureKind::FlowSequence => {
                // Neighbours share commas: the spans of a run are joined by removing each with the comma before it, or, for
                // the run at the front, with the one after it.
                let kept = (0..count).find(|index| !which.contains(index))?;
                for index in which {
                    let (from, to) = self.span(&route!("peers", *index))?;
                    if *index < kept {
                        let next = self.span(&route!("peers", *index + 1))?.0;
                        self.edit(from, next, String::new());
                    } else {
                        let previous = self.span(&route!("peers", index.checked_sub(1)?))?.1;
                        self.edit(previous, to, String::new());
                    }
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Appends entries to a list of `count`.
    pub(super) fn add_entries(&mut self, entries: &[&Entry], count: usize) -> Option<()> {
        let (list, is_json) = (self.list()?, self.is_flow());
        match list.map(|list| (list.kind(), list.location.byte_span)) {
            Some((FeatureKind::BlockSequence, _)) => {
                let last = count.checked_sub(1)?;
                let (dash, end) = self.item(&route!("peers"), last)?;
                let indent = self.text.get(self.line_start(dash)..dash)?.to_owned();
                self.append_lines(end, &indent, entries)
            }
            Some((FeatureKind::FlowSequence, _)) if count > 0 => {
                let end = self.span(&route!("peers", count.checked_sub(1)?))?.1;
                self.edit(
                    end,
                    end,
                    entries.iter().map(|entry| format!(", {}", flow_entry(entry, is_json))).collect(),
                );
                Some(())
            }
            Some((FeatureKind::FlowSequence, (from, to))) if is_json => {
                let inside: Vec<String> = entries.iter().map(|entry| flow_entry(entry, is_json)).collect();
                self.edit(from, to, format!("[{}]", inside.join(", ")));
                Some(())
            }
            // `peers: []`, and `peers: ~`: a list in blocks begins below it.
            Some((FeatureKind::FlowSequence | FeatureKind::Scalar, (from, to))) => {
                let after = self.after_colon(&route!("peers"))?;
                self.text.get(after..from)?.trim().is_empty().then_some(())?;
                self.edit(after, to, String::new());
                self.append_lines(to, INDENT, entries)
            }
            None => {
                let after = self.after_colon(&route!("peers"))?;
                self.append_lines(after, INDENT, entries)
            }
            Some(_) => None,
        }
    }

    /// Makes an entry's addresses these, where they were others.
    pub(super) fn set_addresses(
        &mut self,
        index: usize,
        was: &Option<Vec<&str>>,
        addresses: &[String],
    ) -> Option<()> {
        let route = route!("peers", index, "addresses");
        let Ok(value) = self.document.query_exact(&route) else {
            return self.add_key(index, &format!("addresses: {}", flow_list(addresses)));
        };
        let Some(value) = value else {
            let after = self.after_colon(&route)?;
            self.edit(after, after, format!(" {}", flow_list(addresses)));
            return Some(());
        };
        let (from, to) = value.location.byte_span;
        match value.kind() {
            FeatureKind::BlockSequence => {
                let was = was.as_ref()?;
                let stays = |address: &str| addresses.iter().any(|wanted| wanted == address);
                let kept: Vec<usize> =
                    (0..was.len()).filter(|at| was.get(*at).is_some_and(|a| stays(a))).collect();
                let kept_first = kept.iter().map(|at| was.get(*at).copied());
                let in_order =
                    kept_first.eq(addresses.iter().take(kept.len()).map(|address| Some(address.as_str())));
                if let Some(last) = kept.last().filter(|_| in_order) {
                    let (dash, end) = self.item(&route, *last)?;
                    let indent = self.text.get(self.line_start(dash)..dash)?.to_owned();
                    self.append_items(end, &indent, addresses.get(kept.len()..)?);
                    (0..was.len())
                        .filter(|at| !kept.contains(at))
                        .try_for_each(|at| self.remove_item(&route, at))
                } else {
                    // In another order, or others: a list behind the key, and none below it.
                    let after = self.after_colon(&route)?;
                    self.edit(after, after, format!(" {}", flow_list(addresses)));
                    (0..was.len()).try_for_each(|at| self.remove_item(&route, at))
                }
            }
            FeatureKind::FlowSequence | FeatureKind::Scalar => {
                self.edit(from, to, flow_list(addresses));
                Some(())
            }
            FeatureKind::BlockMapping | FeatureKind::FlowMapping => None,
        }
    }

    /// Makes this an entry's name.
    pub(super) fn set_name(&mut self, index: usize, name: &str) -> Option<()> {
        let route = route!("peers", index, "name");
        match self.document.query_exact(&route) {
            Err(_) => self.add_key(index, &format!("name: {}", quoted(name))),
            Ok(None) => {
                let after = self.after_colon(&route)?;
                self.edit(after, after, format!(" {}", quoted(name)));
                Some(())
            }
            Ok(Some(value)) => {
                let (from, to) = value.location.byte_span;
                self.edit(from, to, quoted(name));
                Some(())
            }
        }
    }

    /// Writes another key into an entry, after its public key.
    fn add_key(&mut self, index: usize, line: &str) -> Option<()> {
        let entry = self.document.query_exact(&route!("peers", index)).ok()??;
        let (_, key_end) = self.span(&route!("peers", index, "public_key"))?;
        if entry.kind() == FeatureKind::FlowMapping {
            self.edit(key_end, key_end, format!(", {line}"));
            return Some(());
        }
        let begin = entry.location.byte_span.0;
        // The width of what stands before the first key: blanks and a dash, one column each.
        let width = self.text.get(self.line_start(begin)..begin)?.chars().count();
        let end = self.line_content_end(key_end);
        self.edit(end, end, format!("{}{}{line}", self.line_end, " ".repeat(width)));
        Some(())
    }

    fn append_lines(&mut self, after: usize, indent: &str, entries: &[&Entry]) -> Option<()> {
        let mut lines = String::new();
        for entry in entries {
            let mut line = |text: String| {
                lines.push_str(self.line_end);
                lines.push_str(indent);
                lines.push_str(&text);
            };
            line(format!("- public_key: {}", quoted(&entry.key.to_string())));
            if let Some(name) = &entry.name {
                line(format!("  name: {}", quoted(name)));
            }
            line(format!("  addresses: {}", flow_list(entry.addresses())));
        }
        let end = self.line_content_end(after);
        if self.next_line(after) == end {
            // The file ended without a line end; it ends with one now.
            lines.push_str(self.line_end);
        }
        self.edit(end, end, lines);
        Some(())
    }

    fn append_items(&mut self, after: usize, indent: &str, addresses: &[String]) {
        let end = self.line_content_end(after);
        let lines = addresses.iter().map(|address| format!("{}{indent}- {}", self.line_end, quoted(address)));
        let with: String = lines.collect();
        if !with.is_empty() {
            self.edit(end, end, with);
        }
    }

    /// Takes the lines of an item of a list in blocks out.
    fn remove_item(&mut self, list: &Route<'_>, index: usize) -> Option<()> {
        let (dash, end) = self.item(list, index)?;
        self.edit(self.line_start(dash), self.next_line(end), String::new());
        Some(())
    }

    fn edit(&mut self, from: usize, to: usize, with: String) {
        self.edits.push(Edit { from, to, with });
    }

    /// The value of `peers`; the inner `None` where nothing is written.
    fn list(&self) -> Option<Option<Feature<'_>>> {
        self.document.query_exact(&route!("peers")).ok()
    }

    /// From the dash of an item of a list in blocks to the end of its last word.
    fn item(&self, list: &Route<'_>, index: usize) -> Option<(usize, usize)> {
        let (from, to) = self.span(&list.with_key(index))?;
        let dash = self.text.get(..from)?.trim_end().strip_suffix('-')?.len();
        self.text.get(self.line_start(dash)..dash)?.trim().is_empty().then_some((dash, to))
    }

    /// Where a value is written, without the blanks and comments after it.
    fn span(&self, route: &Route<'_>) -> Option<(usize, usize)> {
        let (from, to) = self.document.query_exact(route).ok()??.location.byte_span;
        Some((from, self.trimmed(from, to)?))
    }

    /// The end of the last word between two places: the tree counts comments that follow a value to it.
    fn trimmed(&self, from: usize, to: usize) -> Option<usize> {
        let mut end = from + self.text.get(from..to)?.trim_end().len();
        loop {
            let start = self.line_start(end);
            let blank = self.text.get(start..end)?;
            let word = start + blank.len() - blank.trim_start().len();
            if start <= from
                || !blank.trim_start().starts_with('#')
                || !self.document.offset_inside_comment(word)
            {
                return Some(end);
            }
            end = from + self.text.get(from..start)?.trim_end().len();
        }
    }

    /// After the colon of a key.
    fn after_colon(&self, route: &Route<'_>) -> Option<usize> {
        let key = self.document.query_key_only(route).ok()?.location.byte_span.1;
        Some(key + self.text.get(key..)?.find(':')? + 1)
    }

    /// Whether the whole file is in braces.
    fn is_flow(&self) -> bool {
        self.document.top_feature().is_ok_and(|top| {
            let (from, _) = top.location.byte_span;
            self.text.get(from..).is_some_and(|text| text.starts_with('{'))
        })
    }

    fn line_start(&self, at: usize) -> usize {
        self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
    }

    /// The end of the line, before its line end.
    fn line_content_end(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        at + line.strip_suffix('\r').unwrap_or(line).len()
    }

    fn next_line(&self, at: usize) -> usize {
        let rest = self.text.get(at..).unwrap_or_default();
        at + rest.find('\n').map_or(rest.len(), |newline| newline + 1)
    }
}

/// The text with every edit made; `None` if two of them are about the same bytes.
pub(super) fn applied(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|edit| (edit.from, edit.to));
    let mut next = String::with_capacity(text.len() + 256);
    let mut at = 0;
    for edit in &edits {
        next.push_str(text.get(at..edit.from)?);
        next.push_str(&edit.with);
        at = edit.to;
    }
    next.push_str(text.get(at..)?);
    Some(next)
}

/// In double quotes, which hold whatever a text has in it (JSON's escapes are YAML's).
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn flow_list(addresses: &[String]) -> String {
    let quoted: Vec<String> = addresses.iter().map(|address| quoted(address)).collect();
    format!("[{}]", quoted.join(", "))
}

/// In braces; as JSON in a file that is in braces as a whole.
fn flow_entry(entry: &Entry, is_json: bool) -> String {
    let word = |word: &str| if is_json { quoted(word) } else { word.to_owned() };
    let name = entry.name.as_ref().map(|name| format!(", {}: {}", word("name"), quoted(name)));
    let (key, list) = (quoted(&entry.key.to_string()), flow_list(entry.addresses()));
    let name = name.unwrap_or_default();
    format!("{{{}: {key}{name}, {}: {list}}}", word("public_key"), word("addresses"))
}
