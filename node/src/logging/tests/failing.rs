//! Outputs that fail: a pipe that nobody reads, a disk without room.

use super::*;

#[test]
fn an_output_that_fails_costs_lines_and_is_told_of_once_on_the_other() {
    // A pipe without a reader: every write fails.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let dir = tempfile::tempdir().unwrap();
    let console = fs::File::from(std::os::fd::OwnedFd::from(writer));
    let (handle, dispatch) = detached_with(dir.path(), console, 1 << 20);
    dispatcher::with_default(&dispatch, || {
        for number in 0..3 {
            tracing::info!(target: "net", "{number}");
        }
    });
    flush(&handle);
    let text = fs::read_to_string(dir.path().join("node.log")).unwrap();
    let (told, messages): (Vec<_>, Vec<_>) =
        text.lines().map(message).partition(|message| message == "log lines are being lost");
    assert_eq!((told.len(), messages), (1, ["0", "1", "2"].map(str::to_owned).to_vec()));
    assert_eq!(handle.lost_lines(), 3);
}

/// Runs itself again under a limit on the size of files, which takes a part of a line and refuses the rest, as a full
/// disk does.
#[test]
fn a_full_disk_costs_whole_lines_and_is_told_of_once() {
    const NAME: &str = "logging::tests::failing::a_full_disk_costs_whole_lines_and_is_told_of_once";
    if let Some(dir) = std::env::var_os("FEDNODE_TEST_FULL_DISK") {
        return log_to_a_full_disk(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let child = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact --nocapture \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(NAME)
        .env("FEDNODE_TEST_FULL_DISK", dir.path())
        .output()
        .unwrap();
    let console = String::from_utf8(child.stderr).unwrap();
    assert!(child.status.success(), "{console}");
    let told = console.lines().filter(|line| line.contains("log lines are being lost")).count();
    assert_eq!(told, 1, "{console}");

    let full = fs::read_to_string(dir.path().join("full")).unwrap();
    let written = full.lines().map(message).collect::<Vec<_>>();
    let expected: Vec<_> = (0..written.len()).map(|number| number.to_string()).collect();
    assert!(full.ends_with('\n') && !written.is_empty() && written == expected, "{full}");
    let lost = 200 - written.len();
    let after = fs::read_to_string(dir.path().join("node.log")).unwrap();
    assert_eq!(after.lines().map(message).collect::<Vec<_>>(), ["there is room", "log lines were lost"]);
    assert!(after.contains(&format!("\"lost\":\"{lost}\"")), "{after}");
}

fn log_to_a_full_disk(dir: &Path) {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
    let (handle, dispatch) = detached_with(dir, fs::File::from(stderr), 1 << 30);
    dispatcher::with_default(&dispatch, || {
        for number in 0..200 {
            tracing::info!(target: "net", "{number}");
        }
        flush(&handle);
        let full = fs::read(dir.join("node.log")).unwrap();
        assert!(handle.lost_lines() > 0);
        fs::write(dir.join("full"), full).unwrap();
        fs::File::options().write(true).open(dir.join("node.log")).unwrap().set_len(0).unwrap();
        tracing::info!(target: "net", "there is room");
        flush(&handle);
    });
}
