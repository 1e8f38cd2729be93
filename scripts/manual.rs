//! Writes the man pages and the shells' completions into a directory: `cargo run --example manual -- DIR`

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use clap_complete::{Shell, generate_to};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or("usage: manual DIRECTORY")?;
    fs::create_dir_all(&directory)?;
    let mut command = carrot_actors::internals::cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "carrot-actors", &directory)?;
    }
    // `help send` would repeat `send --help`.
    let command = carrot_actors::internals::cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &directory)?;
    Ok(())
}
