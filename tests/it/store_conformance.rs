//! What every store behind the seam must do, on each database.

mod claims;
mod contention;
mod finishes;
mod pruning;
mod publishing;
mod put_offs;
mod republishing;
mod schedules;
mod waiting;
mod workers;

use carrot_actors::internals::state::{End, Status};
use carrot_actors::internals::store::{
    self, Batch, BatchResult, Begin, Claim, ClaimRequest, Finish, NewRow, Session, Store,
    TestSession, WorkerId, WorkerProcess,
};
use carrot_actors::message::{Arguments, Message};
use serde_json::json;

use crate::support::{Database, Ground, World};

/// A test on each database for each case.
macro_rules! conforms {
    ($($case:path as $name:ident),+ $(,)?) => {
        mod postgresql { $(#[test] fn $name() { $case(super::Database::Postgresql); })+ }
        mod sqlite { $(#[test] fn $name() { $case(super::Database::Sqlite); })+ }
        #[cfg(feature = "mysql")]
        mod mariadb { $(#[test] fn $name() { $case(super::Database::Mariadb); })+ }
    };
}

conforms! {
    super::publishing::records as a_recorded_message_is_pending_and_becomes_published_when_marked,
    super::publishing::records_all_or_none as a_row_that_is_refused_takes_all_of_its_record_with_it,
    super::publishing::leases as a_recorded_message_is_due_when_its_lease_is_over_and_leased_by_whoever_takes_it,
    super::publishing::reads_back as what_is_due_reads_back_as_it_was_recorded,
    super::publishing::fails as what_cannot_be_published_fails_with_the_reason_if_it_is_still_pending,
    super::publishing::hands_out_once as sessions_that_take_what_is_due_together_get_each_row_once,
    super::publishing::requeues as a_final_message_is_requeued_as_a_new_one_and_a_running_one_is_not,
    super::publishing::requeues_failed as all_failed_messages_are_requeued_at_once_and_no_others,
    super::claims::claims_fresh as a_published_or_pending_message_is_ours_and_fresh,
    super::claims::knows_the_final as a_final_message_is_not_claimed,
    super::claims::leaves_the_owned as a_message_of_a_live_worker_is_not_claimed,
    super::claims::takes_from_the_dead as a_message_of_a_dead_worker_is_ours_and_suspect,
    super::claims::joins_its_own as a_message_of_our_own_is_ours_and_suspect,
    super::claims::tells_keys_apart as keys_that_differ_in_a_letter_case_or_blank_are_different_messages,
    super::claims::finds_no_row as a_message_without_a_row_has_none,
    super::claims::adopts as a_message_without_a_row_is_adopted_once,
    super::claims::adopts_the_final as a_row_that_is_adopted_as_final_stays_so,
    super::claims::adopts_the_missing as a_message_whose_row_has_come_is_not_cancelled,
    super::claims::looks as a_look_finds_rows_and_claims_none,
    super::claims::leaves_to_the_sweep as what_another_acknowledged_is_given_back_to_the_sweep,
    super::claims::counts_begins as a_begun_suspect_is_counted_and_a_lost_one_is_not_begun,
    super::claims::begins_what_is_nobodys as a_suspect_whose_claim_a_crash_forgot_is_begun,
    super::claims::releases as what_is_released_is_published_again_and_anyones,
    super::republishing::waits_for_the_broker as what_is_given_back_and_may_be_dropped_is_due_after_a_while_unless_it_is_claimed,
    super::republishing::goes_to_the_sweep as what_is_given_back_and_gone_from_the_broker_is_due_at_once,
    super::finishes::writes as the_end_of_a_run_is_written_with_all_it_says,
    super::finishes::writes_once as a_final_state_is_never_left,
    super::finishes::is_fenced as an_end_does_not_count_when_another_worker_has_the_message,
    super::finishes::writes_nobodys as an_end_counts_when_nobody_has_the_message,
    super::finishes::misses_the_gone as an_end_of_a_row_that_was_deleted_is_gone,
    super::finishes::is_all_or_none as a_batch_that_is_refused_changes_nothing,
    super::finishes::stores_what_is_storable as an_end_that_was_made_storable_is_stored_to_the_letter,
    super::finishes::mixes as a_batch_of_everything_answers_in_its_order,
    super::put_offs::waits as a_run_that_is_put_off_is_pending_with_the_reason_and_due_in_a_second,
    super::put_offs::outlasts_a_late_mark as a_mark_that_comes_late_does_not_undo_a_put_off,
    super::put_offs::waits_longer as what_is_put_off_again_waits_twice_as_long_up_to_half_a_minute,
    super::put_offs::ends as what_has_been_put_off_for_too_long_stays_with_its_worker,
    super::put_offs::counts_anew as another_cause_or_a_run_that_has_begun_counts_from_the_start,
    super::put_offs::is_fenced as a_put_off_does_not_count_when_another_has_the_message_or_it_is_over,
    super::put_offs::rewrites as what_is_put_off_is_published_as_it_came_whatever_its_row_had,
    super::put_offs::counts_attempts as a_run_that_is_put_off_does_not_count_and_those_before_it_do,
    super::put_offs::mixes as a_batch_with_put_offs_answers_in_its_order,
    super::workers::recovers as only_messages_of_dead_workers_are_recovered,
    super::workers::beats as a_heartbeat_keeps_a_worker_alive_and_registers_it_again,
    super::workers::lists as workers_are_found_by_their_namespace,
    super::workers::tells_silent as workers_without_a_heartbeat_for_20_s_are_silent,
    super::contention::adopts_once as of_eight_sessions_that_claim_new_messages_one_gets_each,
    super::contention::claims_in_opposite_orders as batches_claimed_in_opposite_orders_end_and_give_each_message_once,
    super::contention::recovers_once as sessions_that_recover_together_take_each_row_once,
    super::pruning::knows_ages as what_is_over_is_deleted_when_it_is_older_than_its_states_age,
    super::pruning::counts_from_the_end as an_age_counts_from_the_end,
    super::pruning::leaves_the_unfinished as what_is_not_over_is_never_deleted_nor_is_a_schedule,
    super::pruning::keeps_states_without_an_age as a_state_without_an_age_is_kept,
    super::pruning::falls_back as the_recording_counts_where_the_end_has_no_time,
    super::pruning::counts_only as a_dry_run_counts_and_deletes_nothing,
    super::pruning::walks as stretches_follow_each_other_to_the_end_and_tell_the_recent,
    super::pruning::passes_the_delayed as what_is_published_later_does_not_end_the_walk,
    super::pruning::settles as a_stretch_is_settled_when_nothing_in_it_will_grow_too_old,
    super::schedules::saved::saves as a_schedule_is_saved_found_activated_and_removed,
    super::schedules::saved::edits as an_edited_schedule_is_reckoned_anew_if_its_timetable_is_another,
    super::schedules::saved::names_once as of_sessions_that_give_a_name_at_once_one_does,
    super::schedules::plans as a_new_schedule_is_reckoned_once_it_is_active,
    super::schedules::takes as what_is_due_is_taken_with_its_message_and_never_again,
    super::schedules::takes_all_or_none as a_message_that_is_refused_leaves_all_schedules_as_they_were,
    super::schedules::takes_once as sessions_that_take_occurrences_together_get_each_once,
    super::schedules::leaves_out_those_there as an_occurrence_that_has_a_message_is_left_out,
    super::schedules::is_unique as an_occurrence_has_one_message_also_when_that_is_requeued,
    super::schedules::sees_unfinished as an_unfinished_message_of_any_occurrence_or_beside_the_timetable_is_seen,
    super::schedules::delays as a_delayed_message_is_due_at_its_time_and_not_before,
    super::waiting::takes_in_order as what_waits_is_taken_by_priority_and_age_and_by_one_worker,
    super::waiting::puts_back as what_is_put_back_waits_again_unless_it_was_claimed_or_another_has_it,
    super::waiting::puts_all_back as all_of_a_queue_that_a_worker_took_and_did_not_claim_is_put_back,
    super::waiting::waits_after_a_death as what_a_dead_worker_took_waits_again,
    super::waiting::takes_once as sessions_that_take_what_waits_together_get_each_message_once,
    super::pruning::deletes_once as sessions_that_prune_together_delete_each_row_once,
}

/// The store of a world's database.
fn open(world: &World) -> Box<dyn Store> {
    store::open_for(&world.config()).unwrap()
}

/// A world with a session of the store on trial, and a worker registered on it.
fn trial(ground: impl Into<Ground>) -> (World, Box<dyn TestSession>, WorkerId) {
    let world = ground.into().world("");
    let mut session = store::connect_for_tests(&world.config()).unwrap();
    let worker = session.register(&process(1)).unwrap();
    (world, session, worker)
}

fn process(pid: i32) -> WorkerProcess {
    WorkerProcess {
        host: "host".to_owned(),
        namespace: "namespace".to_owned(),
        pid,
        process_start: 12,
    }
}

fn messages(count: usize) -> Vec<Message> {
    let message = |nth| {
        let arguments = Arguments {
            args: vec![json!(nth), json!("ü'\"\\%")],
            ..Arguments::default()
        };
        Message::new("app.tasks.noop", arguments, "default")
    };
    (0..count).map(message).collect()
}

/// Messages that are PUBLISHED; their keys.
fn published(session: &mut dyn Session, count: usize) -> Vec<String> {
    let messages = messages(count);
    let rows: Vec<NewRow> = messages.iter().map(NewRow::pending).collect();
    let keys: Vec<String> = rows.iter().map(|row| row.key.clone()).collect();
    session.record(&rows).unwrap();
    session.mark_published(&keys).unwrap();
    keys
}

fn claims(keys: &[String]) -> Batch {
    let claim = |key: &String| ClaimRequest {
        key: key.clone(),
        adopt: None,
    };
    Batch {
        claims: keys.iter().map(claim).collect(),
        ..Batch::default()
    }
}

#[track_caller]
fn claim(session: &mut dyn Session, worker: WorkerId, keys: &[String]) -> Vec<Claim> {
    session.write(worker, &claims(keys)).unwrap().claims
}

fn finish(key: &str, end: End) -> Finish {
    Finish {
        key: key.to_owned(),
        end,
        attempts: 1,
        output: None,
        exception: None,
        traceback: None,
        log: None,
    }
}

fn finishes(keys: &[String], end: End) -> Batch {
    Batch {
        finishes: keys.iter().map(|key| finish(key, end)).collect(),
        ..Batch::default()
    }
}

#[track_caller]
fn write(session: &mut dyn Session, worker: WorkerId, batch: &Batch) -> BatchResult {
    session.write(worker, batch).unwrap()
}

const FRESH: Claim = Claim::Ours {
    attempts: 0,
    crash_suspect: false,
};

const SUSPECT: Claim = Claim::Ours {
    attempts: 0,
    crash_suspect: true,
};

/// The first run of a message.
fn begin(key: &str) -> Begin {
    Begin {
        key: key.to_owned(),
        attempts: 1,
    }
}

/// Those whose heartbeat is too old.
fn silent_workers(session: &mut dyn Session) -> Vec<WorkerId> {
    let heartbeats = session.heartbeats().unwrap().into_iter();
    let old = heartbeats.filter(|heartbeat| heartbeat.is_old);
    old.map(|heartbeat| heartbeat.worker).collect()
}

/// Removes the workers that have been silent for too long; how many.
fn remove_silent_workers(session: &mut dyn Session) -> usize {
    let silent = silent_workers(session);
    session.deregister(&silent).unwrap();
    silent.len()
}

impl World {
    #[track_caller]
    fn is_in(&self, key: &str, status: Status) {
        assert_eq!(self.find(key).unwrap()["status"], status.as_str());
    }

    /// As if the worker's last heartbeat was so long ago.
    fn silence(&self, worker: WorkerId, seconds: u64) {
        self.execute(&format!(
            "UPDATE carrot_worker SET heartbeat = {} WHERE id = {}",
            self.database.ago(seconds),
            worker.0
        ));
    }

    /// As if all leases had run out.
    fn end_leases(&self) {
        self.execute(&format!(
            "UPDATE carrot_messagelog SET due_time = {} WHERE due_time IS NOT NULL",
            self.database.ago(1)
        ));
    }
}
