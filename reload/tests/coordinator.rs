//! The real coordinator with real actors that fail on command, under a paused clock: what takes two seconds in production
//! takes none here, and a deadline passes at exactly its instant.

mod rig;

use reload::outcome::{ComponentResult, Kind};
use reload::{Class, Generation, Trigger};
use rig::{Fault, Rig, on};

#[test]
fn only_the_sections_that_changed_are_sent_and_in_the_order_of_the_graph() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.server = 2);
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Committed);
        assert_eq!(rig.told(), ["server.prepare", "server.commit", "server.probe", "server.finish"]);

        rig.edit(|c| {
            c.server = 3;
            c.store = 3;
            c.log = 3;
        });
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
        assert_eq!(
            rig.told(),
            [
                "log.prepare",
                "store.prepare",
                "server.prepare",
                "log.commit",
                "store.commit",
                "server.commit",
                "log.probe",
                "store.probe",
                "server.probe",
                "log.finish",
                "store.finish",
                "server.finish",
            ]
        );
        assert_eq!(rig.running(), [3, 3, 3]);
    });
}

#[test]
fn an_unchanged_file_reaches_nobody() {
    on(async {
        let rig = Rig::start();
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Unchanged);
        assert_eq!(outcome.config_generation, Generation::FIRST);
        assert!(rig.told().is_empty());
        assert!(rig.recorded().is_empty());
        assert_eq!(rig.audited(), [Kind::Unchanged]);
    });
}

#[test]
fn a_wrong_file_is_rejected_and_reaches_nobody() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.wrong = true);
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Rejected);
        assert_eq!(outcome.errors[0].class, Class::Validation);
        assert!(rig.told().is_empty());
        assert!(!rig.board().successful);
        rig.edit(|c| c.wrong = false);
        assert_eq!(rig.reload().await.outcome, Kind::Unchanged);
        assert!(rig.board().successful, "a file that equals what runs clears the failure");
    });
}

#[test]
fn rollback_goes_in_reverse_order_to_those_who_were_told() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| (c.log, c.store, c.server) = (2, 2, 2));
        rig.inject("store", "commit", Fault::Refuse);
        rig.reload().await;
        let told = rig.told();
        let back: Vec<_> = told.iter().filter(|step| step.ends_with("rollback")).collect();
        assert_eq!(
            back,
            ["store.rollback", "log.rollback"],
            "server never committed: there is nothing to restore"
        );
        rig.inject("server", "commit", Fault::FailAfter);
        rig.reload().await;
        let told = rig.told();
        let back: Vec<_> = told.iter().filter(|step| step.ends_with("rollback")).collect();
        assert_eq!(back, ["server.rollback", "store.rollback", "log.rollback"]);
    });
}

#[test]
fn a_component_that_cannot_go_back_gets_a_successor_on_its_last_good_section() {
    for fault in [Fault::Refuse, Fault::Panic, Fault::Hang] {
        on(async move {
            let rig = Rig::start();
            rig.edit(|c| (c.log, c.store, c.server) = (2, 2, 2));
            rig.inject("server", "commit", Fault::FailAfter);
            rig.inject("store", "rollback", fault);
            let outcome = rig.reload().await;
            assert_eq!(outcome.outcome, Kind::RolledBack, "{outcome:#?}");
            let store = outcome.components.iter().find(|c| c.name == "store").unwrap();
            assert_eq!(store.result, ComponentResult::Failed);
            assert_eq!(rig.running(), [1, 1, 1]);
            assert_eq!(rig.incarnation("store"), 2);
            assert_eq!(rig.board().degraded, None, "the successor is healthy");
            assert_eq!(rig.reload().await.outcome, Kind::Committed);
            assert_eq!(rig.running(), [2, 2, 2]);
        });
    }
}

#[test]
fn a_component_that_cannot_be_replaced_is_emergency_and_a_good_reload_leads_out() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| (c.log, c.store, c.server) = (2, 2, 2));
        rig.inject("server", "commit", Fault::FailAfter);
        rig.inject("server", "rollback", Fault::Refuse);
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Failed, "{outcome:#?}");
        assert!(outcome.errors.iter().any(|e| e.class == Class::Critical));
        assert_eq!(rig.board().state, reload::machine::State::Failed);
        assert!(rig.board().degraded.is_some());
        // The file goes back to what runs: the component that nobody is sure of is told all the same.
        rig.edit(|c| (c.log, c.store, c.server) = (1, 1, 1));
        rig.told();
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Committed, "{outcome:#?}");
        assert_eq!(rig.running(), [1, 1, 1]);
        assert_eq!(rig.board().state, reload::machine::State::Idle);
        assert_eq!(rig.board().degraded, None);
    });
}

