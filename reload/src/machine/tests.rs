use super::*;

/// Component 0 is the only one of level 0; 1 and 2 are level 1.
fn levels() -> Vec<Set> {
    vec![Set::of(0), [1, 2].into_iter().collect()]
}

struct Rig {
    machine: Machine,
    transaction: Transaction,
}

impl Rig {
    fn judging() -> Self {
        let mut machine = Machine::default();
        let actions = machine.on(Event::Trigger);
        let transaction = Transaction::NONE.next();
        assert_eq!(
            actions,
            [
                Action::Enter(State::Validating),
                Action::Judge(transaction),
                Action::Arm(transaction, Stage::Judge)
            ]
        );
        Self { machine, transaction }
    }

    fn accepted() -> (Self, Vec<Action>) {
        let mut rig = Self::judging();
        let actions = rig.machine.on(Event::Judged(rig.transaction, Verdict::Accepted(levels())));
        (rig, actions)
    }

    fn ack(&mut self, component: Index, step: StepKind, done: bool) -> Vec<Action> {
        self.answer(component, step, if done { Answer::Done } else { Answer::Failed })
    }

    fn answer(&mut self, component: Index, step: StepKind, answer: Answer) -> Vec<Action> {
        self.machine.on(Event::Acked { transaction: self.transaction, component, step, answer })
    }

    fn send(&self, component: Index, step: StepKind) -> Action {
        Action::Send(self.transaction, component, step)
    }

    fn prepared() -> Self {
        let (mut rig, _) = Self::accepted();
        for component in 0..3 {
            rig.ack(component, StepKind::Prepare, true);
        }
        rig
    }

    fn committed() -> Self {
        let mut rig = Self::prepared();
        for component in 0..3 {
            rig.ack(component, StepKind::Commit, true);
        }
        rig
    }
}

#[test]
fn a_good_reload_prepares_everywhere_before_it_commits_anywhere() {
    let (mut rig, actions) = Rig::accepted();
    assert_eq!(
        actions,
        [
            Action::Enter(State::Updating),
            Action::Arm(rig.transaction, Stage::Prepare),
            rig.send(0, StepKind::Prepare)
        ]
    );
    assert_eq!(
        rig.ack(0, StepKind::Prepare, true),
        [rig.send(1, StepKind::Prepare), rig.send(2, StepKind::Prepare)]
    );
    assert_eq!(rig.ack(2, StepKind::Prepare, true), []);
    assert_eq!(
        rig.ack(1, StepKind::Prepare, true),
        [Action::Arm(rig.transaction, Stage::Commit), rig.send(0, StepKind::Commit)]
    );
    assert_eq!(
        rig.ack(0, StepKind::Commit, true),
        [rig.send(1, StepKind::Commit), rig.send(2, StepKind::Commit)]
    );
    rig.ack(1, StepKind::Commit, true);
    assert_eq!(
        rig.ack(2, StepKind::Commit, true),
        [rig.send(0, StepKind::Probe), rig.send(1, StepKind::Probe), rig.send(2, StepKind::Probe)]
    );
    rig.ack(0, StepKind::Probe, true);
    rig.ack(1, StepKind::Probe, true);
    let finish = rig.ack(2, StepKind::Probe, true);
    assert_eq!(finish[0], Action::Arm(rig.transaction, Stage::Finish));
    assert_eq!(finish.len(), 4);
    rig.ack(0, StepKind::Finish, true);
    rig.ack(1, StepKind::Finish, true);
    assert_eq!(
        rig.ack(2, StepKind::Finish, true),
        [Action::Arm(rig.transaction, Stage::Record), Action::Record(rig.transaction)]
    );
    assert_eq!(
        rig.machine.on(Event::Recorded(rig.transaction)),
        [Action::Enter(State::Idle), Action::Conclude(rig.transaction, End::Committed)]
    );
}

#[test]
fn a_refused_preparation_rolls_back_those_who_were_told_and_no_others() {
    let (mut rig, _) = Rig::accepted();
    assert_eq!(
        rig.ack(0, StepKind::Prepare, false),
        [
            Action::Enter(State::RollingBack),
            Action::Arm(rig.transaction, Stage::Rollback { after: 1 }),
            rig.send(0, StepKind::Rollback)
        ]
    );
    assert_eq!(
        rig.ack(0, StepKind::Rollback, true),
        [Action::Enter(State::Idle), Action::Conclude(rig.transaction, End::RolledBack)]
    );
}

#[test]
fn a_failed_commit_goes_back_in_reverse_order() {
    let mut rig = Rig::prepared();
    rig.ack(0, StepKind::Commit, true);
    let back = rig.ack(1, StepKind::Commit, false);
    assert_eq!(back[2..], [rig.send(1, StepKind::Rollback), rig.send(2, StepKind::Rollback)]);
    rig.ack(2, StepKind::Rollback, true);
    let last = rig.ack(1, StepKind::Rollback, true);
    assert_eq!(last[1..], [rig.send(0, StepKind::Rollback)]);
    assert!(
        rig.ack(0, StepKind::Rollback, true).contains(&Action::Conclude(rig.transaction, End::RolledBack))
    );
}

