//! What the black-box tests share: real node processes in folders of their own, on ports that nobody else takes, which are
//! gone when the test is over, however it ends.

pub mod arms;
pub mod author;
pub mod broadcast;
pub mod gauge;
pub mod ground;
pub mod hum;
pub mod intruder;
pub mod port;
pub mod process;
pub mod scene;
pub mod screenshot;
pub mod stage;
pub mod stranger;
pub mod terminal;
pub mod traffic;
pub mod wait;
pub mod web;

pub use arms::Arms;
pub use author::Author;
pub use broadcast::{Flood, Restless};
pub use gauge::Gauge;
pub use ground::Ground;
pub use hum::{Hum, Lines};
pub use intruder::Intruder;
pub use port::Port;
pub use process::{Keys, Node, Spec};
pub use stage::{Side, Stage};
pub use stranger::Stranger;
pub use terminal::Terminal;
pub use traffic::Traffic;
pub use wait::eventually;