#[test]
fn a_finish_that_fails_is_a_warning() {
    for fault in [Fault::Refuse, Fault::Panic, Fault::Hang] {
        on(async move {
            let rig = Rig::start();
            rig.edit(|c| c.store = 2);
            rig.inject("store", "finish", fault);
            let outcome = rig.reload().await;
            assert_eq!(outcome.outcome, Kind::Committed);
            assert_eq!(outcome.warnings.len(), 1, "{outcome:#?}");
            assert_eq!(rig.running(), [1, 2, 1]);
            rig.edit(|c| c.store = 3);
            assert_eq!(rig.reload().await.outcome, Kind::Committed);
        });
    }
}

#[test]
fn a_burst_becomes_one_more_reload_and_every_caller_is_answered() {
    on(async {
        let rig = Rig::start();
        rig.inject("store", "prepare", Fault::Late);
        rig.edit(|c| c.store = 2);
        let first = rig.ask();
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..200).map(|_| rig.ask()).collect();
        rig.edit(|c| c.store = 9);
        first.await.unwrap().unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for other in others {
            ids.insert(other.await.unwrap().unwrap().id.clone());
        }
        assert_eq!(ids.len(), 1, "those who asked meanwhile share one transaction");
        assert_eq!(rig.running(), [1, 9, 1], "the last file runs");
    });
}

#[test]
fn a_request_for_another_generation_does_nothing() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        let wrong = Generation::new(7);
        let refusal = rig.ask_expecting(wrong).await.unwrap().unwrap_err();
        assert!(matches!(refusal, reload::Refusal::Mismatch { .. }));
        assert!(rig.told().is_empty());
        // Expected when asked, no longer when its turn comes: nothing is done, and nobody is told that the program stops.
        let (first, under_way) = rig.ask_and_hold().await;
        let second = rig.ask_expecting(Some(Generation::FIRST));
        drop(under_way);
        assert_eq!(first.await.unwrap().unwrap().outcome, Kind::Committed);
        assert!(matches!(second.await.unwrap().unwrap_err(), reload::Refusal::Mismatch { .. }));
        assert_eq!(rig.audited(), [Kind::Committed]);
        // Among others who do not mind, only the one who minds is sent away.
        rig.edit(|c| c.store = 3);
        let (first, under_way) = rig.ask_and_hold().await;
        let (minds, does_not) = (rig.ask_expecting(Generation::new(2)), rig.ask());
        drop(under_way);
        assert_eq!(first.await.unwrap().unwrap().outcome, Kind::Committed);
        assert!(matches!(minds.await.unwrap().unwrap_err(), reload::Refusal::Mismatch { .. }));
        assert_eq!(does_not.await.unwrap().unwrap().outcome, Kind::Unchanged);
        assert!(rig.board().running.is_none());
    });
}

#[test]
fn what_cannot_be_written_down_is_told_and_written_later() {
    on(async {
        let rig = Rig::start();
        rig.disk_full(true);
        rig.edit(|c| c.store = 2);
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Committed);
        assert!(!outcome.durable);
        assert!(rig.recorded().is_empty());
        rig.disk_full(false);
        while rig.recorded().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(rig.recorded(), [2]);
    });
}

#[test]
fn what_runs_is_not_said_to_be_on_disk_before_it_is() {
    on(async {
        let rig = Rig::start();
        rig.disk_full(true);
        rig.edit(|c| c.store = 2);
        assert!(!rig.reload_to_confirm(std::time::Duration::from_secs(3600)).await.durable);
        for outcome in [rig.reload().await, rig.dry_run().await, rig.confirm().await.unwrap()] {
            assert!(outcome.outcome.is_success() && !outcome.durable, "{outcome:?}");
        }
        rig.disk_full(false);
        while rig.recorded().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let outcome = rig.reload().await;
        assert!(outcome.outcome == Kind::Unchanged && outcome.durable, "{outcome:?}");
    });
}

