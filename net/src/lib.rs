//! The network actor and the protocol actor of a federation node.

pub mod identity;
pub mod section;

pub use identity::{Identity, IdentityError, ReadIdentity};
pub use section::{
    ConnectedService, ExposedService, Limits, Membership, NetworkSection, ProtocolSection, RateLimit,
};
