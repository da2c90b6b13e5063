//! The places of many values in one pass over the text.
//!
//! The parser of the tree tells no places, and a parser that keeps a tree with places takes a hundred times the memory of the text.
//! This one keeps none: it gives event after event, each with its place, and the pass ends as soon as everything is found.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::path::Segment;

/// Line and column, from 1, in characters.
pub(super) type Place = (usize, usize);

/// What is looked for in one text, and what of it was found.
#[derive(Debug)]
pub(super) struct Trace {
    /// The first is the document itself.
    spots: Vec<Spot>,
    /// Spots that were not come to yet, and may still be.
    open: usize,
}

/// The place of one key or item.
#[derive(Debug, Default)]
struct Spot {
    keys: BTreeMap<Box<str>, usize>,
    items: BTreeMap<usize, usize>,
    key: Option<Place>,
    value: Option<Place>,
    is_settled: bool,
}

/// A mapping or list that is open.
enum Frame {
    /// One where nothing is looked for, and how many are open in it.
    Ignored(usize),
    /// A list, and the index of the next item.
    List(usize, usize),
    /// A mapping that waits for a key.
    Map(usize),
    /// A mapping that waits for a value: of what is looked for, or of anything else.
    Entry(usize, Option<usize>),
}

// === impl Trace ===

impl Trace {
    /// Nothing is looked for.
    pub(super) fn new() -> Self {
        Self { spots: vec![Spot::default()], open: 1 }
    }

    /// Looks for what stands at the end of this route, and for everything on the way.
    pub(super) fn want(&mut self, route: &[Segment]) {
        let mut at = 0;
        for segment in route {
            let next = self.spots.len();
            let Some(spot) = self.spots.get_mut(at) else { return };
            at = match segment {
                Segment::Key(key) => *spot.keys.entry(key.as_str().into()).or_insert(next),
                Segment::Item(index) => *spot.items.entry(*index).or_insert(next),
            };
            if at == next {
                self.spots.push(Spot::default());
                self.open += 1;
            }
        }
    }

