//! What the functions of the store promise to those who decide.

use std::time::Duration;

use flotilla::model::{
    AttemptId, DefinitionId, EngineId, Event, LaunchRequest, Order, PageRequest, Resources, Run, RunFilter, RunId,
    RunSort, Situation, StartFault, StartLimits, Status, StopCause, StopRequest, TaskSpec, fail_start, requeue,
    stop_before_start,
};
use flotilla::store::{Launched, Store};
use jiff::SignedDuration;

use crate::{definition, now, run};

const SERVER: &str = "this-server";

/// Launches a run of a task that asks for this.
async fn launch(store: &Store, cluster: &str, task: TaskSpec) -> Run {
    let definition = definition(&RunId::generate().to_string(), task);
    store.insert_definition(&definition).await.unwrap();
    let run = run(&definition, cluster, LaunchRequest::default());
    assert_eq!(store.insert_run(&run).await.unwrap(), Launched::New);
    run
}

async fn claim(store: &Store, run: &Run) -> Run {
    let cluster = &run.execution.resolved_cluster;
    store.claim(cluster, &[run.run_id], 100, SERVER, now()).await.unwrap().pop().unwrap()
}

/// Ends a run that waits.
async fn end(store: &Store, run: &Run) {
    let change = stop_before_start(run, StopCause::Request, now()).unwrap();
    assert!(store.apply(run.run_id, &change).await.unwrap());
}

fn gpus(gpus: i64) -> TaskSpec {
    TaskSpec { memory_mb: Some(10 * gpus), cpu_millis: Some(100 * gpus), gpu: Some(gpus), ..TaskSpec::default() }
}

fn amounts(gpus: i64) -> Resources {
    Resources { memory_mb: Some(10 * gpus), cpu_millis: Some(100 * gpus), gpus: Some(gpus), storage_mb: None }
}

