//! Municipalities and operators load files without end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use devkit::{
    client::{LineReport, Loaded},
    registers::{Families, Family},
    story::Offices,
};
use koseki_proto::koseki::common::v1::{LineOutcome, LineReason};
use tokio::{task::JoinSet, time::interval};

use crate::{
    REGISTERS,
    ledger::{Destination, Ledger, Thing},
};

/// Families in one file.
const FAMILIES: usize = 60;
/// More registers than any run loads.
const NO_END: usize = 10_000_000;
/// Between two attempts when a connection cannot be made yet.
const ATTEMPT_EVERY: Duration = Duration::from_millis(50);

/// Starts them: each goes through the same families at its own pace.
pub(crate) fn start(work: &mut JoinSet<()>, ledger: &Arc<Ledger>, offices: &Arc<Offices>, seed: u64) {
    for lines_of in [copies, persons, linkages] {
        let (ledger, offices) = (ledger.clone(), offices.clone());
        work.spawn(async move {
            // The data set, which is loaded already, has the first ones: no more than it has registers.
            let mut families = Families::new(seed, NO_END).skip(REGISTERS).map(Result::unwrap);
            while !ledger.is_stopped() {
                let chunk: Vec<Family> = families.by_ref().take(FAMILIES).collect();
                for (destination, lines) in lines_of(&chunk) {
                    load(&ledger, &offices, &destination, lines).await;
                }
            }
        });
    }
}

type Files = BTreeMap<Destination, Vec<String>>;

fn copies(families: &[Family]) -> Files {
    let mut files = Files::new();
    for copy in families.iter().flat_map(|family| &family.copies) {
        let destination = Destination::Copies(copy.municipality_code.clone());
        files.entry(destination).or_default().push(copy.line.clone());
    }
    files
}

fn persons(families: &[Family]) -> Files {
    let persons = families.iter().flat_map(|family| family.persons.iter());
    let linkages = families.iter().flat_map(|family| family.provider_linkages.iter());
    Files::from([(Destination::Persons, persons.chain(linkages).cloned().collect())])
}

fn linkages(families: &[Family]) -> Files {
    let linkages = families.iter().flat_map(|family| family.portal_linkages.iter());
    Files::from([(Destination::Linkages, linkages.cloned().collect())])
}

/// Sends lines again and again until each is acknowledged.
async fn load(ledger: &Ledger, offices: &Offices, destination: &Destination, mut lines: Vec<String>) {
    let mut attempts = interval(ATTEMPT_EVERY);
    while !lines.is_empty() && !ledger.is_stopped() {
        ledger.until_up(destination.side()).await;
        attempts.tick().await;
        let mut acknowledged = vec![false; lines.len()];
        let mut gap = false;
        let loaded = send(offices, destination, &lines, |report| {
            let at = usize::try_from(report.line_number).unwrap() - 1;
            // The store could not, and says so: the line is to be sent again, and so is a later one that builds on it.
            gap |= report.reason == LineReason::NotStored;
            if report.reason == LineReason::NotStored
                || (gap && report.reason == LineReason::UnknownReference)
            {
                ledger.broke();
                return;
            }
            if report.outcome == LineOutcome::Refused {
                ledger.violated(format!(
                    "{destination:?}: {}: {}",
                    report.reason_name(),
                    report.rule
                ));
            }
            acknowledged[at] = true;
            ledger.acknowledge(destination.side(), Thing::Line, |written| {
                written
                    .lines
                    .entry(destination.clone())
                    .or_default()
                    .push(lines[at].clone());
            });
        })
        .await;
        if loaded.broken.is_some() {
            ledger.broke();
        }
        let mut keep = acknowledged.iter();
        lines.retain(|_| !keep.next().unwrap());
    }
}

async fn send(
    offices: &Offices,
    destination: &Destination,
    lines: &[String],
    seen: impl FnMut(&LineReport),
) -> Loaded {
    let file = std::io::Cursor::new(lines.join("\n").into_bytes());
    match destination {
        Destination::Copies(code) => offices.municipalities[code].send_watched(file, seen).await,
        Destination::Persons => offices.registry[0].load_watched(file, seen).await,
        Destination::Linkages => offices.portal[0].load_watched(file, seen).await,
    }
}

/// Every line that was acknowledged is there: sent again, it changes nothing. How many they are.
pub(crate) async fn check(ledger: &Ledger, offices: &Offices) -> usize {
    let files = ledger.read(|written| written.lines.clone());
    let mut sent = 0;
    for (destination, lines) in files {
        let loaded = send(offices, &destination, &lines, |_| {}).await;
        assert!(loaded.broken.is_none(), "{destination:?}: {:?}", loaded.broken);
        assert_eq!(loaded.lines.len(), lines.len(), "{destination:?}");
        for report in &loaded.lines {
            assert_eq!(
                report.outcome,
                LineOutcome::Unchanged,
                "{destination:?}: a line was lost: {report:?}"
            );
        }
        sent += lines.len();
    }
    sent
}