    /// Goes through the text. What stands behind a fault of it is not found.
    pub(super) fn run(&mut self, text: &str) {
        let mut frames = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { return };
            self.step(&mut frames, &event, span);
            if self.open == 0 || reload::abandon::is_asked() {
                return;
            }
        }
    }

    /// The place of the key at the end of the route.
    pub(super) fn key(&self, route: &[Segment]) -> Option<Place> {
        self.spot(route)?.key
    }

    /// The place of the value at the end of the route, if one is written there, in one line with its indicator.
    pub(super) fn value(&self, route: &[Segment]) -> Option<Place> {
        self.spot(route)?.value
    }

    fn spot(&self, route: &[Segment]) -> Option<&Spot> {
        route.iter().try_fold(self.spots.first()?, |spot, segment| {
            let next = match segment {
                Segment::Key(key) => spot.keys.get(key.as_str()),
                Segment::Item(index) => spot.items.get(index),
            };
            self.spots.get(*next?)
        })
    }

    fn step(&mut self, frames: &mut Vec<Frame>, event: &Event<'_>, span: Span) {
        let place = (span.start.line(), span.start.col() + 1);
        match event {
            Event::Scalar(text, style, ..) => {
                let is_told = match style {
                    // The place would be that of the text below the indicator, and one of nothing that of the next token.
                    ScalarStyle::Literal | ScalarStyle::Folded => false,
                    ScalarStyle::Plain => span.start.index() < span.end.index(),
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => true,
                };
                self.leaf(frames, Some(text), place, is_told);
            }
            Event::Alias(_) => self.leaf(frames, None, place, true),
            Event::SequenceStart(..) => self.begin(frames, place, |at| Frame::List(at, 0)),
            Event::MappingStart(..) => self.begin(frames, place, Frame::Map),
            Event::SequenceEnd | Event::MappingEnd => self.end(frames),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
    }

    /// A key or a value without anything in it.
    fn leaf(&mut self, frames: &mut Vec<Frame>, text: Option<&str>, place: Place, is_told: bool) {
        if let Some(Frame::Map(map)) = frames.last() {
            let map = *map;
            let wanted = text.and_then(|key| self.spots.get(map)?.keys.get(key).copied());
            // The first of several counts.
            let first = wanted.filter(|at| self.spots.get(*at).is_some_and(|spot| spot.key.is_none()));
            if let Some(spot) = first.and_then(|at| self.spots.get_mut(at)) {
                spot.key = Some(place);
            }
            frames.pop();
            frames.push(Frame::Entry(map, first));
            return;
        }
        if let Some(at) = self.value_in(frames) {
            if let Some(spot) = self.spots.get_mut(at).filter(|_| is_told) {
                spot.value = Some(place);
            }
            self.settle(at);
        }
    }

    fn begin(&mut self, frames: &mut Vec<Frame>, place: Place, frame: impl Fn(usize) -> Frame) {
        if let Some(Frame::Ignored(open)) = frames.last_mut() {
            *open += 1;
            return;
        }
        if let Some(Frame::Map(map)) = frames.last() {
            // A key that is no text: the parser of the tree refuses it.
            let map = *map;
            frames.pop();
            frames.push(Frame::Entry(map, None));
            frames.push(Frame::Ignored(0));
            return;
        }
        let Some(at) = self.value_in(frames) else { return frames.push(Frame::Ignored(0)) };
        let Some(spot) = self.spots.get_mut(at) else { return };
        spot.value = Some(place);
        if !std::mem::replace(&mut spot.is_settled, true) {
            self.open -= 1;
        }
        let is_whole = spot.keys.is_empty() && spot.items.is_empty();
        frames.push(if is_whole { Frame::Ignored(0) } else { frame(at) });
    }

    fn end(&mut self, frames: &mut Vec<Frame>) {
        match frames.last_mut() {
            Some(Frame::Ignored(open)) if *open > 0 => *open -= 1,
            Some(Frame::Ignored(_)) | None => {
                frames.pop();
            }
            Some(Frame::List(at, _) | Frame::Map(at) | Frame::Entry(at, _)) => {
                let at = *at;
                frames.pop();
                self.settle(at);
            }
        }
    }

    /// Where the value that comes now stands, if it is looked for; the frame around it goes on to the next.
    fn value_in(&self, frames: &mut [Frame]) -> Option<usize> {
        match frames.last_mut() {
            None => Some(0),
            Some(Frame::Ignored(_)) => None,
            Some(Frame::List(list, index)) => {
                let at = self.spots.get(*list)?.items.get(index).copied();
                *index += 1;
                at
            }
            Some(frame) => {
                let Frame::Entry(map, at) = *frame else { return None };
                *frame = Frame::Map(map);
                at
            }
        }
    }

    /// This spot is passed, with all below it: what was not found there is nowhere.
    fn settle(&mut self, at: usize) {
        let mut passed = vec![at];
        while let Some(spot) = passed.pop().and_then(|at| self.spots.get_mut(at)) {
            passed.extend(spot.keys.values().chain(spot.items.values()));
            if !std::mem::replace(&mut spot.is_settled, true) {
                self.open -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::segments;
    use super::*;

    #[test]
    fn keys_and_values_are_found_in_one_pass() {
        let text = "\u{e9}: {\"\\x61\": 1, b: [x, {c: y}]}\nlist:\n-\n- 1\n- - a\n  - b\nnone:\nalias: &a {k: v}\nsame: *a\n\
                    twice: 1\ntwice: {k: 2}\nmore: [[1, [2]], {x: [3]}, 4]\ntext: |\n  a\n  b\nlast: z\n";
        let expected = [
            ("[\"é\"]", Some((1, 1)), Some((1, 4))),
            ("[\"é\"].a", Some((1, 5)), Some((1, 13))),
            ("[\"é\"].b[1].c", Some((1, 24)), Some((1, 27))),
            ("list[1]", None, Some((4, 3))),
            ("list[2][1]", None, Some((6, 5))),
            ("list[9]", None, None),
            ("none", Some((7, 1)), None),
            ("none.a", None, None),
            ("same", Some((9, 1)), Some((9, 7))),
            ("same.k", None, None),
            ("twice", Some((10, 1)), Some((10, 8))),
            ("twice.k", None, None),
            ("more[2]", None, Some((12, 28))),
            ("more[1].x[0]", None, Some((12, 23))),
            ("text", Some((13, 1)), None),
            ("last", Some((16, 1)), Some((16, 7))),
        ];
        let mut trace = Trace::new();
        expected.iter().for_each(|(path, ..)| trace.want(&segments(path)));
        trace.run(text);
        for (path, key, value) in expected {
            assert_eq!((trace.key(&segments(path)), trace.value(&segments(path))), (key, value), "{path}");
        }
        assert_eq!(trace.open, 0, "the end of the document settles everything");
    }

    #[test]
    fn the_pass_ends_with_the_last_of_what_is_looked_for() {
        let mut trace = Trace::new();
        trace.want(&segments("a[1].b"));
        let mut frames = Vec::new();
        let mut steps = 0;
        for event in Parser::new_from_str("a:\n- 1\n- {c: 2}\n- 3\n- 4\n- 5\nd: 6\n") {
            let (event, span) = event.unwrap();
            trace.step(&mut frames, &event, span);
            steps += 1;
            if trace.open == 0 {
                break;
            }
        }
        assert_eq!(steps, 10, "the mapping that could hold it is over");
        assert_eq!((trace.value(&segments("a[1]")), trace.value(&segments("a[1].b"))), (Some((3, 3)), None));
    }
}
