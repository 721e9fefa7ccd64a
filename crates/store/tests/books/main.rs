//! What the books promise, asked of each database that can hold them: the same cases, the same answers.

#![allow(clippy::unwrap_used)]

#[path = "../postgres/mod.rs"]
mod postgres;

mod ledger;
mod people;
mod rent;
mod roles;
mod supply;
mod world;

/// Runs each case in a world of its own, once in every database.
macro_rules! cases {
    ($($file:ident: $($case:ident),+;)+) => {
        mod in_sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$file::$case(super::world::World::sqlite().await).await;
                }
            )+)+
        }
        mod in_postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$file::$case(super::world::World::postgres().await).await;
                }
            )+)+
        }
    };
}

cases! {
    people: a_link_works_once, a_key_is_decided_once, a_key_takes_the_place_of_another, a_number_counts_once, a_provider_names_one_account,
        refusals_are_kept_and_swept;
    supply: an_inventory_keeps_its_gpus, offers_are_noted, a_machine_that_leaves_is_retired,
        a_beat_is_one_bit, a_proof_is_judged_once, labels_go_back;
    rent: one_gpu_has_one_cluster, a_cluster_from_hire_to_receipt;
    ledger: a_beat_is_in_a_snapshot_or_late, a_period_has_one_snapshot, the_log_has_no_gap,
        the_log_is_published_and_opened, the_projection_shows_what_is_public, a_lease_is_one_holders;
}
