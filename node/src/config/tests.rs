//! What the tests of the configuration share: a folder with the two files in it.

mod canonical;
mod certificates;
mod changes;
mod external;
mod keys;
mod loading;
mod own_files;
mod rules;
mod secrets;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::Identity;
use reload::Problem;
use storage::PeerKey;

use super::*;

/// A folder with a `conf.yaml` (the default one, with edits) and perhaps a `peers.yaml`.
struct Folder {
    folder: tempfile::TempDir,
    identity: Identity,
}

impl Folder {
    fn new() -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap(), identity: Identity::generate() };
        this.conf(&this.default());
        this
    }

    fn default(&self) -> String {
        default_config_text(&self.identity, true)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn conf(&self, text: &str) {
        self.write("conf.yaml", text);
    }

    /// The default file with some texts replaced; each must stand there once.
    fn edited(&self, edits: &[(&str, &str)]) -> String {
        edits.iter().fold(self.default(), |text, (from, to)| {
            assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
            text.replacen(from, to, 1)
        })
    }

    fn edit(&self, edits: &[(&str, &str)]) {
        self.conf(&self.edited(edits));
    }

    fn load_against(&self, current: Option<&Arc<Config>>) -> Result<Loaded, Rejection> {
        Config::load(&self.path("conf.yaml"), current, LoadOptions::default())
    }

    fn load(&self) -> Loaded {
        self.load_against(None).unwrap_or_else(|error| panic!("{error}"))
    }

    fn rejection(&self) -> Vec<Problem> {
        self.load_against(None).expect_err("refused").problems
    }
}

/// A certificate of this key, in PEM; each call makes another.
fn certificate(key: &rcgen::KeyPair) -> String {
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.self_signed(key).unwrap().pem()
}

fn key() -> PeerKey {
    Identity::generate().public_key()
}

fn texts(problems: &[Problem], folder: &Path) -> Vec<String> {
    let prefix = format!("{}/", folder.display());
    problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}
