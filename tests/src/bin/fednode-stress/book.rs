//! What a node's audit log has told, line by line, judged as it comes.

use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;

use crate::finding::Rule;
use crate::world::locked;

/// What of a line is kept.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// When it was seen.
    pub(crate) at: u64,
    pub(crate) life: u32,
    pub(crate) id: String,
    pub(crate) outcome: String,
    pub(crate) trigger: String,
    pub(crate) generation: u64,
    pub(crate) duration_ms: f64,
    pub(crate) closed: u64,
    pub(crate) error: Option<String>,
}

/// Which endings are expected of what was just done, besides the good ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) rejected: bool,
    pub(crate) rolled_back: bool,
    pub(crate) failed: bool,
    /// A generation may have to wait for the disk.
    pub(crate) not_durable: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<Line>,
    ids: HashSet<String>,
    /// Connections that a plan named, with the life that they were of.
    named: BTreeSet<(u32, String)>,
    allowed: Allowed,
    last: Last,
    /// How often the log was read to its end.
    rounds: u64,
}

/// What the last line has left.
#[derive(Debug, Default)]
struct Last {
    generation: u64,
    life: u32,
    /// Components may be told more than changed: one of them may not run what it should.
    is_unsettled: bool,
    /// The last one is not on the disk yet: a kill may take it back.
    is_loose: bool,
}

/// What is wrong with a line.
type Wrongs = Vec<(Rule, String)>;

// === impl Book ===

impl Book {
    /// Takes a line, and says what is wrong with it. One that it has is passed over.
    pub(crate) fn take(&self, at: u64, life: u32, limit_ms: f64, text: &Value) -> Wrongs {
        let mut inner = locked(&self.inner);
        let wrongs = inner.take(at, life, limit_ms, text);
        drop(inner);
        self.changed.notify_waiters();
        wrongs
    }

    /// The log was read to its end.
    pub(crate) fn is_read(&self) {
        locked(&self.inner).rounds += 1;
        self.changed.notify_waiters();
    }

    pub(crate) fn allow(&self, allowed: Allowed) {
        locked(&self.inner).allowed = allowed;
    }

    pub(crate) fn len(&self) -> usize {
        locked(&self.inner).lines.len()
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        locked(&self.inner).lines.clone()
    }

    pub(crate) fn generation(&self) -> u64 {
        locked(&self.inner).last.generation
    }

    /// Whether a plan named this connection.
    pub(crate) fn has_named(&self, life: u32, id: &str) -> bool {
        locked(&self.inner).named.contains(&(life, id.to_owned()))
    }

    /// The first line from this number on that is looked for, when it is there.
    pub(crate) async fn line(
        &self,
        from: usize,
        within: Duration,
        is_it: impl Fn(&Line) -> bool,
    ) -> Option<Line> {
        let look = || locked(&self.inner).lines.iter().skip(from).find(|line| is_it(line)).cloned();
        self.wait(within, look).await
    }

    /// Waits until all that stands in the log now was taken.
    pub(crate) async fn is_up_to_date(&self, within: Duration) -> bool {
        let now = locked(&self.inner).rounds;
        // The round that is under way may have passed the end already.
        self.wait(within, || (locked(&self.inner).rounds > now + 1).then_some(())).await.is_some()
    }

    async fn wait<T>(&self, within: Duration, look: impl Fn() -> Option<T>) -> Option<T> {
        let found = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look() {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(within, found).await.ok()
    }
}

// === impl Inner ===

impl Inner {
    fn take(&mut self, at: u64, life: u32, limit_ms: f64, text: &Value) -> Wrongs {
        let word = |key: &str| text[key].as_str().unwrap_or_default().to_owned();
        let mut wrongs = Vec::new();
        let line = Line {
            at,
            life,
            id: word("id"),
            outcome: word("outcome"),
            trigger: word("trigger"),
            generation: text["config_generation"].as_u64().unwrap_or_default(),
            duration_ms: text["duration_ms"].as_f64().unwrap_or(f64::NAN),
            closed: text["connections"]["closed_by_reload"].as_u64().unwrap_or_default(),
            error: text["error"].as_str().map(str::to_owned),
        };
        if !self.ids.insert(line.id.clone()) {
            return wrongs;
        }
        for closing in text["connections"]["would_close"].as_array().into_iter().flatten() {
            self.named.insert((life, closing["id"].as_str().unwrap_or_default().to_owned()));
        }
        let short = format!(
            "{} by {}: {} -> {} ({}) {}",
            line.outcome,
            line.trigger,
            text["from_generation"],
            line.generation,
            line.id,
            line.error.as_deref().unwrap_or_default()
        );
        self.count(&line, &short, &mut wrongs);
        self.ending(&line, text, &short, &mut wrongs);
        if line.duration_ms.is_nan() || line.duration_ms > limit_ms {
            let text = format!("{:.1} ms, and the limit is {limit_ms} ms: {short}", line.duration_ms);
            wrongs.push((Rule::Budget, text));
        }
        if !self.last.is_unsettled && life == self.last.life {
            told(text, &short, &mut wrongs);
        }
        let is_good = ["committed", "unchanged"].contains(&line.outcome.as_str());
        self.last = Last {
            generation: line.generation,
            life,
            is_unsettled: !is_good,
            is_loose: text["durable"] == false,
        };
        self.lines.push(line);
        wrongs
    }

