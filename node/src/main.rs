//! `fednode`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    fednode::cli::main()
}
