//! Numbers that name things: a committed configuration, and one attempt to change it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a committed configuration. Starts at 1, without gaps (contract: "Generations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u64);

impl Generation {
    /// The generation of a first start in an empty data folder.
    pub const FIRST: Self = Self(1);

    /// The generation with this number; `None` for 0, which no generation has.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::str::FromStr for Generation {
    type Err = NoGeneration;

    fn from_str(text: &str) -> Result<Self, NoGeneration> {
        text.parse().ok().and_then(Self::new).ok_or(NoGeneration)
    }
}

/// A text that is not the number of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("generations are numbered from 1")]
pub struct NoGeneration;

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One attempt to change the configuration. Never used twice in the life of a process, unlike a generation's number,
/// which is tried again after a rollback: this is why steps are fenced by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction(u64);

impl Transaction {
    /// Before the first transaction; never run itself.
    pub const NONE: Self = Self(0);

    /// The transaction after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
