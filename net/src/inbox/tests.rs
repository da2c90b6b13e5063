use super::*;
use crate::Identity;

const FREE: RateLimit = RateLimit { messages_per_second: 1e9, burst: 1_000_000 };

fn message(sequence: u64, size: usize) -> Message {
    Message { sequence, content_type: None, data: vec![0; size] }
}

#[tokio::test]
async fn a_repeated_message_is_answered_as_before_and_delivered_once() {
    let (inbox, key) = (Inbox::new(), Identity::generate().public_key());
    let mut reader = inbox.subscribe();
    for sequence in [1, 2, 2, 1, 5] {
        assert_eq!(inbox.accept(key, 7, message(sequence, 1), FREE).await, Status::Accepted);
    }
    assert_eq!(inbox.refuse(key, 7, 6, FREE).await, Status::TooLarge);
    assert_eq!(inbox.accept(key, 7, message(6, 1), FREE).await, Status::TooLarge);
    assert_eq!(inbox.accept(key, 7, message(4, 1), FREE).await, Status::Refused);
    assert_eq!(inbox.accept(key, 8, message(1, 1), FREE).await, Status::Accepted, "another process");
    let ids: Vec<_> = std::iter::from_fn(|| reader.try_recv().ok()).map(|m| m.id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_late_message_of_the_session_before_costs_neither_session_its_memory() {
    let (inbox, key) = (Inbox::new(), Identity::generate().public_key());
    let mut reader = inbox.subscribe();
    for (session, sequence) in [(7, 1), (8, 1), (7, 2), (8, 1), (7, 2), (8, 2), (7, 1)] {
        assert_eq!(inbox.accept(key, session, message(sequence, 1), FREE).await, Status::Accepted);
    }
    let read = |reader: &mut Subscription| std::iter::from_fn(|| reader.try_recv().ok()).count();
    assert_eq!(read(&mut reader), 4, "each once");
    // A third session ends the memory of the first, not of the second, however late the first was heard of.
    for (session, sequence) in [(9, 1), (8, 2), (9, 1)] {
        assert_eq!(inbox.accept(key, session, message(sequence, 1), FREE).await, Status::Accepted);
    }
    assert_eq!(read(&mut reader), 1);
}

#[tokio::test]
async fn messages_wait_for_the_first_reader_in_order_and_within_bounds() {
    let (inbox, key) = (Inbox::new(), Identity::generate().public_key());
    for sequence in 1..=INBOX_MESSAGES as u64 {
        assert_eq!(inbox.accept(key, 7, message(sequence, 1), FREE).await, Status::Accepted);
    }
    let over = INBOX_MESSAGES as u64 + 1;
    assert_eq!(inbox.accept(key, 7, message(over, 1), FREE).await, Status::InboxFull);
    let mut reader = inbox.subscribe();
    assert_eq!(inbox.accept(key, 7, message(over + 1, 1), FREE).await, Status::Accepted);
    let ids: Vec<_> = std::iter::from_fn(|| reader.try_recv().ok()).map(|m| m.id).collect();
    assert_eq!(ids.len(), INBOX_MESSAGES + 1);
    assert!(ids.is_sorted());
}

#[tokio::test]
async fn the_bytes_that_wait_are_bounded() {
    let (inbox, key) = (Inbox::new(), Identity::generate().public_key());
    assert_eq!(inbox.accept(key, 7, message(1, INBOX_BYTES), FREE).await, Status::Accepted);
    assert_eq!(inbox.accept(key, 7, message(2, 1), FREE).await, Status::InboxFull);
}

#[tokio::test]
async fn every_subscriber_gets_all_and_one_that_left_holds_nobody_up() {
    let (inbox, key) = (Inbox::new(), Identity::generate().public_key());
    let (mut one, gone, mut two) = (inbox.subscribe(), inbox.subscribe(), inbox.subscribe());
    drop(gone);
    assert_eq!(inbox.accept(key, 7, message(1, 1), FREE).await, Status::Accepted);
    assert_eq!(one.try_recv().unwrap().id, two.try_recv().unwrap().id);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_off_and_loses_nothing_of_what_it_has() {
    let inbox = Inbox::with_patience(Duration::from_millis(1));
    let key = Identity::generate().public_key();
    let mut stuck = inbox.subscribe();
    let room = (INBOX_MESSAGES + BEHIND) as u64;
    for sequence in 1..=room + 1 {
        assert_eq!(inbox.accept(key, 7, message(sequence, 0), FREE).await, Status::Accepted);
    }
    let mut read = 0;
    while stuck.recv().await.is_some() {
        read += 1;
    }
    assert_eq!(read, room, "then its channel ended");
    assert_eq!(inbox.subscribe().try_recv().unwrap().id, room + 1, "the last one waits for a reader");
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_large_messages_is_cut_off_as_well_and_the_others_get_all() {
    let inbox = Inbox::with_patience(Duration::from_millis(1));
    let key = Identity::generate().public_key();
    let (_stuck, mut reads) = (inbox.subscribe(), inbox.subscribe());
    for sequence in 1..=100 {
        assert_eq!(inbox.accept(key, 7, message(sequence, 1024 * 1024), FREE).await, Status::Accepted);
        assert_eq!(reads.try_recv().unwrap().id, sequence);
    }
}

#[test]
fn the_bucket_lets_a_burst_through_and_refills() {
    let start = Instant::now();
    let limit = RateLimit { messages_per_second: 10.0, burst: 3 };
    let mut bucket = Bucket { tokens: 3.0, at: start };
    assert_eq!((0..5).filter(|_| bucket.take(limit, start)).count(), 3);
    let later = start + Duration::from_millis(201);
    assert_eq!((0..5).filter(|_| bucket.take(limit, later)).count(), 2);
    let much_later = start + Duration::from_secs(60);
    assert_eq!((0..5).filter(|_| bucket.take(limit, much_later)).count(), 3);
}
