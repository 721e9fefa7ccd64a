//! Opening a database of PostgreSQL: migrations one server at a time, three pools of three roles, and what
//! those roles can see checked before anything is answered.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gangline_types::Hash;
use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Row, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{PostgresPublic, groups::Groups, lease::checked, roles};
use crate::{DatabaseUrl, StoreError};

/// Connections of one server to the books, for the intake and for the explorer. Three servers stay below
/// PostgreSQL's own default of 100.
const BOOKS: u32 = 12;
const INTAKE: u32 = 6;
const EXPLORER: u32 = 8;
/// How long a request waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// How long connecting to one host may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How often it is looked which host is the primary, where there are several.
const LOOK: Duration = Duration::from_millis(500);
/// What the database ends by itself. A server that stops in the middle of a transaction must not keep the others
/// waiting: its transaction is rolled back well before ten seconds are over.
const SESSION: [(&str, &str); 4] = [
    ("statement_timeout", "60s"),
    ("lock_timeout", "20s"),
    ("idle_in_transaction_session_timeout", "4s"),
    ("synchronous_commit", "on"),
];
/// Guards migrations and roles, which no two servers may make at once.
const LOCK_SETUP: i64 = 7_402_260_000;

/// The network's books in PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PostgresStore {
    pub(super) pool: PgPool,
    pub(super) intake: PgPool,
    public: PostgresPublic,
    /// How the intake's role reaches each host.
    pub(super) intake_hosts: Arc<Vec<PgConnectOptions>>,
    /// This server among those on the database: 16 random bytes, new at each start.
    pub(crate) replica: [u8; 16],
    /// What the operator should know of the database.
    pub(crate) said: Arc<[String]>,
    helm: Arc<Mutex<Option<tokio::task::JoinHandle<()>>>>,
    pub(crate) groups: Groups,
}

fn with(
    options: &PgConnectOptions,
    role: Option<(&str, &str)>,
    path: &'static str,
    who: &str,
) -> PgConnectOptions {
    let options = options
        .clone()
        .application_name(who)
        .options(SESSION)
        .options([("search_path", path)])
        .statement_cache_capacity(200);
    match role {
        Some((name, password)) => options.username(name).password(password),
        None => options,
    }
}

/// Whether the host answers and takes writes.
async fn is_primary(options: &PgConnectOptions) -> Result<bool, sqlx::Error> {
    let ask = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let standby: bool =
            sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await?;
        let _ = connection.close().await;
        Ok(!standby)
    };
    tokio::time::timeout(CONNECT, ask).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// The first host that takes writes.
pub(super) async fn primary(hosts: &[PgConnectOptions]) -> Result<usize, sqlx::Error> {
    let mut why = sqlx::Error::Configuration("no host takes writes: each is a standby".into());
    for (place, host) in hosts.iter().enumerate() {
        match is_primary(host).await {
            Ok(true) => return Ok(place),
            Ok(false) => {}
            Err(e) => why = e,
        }
    }
    Err(why)
}

fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // A host that was the primary may come back as a standby.
                let row = sqlx::query("SELECT pg_is_in_recovery() AS standby").fetch_one(connection).await?;
                match row.try_get("standby")? {
                    true => Err(sqlx::Error::Configuration("this host is a standby".into())),
                    false => Ok(()),
                }
            })
        })
        .connect_lazy_with(options)
}

/// Points the pools at whichever host is the primary, for as long as they live.
async fn steer(hosts: Vec<[PgConnectOptions; 3]>, pools: [PgPool; 3], mut at: usize) {
    let owners: Vec<_> = hosts.iter().map(|host| host[0].clone()).collect();
    while !pools[0].is_closed() {
        tokio::time::sleep(LOOK).await;
        if matches!(is_primary(&owners[at]).await, Ok(true)) {
            continue;
        }
        if let Ok(found) = primary(&owners).await
            && found != at
        {
            at = found;
            for (pool, options) in pools.iter().zip(&hosts[at]) {
                pool.set_connect_options(options.clone());
            }
        }
    }
}

impl PostgresStore {
    /// Connects, brings the schema to this version's form, and makes sure that the explorer's and the intake's
    /// roles can do what they need and nothing else. `network` is the public half of the network's key, `secret`
    /// what the two roles' passwords are derived from, `replica` random.
    pub(crate) async fn open(
        url: &DatabaseUrl,
        network: [u8; 32],
        secret: &[u8; 32],
        replica: [u8; 16],
    ) -> Result<Self, StoreError> {
        let doing = "connecting to the database";
        let at = primary(url.hosts()).await.map_err(StoreError::sql(doing))?;
        let owner = |host: &PgConnectOptions| with(host, None, "gangline, pg_temp", "gangline");
        let setup = pool(owner(&url.hosts()[at]), 2);
        let [explorer, intake] = set_up(&setup, network, secret).await?;
        setup.close().await;

        let hosts: Vec<[PgConnectOptions; 3]> = url
            .hosts()
            .iter()
            .map(|host| {
                let role = |login: &roles::Login, path, who| {
                    with(host, Some((&login.name, &login.password)), path, who)
                };
                [
                    owner(host),
                    role(&intake, "gangline_intake, pg_temp", "gangline intake"),
                    role(&explorer, "gangline_public, pg_temp", "gangline explorer"),
                ]
            })
            .collect();
        let [books, of_intake, of_explorer] = hosts[at].clone();
        let pools = [pool(books, BOOKS), pool(of_intake, INTAKE), pool(of_explorer, EXPLORER)];
        let said = [
            roles::check(&pools[2], &explorer, roles::EXPLORER_SEES).await?,
            roles::check(&pools[1], &intake, roles::INTAKE_SEES).await?,
        ];
        let intake_hosts = Arc::new(hosts.iter().map(|host| host[1].clone()).collect());
        let several = hosts.len() > 1;
        let helm = several.then(|| tokio::spawn(steer(hosts, pools.clone(), at)));
        let [pool, intake, explorer] = pools;
        Ok(Self {
            pool,
            intake,
            public: PostgresPublic::new(explorer),
            intake_hosts,
            replica,
            said: said.into_iter().flatten().collect(),
            helm: Arc::new(Mutex::new(helm)),
            groups: Groups::default(),
        })
    }

