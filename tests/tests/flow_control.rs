//! A sender that takes no results: the service takes in a bounded number of lines and then waits, so that no sender can make
//! it keep more; and when the results are taken, everything goes on and none is missing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helper functions outside of #[test] may fail a test, too"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use common::identity::Role;
use devkit::deployment::OFFICER;
use integration_tests::Pair;
use koseki_proto::koseki::{common::v1::FileLine, ingest::v1::ingest_client::IngestClient};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

const LINES: u64 = 120_000;
/// What the interface says that is taken in before results have left, and what fits into the windows on the way: results of
/// more than 25 bytes in the 2 MiB that this client is ready to keep, lines of more than 100 bytes in 256 KiB.
const MOST: u64 = 2_048 + 2 * 1_024 * 1_024 / 25 + 256 * 1_024 / 100;
/// Nothing moves any more when nothing has moved for this long.
const STALLED: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_sender_that_takes_no_results_is_made_to_wait() {
    let pair = Pair::start().await;
    let officer = format!("131016/{OFFICER}");
    let channel = pair
        .access()
        .to_provider(Role::Municipality, &officer, &pair.reach().ingest);
    let (sender, lines) = tokio::sync::mpsc::channel(1);
    let sent = Arc::new(AtomicU64::new(0));
    let sending = {
        let sent = sent.clone();
        tokio::spawn(async move {
            for line_number in 1..=LINES {
                let line = vec![b'x'; 100];
                sender.send(FileLine { line_number, line }).await.unwrap();
                sent.store(line_number, Ordering::SeqCst);
            }
        })
    };
    let answered = IngestClient::new(channel.unwrap())
        .send_copies(ReceiverStream::new(lines))
        .await;
    let mut results = answered.unwrap().into_inner();

    let mut before = 0;
    loop {
        tokio::time::sleep(STALLED).await;
        let now = sent.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    assert!(
        (1_000..=MOST).contains(&before),
        "{before} of {LINES} lines were taken in"
    );
    assert!(!sending.is_finished());

    let mut next = 1;
    while let Some(result) = results.next().await {
        assert_eq!(result.unwrap().line_number, next);
        next += 1;
    }
    assert_eq!(next, LINES + 1);
    sending.await.unwrap();
}
