//! A side's state, laid out.

use common::clock::Timestamp;
use data_encoding::HEXLOWER;
use koseki_proto::{
    koseki::{
        admin::v1::{GatewaySeen, GetStatusResponse as RegistryStatus},
        common::v1::{CertificateStatus, PolicyStatus, RevocationListStatus, SideStatus},
    },
    portal::admin::v1::{GetStatusResponse as PortalStatus, ProviderSeen, SuppressionFeedStatus},
};
use serde_json::{Map, Value, json};

use crate::{approvals::kind_name_of, moment, table};

/// What is shown of a side.
pub(super) struct Screen {
    pub(super) text: String,
    pub(super) json: Value,
    /// What needs a look; none: all is well.
    pub(super) findings: Vec<String>,
}

/// Lines of text and members of the document, side by side.
struct Layout {
    pairs: Vec<(&'static str, String)>,
    json: Map<String, Value>,
    findings: Vec<String>,
    now: Timestamp,
}

/// The registry side's.
pub(super) fn registry(told: &RegistryStatus, now: Timestamp) -> Screen {
    let side = told.side.clone().unwrap_or_default();
    let mut layout = Layout::of(&side, now);
    let oldest = told.oldest_copy_received_at.as_ref();
    let age = moment::read(oldest).map(|at| moment::age(layout.now.since(at)));
    layout.add(
        "oldest copy",
        age.map_or("none".to_owned(), |age| {
            format!("{age} old, received {}", moment::text(oldest))
        }),
        "oldest_copy_received_at",
        moment::json(oldest),
    );
    let gateway = |gateway: &GatewaySeen| {
        let seen = moment::text(gateway.seen_at.as_ref());
        format!(
            "{}, seen {seen}, policy {}",
            gateway.name,
            short(&gateway.policy_sha256)
        )
    };
    let document = |gateway: &GatewaySeen| {
        json!({
            "name": gateway.name,
            "seen_at": moment::json(gateway.seen_at.as_ref()),
            "policy_sha256": HEXLOWER.encode(&gateway.policy_sha256),
        })
    };
    layout.add(
        "gateways",
        listed(&told.gateways, gateway),
        "gateways",
        told.gateways.iter().map(document).collect(),
    );
    layout.screen("registry", &side)
}

/// The portal side's.
pub(super) fn portal(told: &PortalStatus, now: Timestamp) -> Screen {
    let side = told.side.clone().unwrap_or_default();
    let mut layout = Layout::of(&side, now);
    layout.providers(&told.providers);
    layout.suppression_feed(told.suppression_feed.as_ref());
    layout.screen("portal", &side)
}

impl Layout {
    fn of(side: &SideStatus, own_now: Timestamp) -> Self {
        let server_now = moment::read(side.now.as_ref());
        let mut layout = Self {
            pairs: Vec::new(),
            json: Map::new(),
            findings: Vec::new(),
            // Ages and days left are by the server's clock: it is the one that decides.
            now: server_now.unwrap_or(own_now),
        };
        layout.provision(side);
        let offset_ms = layout.now.unix_ms().saturating_sub(own_now.unix_ms());
        layout.add(
            "clock",
            format!(
                "{} ({offset_ms:+} ms from this machine's)",
                moment::text(side.now.as_ref())
            ),
            "now",
            moment::json(side.now.as_ref()),
        );
        layout.json.insert("clock_offset_ms".to_owned(), offset_ms.into());
        layout.add(
            "started",
            moment::text(side.started_at.as_ref()),
            "started_at",
            moment::json(side.started_at.as_ref()),
        );
        layout.policy("policy", "policy", side.policy.as_ref());
        layout.policy("next policy", "next_policy", side.next_policy.as_ref());
        layout.certificates(&side.certificates);
        let database = side.database.clone().unwrap_or_default();
        layout.add(
            "database",
            format!("{}, epoch {}", database.engine, database.epoch),
            "database",
            json!({"engine": database.engine, "epoch": database.epoch}),
        );
        let log = side.log.unwrap_or_default();
        layout.add(
            "audit log",
            format!("{} entries in {} bundles", log.size, log.bundles),
            "log",
            json!({"size": log.size, "bundles": log.bundles}),
        );
        layout.revocation_lists(&side.revocation_lists);
        layout.alarms(side);
        layout.add(
            "waiting",
            format!(
                "{} proposals, {} closings without confirmation",
                side.pending_proposals, side.unconfirmed_closings
            ),
            "pending_proposals",
            side.pending_proposals.into(),
        );
        let closings = side.unconfirmed_closings.into();
        layout.json.insert("unconfirmed_closings".to_owned(), closings);
        layout
    }

