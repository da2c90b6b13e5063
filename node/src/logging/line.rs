//! An event as one line: JSON or text.
//!
//! Values come from remote peers too. Whatever they hold, a line stays one line, its fields stay apart, a terminal is not
//! steered by it, and it has a bounded length.

use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use humantime::format_rfc3339_millis;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::config::logging::LogFormat;

/// The longest value, in bytes; the number of fields is bounded by the code that wrote the event.
const MAX_VALUE: usize = 16 << 10;

/// What stands where a value was cut.
const CUT: &str = "…[cut]";

/// Keys of a JSON line that no field of an event may take.
const RESERVED: [&str; 4] = ["timestamp", "level", "target", "message"];

/// A line with its newline. Kept between events for its buffers.
#[derive(Debug, Default)]
pub(super) struct Line {
    text: String,
    /// Where the level's name stands in `text`.
    level: Range<usize>,
    message: String,
    fields: String,
    scratch: String,
}

// === impl Line ===

impl Line {
    /// Renders an event; what the line held before is forgotten.
    pub(super) fn render(&mut self, format: LogFormat, time: SystemTime, event: &Event<'_>) {
        self.message.clear();
        self.fields.clear();
        event.record(&mut Fields { format, line: self });
        self.assemble(format, time, *event.metadata().level(), event.metadata().target());
    }

    /// Renders a warning of the logging itself, which cannot be an event.
    pub(super) fn notice(
        &mut self,
        format: LogFormat,
        time: SystemTime,
        message: &str,
        fields: &[(&str, &str)],
    ) {
        self.message.clear();
        self.fields.clear();
        self.message.push_str(message);
        let mut visitor = Fields { format, line: self };
        for (name, value) in fields {
            visitor.string(name, |scratch| scratch.write_str(value));
        }
        self.assemble(format, time, Level::WARN, "fednode::logging");
    }

    /// The line.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// What an event says, without when it said so.
    pub(super) fn body(&self) -> (&str, &str) {
        (&self.message, &self.fields)
    }

    /// The line with its level in colour.
    pub(super) fn coloured(&self) -> String {
        let (before, rest) = self.text.split_at(self.level.start);
        let (level, after) = rest.split_at(self.level.len());
        let colour = match level.trim_start() {
            "ERROR" => 31,
            "WARN" => 33,
            "INFO" => 32,
            _ => 34,
        };
        format!("{before}\x1b[{colour}m{level}\x1b[0m{after}")
    }

    fn assemble(&mut self, format: LogFormat, time: SystemTime, level: Level, target: &str) {
        let text = &mut self.text;
        text.clear();
        match format {
            LogFormat::Json => {
                text.push_str("{\"timestamp\":\"");
                let _ = write!(text, "{}", format_rfc3339_millis(time.max(UNIX_EPOCH)));
                text.push_str("\",\"level\":\"");
                text.push_str(level.as_str());
                text.push_str("\",\"target\":");
                push_json(text, target);
                text.push_str(",\"message\":");
                push_json(text, &self.message);
                text.push_str(&self.fields);
                text.push_str("}\n");
            }
            LogFormat::Text => {
                let _ = write!(text, "{}", format_rfc3339_millis(time.max(UNIX_EPOCH)));
                text.push(' ');
                let start = text.len();
                // Writing to a string cannot fail.
                let _ = write!(text, "{:>5}", level.as_str());
                self.level = start..text.len();
                text.push(' ');
                push_escaped(text, target, false);
                text.push_str(": ");
                push_escaped(text, &self.message, false);
                text.push_str(&self.fields);
                text.push('\n');
            }
        }
    }
}

/// Takes the fields of an event into a line's buffers.
struct Fields<'a> {
    format: LogFormat,
    line: &'a mut Line,
}

// === impl Fields ===

impl Fields<'_> {
    /// A value that is a token of JSON as it prints.
    fn token(&mut self, name: &str, value: impl fmt::Display) {
        self.key(name);
        // Writing to a string cannot fail.
        let _ = write!(self.line.fields, "{value}");
    }

    /// A value that is text, bounded while it is written.
    fn string(&mut self, name: &str, write: impl FnOnce(&mut Bounded<'_>) -> fmt::Result) {
        let Line { scratch, message, .. } = &mut *self.line;
        let is_message = name == "message";
        let buffer = if is_message { message } else { scratch };
        buffer.clear();
        // An error is the bound, or a `Debug` that gives up: what was written until then stands.
        let _ = write(&mut Bounded { text: buffer });
        if is_message {
            return;
        }
        self.key(name);
        let Line { fields, scratch, .. } = &mut *self.line;
        match self.format {
            LogFormat::Json => push_json(fields, scratch),
            LogFormat::Text => {
                // Quoted wherever a reader could take it for more than one field.
                if scratch.is_empty() || scratch.contains([' ', '=', '"']) {
                    fields.push('"');
                    push_escaped(fields, scratch, true);
                    fields.push('"');
                } else {
                    push_escaped(fields, scratch, false);
                }
            }
        }
    }

    fn key(&mut self, name: &str) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        let fields = &mut self.line.fields;
        match self.format {
            LogFormat::Json => {
                fields.push_str(",\"");
                if RESERVED.contains(&name) {
                    fields.push_str("field_");
                }
                // Names come from the code, but not all of them are identifiers.
                push_escaped_json(fields, name);
                fields.push_str("\":");
            }
            LogFormat::Text => {
                fields.push(' ');
                push_escaped(fields, name, false);
                fields.push('=');
            }
        }
    }
}

impl Visit for Fields<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.token(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.token(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.token(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.token(field.name(), value);
        } else {
            // JSON has no NaN.
            self.string(field.name(), |out| write!(out, "{value}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.string(field.name(), |out| out.write_str(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.string(field.name(), |out| {
            write!(out, "{value}")?;
            let mut cause = value.source();
            while let Some(error) = cause {
                let mut text = String::new();
                // Cut at the bound, like a value.
                let _ = write!(Bounded { text: &mut text }, "{error}");
                // Many an error tells its cause itself.
                if !out.text.contains(&text) {
                    write!(out, ": {text}")?;
                }
                cause = error.source();
            }
            Ok(())
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.string(field.name(), |out| write!(out, "{value:?}"));
    }
}

/// A string of at most [`MAX_VALUE`] bytes and the mark of the cut; refuses all beyond, so that a formatter stops.
struct Bounded<'a> {
    text: &'a mut String,
}

// === impl Bounded ===

impl Write for Bounded<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = MAX_VALUE.saturating_sub(self.text.len());
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        if self.text.len() <= MAX_VALUE {
            self.text.push_str(more.get(..more.floor_char_boundary(room)).unwrap_or_default());
            self.text.push_str(CUT);
        }
        Err(fmt::Error)
    }
}

/// What a terminal or a log viewer would act on: control characters, line separators, and the marks that turn the
/// direction of text ("Trojan Source", CVE-2021-42574).
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn push_escaped(out: &mut String, text: &str, in_quotes: bool) {
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' if in_quotes => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            character if is_unsafe(character) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            character => out.push(character),
        }
    }
}

fn push_json(out: &mut String, text: &str) {
    out.push('"');
    push_escaped_json(out, text);
    out.push('"');
}

fn push_escaped_json(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // All of them are in the basic plane: four digits.
            character if is_unsafe(character) => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
}
