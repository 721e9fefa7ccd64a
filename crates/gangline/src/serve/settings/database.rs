//! The database's address, which nobody is shown.

use std::path::PathBuf;

use gangline_server::{DatabaseUrl, secrets};
use serde::Deserialize;

use crate::problem::Problem;

/// A text that is shown to nobody.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl std::str::FromStr for Hidden {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// How a command that is no server is told where the books are.
#[derive(Debug, clap::Args)]
pub struct DatabaseArgs {
    /// The database, postgres://user:password@host:5432/database. Others on this machine may see a command line: a
    /// password belongs into the environment or into --database-file.
    #[arg(long, value_name = "URL", env = "GANGLINE_DATABASE", hide_env_values = true)]
    database: Option<Hidden>,
    /// File that holds the database's address and nothing else, which only this user may read (chmod 600).
    #[arg(long, value_name = "FILE", env = "GANGLINE_DATABASE_FILE")]
    database_file: Option<PathBuf>,
}

impl DatabaseArgs {
    /// The address; none where no database is named.
    ///
    /// # Errors
    /// As [`address_of`].
    pub fn address(self) -> anyhow::Result<Option<DatabaseUrl>> {
        address_of(self.database, self.database_file)
    }
}

/// The database's address, as given or from its file.
///
/// # Errors
/// When both are given, the file cannot be read or can be read by others, or it is no address.
pub fn address_of(given: Option<Hidden>, file: Option<PathBuf>) -> anyhow::Result<Option<DatabaseUrl>> {
    let text = match (given, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Problem::usage("the database's address is given twice")
                .hint("give either --database or --database-file")
                .into());
        }
        (Some(Hidden(text)), None) => text,
        (None, Some(file)) => {
            let read = secrets::read_line(&file).map_err(|error| {
                anyhow::Error::new(error).context(Problem::usage("the database's address cannot be used"))
            })?;
            read.as_str().to_owned()
        }
    };
    let url = text.trim().parse::<DatabaseUrl>();
    url.map(Some).map_err(|e| {
        let problem = Problem::usage(e.to_string());
        match e.hint() {
            Some(hint) => problem.hint(hint).into(),
            None => problem.into(),
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::serve::settings::Settings;

    #[test]
    fn an_address_with_a_password_shows_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("database");
        let write = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            Settings { database_file: Some(file.clone()), ..Settings::default() }.into_config()
        };
        let config = write("postgres://ada:hunter2@db/books\n", 0o600).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.database.unwrap().to_string(), "postgres://ada@db/books");
        assert!(write("postgres://ada:hunter2@db/books", 0o644).is_err(), "others may read it");
        let wrong = write("hunter2@db", 0o600).unwrap_err();
        assert!(!format!("{wrong:?}").contains("hunter2"));
        let settings: Settings = toml::from_str("database = \"postgres://ada:hunter2@db/books\"").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        let both = Settings { database_file: Some(file.clone()), ..settings };
        assert!(both.into_config().is_err());
    }
}
