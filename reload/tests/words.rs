//! The words that operators, dashboards and scripts read.

use std::io::{self, ErrorKind};

use reload::error::may_pass;
use reload::machine::State;
use reload::outcome::Kind;
use reload::redact::REDACTED;
use reload::{Class, Generation, Outcome, Problem, Secret, StepError, StepKind, Strategy, Trigger};
use serde::Serialize;
use serde_json::to_value;

/// A metric's label and the JSON of an outcome must not have two words for one thing.
fn same<T: Serialize>(value: T, name: &str) {
    assert_eq!(to_value(value).unwrap(), name);
}

#[test]
fn a_name_is_the_same_in_metrics_and_in_json() {
    State::ALL.into_iter().for_each(|state| same(state, state.as_str()));
    Kind::ALL.into_iter().chain([Kind::Planned]).for_each(|kind| same(kind, kind.as_str()));
    for class in [Class::Validation, Class::Component, Class::System, Class::Critical] {
        same(class, class.as_str());
        assert_eq!(class.to_string(), class.as_str());
    }
    use Trigger::{Api, Cli, Rollback, Signal, Startup, Watch};
    for trigger in [Startup, Signal, Api, Cli, Watch, Rollback] {
        same(trigger, trigger.as_str());
    }
    use StepKind::{Commit, Finish, Prepare, Probe};
    for step in [Prepare, Commit, Probe, Finish, StepKind::Rollback] {
        same(step, step.as_str());
    }
}

#[test]
fn a_problem_names_place_value_and_remedy() {
    let problem = Problem {
        line: Some(7),
        column: Some(3),
        ..Problem::at("network.addresses[1]", "'x' is no address").hint("as /ip4/0.0.0.0/tcp/9000")
    };
    assert_eq!(
        problem.clone().file("conf.yaml").to_string(),
        "conf.yaml:7:3: network.addresses[1]: 'x' is no address (as /ip4/0.0.0.0/tcp/9000)"
    );
    let nowhere = Problem { line: None, ..problem };
    assert_eq!(
        nowhere.file("conf.yaml").to_string(),
        "conf.yaml: network.addresses[1]: 'x' is no address (as /ip4/0.0.0.0/tcp/9000)"
    );
    let of_a_component =
        StepError::component("taken").key("network.addresses[0]").hint("free it").into_problem("network");
    assert_eq!(of_a_component.to_string(), "network: network.addresses[0]: taken (free it)");
    assert_eq!(
        Outcome::error_text(&[of_a_component.clone(), of_a_component]).as_deref(),
        Some(
            "network: network.addresses[0]: taken (free it); network: network.addresses[0]: taken (free it)"
        )
    );
    assert_eq!(Outcome::error_text(&[]), None);
}

#[test]
fn what_passes_by_itself_is_the_machines_fault() {
    let class = |error: io::Error| StepError::of_io("no", &error).class;
    for kind in [ErrorKind::AddrInUse, ErrorKind::StorageFull, ErrorKind::TimedOut, ErrorKind::WouldBlock] {
        assert_eq!(class(kind.into()), Class::System, "{kind}");
    }
    for kind in [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::InvalidInput] {
        assert_eq!(class(kind.into()), Class::Component, "{kind}");
    }
    // EMFILE has no kind of its own.
    assert_eq!(may_pass(&io::Error::from_raw_os_error(24)), cfg!(unix));
}

#[test]
fn a_secret_is_not_printed() {
    let secret = Secret::new("hunter2");
    assert_eq!((format!("{secret:?}"), to_value(&secret).unwrap()), (REDACTED.to_owned(), REDACTED.into()));
    assert_eq!(*secret.expose(), "hunter2");
}

#[test]
fn a_strategy_reads_as_a_part_of_a_sentence() {
    let texts = [Strategy::InPlace, Strategy::ReplacePart, Strategy::NewConnections, Strategy::Restart]
        .map(|strategy| strategy.to_string());
    assert_eq!(texts, ["in place", "replaces one part", "for new connections", "restarts the component"]);
}

#[test]
fn a_generation_reads_back_and_is_never_zero() {
    assert_eq!("42".parse(), Ok(Generation::new(42).unwrap()));
    for text in ["0", "-1", "one", ""] {
        assert_eq!(text.parse::<Generation>().unwrap_err().to_string(), "generations are numbered from 1");
    }
}
