//! `gangline guard cost` at its smallest, with a database: every figure is there.

use crate::{
    address_file,
    live::{LIMIT, finish_within, gangline},
    postgres,
};

const NAMES: [&str; 15] = [
    "signed_write_us",
    "signature_us",
    "policy_us",
    "beat_check_us",
    "inspect_field_us",
    "log_append_us",
    "log_prove_us",
    "log_verify_us",
    "log_sign_us",
    "log_audit_us",
    "served_write_us",
    "permitted_mb_per_million",
    "served_refusal_us",
    "refused_mb_per_million",
    "revocation_p99_ms",
];

#[tokio::test]
async fn every_figure_of_what_security_costs_can_be_taken() {
    let postgres = postgres::shared();
    let folder = tempfile::tempdir().unwrap();
    let file = address_file(folder.path(), "database", &postgres.url(&postgres.database().await));
    let report = folder.path().join("report.json");
    // It works all the time, and beside it other tests do.
    let told = finish_within(
        LIMIT * 5,
        gangline(folder.path())
            .args(["guard", "cost", "--entries", "1000", "--writes", "500", "--trials", "2"])
            .arg("--database-file")
            .arg(&file)
            .arg("--report")
            .arg(&report),
    );
    assert_eq!(told.code, 0, "{}", told.err);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, NAMES);
    for row in rows {
        assert!(row["value"].as_f64().is_some_and(|value| value > 0.0), "{row}");
    }
    // How long things take is not for a loaded machine to say; that a revocation is felt at all is.
    let felt = rows.iter().find(|row| row["name"] == "revocation_p99_ms").unwrap();
    assert_eq!(felt["ok"], true, "{felt}");
}
