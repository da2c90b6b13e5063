//! A reading that hangs: what becomes of its reload, and of those behind it; the real coordinator under a paused clock.

mod rig;

use reload::Class;
use reload::outcome::Kind;
use rig::{Rig, on};

#[test]
fn a_reading_that_hangs_is_given_up_and_the_next_one_waits_for_it() {
    on(async {
        let rig = Rig::start();
        let validating = async || {
            while rig.board().state != reload::machine::State::Validating {
                tokio::task::yield_now().await;
            }
        };
        let release = rig.reading_hangs();
        rig.edit(|c| c.store = 2);
        let hanging = rig.ask();
        validating().await;
        // A clock that stands still does not run by itself while a thread is busy.
        tokio::time::advance(rig::BUDGET / 2).await;
        let outcome = hanging.await.unwrap().unwrap();
        assert_eq!(outcome.outcome, Kind::Rejected);
        assert_eq!(outcome.errors[0].class, Class::System);
        assert!(rig.told().is_empty());
        assert!(outcome.errors[0].message.contains("was not read and judged within"), "{outcome:?}");
        // Its thread is still there: the next one waits for it, reads nothing, and says why.
        for _ in 0..3 {
            let waiting = rig.ask();
            validating().await;
            tokio::time::advance(rig::BUDGET / 2).await;
            let outcome = waiting.await.unwrap().unwrap();
            assert_eq!((outcome.outcome, outcome.errors[0].class), (Kind::Rejected, Class::System));
            assert!(outcome.errors[0].message.contains("the reading of an earlier reload"), "{outcome:?}");
        }
        // One that waits when the disk answers has its turn.
        let next = rig.ask();
        validating().await;
        drop(release);
        assert_eq!(next.await.unwrap().unwrap().outcome, Kind::Committed);
        rig.edit(|c| c.store = 3);
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
        assert_eq!(rig.running(), [1, 3, 1]);
    });
}
