//! The way back to a generation: on demand, with the files, and by itself where nobody confirms; the real coordinator under a
//! paused clock.

mod rig;

use reload::outcome::Kind;
use reload::{Generation, Trigger};
use rig::{Fault, Rig, on};

#[test]
fn a_generation_comes_back_and_the_files_with_it() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        rig.reload().await;
        let outcome = rig.ask_for(1).await.unwrap().unwrap();
        assert_eq!(outcome.outcome, Kind::Committed);
        assert_eq!(outcome.config_generation.get(), 3);
        assert_eq!((rig.running(), rig.file().store), ([1, 1, 1], 1));
        // One that fails leaves the files alone.
        rig.inject("store", "commit", Fault::Refuse);
        assert_eq!(rig.ask_for(2).await.unwrap().unwrap().outcome, Kind::RolledBack);
        assert_eq!((rig.running(), rig.file().store), ([1, 1, 1], 1));
        // What runs already is no new generation; a file that says something else is mended all the same.
        rig.edit(|c| c.wrong = true);
        let outcome = rig.ask_for(1).await.unwrap().unwrap();
        assert_eq!((outcome.outcome, outcome.config_generation.get()), (Kind::Unchanged, 3));
        assert!(!rig.file().wrong);
    });
}

#[test]
fn different_aims_have_their_turns_one_after_the_other() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        rig.reload().await;
        rig.edit(|c| c.store = 3);
        let (running, under_way) = rig.ask_and_hold().await;
        let (back, files, back_too) = (rig.ask_for(1), rig.ask(), rig.ask_for(1));
        drop(under_way);
        let generation = async |asked: rig::Asked| {
            let outcome = asked.await.unwrap().unwrap();
            (outcome.outcome, outcome.config_generation.get())
        };
        assert_eq!(generation(running).await, (Kind::Committed, 3));
        assert_eq!(generation(back).await, (Kind::Committed, 4));
        assert_eq!(generation(back_too).await, (Kind::Committed, 4), "one transaction for both");
        assert_eq!(generation(files).await, (Kind::Unchanged, 4), "the files say what came back");
        assert_eq!(rig.running(), [1, 1, 1]);
    });
}

#[test]
fn what_nobody_confirms_goes_back_by_itself() {
    on(async {
        let rig = Rig::start();
        let minute = std::time::Duration::from_secs(60);
        rig.edit(|c| c.store = 2);
        let outcome = rig.reload_to_confirm(minute).await;
        assert_eq!(outcome.outcome, Kind::Committed);
        let awaited = rig.board().unconfirmed.unwrap();
        assert_eq!((awaited.target, rig.unconfirmed()), (Generation::FIRST, Some(awaited)));
        // Another reload meanwhile keeps deadline and target, whether it asks for a confirmation or not.
        tokio::time::sleep(minute / 2).await;
        rig.edit(|c| c.log = 2);
        assert_eq!(rig.reload_to_confirm(10 * minute).await.outcome, Kind::Committed);
        assert_eq!(rig.board().unconfirmed, Some(awaited));
        // The first way back fails; it is tried again.
        rig.inject("store", "commit", Fault::Refuse);
        tokio::time::sleep(minute / 2).await;
        while rig.board().unconfirmed.is_some() {
            tokio::time::sleep(minute / 100).await;
        }
        assert_eq!((rig.running(), rig.file().store, rig.unconfirmed()), ([1, 1, 1], 1, None));
        assert_eq!(
            rig.audited(),
            [Kind::Committed, Kind::Committed, Kind::RolledBack, Kind::Committed],
            "{:#?}",
            rig.board().last
        );
        assert_eq!(rig.board().last.trigger, Trigger::Rollback);
        assert_eq!(rig.confirm().await.unwrap_err(), reload::Refusal::NothingToConfirm);
    });
}

#[test]
fn what_could_not_go_back_may_still_be_confirmed() {
    on(async {
        let rig = Rig::start();
        let minute = std::time::Duration::from_secs(60);
        rig.edit(|c| c.store = 2);
        rig.reload_to_confirm(minute).await;
        rig.inject("store", "commit", Fault::Refuse);
        // The time is over, the way back has failed, and is not tried again yet.
        tokio::time::sleep(minute + minute / 120).await;
        assert_eq!(rig.board().last.outcome, Kind::RolledBack);
        assert_eq!(rig.confirm().await.unwrap().config_generation.get(), 2);
        assert_eq!((rig.unconfirmed(), rig.board().unconfirmed), (None, None));
        tokio::time::sleep(10 * minute).await;
        assert_eq!(rig.running(), [1, 2, 1]);
    });
}

