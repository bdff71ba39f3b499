//! The four conditions (clause 4.3), each missing in turn, and all of them there: through both services, over mutual TLS.

use devkit::story::{self, Teller};
use integration_tests::Pair;

/// Plays every scene of the story: each scenario person, each refusal, suspension at either side.
#[tokio::test]
async fn every_step_of_the_story_comes_out_as_it_must() {
    let pair = Pair::start().await;
    let (cast, offices) = (pair.cast().await, pair.offices());
    let mut teller = Teller::new(|line| println!("{line}"));
    story::play(&cast, &offices, &mut teller).await.unwrap();
    let failed: Vec<_> = teller.failed().collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(
        teller.steps().len() > 70,
        "the story has become short: {} steps",
        teller.steps().len()
    );
}
