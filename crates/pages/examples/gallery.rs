//! Writes every page with sample data into a folder, in both themes, to be looked at:
//! `cargo run -p gangline-pages --example gallery -- OUTDIR`, then serve OUTDIR and open `/dark/explorer.html`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::{env, fs, path::PathBuf, process::ExitCode};

use gangline_pages::{Theme, assets};

fn write(out: PathBuf) -> std::io::Result<()> {
    for asset in assets() {
        let path = out.join(asset.path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap_or(&out))?;
        fs::write(path, asset.bytes)?;
        println!("{:>7} B, {:>6} B in brotli  {}", asset.bytes.len(), asset.brotli.len(), asset.path);
    }
    for theme in [Theme::Dark, Theme::Light, Theme::Auto] {
        let folder = out.join(theme.as_str());
        fs::create_dir_all(&folder)?;
        for (name, page) in common::gallery(&common::Words(None), theme) {
            fs::write(folder.join(format!("{name}.html")), page)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some(out) = env::args_os().nth(1) else {
        eprintln!("usage: gallery OUTDIR");
        return ExitCode::FAILURE;
    };
    match write(PathBuf::from(&out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("could not write the gallery to {}: {e}", out.display());
            ExitCode::FAILURE
        }
    }
}
