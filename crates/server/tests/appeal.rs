//! Appeals through a server whose books are a file.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod appeals;
mod net;

#[tokio::test(flavor = "multi_thread")]
async fn verifiers_of_other_people_decide_and_one_who_lies_changes_nothing() {
    appeals::decided(net::Net::start().await).await;
}
