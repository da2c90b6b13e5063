//! What is said about a wrong configuration gives no secret away.

use super::*;

/// Every way to write a secret where it does not belong: nothing that is said shows more than its first characters.
#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    let folder = Folder::new();
    let key = folder.identity.to_text();
    let line = format!("private_key: \"{key}\"");
    let node = |text: &str| folder.default().replace(&line, text);
    let flow = |text: &str| {
        let default = folder.default();
        let (start, rest) = default.split_once("node:\n").unwrap();
        format!("{start}node: {text}\nnetwork:{}", rest.split_once("\nnetwork:").unwrap().1)
    };
    let with = |from: &str, to: &str| folder.edited(&[(from, to)]);
    let secret = "correct horse battery staple, and so on";
    let space = "a space is missing after the colon: write `private_key: …`";
    for (text, path, piece) in [
        (flow(&format!("{{private_key:{key}, data_dir: data}}")), "node.private_key…", space),
        (
            flow(&format!("{{private_key \"{key}\"}}")),
            "node.private_key…",
            "write `private_key: …`, with a colon",
        ),
        (
            flow(&format!("{{private_key=\"{key}\"}}")),
            "node.private_key…",
            "write `private_key: …`, with a colon",
        ),
        (flow(&format!("{{{key}}}")), "node", "unknown key \"…\""),
        (flow(&format!("[{key}]")), "node", "must be a mapping"),
        (node(&format!("key_file: \"{key}\"")), "node.key_file", "is a key itself"),
        (node(&format!("key_file: \"{}\"", &key[..60])), "node.key_file", "holds no key"),
        (node(&format!("key_file: \"{}/{}\"", &key[..60], &key[60..])), "node.key_file", "holds no key"),
        (with("data_dir: data ", &format!("data_dir: \"{key}\" ")), "node.data_dir", "is a key itself"),
        (
            with("worker_threads: 0 ", &format!("worker_threads: \"{key}\" ")),
            "node.worker_threads",
            "… (88 characters)",
        ),
        (
            with("jwt: null", &format!("jwt: {{algorithm: HS256, secret:{key}}}")),
            "admin.jwt.secret…",
            "space is missing",
        ),
        (
            with("jwt: null", &format!("jwt: {{algorithm: {key}, secret: x}}")),
            "admin.jwt.algorithm",
            "… (88 characters)",
        ),
        (
            with("jwt: null", &format!("jwt: {{algorithm: HS256, secret_file: \"{secret}\"}}")),
            "admin.jwt.secret_file",
            "correct …",
        ),
        (
            with(
                "tls: null",
                "tls: {certificate: x, private_key: \"-----BEGIN PRIVATE KEY-----\\nhunter2\"}",
            ),
            "admin.tls.private_key",
            "is a key itself",
        ),
        (
            with("targets: {}", &format!("targets: {{{key}: debug}}")),
            "logging.targets",
            "no name of a module",
        ),
        (with("file: peers.yaml", &format!("file: \"{key}\"")), "peers.file", "is a key itself"),
        (
            with("expose: []", &format!("expose: [{{name: x, target: \"h:1\", allow: [\"{key}\"]}}]")),
            "protocol.services.expose[0].allow[0]",
            "is a key pair",
        ),
        (with("\"/ip6/::/tcp/9000\"", &format!("/{key}/x")), "network.addresses[1]", "names no protocol"),
    ] {
        folder.conf(&text);
        let shown = match folder.load_against(None) {
            Ok(loaded) => problems_text(&loaded.warnings),
            Err(rejection) => problems_text(&rejection.problems) + &problems_text(&rejection.warnings),
        };
        for part in [&key[..9], &key[30..40], &key[80..], "hunter2", "horse"] {
            assert!(!shown.contains(part), "{path}: {shown}");
        }
        assert!(shown.contains(path) && shown.contains(piece), "{path}: {shown}");
    }
}
