//! The reference of all settings, made from their declaration.

use clap::{Args as _, Command};

use super::settings::Settings;

/// The reference in Markdown.
pub fn markdown() -> String {
    let command = Settings::augment_args(Command::new("serve"));
    let mut out = String::from(
        "# Configuration of `gangline serve`\n\n\
         Made by `gangline serve --reference`; a test holds it to the code. A flag goes before the environment\n\
         variable, and that before the key in the file given by `--config` (or `GANGLINE_CONFIG`), in TOML.\n\n\
         | flag | environment | key | what it is |\n|---|---|---|---|\n",
    );
    for arg in command.get_arguments() {
        let long = arg.get_long().unwrap_or_default();
        let value = arg.get_value_names().and_then(|n| n.first()).map(|n| n.to_string()).unwrap_or_default();
        let env = arg.get_env().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        let help = arg
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default()
            .replace('\n', " ")
            .replace('|', "\\|");
        let key = long.replace('-', "_");
        out.push_str(&format!("| `--{long} {value}` | `{env}` | `{key}` | {help} |\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    /// Set `GANGLINE_BLESS=1` to write the file anew.
    #[test]
    fn the_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");
        let now = super::markdown();
        if std::env::var_os("GANGLINE_BLESS").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(now == written, "docs/CONFIGURATION.md is not what `gangline serve --reference` prints");
    }
}
