//! A node and a peer that somebody else's libp2p is: direct messages and topics both ways, over reloads, under both kinds of
//! membership.
//!
//! `interop NAME COMMAND…` runs every scene with the peer that the command starts; `tests/interop/run` installs the peers and
//! calls this for each. What a peer understands is in `tests/interop/README.md`.

mod exchange;
mod peer;
mod reloads;
mod scenes;
mod topics;

use std::process::ExitCode;
use std::time::Instant;

use peer::Program;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(command)) = (arguments.next(), arguments.next()) else {
        eprintln!("interop NAME COMMAND…   (see tests/interop/run)");
        return ExitCode::from(2);
    };
    let program = Program { command, arguments: arguments.collect() };
    let start = Instant::now();
    // One after the other: whoever fails says so by a panic, with the node's log.
    macro_rules! play {
        ($($scene:ident),+ $(,)?) => {$(
            println!("{name}: {}", stringify!($scene).replace('_', " "));
            scenes::$scene(&program).await;
        )+};
    }
    play! {
        it_dials_in,
        it_is_dialled,
        a_repeated_message_is_answered_and_not_delivered_again,
        members_are_admitted_and_strangers_refused,
        a_connection_breaks_and_no_message_is_lost,
        one_that_stands_still_is_noticed_and_comes_back,
        a_stranger_that_dials_in_is_on_topics_that_come_and_go,
        a_member_that_is_dialled_is_on_topics_that_come_and_go,
    }
    println!("{name}: passed in {:.1?}", start.elapsed());
    ExitCode::SUCCESS
}
