//! What random cases have found, by name: each was a fault of the engine once.

use reload::outcome::Kind;

use crate::case::{Ask, Case, Edit, Expect, Fault, Injected, Io, Op, Part, Point, Then};
use crate::log::{Entry, What};
use crate::{drive, oracle};

const PLAIN: Ask = Ask { expect: Expect::Anything, aim: None, confirm: None };

/// Runs a case, and returns what was seen if all is well.
fn passes(parts: Vec<Part>, ops: Vec<Op>) -> Vec<Entry> {
    crate::silence_panics_on_command();
    let case = Case { parts, budget_ms: 200, ops, stop_before: None };
    let (log, rest) = drive::run(&case);
    if let Err(why) = oracle::judge(&case, &log, &rest) {
        panic!("{why}");
    }
    log
}

fn kinds(log: &[Entry]) -> Vec<Kind> {
    let finished = log.iter().filter_map(|entry| match &entry.what {
        What::Finished { outcome, .. } => Some(outcome.outcome),
        _ => None,
    });
    finished.collect()
}

fn edits(parts: &[usize]) -> Vec<Edit> {
    parts.iter().map(|part| Edit::Section(*part, 2)).collect()
}

fn fault(part: usize, point: Point, fault: Fault) -> Injected {
    Injected { part, point, fault }
}

fn reload(parts: &[usize], faults: Vec<Injected>) -> Op {
    Op::Reload { edits: edits(parts), faults, ask: PLAIN, then: Then::Await }
}

/// The record had the deadline of the finish: it was over when it began.
#[test]
fn a_finish_that_hangs_leaves_time_to_write_the_generation_down() {
    let log = passes(vec![Part::alone()], vec![reload(&[0], vec![fault(0, Point::Finish, Fault::Hang)])]);
    let durable = log.iter().find_map(|entry| match &entry.what {
        What::Finished { outcome, .. } => Some(outcome.durable),
        _ => None,
    });
    assert_eq!(durable, Some(true));
}

/// A reading that was given up came back, and the files were made to say what it had read: over what had been written to
/// them since.
#[test]
fn files_are_not_written_for_a_transaction_that_is_over() {
    let back = Ask { aim: Some(0), ..PLAIN };
    let log = passes(
        vec![Part::alone()],
        vec![
            Op::Hang(Io::Read, 80),
            Op::Reload { edits: vec![], faults: vec![], ask: back, then: Then::Await },
        ],
    );
    assert_eq!(kinds(&log)[0], Kind::Rejected);
    assert!(!log.iter().any(|entry| matches!(entry.what, What::Restored(_))));
}

/// Its books were new, so that it had nothing to take back: the emergency was over, and it ran the minimal section.
#[test]
fn a_component_on_its_minimal_section_has_not_gone_back() {
    let parts = vec![Part { replaceable: true, minimal: true, ..Part::alone() }, Part::alone()];
    let emergency = vec![
        fault(0, Point::Rollback, Fault::Refuse),
        fault(0, Point::Health, Fault::Refuse),
        fault(1, Point::Commit, Fault::Refuse),
    ];
    let again = vec![fault(1, Point::Prepare, Fault::Refuse)];
    let log = passes(parts, vec![reload(&[0, 1], emergency), reload(&[], again)]);
    assert_eq!(kinds(&log)[..2], [Kind::Failed, Kind::RolledBack]);
}

/// Actix polls a future once more before it drops one that was cancelled.
#[test]
fn a_commit_that_is_ready_in_the_instant_of_its_rollback_is_not_done() {
    let log = passes(vec![Part::alone()], vec![reload(&[0], vec![fault(0, Point::Commit, Fault::Slow(75))])]);
    assert_eq!(kinds(&log)[0], Kind::RolledBack);
}

/// The end of the late finish was taken for the end of the commit, which then could not be cancelled.
#[test]
fn a_late_finish_does_not_keep_the_next_commit_from_being_cancelled() {
    let late = vec![fault(0, Point::Finish, Fault::Late(105))];
    let slow = vec![fault(0, Point::Commit, Fault::Slow(160))];
    let next = Op::Reload { edits: vec![Edit::Section(0, 3)], faults: slow, ask: PLAIN, then: Then::Await };
    let log = passes(vec![Part::alone()], vec![reload(&[0], late), next]);
    assert_eq!(kinds(&log)[..2], [Kind::Committed, Kind::RolledBack]);
}

/// `Context::terminate` spins for ever where a cancelled future has not been dropped yet.
#[test]
fn a_predecessor_that_wakes_up_goes_away() {
    let parts = vec![Part { replaceable: true, ..Part::alone() }];
    let faults =
        vec![fault(0, Point::Commit, Fault::Slow(113)), fault(0, Point::Rollback, Fault::Stuck(107))];
    let log = passes(parts, vec![reload(&[0], faults)]);
    assert_eq!(kinds(&log)[0], Kind::RolledBack);
}

/// Its time ran out while somebody went back by hand. It had its turn all the same, and wrote the old generation over what
/// the files said by then.
#[test]
fn what_somebody_took_back_does_not_go_back_once_more() {
    let confirmed = Ask { confirm: Some(400), ..PLAIN };
    let back = Ask { aim: Some(0), ..PLAIN };
    let log = passes(
        vec![Part::alone()],
        vec![
            Op::Reload { edits: edits(&[0]), faults: vec![], ask: confirmed, then: Then::Await },
            Op::Wait(370),
            Op::Hang(Io::Write, 80),
            Op::Reload { edits: vec![], faults: vec![], ask: back, then: Then::Await },
        ],
    );
    assert_eq!(kinds(&log), [Kind::Committed; 4], "and nothing for the time that ran out");
}

/// The reason was the error of the last reload, which need not be about those who are broken.
#[test]
fn degraded_names_those_who_are_broken_also_after_another_failure() {
    let broken = vec![fault(0, Point::Commit, Fault::Refuse), fault(0, Point::Rollback, Fault::Blocked(300))];
    let other = vec![fault(1, Point::Prepare, Fault::Refuse)];
    let log = passes(vec![Part::alone(), Part::alone()], vec![reload(&[0], broken), reload(&[1], other)]);
    assert_eq!(kinds(&log)[..2], [Kind::Failed, Kind::Failed]);
}

/// Each was refused by the first that was still on its way back, and did no more than to get that one there.
#[test]
fn one_good_reload_leads_out_of_emergency_however_many_hang() {
    let parts = vec![Part { rank: 1, needs: 2, ..Part::alone() }, Part::alone()];
    let faults = vec![
        fault(0, Point::Probe, Fault::Refuse),
        fault(0, Point::Rollback, Fault::Hang),
        fault(1, Point::Rollback, Fault::Hang),
    ];
    let log = passes(parts, vec![reload(&[0, 1], faults)]);
    assert_eq!(kinds(&log), [Kind::Failed, Kind::Committed, Kind::Committed]);
}
