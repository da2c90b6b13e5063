//! Which component depends on which, and the order that follows (R9).

use std::collections::BTreeMap;
use std::fmt;

/// A set of components, by their index in the graph.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Set(u64);

/// A component's index in its graph.
pub type Index = usize;

/// How many components a graph may have: a [`Set`] is one word.
pub const MAX_COMPONENTS: usize = 64;

/// The declared dependencies. Built once, at start; whatever order follows from it is the same in every run, because ties
/// are broken by name.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Sorted by level, then by name: the order in which components are told.
    names: Vec<&'static str>,
    /// Components of one level depend only on levels before it.
    levels: Vec<Set>,
}

/// Why the declared dependencies are no graph to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two components of one name.
    #[error("component '{0}' is declared twice")]
    Twice(&'static str),
    /// A dependency on nothing.
    #[error("component '{0}' depends on '{1}', which is not declared")]
    Unknown(&'static str, &'static str),
    /// They wait for each other.
    #[error("components depend on each other in a circle: {}", .0.join(", "))]
    Cycle(Vec<&'static str>),
    /// More than a [`Set`] holds.
    #[error("{0} components are declared; {MAX_COMPONENTS} is the most")]
    TooMany(usize),
}

// === impl Set ===

impl Set {
    /// No component.
    pub const EMPTY: Self = Self(0);

    /// One component.
    #[must_use]
    pub const fn of(index: Index) -> Self {
        Self(1 << index)
    }

    /// Whether it holds this component.
    #[must_use]
    pub const fn contains(self, index: Index) -> bool {
        self.0 & (1 << index) != 0
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// This and the other.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This without the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The components, lowest index first.
    pub fn iter(self) -> impl Iterator<Item = Index> {
        (0..MAX_COMPONENTS).filter(move |index| self.contains(*index))
    }
}

impl FromIterator<Index> for Set {
    fn from_iter<I: IntoIterator<Item = Index>>(iter: I) -> Self {
        iter.into_iter().fold(Self::EMPTY, |set, index| set.with(Self::of(index)))
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

// === impl Graph ===

impl Graph {
    /// Builds the graph of components and what each depends on.
    ///
    /// # Errors
    /// If a name is declared twice, a dependency is not declared, or there is a circle.
    pub fn new(declared: &[(&'static str, &[&'static str])]) -> Result<Self, GraphError> {
        if declared.len() > MAX_COMPONENTS {
            return Err(GraphError::TooMany(declared.len()));
        }
        let mut open: BTreeMap<&'static str, &[&'static str]> = BTreeMap::new();
        for (name, needs) in declared {
            if open.insert(name, needs).is_some() {
                return Err(GraphError::Twice(name));
            }
        }
        for (name, needs) in declared {
            if let Some(unknown) = needs.iter().find(|need| !open.contains_key(*need)) {
                return Err(GraphError::Unknown(name, unknown));
            }
        }
        let mut graph = Self { names: Vec::with_capacity(declared.len()), levels: Vec::new() };
        while !open.is_empty() {
            let level: Vec<&'static str> = open
                .iter()
                .filter(|(_, needs)| !needs.iter().any(|need| open.contains_key(need)))
                .map(|(name, _)| *name)
                .collect();
            if level.is_empty() {
                return Err(GraphError::Cycle(open.into_keys().collect()));
            }
            let first = graph.names.len();
            for name in level {
                open.remove(name);
                graph.names.push(name);
            }
            graph.levels.push((first..graph.names.len()).collect());
        }
        Ok(graph)
    }

    /// The names, in the order in which components are told.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// The index of a name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<Index> {
        self.names.iter().position(|n| *n == name)
    }

    /// The levels of these components, in order; levels that hold none of them are left out.
    #[must_use]
    pub fn levels(&self, of: Set) -> Vec<Set> {
        self.levels.iter().map(|level| level.both(of)).filter(|level| !level.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_dependencies_and_names_break_ties() {
        let graph = Graph::new(&[
            ("protocol", &["network"]),
            ("network", &["peer_store"]),
            ("peer_store", &["logging"]),
            ("admin", &["logging"]),
            ("logging", &[]),
        ])
        .unwrap();
        assert_eq!(graph.names(), ["logging", "admin", "peer_store", "network", "protocol"]);
        let all = (0..5).collect();
        assert_eq!(graph.levels(all), [Set::of(0), [1, 2].into_iter().collect(), Set::of(3), Set::of(4)]);
        assert_eq!(graph.levels(Set::of(0).with(Set::of(3))), [Set::of(0), Set::of(3)]);
    }

    #[test]
    fn what_is_no_graph_is_refused() {
        assert_eq!(Graph::new(&[("a", &["a"])]).unwrap_err(), GraphError::Cycle(vec!["a"]));
        assert_eq!(
            Graph::new(&[("a", &["c"]), ("b", &["a"]), ("c", &["b"]), ("d", &[])]).unwrap_err(),
            GraphError::Cycle(vec!["a", "b", "c"])
        );
        assert_eq!(Graph::new(&[("a", &["x"])]).unwrap_err(), GraphError::Unknown("a", "x"));
        assert_eq!(Graph::new(&[("a", &[]), ("a", &[])]).unwrap_err(), GraphError::Twice("a"));
    }

    #[test]
    fn the_order_does_not_depend_on_the_order_of_declaration() {
        let forward = Graph::new(&[("a", &[]), ("b", &["a"]), ("c", &["a"])]).unwrap();
        let backward = Graph::new(&[("c", &["a"]), ("b", &["a"]), ("a", &[])]).unwrap();
        assert_eq!(forward.names(), backward.names());
    }
}