#[test]
fn a_failed_probe_rolls_everything_back() {
    let mut rig = Rig::committed();
    let back = rig.ack(1, StepKind::Probe, false);
    assert_eq!(back[0], Action::Enter(State::RollingBack));
}

#[test]
fn a_finish_that_fails_or_hangs_does_not_undo_what_stands() {
    let mut rig = Rig::committed();
    for component in 0..3 {
        rig.ack(component, StepKind::Probe, true);
    }
    assert_eq!(rig.ack(0, StepKind::Finish, false), []);
    assert_eq!(
        rig.machine.on(Event::Expired(rig.transaction, Stage::Finish)),
        [Action::Arm(rig.transaction, Stage::Record), Action::Record(rig.transaction)]
    );
    // A disk that hangs does not hold it either.
    assert_eq!(
        rig.machine.on(Event::Expired(rig.transaction, Stage::Record)),
        [Action::Enter(State::Idle), Action::Conclude(rig.transaction, End::Committed)]
    );
}

#[test]
fn who_misses_the_rollback_is_replaced_and_the_others_are_not_held_up() {
    let mut rig = Rig::prepared();
    let back = rig.machine.on(Event::Expired(rig.transaction, Stage::Commit));
    assert_eq!(back[0], Action::Enter(State::RollingBack));
    rig.ack(1, StepKind::Rollback, true);
    let next = rig.machine.on(Event::Expired(rig.transaction, Stage::Rollback { after: 2 }));
    assert_eq!(next[1..], [rig.send(0, StepKind::Rollback)]);
    assert_eq!(
        rig.ack(0, StepKind::Rollback, true),
        [Action::Arm(rig.transaction, Stage::Replace), Action::Replace(rig.transaction, 2)]
    );
    let replaced = Event::Replaced { transaction: rig.transaction, component: 2, done: true };
    assert!(rig.machine.on(replaced).contains(&Action::Conclude(rig.transaction, End::RolledBack)));
    assert_eq!(rig.machine.state(), State::Idle);
}

#[test]
fn who_cannot_be_replaced_is_emergency_and_a_good_reload_leads_out() {
    let (mut rig, _) = Rig::accepted();
    rig.machine.on(Event::Expired(rig.transaction, Stage::Prepare));
    rig.machine.on(Event::Expired(rig.transaction, Stage::Rollback { after: 1 }));
    let end = rig.machine.on(Event::Expired(rig.transaction, Stage::Replace));
    assert_eq!(end, [Action::Enter(State::Failed), Action::Conclude(rig.transaction, End::Failed)]);
    assert_eq!(rig.machine.broken(), Set::of(0));

    rig.machine.on(Event::Trigger);
    rig.transaction = rig.transaction.next();
    rig.machine.on(Event::Judged(rig.transaction, Verdict::Accepted(vec![Set::of(0)])));
    for step in [StepKind::Prepare, StepKind::Commit, StepKind::Probe, StepKind::Finish] {
        rig.ack(0, step, true);
    }
    rig.machine.on(Event::Recorded(rig.transaction));
    assert_eq!(rig.machine.state(), State::Idle);
}

#[test]
fn late_repeated_and_foreign_answers_change_nothing() {
    let (mut rig, _) = Rig::accepted();
    let before = rig.machine.clone();
    let old = Transaction::NONE;
    let late = [
        Event::Acked { transaction: old, component: 0, step: StepKind::Prepare, answer: Answer::Done },
        Event::Acked {
            transaction: rig.transaction,
            component: 1,
            step: StepKind::Prepare,
            answer: Answer::Done,
        },
        Event::Acked {
            transaction: rig.transaction,
            component: 0,
            step: StepKind::Commit,
            answer: Answer::Failed,
        },
        Event::Judged(rig.transaction, Verdict::Rejected),
        Event::Expired(rig.transaction, Stage::Judge),
        Event::Expired(rig.transaction, Stage::Commit),
        Event::Replaced { transaction: rig.transaction, component: 0, done: false },
        Event::Recorded(rig.transaction),
    ];
    for event in late {
        assert_eq!(rig.machine.on(event), []);
        assert_eq!(rig.machine, before);
    }
}

#[test]
fn triggers_during_a_transaction_become_one_more() {
    let mut rig = Rig::judging();
    for _ in 0..200 {
        assert_eq!(rig.machine.on(Event::Trigger), []);
    }
    let actions = rig.machine.on(Event::Judged(rig.transaction, Verdict::Unchanged));
    assert_eq!(actions[1], Action::Conclude(rig.transaction, End::Unchanged));
    let second = rig.transaction.next();
    assert_eq!(actions[3], Action::Judge(second));
    let actions = rig.machine.on(Event::Judged(second, Verdict::Unchanged));
    assert_eq!(actions, [Action::Enter(State::Idle), Action::Conclude(second, End::Unchanged)]);
}

