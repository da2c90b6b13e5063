use super::*;
use crate::testing::names;
use std::os::unix::fs::symlink;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_is_replaced_whole_and_nothing_else_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("conf.yaml");
    write(&path, b"one", Mode::OwnerOnly).unwrap();
    write(&path, b"two", Mode::OwnerOnly).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(names(dir.path()), ["conf.yaml"]);
}

#[test]
fn a_file_of_people_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peers.yaml");
    write(&path, b"", Mode::KeepOr(0o644)).unwrap();
    assert_eq!(mode(&path), 0o644);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    write(&path, b"x", Mode::KeepOr(0o644)).unwrap();
    assert_eq!(mode(&path), 0o640);
}

#[test]
fn a_symlink_stays_and_its_target_is_replaced_even_if_it_was_missing() {
    let dir = tempfile::tempdir().unwrap();
    let (far, near) = (dir.path().join("far"), dir.path().join("near"));
    fs::create_dir(&far).unwrap();
    fs::create_dir(&near).unwrap();
    symlink("../far/real", near.join("link")).unwrap();
    write(&near.join("link"), b"through", Mode::OwnerOnly).unwrap();
    assert_eq!(fs::read(far.join("real")).unwrap(), b"through");
    assert!(fs::symlink_metadata(near.join("link")).unwrap().is_symlink());
    assert_eq!(names(&far), ["real"]);

    symlink("loop", near.join("loop")).unwrap();
    let error = write(&near.join("loop"), b"", Mode::OwnerOnly).unwrap_err();
    assert_eq!(error.action, Action::Resolve);
}

#[test]
fn a_failed_write_leaves_no_file_and_names_place_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = write(&dir.path().join("no/such"), b"x", Mode::OwnerOnly).unwrap_err();
    assert!(error.to_string().contains("no/such") && error.to_string().contains("create the folder first"));

    fs::create_dir(dir.path().join("taken")).unwrap();
    let error = write(&dir.path().join("taken"), b"x", Mode::OwnerOnly).unwrap_err();
    assert_eq!(error.action, Action::Rename);
    assert_eq!(names(dir.path()), ["taken"]);
}

#[test]
fn what_exists_is_never_overwritten_by_create() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("conf.yaml");
    create(&path, b"first").unwrap();
    assert_eq!(mode(&path), 0o600);
    let error = create(&path, b"second").unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"first");
    symlink("nowhere", dir.path().join("link")).unwrap();
    create(&dir.path().join("link"), b"").unwrap_err();
    assert_eq!(names(dir.path()), ["conf.yaml", "link"]);
}

#[test]
fn a_sweep_takes_leftovers_of_the_dead_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let own = temp_name(OsStr::new("a")).into_string().unwrap();
    let dead = format!(".a.tmp-{}-7", child.id());
    let same_pid = format!(".a.tmp-{}-7", std::process::id());
    for name in [own.as_str(), &dead, &same_pid, ".a.tmp-x-1", "a.tmp-1-1", ".hidden"] {
        fs::write(dir.path().join(name), b"").unwrap();
    }
    assert_eq!(sweep(dir.path()).unwrap(), 2);
    let mut left = vec![own, ".a.tmp-x-1".into(), "a.tmp-1-1".into(), ".hidden".into()];
    left.sort();
    assert_eq!(names(dir.path()), left);
}