fn told(outcome: &reload::Outcome) -> Vec<String> {
    outcome.warnings.iter().map(|warning| warning.message.clone()).collect()
}

#[test]
fn whoever_reloads_meanwhile_is_told_what_comes_back_and_when() {
    on(async {
        let rig = Rig::start();
        let minute = std::time::Duration::from_secs(60);
        rig.edit(|c| c.store = 2);
        assert_eq!(told(&*rig.reload_to_confirm(minute).await), [""; 0], "whoever asks for it knows");
        tokio::time::sleep(minute / 2).await;
        rig.edit(|c| c.log = 2);
        let outcomes = [rig.dry_run().await, rig.reload().await, rig.reload_to_confirm(minute).await];
        assert_eq!(outcomes.each_ref().map(|o| o.outcome), [Kind::Planned, Kind::Committed, Kind::Unchanged]);
        for outcome in outcomes {
            let [warning] = <[String; 1]>::try_from(told(&outcome)).unwrap();
            assert!(warning.starts_with("generation 1 comes back by itself in 2"), "{warning}");
            assert!(outcome.warnings[0].hint.as_ref().is_some_and(|hint| hint.starts_with("confirm")));
        }
        // Overdue, and not gone.
        for tries in [1, 2] {
            rig.inject("store", "commit", Fault::Refuse);
            while rig.audited().iter().filter(|kind| **kind == Kind::RolledBack).count() < tries {
                tokio::time::sleep(minute / 1000).await;
            }
            let note = ["not confirmed in time", "not confirmed in time, try 2"][tries - 1];
            assert_eq!(rig.board().last.note.as_deref(), Some(note));
            let [warning] = <[String; 1]>::try_from(told(&*rig.dry_run().await)).unwrap();
            let so_often =
                ["could not come back: it is tried again", "could not come back in 2 tries"][tries - 1];
            assert!(warning.contains(so_often), "{warning}");
        }
        // Who goes back by hand does what is wanted.
        assert_eq!(told(&rig.ask_for(1).await.unwrap().unwrap()), [""; 0]);
        assert_eq!(told(&*rig.dry_run().await), [""; 0]);
    });
}

#[test]
fn a_confirmation_is_told_after_the_commit_that_it_confirms() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        rig.reload_to_confirm(std::time::Duration::from_secs(3600)).await;
        // It is current while it is written down, and its own line comes later.
        rig.edit(|c| c.store = 3);
        let release = rig.recording_hangs();
        let asked = rig.ask();
        while !rig.is_recording() {
            tokio::task::yield_now().await;
        }
        let confirmed = async {
            while rig.board().unconfirmed.is_some() {
                tokio::task::yield_now().await;
            }
            // Time to tell it too early, on a thread that does not wait for the record.
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
            }
            drop(release);
        };
        let (confirmation, ()) = tokio::join!(rig.confirm(), confirmed);
        assert_eq!(confirmation.unwrap().config_generation.get(), 3);
        assert_eq!(asked.await.unwrap().unwrap().config_generation.get(), 3);
        assert_eq!(rig.audited(), [Kind::Committed, Kind::Committed, Kind::Unchanged]);
    });
}

#[test]
fn what_is_confirmed_stays() {
    on(async {
        let rig = Rig::start();
        let minute = std::time::Duration::from_secs(60);
        assert_eq!(rig.confirm().await.unwrap_err(), reload::Refusal::NothingToConfirm);
        rig.edit(|c| c.store = 2);
        rig.reload_to_confirm(minute).await;
        let outcome = rig.confirm().await.unwrap();
        assert_eq!((outcome.outcome, outcome.config_generation.get()), (Kind::Unchanged, 2));
        assert_eq!((rig.unconfirmed(), rig.board().unconfirmed), (None, None));
        tokio::time::sleep(2 * minute).await;
        assert_eq!(rig.running(), [1, 2, 1]);
        // What changed nothing has nothing to confirm, nor has what failed.
        rig.reload_to_confirm(minute).await;
        rig.edit(|c| c.store = 3);
        rig.inject("store", "probe", Fault::Refuse);
        rig.reload_to_confirm(minute).await;
        assert_eq!(rig.confirm().await.unwrap_err(), reload::Refusal::NothingToConfirm);
        // Going back by hand is an answer too.
        rig.reload_to_confirm(minute).await;
        assert_eq!(rig.board().unconfirmed.unwrap().target.get(), 2);
        assert_eq!(rig.ask_for(2).await.unwrap().unwrap().outcome, Kind::Committed);
        assert_eq!((rig.unconfirmed(), rig.board().unconfirmed), (None, None));
    });
}
