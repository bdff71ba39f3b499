//! The bench finds whom it has loaded: were a label or a place of the services' stores another one, nobody would be answered
//! as it expects, and it would fail. What it measures here means nothing.

use std::process::Command;

use serde_json::Value;

#[test]
fn everybody_is_answered_as_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--smoke", "--store", "sqlite", "--concurrency", "4", "--report"])
        .arg(&report)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let run = &report["runs"][0];
    assert_eq!(
        (&run["store"], &run["concurrency"]),
        (&"sqlite".into(), &4.into())
    );
    for figure in ["rps", "floor_rps", "ratio", "p50_ms", "commit_ms", "batch_mean"] {
        assert!(
            run[figure].as_f64().is_some_and(|value| value > 0.0),
            "{figure}: {run}"
        );
    }
}
