//! `policy compare`: whether both sides hold the same provision policy. Nothing is provided when they do not.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use koseki_proto::koseki::common::v1::{PolicyStatus, SideStatus};
use serde_json::{Value, json};

use super::status::{Told, ask};
use crate::{
    connection::Side,
    context::Context,
    failure::{Failure, Result},
    moment,
    report::Report,
    table,
};

/// The provision policy that both sides share
#[derive(Subcommand)]
pub(crate) enum Policy {
    Compare(Compare),
}

/// Compare what both sides have in force and next; exit code 1 when they differ
#[derive(Args)]
pub(crate) struct Compare {}

/// What somebody holds, as somebody tells it.
struct Held {
    holder: String,
    told_by: &'static str,
    in_force: Option<PolicyStatus>,
    /// `None`: not told.
    next: Option<Option<PolicyStatus>>,
}

impl Compare {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let profile = context.profile()?;
        let sides = profile.sides();
        if sides.is_empty() {
            return Err(Failure::flag(
                "--config",
                "a profile with [registry_admin], [portal_admin], or both",
            ));
        }
        let mut held = Vec::new();
        for side in sides {
            match ask(&profile, side).await? {
                Told::Registry(told) => {
                    held.push(own(told.side.unwrap_or_default(), Side::Registry));
                    held.extend(told.gateways.into_iter().map(|gateway| Held {
                        holder: gateway.name,
                        told_by: "registry",
                        in_force: seen(gateway.policy_sha256),
                        next: None,
                    }));
                }
                Told::Portal(told) => {
                    held.push(own(told.side.unwrap_or_default(), Side::Portal));
                    let reached = told
                        .providers
                        .into_iter()
                        .filter(|seen| !seen.provider_log.is_empty());
                    held.extend(reached.map(|provider| Held {
                        holder: provider.instance,
                        told_by: "portal",
                        in_force: seen(provider.policy_sha256),
                        next: None,
                    }));
                }
            }
        }
        Ok(compare(&held))
    }
}

fn own(side: SideStatus, told_by: Side) -> Held {
    Held {
        holder: side.instance,
        told_by: told_by.name(),
        in_force: side.policy,
        next: Some(side.next_policy),
    }
}

/// One side knows of the other the hash only, and that not before it was reached.
fn seen(sha256: Vec<u8>) -> Option<PolicyStatus> {
    (!sha256.is_empty()).then_some(PolicyStatus {
        sha256,
        effective_at: None,
    })
}

fn compare(held: &[Held]) -> Report {
    let in_force: BTreeSet<&[u8]> = held
        .iter()
        .filter_map(|held| held.in_force.as_ref().map(|policy| policy.sha256.as_slice()))
        .collect();
    let next: BTreeSet<&[u8]> = held
        .iter()
        .filter_map(|held| held.next.as_ref())
        .map(|next| next.as_ref().map_or(&[][..], |policy| policy.sha256.as_slice()))
        .collect();
    let (same, next_same) = (in_force.len() <= 1, next.len() <= 1);
    let holders: BTreeSet<&str> = held.iter().map(|held| held.holder.as_str()).collect();
    let alone = holders.len() < 2;
    let verdict = match (same, next_same) {
        _ if alone => "only one side is known: nothing to compare with",
        (true, true) => "the same on both sides",
        (true, false) => {
            "the same in force; the NEXT policies differ: put the same file on both sides before it takes effect"
        }
        (false, _) => "the policies in force DIFFER: nothing is provided until they are the same",
    };
    let hash = |policy: Option<&PolicyStatus>| policy.map(|policy| HEXLOWER.encode(&policy.sha256));
    let since = |policy: Option<&PolicyStatus>| policy.and_then(|policy| policy.effective_at);
    let rows: Vec<Vec<String>> = held
        .iter()
        .map(|held| {
            let (in_force, next) = (held.in_force.as_ref(), held.next.as_ref().map(Option::as_ref));
            vec![
                held.holder.clone(),
                held.told_by.to_owned(),
                hash(in_force).unwrap_or_else(|| "not told".to_owned()),
                moment::text(since(in_force).as_ref()),
                match next {
                    None => "not told".to_owned(),
                    Some(next) => hash(next).unwrap_or_else(|| "none".to_owned()),
                },
                moment::text(since(next.flatten()).as_ref()),
            ]
        })
        .collect();
    let document = |policy: Option<&PolicyStatus>| {
        policy.map_or(Value::Null, |policy| {
            json!({
                "sha256": HEXLOWER.encode(&policy.sha256),
                "effective_at": moment::json(policy.effective_at.as_ref()),
            })
        })
    };
    let documents: Vec<Value> = held
        .iter()
        .map(|held| {
            json!({
                "holder": held.holder,
                "told_by": held.told_by,
                "in_force": document(held.in_force.as_ref()),
                "next": document(held.next.as_ref().and_then(Option::as_ref)),
                "next_told": held.next.is_some(),
            })
        })
        .collect();
    let headings = ["holder", "told by", "in force", "since", "next", "from"];
    Report {
        json: json!({
            "same": !alone && same && next_same,
            "in_force_same": same,
            "next_same": next_same,
            "verdict": verdict,
            "policies": documents,
        }),
        text: format!("{}\n{verdict}", table::with_headings(&headings, &rows)),
        finding: alone || !same || !next_same,
        unchecked: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(holder: &str, in_force: u8, next: Option<Option<u8>>) -> Held {
        let policy = |byte| PolicyStatus {
            sha256: vec![byte; 32],
            effective_at: None,
        };
        Held {
            holder: holder.to_owned(),
            told_by: "registry",
            in_force: Some(policy(in_force)),
            next: next.map(|next| next.map(policy)),
        }
    }

    #[test]
    fn a_difference_in_force_or_next_is_a_finding() {
        let same = compare(&[
            held("a", 1, Some(Some(2))),
            held("b", 1, Some(Some(2))),
            held("a", 1, None),
        ]);
        assert!(!same.finding && same.json["same"] == true);
        for other in [
            held("b", 2, Some(None)),
            held("b", 1, Some(Some(3))),
            held("b", 2, None),
        ] {
            let report = compare(&[held("a", 1, Some(None)), other]);
            assert!(report.finding && report.json["same"] == false, "{}", report.text);
        }
    }

    #[test]
    fn one_side_alone_is_not_called_the_same() {
        assert!(compare(&[held("a", 1, Some(None))]).finding);
    }
}
