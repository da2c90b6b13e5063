//! A value that cannot be printed (R20).

use std::fmt;

use serde::{Serialize, Serializer};

/// What stands in place of a secret wherever something is printed.
pub const REDACTED: &str = "[redacted]";

/// Holds a secret: it compares, and it prints as [`REDACTED`] whatever the format. Whoever needs the value says so by
/// calling [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a secret.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself: only for the code that uses it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}