#[test]
fn a_dry_run_tells_and_touches_nothing() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.server = 2);
        let outcome = rig.dry_run().await;
        assert_eq!(outcome.outcome, Kind::Planned);
        assert_eq!(outcome.changes[0].path, "server");
        assert_eq!(outcome.components[0].result, ComponentResult::NotReached);
        assert!(rig.told().is_empty() && rig.audited().is_empty() && rig.recorded().is_empty());
        rig.edit(|c| c.wrong = true);
        assert_eq!(rig.dry_run().await.outcome, Kind::Rejected);
    });
}

#[test]
fn an_outcome_reads_back_as_it_was_written() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.server = 2);
        let outcome = rig.reload().await;
        let text = serde_json::to_string(&*outcome).unwrap();
        let read: reload::Outcome = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(read.trigger, Trigger::Signal);
    });
}

#[test]
fn the_health_gate_can_be_switched_off() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| (c.store, c.health_gate) = (2, false));
        rig.reload().await;
        rig.told();
        rig.edit(|c| c.store = 3);
        rig.inject("store", "probe", Fault::Refuse);
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
        assert_eq!(rig.told(), ["store.prepare", "store.commit", "store.finish"]);
    });
}

#[test]
fn what_the_machine_failed_is_tried_again_while_there_is_time() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| (c.log, c.store) = (2, 2));
        rig.inject("store", "prepare", Fault::Unavailable(4));
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Committed, "{outcome:#?}");
        assert!(outcome.errors.is_empty());
        assert!(outcome.warnings[0].message.starts_with("was tried 5 times"), "{outcome:#?}");
        // On the way back too: no successor is needed.
        rig.edit(|c| (c.log, c.store) = (3, 3));
        rig.inject("store", "probe", Fault::Refuse);
        rig.inject("log", "rollback", Fault::Unavailable(3));
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::RolledBack);
        assert_eq!((rig.running(), rig.incarnation("log")), ([2, 2, 1], 1));
        // For good: it is given up in time for the rollback.
        rig.inject("store", "prepare", Fault::Unavailable(u32::MAX));
        let began = tokio::time::Instant::now();
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::RolledBack);
        assert!(began.elapsed() <= rig::BUDGET / 2, "{:?}", began.elapsed());
        assert_eq!(outcome.errors.len(), 1, "{outcome:#?}");
        assert_eq!(outcome.errors[0].class, Class::System);
        assert!(outcome.errors[0].message.contains("no descriptor left (tried "), "{outcome:#?}");
        assert_eq!(rig.running(), [2, 2, 1]);
    });
}

/// The cause, and nothing that the coordinator itself brought about.
#[test]
fn the_errors_name_the_causes_and_nothing_else() {
    on(async {
        // One that hangs: the rollback cancels its step, which is no second error.
        let rig = Rig::start();
        rig.edit(|c| (c.log, c.store) = (2, 2));
        rig.inject("store", "prepare", Fault::Hang);
        let reload = async || rig.reload().await.errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        let messages = reload().await;
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].starts_with("store: did not answer prepare"), "{messages:?}");
        // One that the machine fails on the way back until there is no time left. What it could not prepare at first is over.
        rig.inject("store", "prepare", Fault::Unavailable(2));
        rig.inject("store", "commit", Fault::FailAfter);
        rig.inject("store", "rollback", Fault::Unavailable(u32::MAX));
        let messages = reload().await;
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert_eq!(messages[0], "store: failed");
        assert!(messages[1].starts_with("store: no descriptor left (tried "), "{messages:?}");
    });
}

#[test]
fn a_file_that_cannot_be_read_for_a_moment_is_read_again() {
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        rig.unreadable(3);
        assert_eq!(rig.dry_run().await.outcome, Kind::Planned, "a look is as patient as a reload");
        rig.unreadable(3);
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Committed);
        assert!(outcome.errors.is_empty(), "{outcome:#?}");
        assert_eq!(outcome.warnings[0].message, "the disk does not answer");
        rig.edit(|c| c.store = 3);
        rig.unreadable(u32::MAX);
        let outcome = rig.reload().await;
        assert_eq!(outcome.outcome, Kind::Rejected);
        assert_eq!(outcome.errors[0].class, Class::System);
        assert_eq!(rig.dry_run().await.outcome, Kind::Rejected);
        rig.unreadable(0);
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
    });
}
