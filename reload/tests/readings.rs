//! Readings that hang: what becomes of their reloads, and of those behind them; the real coordinator under a paused clock.

mod rig;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use reload::outcome::{Kind, Outcome};
use reload::{Class, READERS};
use rig::{Asked, Rig, on};

/// What becomes of a reload, or a look, whose reading hangs or does not even begin.
async fn given_up(rig: &Rig, asked: Asked) -> Arc<Outcome> {
    rig.reached().await;
    // A clock that stands still does not run by itself while a thread is busy.
    tokio::time::advance(rig::BUDGET / 2).await;
    let outcome = asked.await.unwrap().unwrap();
    assert_eq!((outcome.outcome, outcome.errors[0].class), (Kind::Rejected, Class::System), "{outcome:?}");
    outcome
}

/// Has as many hang as there may be, and three more ask in vain. Dropped, what this returns lets them go.
async fn fill(rig: &Rig, ask: impl Fn() -> Asked) -> Vec<SyncSender<()>> {
    let mut hanging = Vec::new();
    for _ in 0..READERS {
        hanging.push(rig.reading_hangs());
        let outcome = given_up(rig, ask()).await;
        assert!(outcome.errors[0].message.contains(HANGS), "{outcome:?}");
    }
    // Their threads are still there: the next one reads nothing, and says why.
    for _ in 0..3 {
        let outcome = given_up(rig, ask()).await;
        assert!(outcome.errors[0].message.contains(HAS_NO_PLACE), "{outcome:?}");
    }
    hanging
}

const HANGS: &str = "was not read and judged within";
const HAS_NO_PLACE: &str = "readings that were begun before have not ended yet";

#[test]
fn a_reading_that_hangs_is_given_up_and_the_next_one_works() {
    on(async {
        let rig = Rig::start();
        let release = rig.reading_hangs();
        rig.edit(|c| c.store = 2);
        let outcome = given_up(&rig, rig.ask()).await;
        assert!(outcome.errors[0].message.contains(HANGS), "{outcome:?}");
        assert!(rig.told().is_empty());
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
        drop(release);
        rig.edit(|c| c.store = 3);
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
        assert_eq!(rig.running(), [1, 3, 1]);
    });
}

#[test]
fn when_as_many_readings_hang_as_there_may_be_the_next_one_waits_for_one_of_them() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        let mut hanging = fill(&rig, || rig.ask()).await;
        assert!(rig.told().is_empty());
        // One that waits when the disk answers has its turn.
        let next = rig.ask();
        rig.reached().await;
        drop(hanging.pop());
        assert_eq!(next.await.unwrap().unwrap().outcome, Kind::Committed);
        rig.edit(|c| c.store = 3);
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
        assert_eq!(rig.running(), [1, 3, 1]);
    });
}

#[test]
fn a_look_at_what_cannot_be_read_is_given_up_as_a_reload_is_and_holds_none_up() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        let hanging = fill(&rig, || rig.look()).await;
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
        drop(hanging);
        assert_eq!(rig.dry_run().await.outcome, Kind::Planned);
    });
}
