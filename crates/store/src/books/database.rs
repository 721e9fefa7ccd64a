//! Where the books are: an address of PostgreSQL, with every host that may be the primary.

use std::{fmt, str::FromStr};

use sqlx::postgres::PgConnectOptions;

use crate::StoreError;

/// An address of PostgreSQL: `postgres://user:password@host:port/database`, with commas between hosts where
/// one of several may be the primary. A host that begins with `%2F` is a folder of sockets. Prints without its
/// password.
#[derive(Clone)]
pub struct DatabaseUrl {
    hosts: Vec<PgConnectOptions>,
    shown: String,
}

/// The parts of an address that are the same for every host.
struct Parts<'a> {
    user: &'a str,
    hosts: &'a str,
    rest: &'a str,
}

fn parts(url: &str) -> Option<Parts<'_>> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    (!hosts.is_empty() && rest.len() > 1).then_some(Parts { user, hosts, rest })
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    fn from_str(url: &str) -> Result<Self, StoreError> {
        // The text may hold a password: it is in no message.
        let wrong = |what: &str| StoreError::Setup {
            finding: format!("the database's address {what}"),
            hint: "write postgres://user:password@host:5432/database".into(),
        };
        let parts = parts(url.trim()).ok_or_else(|| wrong("is not one of PostgreSQL"))?;
        let one = |host: &str| {
            let at = if parts.user.is_empty() { "" } else { "@" };
            format!("postgres://{}{at}{host}{}", parts.user, parts.rest)
                .parse::<PgConnectOptions>()
                .map_err(|_| wrong("cannot be read"))
        };
        let hosts = parts.hosts.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
        let first = hosts.first().ok_or_else(|| wrong("names no host"))?;
        let database = first.get_database().ok_or_else(|| wrong("names no database"))?;
        let shown = format!("postgres://{}@{}/{database}", first.get_username(), parts.hosts);
        Ok(Self { hosts, shown })
    }
}

impl DatabaseUrl {
    /// How to reach each host.
    pub(crate) fn hosts(&self) -> &[PgConnectOptions] {
        &self.hosts
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_all_hosts_and_never_shows_its_password() {
        let check = |url: &str, hosts: usize, shown: &str| {
            let parsed: DatabaseUrl = url.parse().unwrap();
            assert_eq!((parsed.hosts().len(), parsed.to_string().as_str()), (hosts, shown));
            assert!(!format!("{parsed:?}{parsed}").contains("secret"));
        };
        check("postgres://ada:secret@db.example/books", 1, "postgres://ada@db.example/books");
        check("postgresql://ada:secret@a:1,b:2/books?sslmode=require", 2, "postgres://ada@a:1,b:2/books");
        check("postgres://ada:sec%40ret@%2Frun%2Fpg/books", 1, "postgres://ada@%2Frun%2Fpg/books");
        for bad in
            ["", "mysql://a:secret@b/c", "postgres://a:secret@b", "postgres://a:secret@/c", "/var/secret"]
        {
            let refused = bad.parse::<DatabaseUrl>().map(|_| ()).unwrap_err();
            assert!(!refused.to_string().contains("secret"), "{bad}");
        }
    }
}
