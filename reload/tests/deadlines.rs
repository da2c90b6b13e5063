//! The budget of a transaction: whatever hangs, fails or stands still, it is at rest in time.

mod rig;

use reload::Generation;
use reload::outcome::Kind;
use rig::{Fault, Rig, on};

/// Each component, each step before the point of no return, each way to fail: everything is on the generation before when the
/// budget ends, a late answer changes nothing, and the next good reload works.
#[test]
fn whatever_fails_everything_is_back_within_the_budget() {
    let faults = [Fault::Refuse, Fault::FailAfter, Fault::Panic, Fault::PanicLater, Fault::Hang, Fault::Late];
    for component in ["log", "store", "server"] {
        for step in ["prepare", "commit", "probe"] {
            for fault in faults {
                on(async move {
                    let rig = Rig::start();
                    rig.edit(|c| (c.log, c.store, c.server) = (2, 2, 2));
                    rig.inject(component, step, fault);
                    let began = tokio::time::Instant::now();
                    let outcome = rig.reload().await;
                    let what = format!("{component} {step} {fault:?}: {outcome:#?}");
                    assert_eq!(outcome.outcome, Kind::RolledBack, "{what}");
                    assert!(began.elapsed() <= rig::BUDGET, "{what}");
                    assert_eq!(rig.running(), [1, 1, 1], "{what}");
                    assert_eq!(outcome.config_generation, Generation::FIRST);
                    assert!(outcome.error.as_deref().unwrap_or_default().contains(component), "{what}");
                    assert_eq!(rig.board().degraded, None);
                    // Whatever is late has arrived by now.
                    tokio::time::sleep(10 * rig::BUDGET).await;
                    assert_eq!(rig.running(), [1, 1, 1], "a late answer changed something: {what}");
                    let again = rig.reload().await;
                    assert_eq!(again.outcome, Kind::Committed, "the next reload after {what}");
                    assert_eq!(rig.running(), [2, 2, 2]);
                    assert_eq!(again.config_generation, Generation::FIRST.next());
                });
            }
        }
    }
}

/// As with SIGSTOP, or a laptop that sleeps: `server` cannot be replaced, and would stay in emergency without a fault of its own.
#[test]
fn a_process_that_stood_still_for_longer_than_its_budget_goes_on_or_back() {
    for step in ["prepare", "commit", "probe", "rollback"] {
        for component in ["log", "store", "server"] {
            on(async move {
                let rig = Rig::start();
                rig.edit(|c| (c.log, c.store, c.server) = (2, 2, 2));
                if step == "rollback" {
                    rig.inject("server", "probe", Fault::Refuse);
                }
                rig.inject(component, step, Fault::StandStill);
                let outcome = rig.reload().await;
                let what = format!("{component} {step}: {outcome:#?}");
                let running = match outcome.outcome {
                    Kind::Committed => [2, 2, 2],
                    Kind::RolledBack => [1, 1, 1],
                    _ => panic!("{what}"),
                };
                assert_eq!((rig.running(), &rig.board().degraded), (running, &None), "{what}");
                assert_eq!(rig.incarnation(component), 1, "{what}");
                rig.reload().await;
                assert_eq!(rig.running(), [2, 2, 2], "the next reload after {what}");
            });
        }
    }
}

#[test]
fn a_stop_waits_for_the_transaction_and_no_longer_than_its_budget() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        rig.inject("store", "prepare", Fault::Hang);
        let running = rig.ask();
        tokio::task::yield_now().await;
        let waiting = rig.ask();
        let began = tokio::time::Instant::now();
        rig.stop().await;
        assert!(began.elapsed() <= rig::BUDGET);
        assert_eq!(running.await.unwrap().unwrap().outcome, Kind::RolledBack);
        assert_eq!(waiting.await.unwrap().unwrap_err(), reload::Refusal::Stopping);
        assert_eq!(rig.ask().await.unwrap().unwrap_err(), reload::Refusal::Stopping);
    });
}

#[test]
fn a_transaction_shows_its_deadline_and_whom_it_waits_for() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| (c.log, c.store) = (2, 2));
        rig.inject("store", "prepare", Fault::Hang);
        let asked = rig.ask();
        let shown = loop {
            match rig.board().running.clone() {
                Some(shown) if shown.waiting_for == ["store"] => break shown,
                _ => tokio::task::yield_now().await,
            }
        };
        assert_eq!((shown.phase, shown.budget), ("prepare", rig::BUDGET));
        assert_eq!(shown.deadline - shown.started, rig::BUDGET / 2);
        let outcome = asked.await.unwrap().unwrap();
        assert_eq!(*shown.id, *outcome.id);
        assert!(rig.board().running.is_none());
    });
}