    /// The explorer's reads, through the explorer's own role.
    pub(crate) fn public(&self) -> &PostgresPublic {
        &self.public
    }

    /// PostgreSQL looks after its own files.
    pub(crate) async fn has_rest(&self) -> bool {
        false
    }

    pub(crate) async fn check_rest(&self) -> Result<(), StoreError> {
        Ok(())
    }

    pub(crate) async fn is_writable(&self) -> Result<(), StoreError> {
        let doing = "checking that it can be written";
        sqlx::query("INSERT INTO network_written (one, at) VALUES (1, now()) ON CONFLICT (one) DO UPDATE SET at = excluded.at")
            .execute(&self.pool)
            .await
            .map_err(StoreError::sql(doing))?;
        Ok(())
    }

    pub(crate) async fn close(&self) {
        if let Some(helm) = self.helm.lock().unwrap_or_else(|e| e.into_inner()).take() {
            helm.abort();
        }
        self.public.close().await;
        self.intake.close().await;
        self.pool.close().await;
    }

    /// A transaction; within [`Lease::holding`](crate::Lease::holding) it begins by making sure that the lease is
    /// still ours, and keeps it so until its end.
    pub(crate) async fn begin(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut tx = self.pool.begin().await.map_err(StoreError::sql(doing))?;
        checked(&mut tx, doing).await?;
        Ok(tx)
    }

    /// A transaction that no other of its kind runs beside: for all that decides by what it reads in more than
    /// one row, and for all that may write into the log, whose places are given in the order of commits.
    pub(crate) async fn begin_alone(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut tx = self.begin(doing).await?;
        alone(&mut tx, doing).await?;
        Ok(tx)
    }

    /// The transaction in which is shown what `tx` wrote into the books: the same.
    pub(crate) async fn to_show(
        &self,
        tx: Transaction<'static, Postgres>,
        _: &'static str,
    ) -> Result<Transaction<'static, Postgres>, StoreError> {
        Ok(tx)
    }

    /// Where it is read.
    pub(crate) fn reading(&self) -> &PgPool {
        &self.pool
    }
    /// Where one statement of the public projection is written by itself.
    pub(crate) fn writing_shown(&self) -> &PgPool {
        &self.pool
    }
    /// Where one statement is written by itself.
    pub(crate) fn writing(&self) -> &PgPool {
        &self.pool
    }
}

/// From here on no other transaction of its kind runs beside this one.
pub(crate) async fn alone(tx: &mut PgConnection, doing: &'static str) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(7402260002)")
        .execute(tx)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(())
}

pub(crate) async fn commit(
    tx: Transaction<'static, Postgres>,
    doing: &'static str,
) -> Result<(), StoreError> {
    tx.commit().await.map_err(StoreError::sql(doing))
}

/// Schema, migrations, whose network it is, roles: under one lock.
async fn set_up(
    pool: &PgPool,
    network: [u8; 32],
    secret: &[u8; 32],
) -> Result<[roles::Login; 2], StoreError> {
    let doing = "bringing the database to this version's form";
    let mut connection = pool.acquire().await.map_err(StoreError::sql(doing))?;
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(LOCK_SETUP)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::sql(doing))?;
    for schema in [
        "CREATE SCHEMA IF NOT EXISTS gangline",
        "CREATE SCHEMA IF NOT EXISTS gangline_public",
        "CREATE SCHEMA IF NOT EXISTS gangline_intake",
    ] {
        sqlx::query(schema).execute(&mut *connection).await.map_err(StoreError::sql(doing))?;
    }
    sqlx::migrate!("migrations/postgres").run(pool).await.map_err(|e| match e {
        sqlx::migrate::MigrateError::Execute(e) => StoreError::sql(doing)(e),
        other => StoreError::Malformed(other.to_string()),
    })?;
    sqlx::query("INSERT INTO network (one, public_key) VALUES (1, $1) ON CONFLICT (one) DO NOTHING")
        .bind(network.to_vec())
        .execute(&mut *connection)
        .await
        .map_err(StoreError::sql(doing))?;
    let held: Vec<u8> = sqlx::query_scalar("SELECT public_key FROM network WHERE one = 1")
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::sql(doing))?;
    if held != network {
        return Err(StoreError::OtherNetwork {
            here: Hash(network).to_string(),
            there: held.try_into().map(|h| Hash(h).to_string()).unwrap_or_default(),
        });
    }
    let logins = roles::ensure(&mut connection, secret).await?;
    sqlx::query("SELECT pg_advisory_unlock($1)")
        .bind(LOCK_SETUP)
        .execute(&mut *connection)
        .await
        .map_err(StoreError::sql(doing))?;
    Ok(logins)
}
