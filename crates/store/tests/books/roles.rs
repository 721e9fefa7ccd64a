//! What the explorer's and the intake's roles can do in PostgreSQL, tried as those roles.

use gangline_store::{DatabaseUrl, Store, StoreError};
use sqlx::{Connection, PgConnection};

use crate::{
    postgres,
    world::{World, network},
};

fn password(purpose: &str) -> String {
    gangline_types::Hash::from(blake3::keyed_hash(&network().1, purpose.as_bytes())).to_string()
}

async fn as_role(server: &postgres::Server, database: &str, purpose: &str) -> PgConnection {
    let url = format!("postgres://{database}_{purpose}:{}@{}/{database}", password(purpose), server.host());
    PgConnection::connect(&url).await.unwrap()
}

#[tokio::test]
async fn each_role_can_do_its_part_and_nothing_else() {
    let server = postgres::shared();
    let database = server.database().await;
    let url: DatabaseUrl = server.url(&database).parse().unwrap();
    let store = World::connect(&url, 1).await.unwrap();
    let check = |purpose: &'static str,
                 allowed: &'static [&'static str],
                 refused: &'static [&'static str]| {
        let (server, database) = (server.clone(), database.clone());
        async move {
            let mut connection = as_role(&server, &database, purpose).await;
            for statement in allowed {
                sqlx::query(*statement).execute(&mut connection).await.unwrap();
            }
            for statement in refused {
                let tried = sqlx::query(*statement).execute(&mut connection).await;
                let code =
                    tried.as_ref().err().and_then(|e| e.as_database_error()?.code().map(|c| c.into_owned()));
                assert_eq!(code.as_deref(), Some("42501"), "{purpose}: {statement}: {tried:?}");
            }
        }
    };
    check(
        "explorer",
        &["SELECT * FROM gangline_public.gpu", "SELECT * FROM gangline_public.log_entry"],
        &[
            "SELECT * FROM gangline.account",
            "SELECT row FROM gangline_public.gpu UNION SELECT name FROM gangline.account",
            "SELECT count(*) FROM gangline.key",
            "INSERT INTO gangline_public.totals VALUES (1, '')",
            "DELETE FROM gangline_public.gpu",
            "CREATE TABLE gangline_public.mine (x INT)",
            "CREATE TABLE public.mine (x INT)",
            "SELECT set_config('role', 'owner', false)",
            "SET ROLE owner",
            "SET SESSION AUTHORIZATION owner",
            "SELECT gangline_intake.fold(0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')",
            "SELECT pg_read_file('/etc/passwd')",
        ],
    )
    .await;
    check(
        "intake",
        &["SELECT gangline_intake.fold(0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')"],
        &[
            "SELECT * FROM gangline.gpu",
            "SELECT * FROM gangline_public.gpu",
            "INSERT INTO gangline.uptime VALUES ('', 1, 1)",
            "SELECT set_config('role', 'owner', false)",
        ],
    )
    .await;
    store.close().await;
}

#[tokio::test]
async fn a_server_whose_explorer_sees_too_much_does_not_start() {
    let server = postgres::shared();
    let database = server.database().await;
    let url: DatabaseUrl = server.url(&database).parse().unwrap();
    World::connect(&url, 1).await.unwrap().close().await;
    let refused = |grant: &'static str, named: &'static str, revoke: &'static str| {
        let named_here =
            |text: &str| text.replace('$', &format!("{database}_explorer")).replace('#', &database);
        let (grant, revoke) = (named_here(grant), named_here(revoke));
        (grant, named, revoke)
    };
    for (grant, named, revoke) in [
        refused(
            "GRANT USAGE ON SCHEMA gangline TO $; GRANT SELECT (name) ON gangline.account TO $",
            "reads of gangline.account",
            "REVOKE ALL ON SCHEMA gangline FROM $; REVOKE ALL ON gangline.account FROM $",
        ),
        refused(
            "GRANT INSERT ON gangline_public.gpu TO $",
            "writes to gangline_public.gpu",
            "REVOKE INSERT ON gangline_public.gpu FROM $",
        ),
        refused(
            "GRANT TEMPORARY ON DATABASE # TO $",
            "TEMPORARY in this database",
            "REVOKE TEMPORARY ON DATABASE # FROM $",
        ),
        refused(
            "GRANT EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) TO $",
            "the function pg_catalog.set_config",
            "REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM $",
        ),
        refused(
            "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO PUBLIC",
            "the function pg_catalog.pg_read_file",
            "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) FROM PUBLIC",
        ),
        refused("ALTER ROLE $ CREATEROLE", "the attribute CREATEROLE", "ALTER ROLE $ NOCREATEROLE"),
        refused(
            "GRANT pg_read_all_data TO $",
            "membership in pg_read_all_data",
            "REVOKE pg_read_all_data FROM $",
        ),
    ] {
        for statement in grant.split("; ") {
            server.administer(&database, statement);
        }
        let error = World::connect(&url, 1).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert!(error.hint().is_some());
        for statement in revoke.split("; ") {
            server.administer(&database, statement);
        }
    }
    World::connect(&url, 1).await.unwrap().close().await;
    // Nor does the server of another network.
    let other = Store::connect(&url, [1; 32], &[2; 32], [3; 16]).await.map(|_| ());
    assert!(matches!(other, Err(StoreError::OtherNetwork { .. })), "{other:?}");
}

/// A rented database has an owner who is no superuser: it works, and what only a superuser can take away is said.
#[tokio::test]
async fn an_owner_who_is_no_superuser_is_told_what_they_cannot_revoke() {
    let server = postgres::shared();
    let database = server.database().await;
    for statement in
        ["CREATE ROLE #_owner LOGIN CREATEROLE PASSWORD 'rented'", "ALTER DATABASE # OWNER TO #_owner"]
    {
        server.administer(&database, &statement.replace('#', &database));
    }
    let url = format!("postgres://{database}_owner:rented@{}/{database}", server.host());
    let url: DatabaseUrl = url.parse().unwrap();
    let store = World::connect(&url, 1).await.unwrap();
    assert_eq!(store.said().len(), 2, "{:?}", store.said());
    assert!(store.said()[0].contains("may call set_config"), "{:?}", store.said());
    store.close().await;
    server.administer(
        &database,
        "REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC",
    );
    let store = World::connect(&url, 1).await.unwrap();
    assert!(store.said().is_empty(), "{:?}", store.said());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_may_start_together() {
    let server = postgres::shared();
    let url: DatabaseUrl = server.url(&server.database().await).parse().unwrap();
    let starting: Vec<_> = (1..=3)
        .map(|replica| {
            let url = url.clone();
            tokio::spawn(async move { World::connect(&url, replica).await.unwrap() })
        })
        .collect();
    for one in starting {
        one.await.unwrap().close().await;
    }
}
