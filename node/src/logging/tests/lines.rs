//! One line: what is in it, whoever wrote it.

use super::*;

#[test]
fn lines_of_both_formats_carry_every_field() {
    let rig = Rig::new(|_, _| {});
    System::new().block_on(async {
        let logging = rig.start();
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let init = InitError::Stdout(std::io::Error::other(LogFileError { path: "a.log".into(), source }));
        let say = || {
            let error: &(dyn std::error::Error + 'static) = &init;
            tracing::info!(target: "net::x", count = 3, ok = true, ratio = 0.5, nan = f64::NAN, name = "two words",
                debug = ?Some("q"), shown = %"plain", level = "mine", r#type = "t", error, "Hello {}", "there");
        };
        rig.log(say);
        let text = LoggingSection { format: LogFormat::Text, ..rig.section.clone() };
        commit(&logging, Transaction::NONE.next(), &text).await;
        rig.log(say);
    });
    let text = rig.text("console");
    let (json, text) = text.split_once('\n').unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    let timestamp = json["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z'));
    for (key, value) in [
        ("level", Value::from("INFO")),
        ("target", "net::x".into()),
        ("message", "Hello there".into()),
        ("count", 3.into()),
        ("ok", true.into()),
        ("ratio", 0.5.into()),
        ("nan", "NaN".into()),
        ("name", "two words".into()),
        ("debug", "Some(\"q\")".into()),
        ("shown", "plain".into()),
        ("field_level", "mine".into()),
        ("type", "t".into()),
        ("error", "stdout cannot be used: a.log: cannot open the log file: no storage space".into()),
    ] {
        assert_eq!(json[key], value, "{key}");
    }
    assert_eq!(
        &text[24..],
        "  INFO net::x: Hello there count=3 ok=true ratio=0.5 nan=NaN name=\"two words\" \
         debug=\"Some(\\\"q\\\")\" shown=plain level=mine type=t \
         error=\"stdout cannot be used: a.log: cannot open the log file: no storage space\"\n"
    );
}

#[test]
fn hostile_values_stay_one_field_of_one_line() {
    let evil = "x\t\\\n{\"message\":\"forged\"}\r\x1b[2J\u{9b}31m\u{202e}\u{2028}\0\" level=error";
    let huge = "é".repeat(1 << 20);
    let rig = Rig::new(|_, _| {});
    System::new().block_on(async {
        let logging = rig.start();
        let say = || {
            tracing::info!(target: "net", peer = evil, shown = %evil, "Seen");
            tracing::info!(target: "net", "{evil}");
            tracing::info!(target: "net", huge, debug = ?huge, "Large");
        };
        rig.log(say);
        let text = LoggingSection { format: LogFormat::Text, ..rig.section.clone() };
        commit(&logging, Transaction::NONE.next(), &text).await;
        rig.log(say);
    });
    let text = rig.text("console");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{2028}'));
    let json: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(json["peer"], evil);
    assert_eq!(json["shown"], evil);
    assert_eq!(message(lines[1]), evil);
    let quoted = lines[3].split_once(" peer=\"").unwrap().1;
    assert!(quoted.contains("\\\" level=error\" shown=\""), "{quoted}");
    for line in [lines[2], lines[5]] {
        assert!(line.len() < 40_000 && line.matches("…[cut]").count() == 2, "{}", line.len());
    }
}

/// What went wrong: its own words hold some of its causes, and not others.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("it failed: {0}")]
    Told(#[source] std::io::Error),
    #[error("it failed")]
    Untold(#[source] std::io::Error),
}

#[test]
fn an_error_is_written_with_its_causes_each_once() {
    let rig = Rig::new(|_, _| {});
    rig.log(|| {
        for wrong in
            [Wrong::Told(std::io::Error::other("no room")), Wrong::Untold(std::io::Error::other("no room"))]
        {
            tracing::warn!(target: "net", error = &wrong as &(dyn std::error::Error + 'static), "Wrong");
        }
    });
    let text = rig.text("console");
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["error"], "it failed: no room");
    }
}
