//! A gateway that shows what it should not: the registry side countersigns one history of each log, and a peer cannot make it stop
//! with anything but its own word.

use std::{path::Path, sync::Arc};

use common::{
    alarm::Alarm,
    authorisation::Listener,
    clock::ShiftedClock,
    config, digest,
    evidence::{Checkpoint, EvidenceKeys, countersign, is_countersigned, with_countersignature},
    identity::{Role, TrustDomain},
    server::Server,
};
use devkit::deployment::{Addresses, Deployment, Plan, TRUST_DOMAIN};
use integration_tests::{
    REGISTERS, SEED, address,
    forger::Forger,
    instances::TwoDeployments,
    start_provider,
    stores::{self, Behind},
};
use koseki_proto::koseki::linkage::v1::{
    ExchangeCheckpointsRequest, ExchangeCheckpointsResponse, SubmittedCheckpoint,
    exchange_checkpoints_response::Outcome, linkage_client::LinkageClient,
};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::{stands, until};

type Hash = [u8; 32];

/// A log whose size is a power of two: it is doubled by any hash, which is all of the proof.
#[derive(Clone, Copy)]
struct Tree {
    size: u64,
    root: Hash,
}

impl Tree {
    fn of_one(leaf: Hash) -> Self {
        Self { size: 1, root: leaf }
    }

    fn doubled(self, by: Hash) -> Self {
        Self {
            size: self.size * 2,
            root: digest::sha256(&[&[1], &self.root, &by]),
        }
    }
}

/// Somebody with a gateway's files and keys.
struct Liar {
    client: LinkageClient<Channel>,
    keys: EvidenceKeys,
}

fn keys(deployment: &Deployment, role: Role) -> EvidenceKeys {
    let domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
    if role == Role::PortalGateway {
        let config: portal_gateway::config::Config = config::load(&deployment.gateway_config()).unwrap();
        EvidenceKeys::load(&config.evidence, &domain, role, &config.instance).unwrap()
    } else {
        let config: koseki_provider::config::Config = config::load(&deployment.provider_config()).unwrap();
        EvidenceKeys::load(&config.evidence, &domain, role, &config.instance).unwrap()
    }
}

impl Liar {
    fn new(deployment: &Deployment, provider: &Server, clock: &Arc<ShiftedClock>) -> Self {
        let forger = Forger::new(deployment, &address(provider, Listener::Linkage), clock.clone());
        Self {
            client: forger.client,
            keys: keys(deployment, Role::PortalGateway),
        }
    }

    fn note(&self, tree: Tree) -> String {
        let checkpoint = Checkpoint {
            origin: self.keys.origin().to_owned(),
            size: tree.size,
            root: tree.root,
        };
        checkpoint.sign(&self.keys.checkpoint).unwrap()
    }

    async fn show(&self, submitted: SubmittedCheckpoint) -> Result<ExchangeCheckpointsResponse, String> {
        self.exchange(submitted, String::new()).await
    }

    async fn exchange(
        &self,
        submitted: SubmittedCheckpoint,
        witnessed: String,
    ) -> Result<ExchangeCheckpointsResponse, String> {
        let request = ExchangeCheckpointsRequest {
            submitted: Some(submitted),
            witnessed,
        };
        let answer = self.client.clone().exchange_checkpoints(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| {
            let info = status.get_details_error_info();
            info.map_or_else(|| format!("{status}"), |info| info.reason)
        })
    }

    /// Shows a tree: what becomes of it, as a name.
    async fn try_out(&self, tree: Tree, old_size: u64, proof: &[Hash]) -> &'static str {
        match self.show(submitted(self.note(tree), old_size, proof)).await {
            Ok(answer) => match answer.outcome.unwrap() {
                Outcome::Countersignature(line) => {
                    let witness = self.keys.witness_of(Role::KosekiProvider);
                    let note = with_countersignature(&self.note(tree), &line, &witness, &self.keys.known);
                    assert!(is_countersigned(&note.unwrap(), &witness, &self.keys.known));
                    "countersigned"
                }
                Outcome::Witnessed(_) => "elsewhere",
                Outcome::Inconsistent(_) => "inconsistent",
            },
            Err(reason) if reason == "MALFORMED" => "malformed",
            Err(reason) if reason == "OVERLOADED" => "overloaded",
            Err(reason) => panic!("{reason}"),
        }
    }
}

fn submitted(checkpoint: String, old_size: u64, proof: &[Hash]) -> SubmittedCheckpoint {
    SubmittedCheckpoint {
        checkpoint,
        old_size,
        consistency_proof: proof.iter().map(|hash| hash.to_vec()).collect(),
    }
}

/// What the registry side has countersigned of the gateways' logs.
async fn stored(database: &Path) -> Vec<(String, i64, Vec<u8>)> {
    let rows = Behind::open(database)
        .await
        .connection()
        .all(
            "SELECT origin, size, root FROM witnessed_log ORDER BY origin",
            &[],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| {
            let origin = row.text(0).unwrap().to_owned();
            (origin, row.int(1).unwrap(), row.bytes(2).unwrap().to_vec())
        })
        .collect()
}

