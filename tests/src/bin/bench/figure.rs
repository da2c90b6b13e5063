//! A figure beside its floor or its peer, which was measured in the same run.

use std::fmt;

use serde_json::{Value, json};

use crate::samples::round;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Never changes: what a baseline knows it by. The part before the first dot is its group.
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// What it stands beside.
    pub(crate) beside: &'static str,
    pub(crate) floor: f64,
    pub(crate) better: Better,
    /// For the ratio of both.
    pub(crate) goal: Option<Goal>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// A time, or memory.
    Less,
    /// A rate.
    More,
}

/// How a figure may be to what it stands beside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

// === impl Figure ===

impl Figure {
    /// The figure as a multiple of what it stands beside.
    pub(crate) fn ratio(&self) -> f64 {
        round(self.value / self.floor)
    }

    pub(crate) fn group(&self) -> &str {
        self.id.split('.').next().unwrap_or_default()
    }

    pub(crate) fn misses_its_goal(&self) -> bool {
        self.goal.is_some_and(|goal| !goal.is_met(self.ratio()))
    }

    pub(crate) fn report(&self) -> Value {
        json!({
            "id": self.id, "what": self.what, "unit": self.unit, "value": self.value, "beside": self.beside,
            "floor": self.floor, "ratio": self.ratio(), "goal": self.goal.map(|goal| goal.to_string()),
        })
    }
}

// === impl Better ===

impl Better {
    /// How much worse one ratio is than another: 0.1 is a tenth, less than 0 is better.
    pub(crate) fn worse_by(self, now: f64, before: f64) -> f64 {
        match self {
            Self::Less => now / before - 1.0,
            Self::More => before / now - 1.0,
        }
    }
}

// === impl Goal ===

impl Goal {
    pub(crate) fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= least,
            Self::AtMost(most) => ratio <= most,
        }
    }

    /// As it is displayed; what follows is for people.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (sign, limit) = (words.next()?, words.next()?.parse().ok()?);
        match sign {
            ">=" => Some(Self::AtLeast(limit)),
            "<=" => Some(Self::AtMost(limit)),
            _ => None,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}
