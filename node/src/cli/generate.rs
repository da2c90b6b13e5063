//! Texts that are made of the program itself: schema, reference, completions, manual page.

use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, INTERNAL, print, print_json};
use crate::config::keys;

/// The files that have a schema.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Described {
    /// conf.yaml
    Conf,
    /// peers.yaml
    Peers,
}

/// Prints the JSON Schema of a file.
pub(super) fn schema(file: Described) -> ExitCode {
    print_json(&match file {
        Described::Conf => keys::conf_schema(),
        Described::Peers => keys::peers_schema(),
    });
    ExitCode::SUCCESS
}

/// Prints `docs/configuration.md`.
pub(super) fn reference() -> ExitCode {
    print(&keys::reference());
    ExitCode::SUCCESS
}

/// Prints the completions for a shell.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fednode", &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// Prints the manual page.
pub(super) fn manual() -> ExitCode {
    match manual_page() {
        Ok(page) => {
            print(&page);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::from(INTERNAL)
        }
    }
}

const EXIT: &str = r#".SH "EXIT STATUS"
0 done; 1 refused, invalid, or different; 2 usage; 3 rolled back; 4 failed (emergency); 5 no node answers; 70 a bug, or a machine that fails.
.SH FILES
conf.yaml, peers.yaml (see docs/configuration.md); in node.data_dir: admin.sock, audit.jsonl, known.yaml, fednode.pid.
.SH SIGNALS
SIGHUP makes the node take its files over; SIGTERM and SIGINT stop it gracefully, a second one at once.
"#;

/// One page with every command: the options that all have stand once, at the top.
fn manual_page() -> std::io::Result<String> {
    let command = Cli::command();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).manual("Federation node").section("1");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    page += ".SH COMMANDS\n";
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        page += &section(inner, "fednode")?;
    }
    Ok(page + EXIT)
}

fn section(command: &Command, above: &str) -> std::io::Result<String> {
    let name = format!("{above} {}", command.get_name());
    let mut body = Vec::new();
    let alone = command.clone().bin_name(name.clone()).disable_help_flag(true).disable_help_subcommand(true);
    let man = Man::new(alone);
    man.render_synopsis_section(&mut body)?;
    man.render_description_section(&mut body)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set() && !argument.is_global_set()) {
        man.render_options_section(&mut body)?;
    }
    let examples = command.get_after_help().map(ToString::to_string);
    let mut text = format!(".SS \"{name}\"\n");
    // Of a command on its own page these are the page's sections.
    for line in String::from_utf8_lossy(&body).lines() {
        match line.strip_prefix(".SH ") {
            Some("OPTIONS") => text += ".PP\nOptions:\n",
            Some(_) => text += ".PP\n",
            None => {
                text += line;
                text.push('\n');
            }
        }
    }
    if let Some(examples) = examples {
        text += ".PP\n.nf\n";
        for line in examples.lines() {
            // A dot or a quote at the beginning would be a request.
            text += "\\&";
            text += &line.replace('\\', "\\\\").replace('-', "\\-");
            text.push('\n');
        }
        text += ".fi\n";
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        text += &section(inner, &name)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_page_in_docs_is_what_the_program_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/man/fednode.1");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let page = manual_page().unwrap();
        assert!(
            written == page,
            "docs/man/fednode.1 is old: write it with `fednode man > docs/man/fednode.1`"
        );
        for inner in Cli::command().get_subcommands().filter(|inner| !inner.is_hide_set()) {
            assert!(page.contains(&format!(".SS \"fednode {}\"", inner.get_name())), "{}", inner.get_name());
        }
    }

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        for inner in Cli::command().get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let help = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("fednode {}", inner.get_name())), "{}: {help}", inner.get_name());
        }
    }
}