    fn add(&mut self, name: &'static str, text: String, key: &str, value: Value) {
        self.pairs.push((name, text));
        self.json.insert(key.to_owned(), value);
    }

    fn provision(&mut self, side: &SideStatus) {
        let suspended = |suspension: &koseki_proto::koseki::common::v1::Suspension| {
            let since = moment::text(suspension.since.as_ref());
            format!("{} suspended since {since}", kind_name_of(suspension.kind))
        };
        let document = |suspension: &koseki_proto::koseki::common::v1::Suspension| {
            json!({
                "kind": kind_name_of(suspension.kind),
                "since": moment::json(suspension.since.as_ref()),
            })
        };
        let mut states: Vec<String> = side.suspensions.iter().map(suspended).collect();
        if !side.ready {
            states.insert(0, "NOT READY: answers no requests".to_owned());
        }
        self.findings.extend(states.iter().cloned());
        if states.is_empty() {
            states.push("providing".to_owned());
        }
        let suspensions = side.suspensions.iter().map(document).collect();
        self.add("provision", states.join("\n"), "suspensions", suspensions);
        self.json.insert("ready".to_owned(), side.ready.into());
    }

    fn policy(&mut self, name: &'static str, key: &str, policy: Option<&PolicyStatus>) {
        let text = policy.map_or("none".to_owned(), |policy| {
            let from = moment::text(policy.effective_at.as_ref());
            format!("{} in force from {from}", short(&policy.sha256))
        });
        let value = policy.map_or(Value::Null, |policy| {
            json!({
                "sha256": HEXLOWER.encode(&policy.sha256),
                "effective_at": moment::json(policy.effective_at.as_ref()),
            })
        });
        self.add(name, text, key, value);
    }

