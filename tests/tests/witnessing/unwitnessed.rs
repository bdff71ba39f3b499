//! A log that the other side does not countersign for longer than the policy allows.

use std::sync::{Arc, atomic::Ordering};

use common::{alarm::Alarm, authorisation::Listener, clock::ShiftedClock};
use devkit::{
    client::{Access, Reach},
    deployment::{Addresses, Deployment, Plan},
    registers::Scenario,
    story::{self, Cast, Offices, Teller},
};
use integration_tests::{
    REGISTERS, SEED, address, forger::Forger, log, start_gateway, start_provider, stores,
};
use koseki_proto::portal::v1::ProvisionState;
use tempfile::TempDir;

use super::{ask, impatient, line::Line, session, stands, until};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_countersignature_nothing_is_provided_until_there_is_one_again() {
    let directory = TempDir::new().unwrap();
    let plan = Plan {
        seed: SEED,
        registers: REGISTERS,
        addresses: Addresses::loopback(),
    };
    let deployment = Deployment::create(directory.path(), &plan).unwrap();
    stores::place(&deployment).await;
    impatient(&deployment);
    let clock = Arc::new(ShiftedClock::default());
    let provider = start_provider(&deployment, clock.clone()).await;
    let (line, _on_the_line) = Line::before(&deployment, &provider, &clock).await;
    let gateway = start_gateway(&deployment, clock.clone()).await;
    let access = Access::new(&deployment, clock.clone());
    let reach = Reach {
        ingest: address(&provider, Listener::Ingest),
        registry_admin: address(&provider, Listener::KosekiAdmin),
        portal: address(&gateway, Listener::Portal),
        portal_admin: address(&gateway, Listener::PortalAdmin),
    };
    let offices = Offices::new(&deployment, &access, &reach).unwrap();
    let mut teller = Teller::new(|_| {});
    story::load(&deployment, &offices, &mut teller).await.unwrap();
    let cast = Cast::new(&deployment, &access, &reach.portal).unwrap();
    let frontend = &cast.frontend;
    frontend.wait_until_providing().await.unwrap();
    let (asking, _) = session(&cast).await;
    let (withdrawing, consent) = session(&cast).await;
    assert_eq!(ask(frontend, &asking).await, "PROVIDED");
    let mut forger = Forger::new(&deployment, &address(&provider, Listener::Linkage), clock.clone());
    let (person, card) = cast.person(Scenario::Ordinary).unwrap();
    let (code, login) = (forger.code(&card), forger.login(&card).await);
    let honest = [forger.honest(&code, &login)];
    assert_eq!(forger.ask(&honest).await.unwrap(), ["PROVIDED"]);

    line.cut.store(true, Ordering::SeqCst);
    for server in [&provider, &gateway] {
        until("it is told", async || stands(server, Alarm::LogUnwitnessed)).await;
        until("it is not ready", async || !server.readiness().get()).await;
        // Nothing else has stopped.
        for other in [
            Alarm::SuppressionFeedStale,
            Alarm::PolicyMismatch,
            Alarm::LogDiffers,
        ] {
            assert!(!stands(server, other), "{other:?}");
        }
    }
    let status = frontend.status().await.unwrap();
    assert!(
        status
            .iter()
            .all(|kind| kind.state() == ProvisionState::Unavailable)
    );
    assert_eq!(ask(frontend, &asking).await, "UNAVAILABLE");
    // The registry side does not rely on the portal side's stopping by itself.
    let honest = [forger.honest(&code, &login)];
    assert_eq!(forger.ask(&honest).await.unwrap_err(), "UNAVAILABLE");

    // What forbids goes on, also for those who log in only now.
    frontend.withdraw(&withdrawing, &consent).await.unwrap();
    let (late, consent) = session(&cast).await;
    frontend.withdraw(&late, &consent).await.unwrap();
    let (_, blocked) = cast.person(Scenario::Plane2).unwrap();
    let [alice, _] = &offices.portal;
    alice
        .block(&frontend.ids().next(), &blocked.public_key_sha256)
        .await
        .unwrap();
    let (suppressed, _) = cast.person(Scenario::Suppressed).unwrap();
    assert_ne!(suppressed.person_id, person.person_id);
    let recorded = story::record(&cast.persons, &offices, &mut teller).await;
    recorded.unwrap();
    assert_eq!(teller.failed().count(), 0);
    let [registry, portal] = [deployment.provider_database(), deployment.gateway_database()];
    for (database, act) in [
        (&portal, "WITHDRAW_CONSENT"),
        (&portal, "SET_BLOCK"),
        (&registry, "RECORD_NON_PROVISION"),
    ] {
        assert!(log::guard_act(database, act).await.is_some(), "{act}");
    }
    assert_eq!(
        (log::released(&registry).await, log::released(&portal).await),
        (2, 1)
    );

    line.cut.store(false, Ordering::SeqCst);
    for server in [&provider, &gateway] {
        until("the alarm is over", async || {
            !stands(server, Alarm::LogUnwitnessed)
        })
        .await;
        until("it is ready", async || server.readiness().get()).await;
    }
    let (again, _) = session(&cast).await;
    until("it provides again", async || {
        ask(frontend, &again).await == "PROVIDED"
    })
    .await;
}
