use super::*;
use crate::health::outage::ServerHealth;
use crate::health::queue_status_handle::QueueStatusHandle;

struct OneQueue {
    service_status: Arc<ServiceStatus>,
    broker: Arc<ServerHealth>,
    queue: QueueStatusHandle,
}

fn one_queue() -> OneQueue {
    let service_status = ServiceStatus::new();
    let broker = service_status.servers().broker("amqp://there");
    let queue = QueueStatusHandle::register(&service_status, "default", 2, &broker);
    OneQueue {
        service_status,
        broker,
        queue,
    }
}

#[test]
fn a_service_consumes_when_every_queue_is_consumed() {
    let OneQueue {
        service_status,
        queue,
        ..
    } = one_queue();
    assert_eq!(service_status.report().state, ServiceState::Starting);
    service_status.set_tree_started();
    assert_eq!(service_status.report().state, ServiceState::Starting);
    queue.set_consumed();
    assert_eq!(service_status.report().state, ServiceState::Consuming);
    queue.set_disconnected();
    assert_eq!(
        service_status.report().state,
        ServiceState::Waiting,
        "a service that was up is never starting again"
    );
    service_status.set_stopping();
    assert_eq!(service_status.report().state, ServiceState::Stopping);
}

#[test]
fn a_service_is_up_when_the_missing_server_is_known_to_be_away() {
    let status = one_queue();
    status.service_status.set_tree_started();
    status.broker.probe("the queue").failed(&"refused");
    let report = status.service_status.wait_until_up();
    assert_eq!(report.state, ServiceState::Waiting);
    assert_eq!(
        report.waiting_for,
        ["the broker amqp://there is away: refused"]
    );
}

#[test]
fn a_start_waits_for_a_database_that_is_away() {
    let OneQueue { service_status, .. } = one_queue();
    let database = service_status.servers().database("sqlite://x");
    let client = database.probe("the start");
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| service_status.wait_until_up());
        client.failed(&"locked");
        waiting.join().unwrap()
    });
    assert_eq!(waiting.state, ServiceState::Waiting);
    assert_eq!(
        waiting.waiting_for,
        ["the database sqlite://x is away: locked"]
    );
}

#[test]
fn a_refused_queue_is_reported_with_the_reason() {
    let status = one_queue();
    status.service_status.set_tree_started();
    status.queue.set_refused("PRECONDITION_FAILED".to_owned());
    assert_eq!(
        status.service_status.wait_until_up().waiting_for,
        ["queue \"default\" is not consumed: PRECONDITION_FAILED"]
    );
}

#[test]
fn a_failed_service_stops_or_restarts_unless_it_was_told_to_stop() {
    let OneQueue {
        service_status,
        queue,
        ..
    } = one_queue();
    service_status.set_tree_started();
    queue.set_consumed();
    service_status.set_failed("it");
    let report = service_status.report();
    assert_eq!(report.state, ServiceState::Stopping);
    assert!(!report.queues[0].consumed);
    assert_eq!(report.failure.as_deref(), Some("it"));
    assert!(!service_status.will_restart());

    service_status.enable_restart();
    assert_eq!(service_status.report().state, ServiceState::Restarting);
    assert!(service_status.will_restart());
    service_status.set_stopping();
    assert_eq!(service_status.report().state, ServiceState::Stopping);
    assert!(!service_status.will_restart());
}

#[test]
fn a_restarted_service_reports_how_often_and_why() {
    let first = Restarts::after(None, "it");
    let again = Restarts::after(Some(&first), "that");
    assert_eq!((first.count, again.count), (1, 2));
    let service_status = ServiceStatus::after(again.clone());
    assert_eq!(service_status.report().state, ServiceState::Restarting);
    service_status.set_restarted();
    let report = service_status.report();
    assert_eq!(
        (report.state, report.failure),
        (ServiceState::Starting, None)
    );
    assert_eq!(report.restarts, Some(again));
}

#[test]
fn running_tasks_are_counted() {
    let OneQueue {
        service_status,
        queue,
        ..
    } = one_queue();
    let tasks = (queue.count_running(), queue.count_running());
    assert_eq!(service_status.report().running_tasks, 2);
    drop(tasks.0);
    assert_eq!(service_status.report().queues[0].running_tasks, 1);
}

#[test]
fn a_waiter_sees_each_change_once() {
    let OneQueue { service_status, .. } = one_queue();
    let (seen, _) = service_status.wait_for_change(StatusVersion::default(), None);
    let (same, _) = service_status.wait_for_change(seen, Some(Duration::ZERO));
    assert_eq!(seen, same);
    service_status.set_stopping();
    let (_, report) = service_status.wait_for_change(seen, None);
    assert_eq!(report.state, ServiceState::Stopping);
}