    fn certificates(&mut self, certificates: &[CertificateStatus]) {
        let mut texts = Vec::new();
        let mut documents = Vec::new();
        for certificate in certificates {
            let left =
                moment::read(certificate.not_after.as_ref()).map(|until| moment::days(self.now, until));
            let until = moment::text(certificate.not_after.as_ref());
            match left {
                Some(left) if left < 0 => {
                    self.findings
                        .push(format!("the certificate {} has expired", certificate.r#use));
                    texts.push(format!("{}: EXPIRED at {until}", certificate.r#use));
                }
                left => {
                    let left = left.map_or("-".to_owned(), |left| left.to_string());
                    texts.push(format!("{}: {left} days left, until {until}", certificate.r#use));
                }
            }
            documents.push(json!({
                "use": certificate.r#use,
                "not_after": moment::json(certificate.not_after.as_ref()),
                "days_left": left,
            }));
        }
        self.add("certificates", texts.join("\n"), "certificates", documents.into());
    }

    fn alarms(&mut self, side: &SideStatus) {
        let alarms: Vec<String> = side
            .alarms
            .iter()
            .map(|alarm| format!("{} ({})", alarm.name, alarm.about))
            .collect();
        self.findings
            .extend(alarms.iter().map(|alarm| format!("alarm {alarm}")));
        let text = if alarms.is_empty() {
            "none".to_owned()
        } else {
            alarms.join("\n")
        };
        let documents = side.alarms.iter();
        let documents = documents.map(|alarm| json!({"name": alarm.name, "about": alarm.about}));
        self.add("alarms", text, "alarms", documents.collect());
    }

    fn providers(&mut self, providers: &[ProviderSeen]) {
        let mut texts = Vec::new();
        let mut documents = Vec::new();
        for seen in providers {
            let name = &seen.instance;
            let reached = !seen.provider_log.is_empty();
            let state = match (reached, seen.providing, seen.left_alone) {
                (false, ..) => "NEVER REACHED",
                (true, false, _) => "NOT PROVIDING",
                (true, true, true) => "FAILED, left alone but for single tries",
                (true, true, false) => "providing",
            };
            let mut text = format!("{name}: {state}");
            if state != "providing" {
                self.findings.push(format!("the provider instance {text}"));
            }
            if reached {
                text.push_str(&format!(
                    ", seen {}, clock {:+} ms, policy {}",
                    moment::text(seen.seen_at.as_ref()),
                    seen.clock_offset_ms,
                    short(&seen.policy_sha256)
                ));
            }
            texts.push(text);
            documents.push(json!({
                "instance": name,
                "providing": seen.providing,
                "left_alone": seen.left_alone,
                "provider_log": seen.provider_log,
                "seen_at": moment::json(seen.seen_at.as_ref()),
                "policy_sha256": HEXLOWER.encode(&seen.policy_sha256),
                "clock_offset_ms": seen.clock_offset_ms,
            }));
        }
        self.add("registry side", texts.join("\n"), "providers", documents.into());
    }

    fn suppression_feed(&mut self, feed: Option<&SuppressionFeedStatus>) {
        let text = match feed {
            None => {
                self.findings.push("there is no suppression feed".to_owned());
                "NONE".to_owned()
            }
            Some(feed) => format!("{} ms old, sequence {}", feed.age_ms, feed.sequence),
        };
        let value = feed.map(|feed| json!({"sequence": feed.sequence, "age_ms": feed.age_ms}));
        self.add("suppression feed", text, "suppression_feed", value.into());
    }

    fn revocation_lists(&mut self, lists: &[RevocationListStatus]) {
        let mut texts = Vec::new();
        let mut documents = Vec::new();
        for list in lists {
            let issued = moment::read(list.this_update.as_ref());
            let age = issued.map_or("-".to_owned(), |at| moment::age(self.now.since(at)));
            let next = moment::read(list.next_update.as_ref());
            let overdue = next.is_some_and(|next| next < self.now);
            if !list.fresh {
                let finding = format!("the revocation list {} is out of date", list.number);
                self.findings.push(finding);
            }
            let due = if overdue { "was due" } else { "next" };
            let next = moment::text(list.next_update.as_ref());
            texts.push(format!(
                "{} of root {}: {} revoked, {age} old, {due} {next}",
                list.number,
                short(&list.issuer_key_sha256),
                list.revoked
            ));
            documents.push(json!({
                "this_update": moment::json(list.this_update.as_ref()),
                "next_update": moment::json(list.next_update.as_ref()),
                "issuer_key_sha256": HEXLOWER.encode(&list.issuer_key_sha256),
                "number": list.number,
                "revoked": list.revoked,
                "fresh": list.fresh,
                "overdue": overdue,
            }));
        }
        if texts.is_empty() {
            self.findings.push("there is no revocation list".to_owned());
            texts.push("NONE".to_owned());
        }
        self.add(
            "revocation lists",
            texts.join("\n"),
            "revocation_lists",
            documents.into(),
        );
    }

    fn screen(mut self, name: &str, side: &SideStatus) -> Screen {
        let title = format!("{name} side: {}, version {}\n", side.instance, side.version);
        let mut text = title + &table::of_pairs(&self.pairs);
        for finding in &self.findings {
            text.push_str(&format!("  ! {finding}\n"));
        }
        self.json.insert("side".to_owned(), name.into());
        self.json
            .insert("instance".to_owned(), side.instance.clone().into());
        self.json
            .insert("version".to_owned(), side.version.clone().into());
        self.json
            .insert("findings".to_owned(), self.findings.clone().into());
        Screen {
            text,
            json: self.json.into(),
            findings: self.findings,
        }
    }
}

fn short(sha256: &[u8]) -> String {
    match sha256 {
        [] => "not told".to_owned(),
        hash => HEXLOWER.encode(hash).chars().take(16).collect::<String>() + "…",
    }
}

fn listed<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    match items {
        [] => "none".to_owned(),
        items => items.iter().map(text).collect::<Vec<_>>().join("\n"),
    }
}