crate::on_both! {
    async fn a_run_comes_back_as_it_was_launched(store: Store) {
        let launched = launch(&store, "one", TaskSpec { tags: vec!["a&b".to_owned()], ..gpus(1) }).await;
        assert_eq!(store.run(launched.run_id).await.unwrap(), Some(launched.clone()));
        assert_eq!(store.run(RunId::generate()).await.unwrap(), None);
        assert_eq!(store.newest_events(launched.run_id, 9).await.unwrap()[0].reason, "Queued");
    }

    async fn a_run_is_claimed_once_and_only_while_the_cluster_has_room(store: Store) {
        let (first, second) = (launch(&store, "one", gpus(1)).await, launch(&store, "one", gpus(1)).await);
        let both = [first.run_id, second.run_id];
        assert_eq!(store.claim("one", &both, 1, SERVER, now()).await.unwrap(), [], "there is room for one only");
        let claimed = store.claim("one", &both[..1], 1, SERVER, now()).await.unwrap();
        let [claimed] = claimed.as_slice() else { panic!("{claimed:?}") };
        assert_eq!((claimed.run_id, claimed.status, claimed.attempt_count), (first.run_id, Status::Pending, 1));
        assert_eq!(store.claim("one", &both[..1], 9, SERVER, now()).await.unwrap(), [], "it does not wait any more");
        assert_eq!(store.claim("one", &both[1..], 1, SERVER, now()).await.unwrap(), []);
        assert_eq!(store.next_queued("one", 9).await.unwrap().len(), 1);
    }

    async fn what_runs_ask_for_is_reserved_from_their_claim_to_their_end(store: Store) {
        assert_eq!(store.reserved("one").await.unwrap(), (0, Resources::default()));
        let (first, second) = (launch(&store, "one", gpus(2)).await, launch(&store, "one", gpus(3)).await);
        let other = launch(&store, "another", gpus(7)).await;
        let asked: Vec<_> = store.next_queued("one", 9).await.unwrap().iter().map(|run| run.asked).collect();
        assert_eq!(asked, [amounts(2), amounts(3)], "in the order they were launched");
        assert_eq!(store.reserved("one").await.unwrap().0, 0, "those that wait take nothing");
        let first = claim(&store, &first).await;
        claim(&store, &other).await;
        assert_eq!(store.reserved("one").await.unwrap(), (1, amounts(2)));
        claim(&store, &second).await;
        assert_eq!(store.reserved("one").await.unwrap(), (2, amounts(5)));
        let loads = store.cluster_loads().await.unwrap();
        let load = &loads.iter().find(|(cluster, _)| cluster == "one").unwrap().1;
        assert_eq!((load.pending, load.queued, load.reserved), (2, 0, amounts(5)));
        let situation = Situation { now: now(), since_claim: SignedDuration::ZERO, limits: &StartLimits::NONE };
        let change = fail_start(&first, "no room", StartFault::Machine, situation);
        assert!(store.apply(first.run_id, &change).await.unwrap());
        assert_eq!(store.reserved("one").await.unwrap(), (1, amounts(3)), "one that waits for a retry takes nothing");
    }

    async fn a_step_that_was_decided_from_something_older_is_not_taken(store: Store) {
        let waiting = launch(&store, "one", gpus(1)).await;
        let change = stop_before_start(&waiting, StopCause::Request, now()).unwrap();
        claim(&store, &waiting).await;
        assert!(!store.apply(waiting.run_id, &change).await.unwrap());
        assert_eq!(store.run(waiting.run_id).await.unwrap().unwrap().status, Status::Pending);
    }

    async fn a_retry_is_found_on_any_cluster_until_it_is_queued_again(store: Store) {
        let situation = Situation { now: now(), since_claim: SignedDuration::ZERO, limits: &StartLimits::NONE };
        for cluster in ["one", "gone"] {
            let claimed = claim(&store, &launch(&store, cluster, gpus(1)).await).await;
            let change = fail_start(&claimed, "no room", StartFault::Machine, situation);
            assert!(store.apply(claimed.run_id, &change).await.unwrap());
        }
        let due = store.runs_to_retry().await.unwrap();
        assert_eq!(due.len(), 2);
        for due in due {
            let run = store.run(due.attempt_id.run_id).await.unwrap().unwrap();
            assert_eq!((run.attempt_id(), run.due_at), (due.attempt_id, Some(due.due_at)));
            assert!(store.apply(run.run_id, &requeue(&run, due.due_at).unwrap()).await.unwrap());
        }
        assert_eq!(store.runs_to_retry().await.unwrap(), []);
        assert_eq!(store.next_queued("one", 9).await.unwrap(), [], "something of the first attempt may be left");
    }

    async fn a_stop_is_found_until_its_run_has_ended(store: Store) {
        let waiting = launch(&store, "one", gpus(1)).await;
        let stop = StopRequest::new(StopCause::Request, now());
        assert!(!store.request_stop(&waiting, &stop).await.unwrap(), "no engine has it: it is ended at once");
        let claimed = claim(&store, &waiting).await;
        assert!(store.request_stop(&claimed, &stop).await.unwrap());
        assert!(!store.request_stop(&claimed, &stop).await.unwrap(), "it is to stop already");
        assert_eq!(store.stopping_attempts("one").await.unwrap(), [claimed.attempt_id()]);
        assert_eq!(store.stopping_attempts("another").await.unwrap(), []);
        assert_eq!(store.stopping_waiting().await.unwrap(), [], "an engine may have it");
        assert!(store.note_stop_sent(claimed.attempt_id(), now()).await.unwrap());
        assert!(!store.note_stop_sent(claimed.attempt_id(), now()).await.unwrap());
        // As an earlier version left it.
        let stopping = store.run(waiting.run_id).await.unwrap().unwrap();
        let situation = Situation { now: now(), since_claim: SignedDuration::ZERO, limits: &StartLimits::NONE };
        let change = fail_start(&stopping, "no room", StartFault::Machine, situation);
        assert!(store.apply(stopping.run_id, &change).await.unwrap());
        assert_eq!(store.runs_to_retry().await.unwrap(), [], "what is to stop is not tried again");
        let [found] = store.stopping_waiting().await.unwrap().try_into().unwrap();
        assert_eq!((found.run_id, found.stop.as_ref().map(|stop| stop.cause)), (waiting.run_id, Some(StopCause::Request)));
        end(&store, &found).await;
        assert_eq!(store.stopping_waiting().await.unwrap(), []);
    }

    async fn descendants_of_a_run_that_is_stopped_with_its_family_are_orphans(store: Store) {
        let parent = launch(&store, "one", gpus(1)).await;
        let definition = definition("child", gpus(1));
        store.insert_definition(&definition).await.unwrap();
        let mut child = run(&definition, "gone", LaunchRequest::default());
        child.execution.parent_run_id = Some(parent.run_id);
        store.insert_run(&child).await.unwrap();
        assert_eq!(store.orphans_to_stop().await.unwrap().len(), 0);
        store.request_family_stop(parent.run_id, now()).await.unwrap();
        let orphans = store.orphans_to_stop().await.unwrap();
        let mut found: Vec<_> = orphans.iter().map(|orphan| orphan.run.run_id).collect();
        found.sort();
        assert_eq!(found, [parent.run_id, child.run_id]);
        assert_eq!(store.stopping_ancestor(child.run_id).await.unwrap(), Some(parent.run_id));
        end(&store, &child).await;
        end(&store, &parent).await;
        assert_eq!(store.orphans_to_stop().await.unwrap().len(), 0);
        assert_eq!(store.first_child_ids(parent.run_id, 9).await.unwrap(), [child.run_id.to_string()]);
    }

    async fn old_logs_are_found_by_cluster_also_of_clusters_that_are_gone(store: Store) {
        assert_eq!(store.clusters_with_logs().await.unwrap(), Vec::<String>::new());
        let mut ended = Vec::new();
        for cluster in ["b", "a", "c", "a"] {
            let run = launch(&store, cluster, gpus(1)).await;
            end(&store, &run).await;
            ended.push(run.run_id);
        }
        launch(&store, "waits", gpus(1)).await;
        assert_eq!(store.clusters_with_logs().await.unwrap(), ["a", "b", "c"]);
        let later = "2100-01-01T00:00:00Z".parse().unwrap();
        let first = store.logs_to_prune("a", later, None, 1).await.unwrap();
        let second = store.logs_to_prune("a", later, first.last(), 9).await.unwrap();
        let found: Vec<_> = first.iter().chain(&second).map(|log| log.run_id).collect();
        assert!(found.len() == 2 && found.contains(&ended[1]) && found.contains(&ended[3]), "{found:?}");
        assert_eq!(store.logs_to_prune("a", "1990-01-01T00:00:00Z".parse().unwrap(), None, 9).await.unwrap(), []);
        store.set_logs_pruned(&found, now()).await.unwrap();
        assert_eq!(store.clusters_with_logs().await.unwrap(), ["b", "c"]);
        store.set_logs_pruned(&[], now()).await.unwrap();
    }

    async fn a_key_leads_to_the_run_that_holds_it(store: Store) {
        let definition = definition("ordered", TaskSpec::default());
        store.insert_definition(&definition).await.unwrap();
        let request = || LaunchRequest { idempotence_key: Some("order-1".to_owned()), ..LaunchRequest::default() };
        let (first, again) = (run(&definition, "one", request()), run(&definition, "one", request()));
        assert_eq!(store.insert_run(&first).await.unwrap(), Launched::New);
        let existing = store.insert_run(&again).await.unwrap();
        assert!(matches!(&existing, Launched::Existing(run) if run.run_id == first.run_id), "{existing:?}");
        assert_eq!(store.run(again.run_id).await.unwrap(), None, "nothing of it is stored");
    }

    async fn a_definition_is_replaced_only_as_it_was_seen_and_never_comes_back(store: Store) {
        let first = definition("alias", TaskSpec::default());
        store.insert_definition(&first).await.unwrap();
        let twin = flotilla::model::Definition { definition_id: DefinitionId::from_text("twin"), ..first.clone() };
        assert!(store.insert_definition(&twin).await.is_err(), "the alias is taken");
        let later = now() + SignedDuration::from_secs(1);
        let changed = flotilla::model::Definition { updated_at: later, task_type: "job".to_owned(), ..first.clone() };
        assert!(store.replace_definition(&changed, first.updated_at).await.unwrap());
        assert!(!store.replace_definition(&changed, first.updated_at).await.unwrap(), "somebody was quicker");
        assert_eq!(store.live_definition_by_alias("alias").await.unwrap(), Some(changed.clone()));
        assert!(store.deregister_definition(&first.definition_id, later).await.unwrap());
        assert!(!store.deregister_definition(&first.definition_id, later).await.unwrap());
        assert_eq!(store.live_definition(&first.definition_id).await.unwrap(), None);
        assert!(store.definition_ever_existed(&first.definition_id).await.unwrap());
        assert!(!store.replace_definition(&changed, later).await.unwrap());
        store.insert_definition(&twin).await.unwrap();
    }

    async fn an_attempt_is_active_from_its_claim_until_nothing_is_left_of_it(store: Store) {
        let claimed = claim(&store, &launch(&store, "one", gpus(1)).await).await;
        let attempt_id = claimed.attempt_id();
        let active = store.active_attempts("one").await.unwrap();
        assert!(active[0].is_unlaunched() && active[0].server_id == SERVER && active[0].engine_id.is_none());
        assert!(store.set_handle(attempt_id, "container-1").await.unwrap());
        let engine_id = EngineId::from_text("engine-1");
        assert_eq!(store.set_missing_engines("one", &engine_id).await.unwrap(), 1);
        let active = store.active_attempt("one", attempt_id).await.unwrap().unwrap();
        assert_eq!((active.handle.as_deref(), active.engine_id), (Some("container-1"), Some(engine_id)));
        assert_eq!(store.active_attempt("another", attempt_id).await.unwrap(), None);
        store.set_cleaned(attempt_id, now()).await.unwrap();
        assert_eq!(store.active_attempts("one").await.unwrap(), []);
        assert!(store.attempt_place(attempt_id).await.unwrap().unwrap().is_cleaned);
        assert!(!store.set_handle(attempt_id, "container-2").await.unwrap(), "nothing is left of it");
        let unknown = AttemptId { attempt: 9, ..attempt_id };
        assert_eq!(store.attempt_place(unknown).await.unwrap(), None);
    }

    async fn an_event_is_said_once_where_that_is_asked_for(store: Store) {
        let run = launch(&store, "one", gpus(1)).await;
        let event = Event::warning(now(), "NotSeen", "why");
        for _ in 0..2 {
            store.append_unsaid_event(run.run_id, &event).await.unwrap();
        }
        assert_eq!(store.count_events(run.run_id).await.unwrap(), 2);
        store.append_event(run.run_id, &event).await.unwrap();
        assert_eq!(store.count_events(run.run_id).await.unwrap(), 2, "an engine says again what it remembers");
        store.append_event(run.run_id, &Event { message: "another".to_owned(), ..event.clone() }).await.unwrap();
        assert_eq!(store.count_events(run.run_id).await.unwrap(), 3);
        assert!(store.has_event(run.run_id, "NotSeen").await.unwrap());
        assert!(!store.has_event(run.run_id, "LogCut").await.unwrap());
    }

    async fn the_kept_time_never_goes_back(store: Store) {
        assert_eq!(store.kept_time().await.unwrap(), None);
        let (first, _) = store.keep_time(now(), Duration::ZERO).await.unwrap();
        let (second, _) = store.keep_time("1996-01-01T00:00:00Z".parse().unwrap(), Duration::from_secs(5)).await.unwrap();
        assert!(second >= first, "{first} {second}");
        assert_eq!(store.kept_time().await.unwrap(), Some(second));
    }

    async fn a_list_is_counted_as_it_is_filtered(store: Store) {
        for cluster in ["one", "one", "another"] {
            end(&store, &launch(&store, cluster, gpus(1)).await).await;
        }
        launch(&store, "one", gpus(1)).await;
        let page = PageRequest { limit: 2, offset: 0, sort_by: RunSort::QueuedAt, order: Order::Asc };
        let of_one = RunFilter { resolved_cluster: vec!["one".to_owned()], ..RunFilter::default() };
        let ended = RunFilter { status: vec![Status::Stopped], ..RunFilter::default() };
        for (filter, total) in [(RunFilter::default(), 4), (of_one, 3), (ended, 3)] {
            let found = store.list_run_summaries(&filter, page).await.unwrap();
            assert_eq!((found.rows.len(), found.total), (2, total), "{filter:?}");
        }
    }
}
