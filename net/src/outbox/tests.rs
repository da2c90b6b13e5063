use futures::FutureExt;

use super::*;

fn empty() -> Arc<Outbox> {
    Outbox::new(Arc::new(AtomicU64::new(1)))
}

fn connected() -> Arc<Outbox> {
    let outbox = empty();
    outbox.connected();
    outbox
}

fn send(outbox: &Arc<Outbox>) -> (Ticket, Answer) {
    outbox.push(None, vec![1, 2, 3]).unwrap()
}

fn lease(outbox: &Arc<Outbox>) -> Option<Lease> {
    Arc::clone(outbox).lease().now_or_never()
}

#[test]
fn what_was_not_answered_is_sent_again_in_order_by_the_next_connection() {
    let outbox = connected();
    let sent: Vec<_> = (0..3).map(|_| send(&outbox)).collect();
    let mut first = lease(&outbox).unwrap();
    assert!(lease(&outbox).is_none(), "one connection at a time");
    first.resume(7);
    let heads: Vec<_> = std::iter::from_fn(|| first.next()).map(|p| p.head.clone()).collect();
    assert_eq!(heads.len(), 3);
    first.answered(1, Status::Accepted).unwrap();
    drop(first);

    let mut second = lease(&outbox).unwrap();
    second.resume(7);
    let again: Vec<_> = std::iter::from_fn(|| second.next()).map(|p| p.head.clone()).collect();
    assert_eq!(again, heads[1..]);
    second.answered(2, Status::InboxFull).unwrap();
    second.answered(3, Status::Accepted).unwrap();
    let results: Vec<_> =
        sent.into_iter().map(|(_ticket, answer)| answer.now_or_never().unwrap().unwrap()).collect();
    assert_eq!(results, [Ok(()), Err(SendError::InboxFull), Ok(())]);
}

#[test]
fn a_peer_that_restarted_gets_only_what_its_predecessor_cannot_have() {
    let outbox = connected();
    let (_one, lost) = send(&outbox);
    let mut first = lease(&outbox).unwrap();
    first.resume(7);
    first.next().unwrap();
    let (_two, kept) = send(&outbox);
    drop(first);
    let mut second = lease(&outbox).unwrap();
    second.resume(8);
    assert_eq!(lost.now_or_never().unwrap().unwrap(), Err(SendError::Lost));
    second.next().unwrap();
    second.answered(2, Status::Accepted).unwrap();
    assert_eq!(kept.now_or_never().unwrap().unwrap(), Ok(()));
}

#[test]
fn the_line_is_bounded_and_a_message_taken_back_makes_room() {
    let outbox = connected();
    let mut tickets: Vec<_> = (0..MAX_MESSAGES).map(|_| send(&outbox)).collect();
    assert_eq!(outbox.push(None, vec![]).unwrap_err(), SendError::Busy);
    tickets.pop();
    assert!(outbox.push(None, vec![]).is_ok());
    let heavy = connected();
    let (_ticket, _answer) = heavy.push(None, vec![0; MAX_BYTES + 1]).unwrap();
    assert_eq!(heavy.push(None, vec![0]).unwrap_err(), SendError::Busy);
    assert_eq!(empty().push(None, vec![]).unwrap_err(), SendError::NotConnected);
}

#[test]
fn acks_for_what_was_not_sent_are_a_violation_and_late_ones_are_not() {
    let outbox = connected();
    let (ticket, _answer) = send(&outbox);
    let (_second, _) = send(&outbox);
    let mut lease = lease(&outbox).unwrap();
    lease.resume(7);
    assert_eq!(lease.answered(1, Status::Accepted), Err(StrayAck(1)), "not written yet");
    lease.next().unwrap();
    drop(ticket);
    assert_eq!(lease.answered(1, Status::Accepted), Ok(()), "its sender stopped waiting");
    assert_eq!(lease.answered(3, Status::Accepted), Err(StrayAck(3)));
    assert_eq!(lease.answered(0, Status::Accepted), Err(StrayAck(0)));
    assert!(lease.next().is_some(), "the second one is still to be written");
}