    /// Invariant 1.
    fn count(&self, line: &Line, short: &str, wrongs: &mut Wrongs) {
        let (last, from_start) = (self.last.generation, line.trigger == "startup");
        let next = match line.outcome.as_str() {
            // A start with what ran keeps its number.
            "committed" if from_start && line.generation == last => last,
            // What was not on the disk may be gone, with its number.
            "committed" if from_start && self.last.is_loose && line.generation + 1 == last => last - 1,
            "committed" => last + 1,
            _ => last,
        };
        if line.generation != next {
            wrongs.push((Rule::Generations, format!("expected generation {next} after {last}: {short}")));
        }
    }

    /// It ends well, unless it was made to end otherwise.
    fn ending(&self, line: &Line, text: &Value, short: &str, wrongs: &mut Wrongs) {
        let is_fine = match line.outcome.as_str() {
            "committed" | "unchanged" => true,
            "rejected" => self.allowed.rejected,
            "rolled_back" => self.allowed.rolled_back,
            "failed" => self.allowed.failed,
            _ => false,
        };
        if !is_fine {
            wrongs.push((Rule::Outcomes, format!("nothing was done to make it end so: {short}")));
        }
        if text["durable"] == false && !self.allowed.not_durable {
            wrongs.push((Rule::Outcomes, format!("not durable, and the disk has room: {short}")));
        }
    }
}

/// Invariant 3: who was told had something to be told.
fn told(text: &Value, short: &str, wrongs: &mut Wrongs) {
    let changes = text["changes"].as_array().into_iter().flatten();
    let changed: BTreeSet<&str> = changes
        .flat_map(|change| change["components"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    for component in text["components"].as_array().into_iter().flatten() {
        let name = component["name"].as_str().unwrap_or_default();
        if !changed.contains(name) {
            wrongs.push((Rule::Untouched, format!("{name} was told, and {changed:?} changed: {short}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(id: &str, outcome: &str, trigger: &str, generation: u64) -> Value {
        json!({"id": id, "outcome": outcome, "trigger": trigger, "config_generation": generation,
               "duration_ms": 3.0, "durable": true})
    }

    fn rules(book: &Book, life: u32, line: &Value) -> Vec<Rule> {
        book.take(0, life, 100.0, line).into_iter().map(|(rule, _)| rule).collect()
    }

    #[test]
    fn a_history_without_gaps_is_fine_and_one_with_a_gap_is_not() {
        let book = Book::default();
        for (id, outcome, trigger, generation) in [
            ("a", "committed", "startup", 1),
            ("b", "committed", "signal", 2),
            ("c", "unchanged", "api", 2),
            ("d", "committed", "startup", 2),
            ("e", "committed", "startup", 3),
        ] {
            assert_eq!(rules(&book, 1, &line(id, outcome, trigger, generation)), []);
        }
        assert_eq!(rules(&book, 1, &line("e", "committed", "signal", 9)), [], "it is known");
        assert_eq!(rules(&book, 1, &line("f", "committed", "signal", 5)), [Rule::Generations]);
        assert_eq!(rules(&book, 1, &line("g", "unchanged", "signal", 6)), [Rule::Generations]);
    }

    #[test]
    fn what_is_late_or_ends_badly_without_a_reason_is_found() {
        let book = Book::default();
        assert_eq!(rules(&book, 1, &line("a", "rejected", "signal", 0)), [Rule::Outcomes]);
        book.allow(Allowed { rejected: true, ..Allowed::default() });
        assert_eq!(rules(&book, 1, &line("b", "rejected", "signal", 0)), []);
        let mut late = line("c", "unchanged", "signal", 0);
        late["duration_ms"] = json!(100.1);
        assert_eq!(rules(&book, 1, &late), [Rule::Budget]);
        let mut loose = line("d", "unchanged", "signal", 0);
        loose["durable"] = json!(false);
        assert_eq!(rules(&book, 1, &loose), [Rule::Outcomes]);
    }

    #[test]
    fn a_component_that_did_not_change_is_not_told() {
        let book = Book::default();
        assert_eq!(rules(&book, 1, &line("a", "committed", "startup", 1)), []);
        let mut told = line("b", "committed", "signal", 2);
        told["changes"] = json!([{"path": "logging.level", "components": ["logging"]}]);
        told["components"] = json!([{"name": "logging"}, {"name": "network"}]);
        assert_eq!(rules(&book, 1, &told), [Rule::Untouched]);
    }

    #[test]
    fn what_a_plan_named_is_remembered_with_its_life() {
        let book = Book::default();
        let mut closes = line("a", "committed", "signal", 1);
        closes["connections"] = json!({"would_close": [{"id": "17"}], "closed_by_reload": 1});
        book.take(0, 2, 100.0, &closes);
        assert!(book.has_named(2, "17") && !book.has_named(1, "17") && !book.has_named(2, "18"));
    }
}
