//! What the black-box tests share: real node processes in folders of their own, on ports that nobody else takes, which are
//! gone when the test is over, however it ends.

pub mod port;
pub mod process;
pub mod traffic;
pub mod wait;

pub use port::Port;
pub use process::{Keys, Node, Spec};
pub use traffic::Traffic;
pub use wait::eventually;
