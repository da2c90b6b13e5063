//! The very program, built with its fault points: cargo tells tests where it is, however they are started.

use std::process::ExitCode;

fn main() -> ExitCode {
    fednode::cli::main()
}
