//! What the books promise, asked of each database that can hold them: the same cases, the same answers.

#![allow(clippy::unwrap_used)]

#[path = "../postgres/mod.rs"]
mod postgres;

mod appeals;
mod approvals;
mod epochs;
mod lanes;
mod ledger;
mod moving;
mod notice;
mod people;
mod rent;
mod roles;
mod spans;
mod supply;
mod turned;
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
    people: a_link_works_once, a_session_ends_when_it_lies_idle_and_at_its_end, a_key_is_decided_once, a_key_takes_the_place_of_another, a_number_counts_once, a_provider_names_one_account,
        refusals_are_kept_and_swept, permitted_acts_are_found_by_key_account_action_thing_and_time;
    notice: an_alarm_is_folded_until_it_is_closed, one_thing_is_frozen_once_and_thawed,
        an_outlet_is_told_of_what_is_new_grew_or_closed, a_message_is_tried_by_one_and_given_up_once,
        a_witness_is_asked_by_one_and_its_word_is_published;
    approvals: that_an_act_waits_is_an_incident_until_it_does_not, an_act_is_asked_for_decided_on_and_done_once, whoever_left_is_no_other_operator,
        a_passkey_is_kept_used_and_the_last_way_in_stays,
        a_password_is_of_one_account_and_ends_what_it_replaces;
    supply: an_inventory_keeps_its_gpus, an_account_s_machines_come_a_page_at_a_time, offers_are_noted, a_machine_that_leaves_is_retired,
        a_beat_is_one_bit, a_proof_is_judged_once,
        a_joining_proof_s_signature_is_kept_and_published, labels_go_back;
    spans: old_entries_are_packed_and_told_as_before;
    turned: who_turned_is_shown_although_the_books_lag,
        a_part_s_gpus_are_shown_when_it_is_folded_and_who_stays_away_by_the_oldest_part;
    epochs: an_epoch_is_judged_once, an_epoch_is_left_to_a_renter, a_table_of_calibration_is_watched, a_table_takes_the_place_of_another, made_up_machines_are_called_so;
    appeals: an_appeal_is_decided_by_its_verifiers_once, a_gpu_is_shown_as_what_its_proofs_carry;
    lanes: who_asks_at_once_is_each_answered, a_lane_is_there_until_its_key_ends, a_server_is_told_which_lanes_others_opened;
    rent: one_gpu_has_one_cluster, a_cluster_from_hire_to_receipt;
    ledger: a_beat_is_in_a_snapshot_or_late, a_period_has_one_snapshot, what_a_suspect_earns_is_held,
        bells_and_tables_are_in_the_log, the_log_has_no_gap,
        the_log_is_published_and_opened, the_projection_shows_what_is_public, a_lease_is_one_holders,
        what_a_server_left_behind_is_taken_over, what_ended_is_told_to_every_server;
}
