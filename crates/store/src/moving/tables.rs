//! What there is to move, in an order in which nothing refers to what is not there yet.

/// A table that is the same in both databases, row by row and column by column, with the statements over it.
pub(super) struct Table {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it is of the public projection, which is a file of its own in SQLite.
    pub(super) is_public: bool,
    /// Its schema in PostgreSQL.
    pub(super) schema: &'static str,
    /// Reads it whole from SQLite.
    pub(super) read: &'static str,
    /// Writes rows into PostgreSQL, from one JSON list of objects with a field for each column.
    pub(super) fill: &'static str,
    /// Reads it whole from PostgreSQL, each row as such an object.
    pub(super) read_back: &'static str,
    /// Whether PostgreSQL has anything in it.
    pub(super) is_there: &'static str,
}

macro_rules! tables {
    ($public:literal, $schema:literal: $($table:literal),* $(,)?) => {
        &[$(Table {
            name: $table,
            is_public: $public,
            schema: $schema,
            read: concat!("SELECT * FROM ", $table),
            fill: concat!(
                "INSERT INTO ", $schema, ".", $table,
                " OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_recordset(NULL::",
                $schema, ".", $table, ", $1::TEXT::JSON)"
            ),
            read_back: concat!("SELECT to_json(t)::TEXT AS row FROM ", $schema, ".", $table, " t"),
            is_there: concat!("SELECT EXISTS (SELECT 1 FROM ", $schema, ".", $table, ")"),
        }),*]
    };
}

/// The books.
pub(super) const BOOKS: &[Table] = tables! { false, "gangline":
    "account",
    "link",
    "session",
    "enrolment",
    "machine",
    "key",
    "gpu",
    "proof",
    "season",
    "snapshot",
    "entry",
    "entries",
    "entries_packed",
    "entries_span",
    "season_share",
    "cluster",
    "audit",
    "begun",
    "refusal",
    "log_entry",
    "log_checkpoint",
    "label_history",
    "identity",
    "vouched_session",
    "used_once",
    "incident",
    "told",
    "delivery",
    "witness",
    "frozen",
    "revocation",
    "approval",
    "passkey",
    "password",
    "passkey_question",
    "beat_lane",
    "uptime_chain",
    "uptime_link",
    "uptime_shown",
    "intake_up",
    "epoch",
    "calibration",
    "bell",
    "verifier",
    "appeal",
};

/// The public projection.
pub(super) const PUBLIC: &[Table] = tables! { true, "gangline_public":
    "model",
    "gpu",
    "counted",
    "proof",
    "season",
    "snapshot",
    "entry",
    "entries",
    "entries_packed",
    "entries_span",
    "season_share",
    "totals",
    "connected",
    "followed",
    "log_entry",
    "log_tile",
    "log_checkpoint",
    "cosigned",
    "cosignature",
    "uptime_chain",
    "uptime_link",
    "uptime_shown",
    "intake_up",
    "epoch",
    "calibration",
    "appeal",
};

/// Uptime by hours. SQLite packs what is old by months; PostgreSQL has it all as hours.
pub(super) const UPTIME: [&Table; 2] = {
    const OF_BOOKS: &[Table] = tables! { false, "gangline": "uptime" };
    const OF_PUBLIC: &[Table] = tables! { true, "gangline_public": "uptime" };
    [&OF_BOOKS[0], &OF_PUBLIC[0]]
};

/// What does not move as it is: months become hours, who is to be projected is known otherwise there, of what many
/// left behind at once rows are made before, and how many machines somebody has is counted as they come.
pub(super) const STAYS: &[(&str, bool)] = &[
    ("uptime_month", false),
    ("uptime_month", true),
    ("gpu_changed", false),
    ("uptime_older", false),
    ("opened_lanes", false),
    ("opened_chains", false),
    ("taken_numbers", false),
    ("machines_here", false),
];