async fn provider() -> (Deployment, Server, Liar, TempDir) {
    let directory = TempDir::new().unwrap();
    let plan = Plan {
        seed: SEED,
        registers: REGISTERS,
        addresses: Addresses::loopback(),
    };
    let deployment = Deployment::create(directory.path(), &plan).unwrap();
    stores::place(&deployment).await;
    let clock = Arc::new(ShiftedClock::default());
    let provider = start_provider(&deployment, clock.clone()).await;
    let liar = Liar::new(&deployment, &provider, &clock);
    (deployment, provider, liar, directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_on_from_what_was_countersigned_is_not_countersigned() {
    let (deployment, provider, liar, _directory) = provider().await;
    let database = deployment.provider_database();
    let first = Tree::of_one([1; 32]);
    // It has never countersigned anything, so there is nothing to go on from.
    assert_eq!(liar.try_out(first, 1, &[]).await, "elsewhere");
    assert_eq!(stored(&database).await, []);
    assert_eq!(liar.try_out(first, 0, &[]).await, "countersigned");
    let two = first.doubled([2; 32]);
    assert_eq!(liar.try_out(two, 1, &[[2; 32]]).await, "countersigned");
    assert_eq!(liar.try_out(two, 2, &[]).await, "countersigned");
    let four = two.doubled([3; 32]);
    assert_eq!(liar.try_out(four, 2, &[[3; 32]]).await, "countersigned");
    let good = stored(&database).await;
    assert_eq!(good, [(liar.keys.origin().to_owned(), 4, four.root.to_vec())]);

    let eight = four.doubled([5; 32]);
    let other = two.doubled([4; 32]);
    let signed_by_nobody = liar.note(eight).replace("koseki.example", "koseki2.example");
    for (what, tree, old_size, proof, expected) in [
        ("rolled back", two, 4, vec![], "inconsistent"),
        ("rolled back, from nothing", two, 0, vec![], "elsewhere"),
        ("rolled back, from before", two, 1, vec![[2; 32]], "elsewhere"),
        ("same size, other content", other, 4, vec![], "inconsistent"),
        (
            "another history",
            other.doubled([5; 32]),
            4,
            vec![[5; 32]],
            "inconsistent",
        ),
        ("no proof", eight, 4, vec![], "inconsistent"),
        ("another proof", eight, 4, vec![[6; 32]], "inconsistent"),
        ("a longer proof", eight, 4, vec![[5; 32], [5; 32]], "inconsistent"),
    ] {
        assert_eq!(liar.try_out(tree, old_size, &proof).await, expected, "{what}");
        assert_eq!(stored(&database).await, good, "{what}");
        assert!(stands(&provider, Alarm::PeerLogInconsistent), "{what}");
        // What goes on is good again.
        assert_eq!(liar.try_out(four, 4, &[]).await, "countersigned");
        assert!(!stands(&provider, Alarm::PeerLogInconsistent), "{what}");
    }
    for (what, tree, proof) in [
        ("too long a proof", eight, vec![[5; 32]; 127]),
        (
            "too large",
            Tree {
                size: 1 << 63,
                root: [7; 32],
            },
            vec![[5; 32]],
        ),
    ] {
        assert_eq!(liar.try_out(tree, 4, &proof).await, "malformed", "{what}");
    }
    // Another's log, or a note that is none.
    let provider_keys = keys(&deployment, Role::KosekiProvider);
    let text = |origin: &str| Checkpoint {
        origin: origin.to_owned(),
        size: 8,
        root: eight.root,
    };
    let gateway_2 = liar.keys.origin_of(Role::PortalGateway, "gateway-2");
    let mut short = submitted(liar.note(eight), 4, &[]);
    short.consistency_proof = vec![vec![5; 31]];
    // Signatures up to the limit, so that none of ours fits.
    let filler = "\u{2014} filler.example AAAAAAAA\n";
    let mut full = liar.note(eight);
    while full.len() + filler.len() <= 8 * 1024 {
        full.push_str(filler);
    }
    for (what, shown) in [
        (
            "another's log",
            submitted(text(&gateway_2).sign(&liar.keys.checkpoint).unwrap(), 0, &[]),
        ),
        (
            "the provider's own log",
            submitted(
                text(provider_keys.origin())
                    .sign(&provider_keys.checkpoint)
                    .unwrap(),
                0,
                &[],
            ),
        ),
        (
            "signed with another key",
            submitted(
                text(liar.keys.origin()).sign(&provider_keys.checkpoint).unwrap(),
                4,
                &[[5; 32]],
            ),
        ),
        ("another domain", submitted(signed_by_nobody, 4, &[[5; 32]])),
        ("a short hash", short),
        (
            "too long a note",
            submitted(liar.note(eight) + &"a".repeat(8 * 1024), 4, &[[5; 32]]),
        ),
        ("a full note", submitted(full, 4, &[[5; 32]])),
        ("nothing", submitted(String::new(), 4, &[])),
    ] {
        assert_eq!(liar.show(shown).await.unwrap_err(), "MALFORMED", "{what}");
        assert_eq!(stored(&database).await, good, "{what}");
    }
    assert_eq!(liar.try_out(eight, 4, &[[5; 32]]).await, "countersigned");
    provider.drain(super::PATIENCE).await;
}

/// Only a checkpoint of its own, which the other side has countersigned, stops a service.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_not_its_own_does_not_stop_a_service() {
    let (deployment, provider, liar, _directory) = provider().await;
    let first = Tree::of_one([1; 32]);
    let show = || submitted(liar.note(first), 0, &[]);
    let theirs = liar.show(show()).await.unwrap().submitted.unwrap().checkpoint;
    let own = keys(&deployment, Role::KosekiProvider);
    let witness = own.witness_of(Role::PortalGateway);
    let now = common::clock::Clock::now(&ShiftedClock::default());
    let with = |note: &str| {
        let line = countersign(note, &liar.keys.witness, now).unwrap();
        with_countersignature(note, &line, &witness, &own.known).unwrap()
    };
    let far = Checkpoint {
        origin: own.origin().to_owned(),
        size: 1 << 20,
        root: [9; 32],
    };
    let by_the_gateway = far.sign(&liar.keys.checkpoint).unwrap();
    let by_itself = far.sign(&own.checkpoint).unwrap();
    for (what, note) in [
        ("signed by the gateway", with(&by_the_gateway)),
        ("not countersigned", by_itself.clone()),
        ("not countersigned, and true", theirs.clone()),
        ("the gateway's own", with(&liar.note(first))),
    ] {
        assert_eq!(
            liar.exchange(show(), note).await.unwrap_err(),
            "MALFORMED",
            "{what}"
        );
    }
    let taken = liar
        .exchange(submitted(liar.note(first), 1, &[]), with(&theirs))
        .await;
    taken.unwrap();
    assert!(!stands(&provider, Alarm::LogDiffers));
    // Its own word, countersigned, is another thing: this is a log that has been restored.
    liar.exchange(submitted(liar.note(first), 1, &[]), with(&by_itself))
        .await
        .unwrap();
    until("it differs", async || stands(&provider, Alarm::LogDiffers)).await;
    until("it is not ready", async || !provider.readiness().get()).await;
}

/// Two histories of one log, shown at the same time: never are both countersigned. On PostgreSQL they are shown to two instances of
/// the registry side.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_histories_shown_at_once_one_is_countersigned_at_most() {
    let clock = Arc::new(ShiftedClock::default());
    let (mut servers, mut liars) = (Vec::new(), Vec::new());
    let (deployment, _kept): (Deployment, Box<dyn std::any::Any>) = if stores::on_postgres() {
        let two = TwoDeployments::create().await;
        for deployment in [&two.first, &two.second] {
            let provider = start_provider(deployment, clock.clone()).await;
            // The same gateway at both.
            let mut liar = Liar::new(&two.first, &provider, &clock);
            if liars.len() == 1 {
                liar.client = other_instance(&two, &provider, &clock);
            }
            servers.push(provider);
            liars.push(liar);
        }
        (two.first.clone(), Box::new(two))
    } else {
        let (deployment, provider, liar, directory) = provider().await;
        liars.push(Liar::new(&deployment, &provider, &clock));
        liars.push(liar);
        servers.push(provider);
        (deployment, Box::new(directory))
    };
    let [one, other] = &liars[..] else { panic!() };
    let mut tree = Tree::of_one([1; 32]);
    assert_eq!(one.try_out(tree, 0, &[]).await, "countersigned");
    let mut both_decided = 0;
    for round in 1..40_u8 {
        let (by, by_other) = ([round; 32], [round + 100; 32]);
        let (grown, forked) = (tree.doubled(by), tree.doubled(by_other));
        let proofs = [[by], [by_other]];
        let (told, told_other) = tokio::join!(
            one.try_out(grown, tree.size, &proofs[0]),
            other.try_out(forked, tree.size, &proofs[1]),
        );
        let countersigned = [told, told_other]
            .iter()
            .filter(|told| **told == "countersigned")
            .count();
        assert_eq!(countersigned, 1, "{told} {told_other}");
        both_decided += usize::from(told != "overloaded" && told_other != "overloaded");
        tree = if told == "countersigned" { grown } else { forked };
        let size = i64::try_from(tree.size).unwrap();
        let expected = (one.keys.origin().to_owned(), size, tree.root.to_vec());
        assert_eq!(stored(&deployment.provider_database()).await, [expected]);
    }
    assert!(both_decided > 0 || !stores::on_postgres(), "they never met");
    for server in servers {
        server.drain(super::PATIENCE).await;
    }
}

/// The first gateway's certificate at the second provider instance.
fn other_instance(
    two: &TwoDeployments,
    provider: &Server,
    clock: &Arc<ShiftedClock>,
) -> LinkageClient<Channel> {
    Forger::at_instance(
        &two.first,
        &address(provider, Listener::Linkage),
        &two.second.provider_instance(),
        clock.clone(),
    )
    .client
}
