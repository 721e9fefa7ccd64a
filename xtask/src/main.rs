//! The repository's own commands: `cargo xtask demo`, `cargo xtask test` and `cargo xtask tidy`.
//!
//! This program installs what is missing, builds, and starts things; it knows nothing of what Gangline
//! does and depends on none of its rooms, so that it builds in seconds and works when they do not.

mod demo;
mod deny;
mod failures;
mod fuzz;
mod groups;
mod install;
mod process;
mod python;
mod ray;
mod sbom;
mod suite;
mod tidy;
mod workspace;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  demo [ARGS...]         install what is missing, build, and run the whole network on this machine;
                         ARGS go to `gangline demo` (for example --keep, or --report FILE)
  test [--only GROUP]... install what tests need and run every group of tests, or only those named
                         with --report FILE how each ended goes to FILE as JSON instead of being printed
  test --list            name the groups and what each one checks
  fuzz [--minutes N] [TARGET]...
                         build the fuzz targets and run all or those named, N minutes in all
  advisories [FOLDER]    ask the database of advisories about every dependency; fails where it cannot be asked.
                         FOLDER is a clone of it, for a machine that does not reach it
  sbom [FILE]            write the program's bill of materials: every crate in it, with version, checksum and
                         licence (CycloneDX 1.6)
  tidy                   check the repository's own rules: edges between rooms, absences, docs, links
  ray                    only make the Ray environment, and print where it is
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode> {
    match args.first().map(String::as_str) {
        Some("demo") => demo::run(&args[1..]),
        Some("test") => suite::run(&args[1..]),
        Some("fuzz") => fuzz::run(&args[1..]),
        Some("advisories") => {
            let (fetched, more) = match &args[1..] {
                [] => (None, &[] as &[String]),
                [folder, more @ ..] => (Some(std::path::Path::new(folder)), more),
            };
            no_more(more)?;
            let held = deny::advisories(&workspace::root(), fetched)?;
            Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some("sbom") => sbom::run(&args[1..]),
        Some("tidy") => {
            no_more(&args[1..])?;
            Ok(if tidy::run()? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some("ray") => {
            no_more(&args[1..])?;
            install::ensure(install::RAY);
            println!("{}", ray::ensure()?.display());
            Ok(ExitCode::SUCCESS)
        }
        None | Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Some(other) => bail!("there is no command `{other}`\n\n{USAGE}"),
    }
}

fn no_more(args: &[String]) -> Result<()> {
    match args.first() {
        None => Ok(()),
        Some(extra) => bail!("unexpected argument `{extra}`\n\n{USAGE}"),
    }
}