#[test]
fn a_stop_waits_for_the_transaction_and_dismisses_those_who_wait() {
    let mut rig = Rig::judging();
    rig.machine.on(Event::Trigger);
    assert_eq!(rig.machine.on(Event::Stop), [Action::DismissWaiting]);
    assert_eq!(rig.machine.on(Event::Trigger), [Action::DismissWaiting]);
    let actions = rig.machine.on(Event::Judged(rig.transaction, Verdict::Rejected));
    assert_eq!(actions.last(), Some(&Action::Halt));
    assert_eq!(rig.machine.on(Event::Stop), []);
}

#[test]
fn a_judgement_that_does_not_come_is_a_rejection() {
    let mut rig = Rig::judging();
    assert_eq!(
        rig.machine.on(Event::Expired(rig.transaction, Stage::Judge)),
        [Action::Enter(State::Idle), Action::Conclude(rig.transaction, End::Rejected)]
    );
    assert_eq!(rig.machine.on(Event::Judged(rig.transaction, Verdict::Accepted(levels()))), []);
}

#[test]
fn a_plan_without_components_is_recorded_at_once() {
    let mut rig = Rig::judging();
    assert_eq!(
        rig.machine.on(Event::Judged(rig.transaction, Verdict::Accepted(vec![]))),
        [Action::Arm(rig.transaction, Stage::Record), Action::Record(rig.transaction)]
    );
}

#[test]
fn what_the_machine_failed_is_tried_again_and_only_before_it_matters_or_on_the_way_back() {
    let (mut rig, _) = Rig::accepted();
    let again = |rig: &Rig, step| [Action::SendAgain(rig.transaction, 0, step)];
    assert_eq!(rig.answer(0, StepKind::Prepare, Answer::Unavailable), again(&rig, StepKind::Prepare));
    assert!(rig.machine.awaits(rig.transaction, 0, StepKind::Prepare));
    assert_eq!(rig.ack(0, StepKind::Prepare, true).len(), 2, "the other try was good: the next level");
    assert!(!rig.machine.awaits(rig.transaction, 0, StepKind::Prepare));
    rig.ack(1, StepKind::Prepare, true);
    rig.ack(2, StepKind::Prepare, true);
    let back = rig.answer(0, StepKind::Commit, Answer::Unavailable);
    assert_eq!(back[0], Action::Enter(State::RollingBack), "a commit is not tried twice");
    for component in [1, 2] {
        rig.ack(component, StepKind::Rollback, true);
    }
    assert_eq!(rig.answer(0, StepKind::Rollback, Answer::Unavailable), again(&rig, StepKind::Rollback));
    assert_eq!(
        rig.ack(0, StepKind::Rollback, true)[1],
        Action::Conclude(rig.transaction, End::RolledBack),
        "the other try was good: no successor is needed"
    );
}

#[test]
fn a_file_that_could_not_be_read_is_read_again() {
    let mut rig = Rig::judging();
    let unavailable = Event::Judged(rig.transaction, Verdict::Unavailable);
    assert_eq!(rig.machine.on(unavailable), [Action::JudgeAgain(rig.transaction)]);
    assert!(rig.machine.awaits_judgement(rig.transaction));
    assert_eq!(
        rig.machine.on(Event::Expired(rig.transaction, Stage::Judge))[1],
        Action::Conclude(rig.transaction, End::Rejected)
    );
    assert!(!rig.machine.awaits_judgement(rig.transaction));
}

#[test]
fn a_rollback_does_not_lead_out_of_emergency() {
    let mut rig = Rig::judging();
    // Component 0 could not go back, and its successor is not well.
    rig.machine.on(Event::Judged(rig.transaction, Verdict::Accepted(vec![Set::of(0)])));
    rig.ack(0, StepKind::Prepare, false);
    rig.ack(0, StepKind::Rollback, false);
    rig.machine.on(Event::Replaced { transaction: rig.transaction, component: 0, done: false });
    assert_eq!(rig.machine.broken(), Set::of(0));
    // The next transaction fails as well; the successor has nothing to undo, and says so.
    rig.machine.on(Event::Trigger);
    rig.transaction = rig.transaction.next();
    rig.machine.on(Event::Judged(rig.transaction, Verdict::Accepted(levels())));
    rig.ack(0, StepKind::Prepare, true);
    rig.ack(1, StepKind::Prepare, false);
    rig.ack(2, StepKind::Rollback, true);
    rig.ack(1, StepKind::Rollback, true);
    assert_eq!(
        rig.ack(0, StepKind::Rollback, true),
        [Action::Enter(State::Failed), Action::Conclude(rig.transaction, End::Failed)]
    );
    assert_eq!(rig.machine.broken(), Set::of(0));
}
