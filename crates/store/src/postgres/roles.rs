//! The two roles beside the owner: made where we may, and looked at as each of them before anything is answered.
//! A server whose explorer could see more than the projection does not start.

use gangline_types::Hash;
use sqlx::{PgConnection, PgPool};

use crate::StoreError;

/// Schemas of which a role may use tables and functions.
pub(super) struct Sees {
    tables: &'static str,
    functions: &'static str,
}
/// The explorer reads the projection.
pub(super) const EXPLORER_SEES: Sees = Sees { tables: "gangline_public", functions: "" };
/// The intake calls its functions.
pub(super) const INTAKE_SEES: Sees = Sees { tables: "", functions: "gangline_intake" };

/// How a role logs in.
pub(super) struct Login {
    pub(super) name: String,
    pub(super) password: String,
}

/// A role's password follows from the network's secret, so that every server knows it and none has to be told.
fn password(secret: &[u8; 32], purpose: &str) -> String {
    Hash::from(blake3::keyed_hash(secret, purpose.as_bytes())).to_string()
}

/// Makes the roles and gives them their rights.
pub(super) async fn ensure(
    connection: &mut PgConnection,
    secret: &[u8; 32],
) -> Result<[Login; 2], StoreError> {
    let doing = "making the explorer's and the intake's roles";
    let mut logins = Vec::with_capacity(2);
    for purpose in ["explorer", "intake"] {
        let name: String = sqlx::query_scalar("SELECT role_name($1)")
            .bind(purpose)
            .fetch_one(&mut *connection)
            .await
            .map_err(StoreError::sql(doing))?;
        let login = Login { name, password: password(secret, purpose) };
        let made = sqlx::query("SELECT ensure_role($1, $2)")
            .bind(purpose)
            .bind(&login.password)
            .execute(&mut *connection)
            .await;
        match made {
            Ok(_) => {}
            // 42501: insufficient privilege. Somebody else makes it; the check at the end says whether they did.
            Err(e) if is(&e, "42501") => {
                let there: bool =
                    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)")
                        .bind(&login.name)
                        .fetch_one(&mut *connection)
                        .await
                        .map_err(StoreError::sql(doing))?;
                if !there {
                    return Err(missing(&login.name));
                }
            }
            Err(e) => return Err(StoreError::sql(doing)(e)),
        }
        logins.push(login);
    }
    sqlx::query("SELECT ensure_grants()").execute(connection).await.map_err(StoreError::sql(doing))?;
    let [explorer, intake] =
        <[Login; 2]>::try_from(logins).unwrap_or_else(|_| unreachable!("two were asked for"));
    Ok([explorer, intake])
}

fn is(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|c| c == code)
}

fn missing(name: &str) -> StoreError {
    StoreError::Setup {
        finding: format!("the role {name} is not there, and this user may not make it"),
        hint: format!(
            "give the database's user CREATEROLE for the first start: ALTER ROLE … CREATEROLE. It makes {name} with a password that follows from network.key"
        ),
    }
}

/// Whether the role may call `set_config`, by which an injected statement changes what it is as. Only a superuser can
/// take that from everybody, which one does not have where a database is rented: nothing of ours keys on a setting, so
/// that is said and not refused.
async fn sets_settings(connection: &mut PgConnection, login: &Login) -> Result<Option<String>, StoreError> {
    let may: bool = sqlx::query_scalar(
        "SELECT has_function_privilege('pg_catalog.set_config(text, text, boolean)', 'EXECUTE')",
    )
    .fetch_one(connection)
    .await
    .map_err(StoreError::sql("looking at what a role can call"))?;
    Ok(may.then(|| {
        format!(
            "the role {} may call set_config, as everybody may until a superuser takes it from them in this database: REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC",
            login.name
        )
    }))
}

/// Looks at everything the role could reach, as that role, and refuses what is beyond its part. What it says besides is
/// for the operator to know.
pub(super) async fn check(pool: &PgPool, login: &Login, sees: Sees) -> Result<Option<String>, StoreError> {
    let doing = "looking at what a role can see";
    let mut connection = pool.acquire().await.map_err(|e| StoreError::Setup {
        finding: format!("the role {} cannot log in: {e}", login.name),
        hint: format!(
            "let it in by pg_hba.conf with its password, for example `host {} {} 127.0.0.1/32 scram-sha-256`; if its password is another server's, make sure that all have the same network.key",
            pool.connect_options().get_database().unwrap_or("all"),
            login.name
        ),
    })?;
    let beyond: Vec<String> = sqlx::query_scalar(
        "WITH me AS (SELECT * FROM pg_roles WHERE rolname = current_user)
        SELECT 'the attribute ' || a.word FROM me, LATERAL (VALUES ('SUPERUSER', rolsuper), ('CREATEDB', rolcreatedb), ('CREATEROLE', rolcreaterole), ('REPLICATION', rolreplication), ('BYPASSRLS', rolbypassrls)) AS a (word, has) WHERE a.has
        UNION ALL
        SELECT 'membership in ' || r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN me ON me.oid = m.member
        UNION ALL
        SELECT w || ' in this database' FROM (VALUES ('CREATE'), ('TEMPORARY')) AS d (w) WHERE has_database_privilege(current_database(), w)
        UNION ALL
        SELECT 'CREATE in the schema ' || n.nspname FROM pg_namespace n WHERE has_schema_privilege(n.oid, 'CREATE')
        UNION ALL
        SELECT 'writes to ' || n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND has_schema_privilege(n.oid, 'USAGE') AND (has_any_column_privilege(c.oid, 'INSERT, UPDATE') OR has_table_privilege(c.oid, 'DELETE, TRUNCATE, TRIGGER'))
        UNION ALL
        SELECT 'reads of ' || n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', $1) AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
        UNION ALL
        SELECT 'the function ' || n.nspname || '.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', $2) AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')
        UNION ALL
        SELECT 'the function pg_catalog.' || p.proname FROM pg_proc p JOIN me ON true, LATERAL aclexplode(p.proacl) a WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (a.grantee = me.oid OR (a.grantee = 0 AND EXISTS (SELECT 1 FROM pg_init_privs i WHERE i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid AND NOT EXISTS (SELECT 1 FROM aclexplode(i.initprivs) o WHERE o.grantee = 0))))
        LIMIT 20",
    )
    .bind(sees.tables)
    .bind(sees.functions)
    .fetch_all(&mut *connection)
    .await
    .map_err(StoreError::sql(doing))?;
    if beyond.is_empty() {
        return sets_settings(&mut connection, login).await;
    }
    Err(StoreError::Setup {
        finding: format!("the role {} has more than it needs: {}", login.name, beyond.join("; ")),
        hint: format!("take that from {} and from PUBLIC, then start again", login.name),
    })
}
