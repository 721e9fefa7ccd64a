//! The bench at its smallest, with the peers that the test's group installs: every row is there, has a value, and
//! nothing acknowledged is lost. What the values are is not this test's business: machines differ, goals do not.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::process::Command;

use serde_json::Value;

const ROWS: [&str; 14] = [
    "beat_udp_vs_redis",
    "beat_udp_vs_echo",
    "beat_http_vs_redis",
    "beat_vs_etcd",
    "fleet_600k_core_percent",
    "fleet_600k_rss_mib",
    "fleet_600k_ack_p99_ms",
    "storm_cpu_seconds",
    "kill9_lost",
    "disk_bytes_per_beat",
    "snapshot_vs_memory",
    "snapshot_vs_duckdb",
    "placement_p99_us",
    "explorer_p99_ratio",
];

#[test]
fn every_row_of_the_table_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("bench.json");
    let ran = Command::new(env!("CARGO_BIN_EXE_gangline"))
        .args(["bench", "--quick", "--machines", "2000", "--report"])
        .arg(&report)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ROWS);
    for row in rows {
        assert!(row["unit"].is_string() && row["goal"].is_number() && row["ok"].is_boolean(), "{row}");
        assert!(row["value"].as_f64().is_some_and(|value| value >= 0.0), "{row}: {said}");
        let reached = row["value"].as_f64() <= row["goal"].as_f64();
        assert_eq!(row["ok"].as_bool(), Some(reached), "{row}");
    }
    let lost = rows.iter().find(|row| row["name"] == "kill9_lost").unwrap();
    assert_eq!(lost["value"].as_f64(), Some(0.0), "{lost}");
}
