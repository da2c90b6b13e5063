//! Fault points of a component's steps, where a build has them: what each command does to a reload.

#![cfg(feature = "failpoints")]

mod rig;

use reload::outcome::Kind;
use rig::{Rig, on};

/// One test: fault points belong to the whole process.
#[test]
fn a_fault_point_does_as_it_is_told() {
    let scenario = fail::FailScenario::setup();
    let cases = [
        ("return(error)", "refused on command"),
        ("return(error_after)", "failed on command, after its work"),
        ("return(hang)", "did not answer prepare"),
        ("return(late:1500)", "did not answer prepare"),
        ("return(nonsense)", "unknown fault 'nonsense' at store::prepare"),
        ("panic(boo)", "panicked in prepare"),
    ];
    for (command, told) in cases {
        fail::cfg("store::prepare", &format!("1*{command}")).unwrap();
        on(async move {
            let rig = Rig::start();
            rig.edit(|c| (c.log, c.store, c.server) = (2, 2, 2));
            let outcome = rig.reload().await;
            assert_eq!(outcome.outcome, Kind::RolledBack, "{command}: {outcome:#?}");
            assert!(outcome.error.as_deref().unwrap().contains(told), "{command}: {outcome:#?}");
            assert_eq!(rig.running(), [1, 1, 1], "{command}");
            assert_eq!(rig.reload().await.outcome, Kind::Committed, "after {command}");
        });
    }
    // Late, and in time.
    fail::cfg("store::prepare", "1*return(late:100)").unwrap();
    on(async {
        let rig = Rig::start();
        rig.edit(|c| c.store = 2);
        assert_eq!(rig.reload().await.outcome, Kind::Committed);
    });
    scenario.teardown();
}
