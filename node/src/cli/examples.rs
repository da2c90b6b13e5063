//! What stands below the help of each command.

pub(super) const FEDNODE: &str = "Examples:
  fednode init                 write conf.yaml with a new key, and an empty peers.yaml
  fednode                      run the node in this folder
  fednode check                judge conf.yaml and peers.yaml
  fednode check --against running
                               what would change, and which connections would close
  fednode reload               make the running node take the edited files over, and wait
  fednode reload --confirm 5m  the same, and go back by itself unless `fednode confirm` comes in time
  fednode rollback             make the generation before current again
  fednode status --watch       see it live
  fednode peers add KEY /dns4/node1.example.com/tcp/9000
                               write a member into peers.yaml and take it over
  fednode demo                 see a federation reload";

pub(super) const RUN: &str = "Examples:
  fednode run -c /etc/fednode/conf.yaml
  fednode run --last-known-good    start although somebody broke the file; it runs degraded until the file is good";

pub(super) const INIT: &str = "Examples:
  fednode init
  fednode init -c /etc/fednode/conf.yaml
  fednode init --json | jq -r .public_key";

pub(super) const CHECK: &str = "Examples:
  fednode check
  fednode check --probe                 also try services' targets and members' addresses from here
  fednode check --against running       what a reload would change
  fednode check --against conf.yaml.old what one file changes against another
  fednode check --json | jq '.errors[]'

Exit code 0 valid, 1 invalid, 2 usage. What --probe finds are warnings.";

pub(super) const DIFF: &str = "Examples:
  fednode diff && echo nothing to reload

Exit code 0 same, 1 different, 5 no node.";

pub(super) const RELOAD: &str = "Examples:
  fednode reload -m \"new port\"
  fednode reload --dry-run
  fednode reload --confirm 5m && ssh node3 true && fednode confirm

Exit code 0 committed or unchanged, 1 rejected, 3 rolled back, 4 failed (emergency), 5 no node.";

pub(super) const CONFIRM: &str = "Examples:
  fednode confirm -m \"everybody is still there\"";

pub(super) const ROLLBACK: &str = "Examples:
  fednode rollback               the newest generation before this one with other contents
  fednode rollback 41 -m \"42 lost a member\"
  fednode rollback 41 --dry-run

Exit codes are those of `fednode reload`. The files say again what the generation said; what they replace is kept
as NAME.replaced-N.";

pub(super) const HISTORY: &str = "Examples:
  fednode history
  fednode history 100 --json | jq '.generations[].changes'";

pub(super) const STATUS: &str = "Examples:
  fednode status
  fednode status --watch                until Ctrl-C; without a terminal, a line for each change
  fednode status --watch --json | jq -c .generation
  fednode status --json | jq .members";

pub(super) const PEERS: &str = "Examples:
  fednode peers
  fednode peers add y7OBUyxaPvRPHWAjeFRq+tMiUNvqVZaAiW7S5KmXf9Q= /dns4/node1.example.com/tcp/9000 --name one
  fednode peers remove y7OBUyxaPvRPHWAjeFRq+tMiUNvqVZaAiW7S5KmXf9Q=";

pub(super) const SERVICES: &str = "Examples:
  fednode services
  fednode services --json | jq '.expose[].open_streams'";

pub(super) const DEMO: &str = "Examples:
  fednode demo";

pub(super) const ID: &str = "Examples:
  fednode id
  fednode id --json | jq -r .public_key";

pub(super) const KEYGEN: &str = "Examples:
  fednode keygen
  fednode keygen --json | jq -r .private_key > node.key";

pub(super) const TOKEN: &str = "Examples:
  fednode token --claim role=admin --ttl 15m
  curl -H \"Authorization: Bearer $(fednode token)\" http://127.0.0.1:9100/admin/status
  fednode token --key private.pem       where admin.jwt has only a public key

The value of a claim is JSON where it is valid JSON, else a text. What admin.jwt.claims demands with `equals` or `contains`, or
with `in` and one value, is there by itself.";

pub(super) const SCHEMA: &str = "Examples:
  fednode schema > conf.schema.json
  fednode schema peers > peers.schema.json
Editors with yaml-language-server find them by the first line of the files that `fednode init` writes.";

pub(super) const COMPLETIONS: &str = "Examples:
  fednode completions bash > ~/.local/share/bash-completion/completions/fednode
  fednode completions zsh > ~/.zfunc/_fednode
  fednode completions fish > ~/.config/fish/completions/fednode.fish";
