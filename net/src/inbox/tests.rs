use super::*;
use crate::Identity;

const FREE: RateLimit = RateLimit { messages_per_second: 1e9, burst: 1_000_000 };

/// What one sender may have waiting.
const OWN: usize = INBOX_MESSAGES / 4 * 3;

fn member() -> Origin {
    Origin { key: Identity::generate().public_key(), is_member: true }
}

fn stranger() -> Origin {
    Origin { is_member: false, ..member() }
}

fn message(sequence: u64, size: usize) -> Message {
    Message { sequence, content_type: None, data: vec![0; size] }
}

#[tokio::test]
async fn a_repeated_message_is_answered_as_before_and_delivered_once() {
    let (inbox, key) = (Inbox::new(), member());
    let mut reader = inbox.subscribe(None);
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
    let (inbox, key) = (Inbox::new(), member());
    let mut reader = inbox.subscribe(None);
    for (session, sequence) in [(7, 1), (8, 1), (7, 2), (8, 1), (7, 2), (8, 2), (7, 1)] {
        assert_eq!(inbox.accept(key, session, message(sequence, 1), FREE).await, Status::Accepted);
    }
    assert_eq!(read(&mut reader), [1, 2, 3, 4], "each once");
    // A third session ends the memory of the first, not of the second, however late the first was heard of.
    for (session, sequence) in [(9, 1), (8, 2), (9, 1)] {
        assert_eq!(inbox.accept(key, session, message(sequence, 1), FREE).await, Status::Accepted);
    }
    assert_eq!(read(&mut reader), [5]);
}

#[tokio::test]
async fn messages_wait_for_the_first_reader_in_order_and_within_bounds() {
    let (inbox, key) = (Inbox::new(), member());
    come(&inbox, key, 1, OWN).await;
    let over = OWN as u64 + 1;
    assert_eq!(inbox.accept(key, 7, message(over, 1), FREE).await, Status::InboxFull);
    let mut reader = inbox.subscribe(None);
    assert_eq!(inbox.accept(key, 7, message(over + 1, 1), FREE).await, Status::Accepted);
    let ids: Vec<_> = std::iter::from_fn(|| reader.try_recv().ok()).map(|m| m.id).collect();
    assert_eq!(ids.len(), OWN + 1);
    assert!(ids.is_sorted());
}

#[tokio::test]
async fn the_bytes_that_wait_are_bounded() {
    let (inbox, key) = (Inbox::new(), member());
    assert_eq!(inbox.accept(key, 7, message(1, INBOX_BYTES / 4 * 3), FREE).await, Status::Accepted);
    assert_eq!(inbox.accept(key, 7, message(2, 1), FREE).await, Status::InboxFull);
}

#[tokio::test]
async fn strangers_together_have_a_quarter_and_one_sender_leaves_something_for_the_others() {
    let inbox = Inbox::new();
    let (mut accepted, mut full) = (0, 0);
    for _ in 0..INBOX_MESSAGES {
        match inbox.accept(stranger(), 7, message(1, 1), FREE).await {
            Status::Accepted => accepted += 1,
            _ => full += 1,
        }
    }
    assert_eq!((accepted, full), (INBOX_MESSAGES / 4, OWN));
    let (one, other) = (member(), member());
    come(&inbox, one, 1, OWN - 1).await;
    come(&inbox, other, 1, 1).await;
    assert_eq!(inbox.accept(other, 7, message(2, 1), FREE).await, Status::InboxFull, "now all is taken");
    assert_eq!(read(&mut inbox.subscribe(None)).len(), INBOX_MESSAGES);
    // What is read takes nobody's share.
    assert_eq!(inbox.accept(stranger(), 7, message(1, 1), FREE).await, Status::Accepted);
}

#[tokio::test]
async fn the_bytes_of_strangers_are_bounded_as_well() {
    let inbox = Inbox::new();
    let half = || message(1, INBOX_BYTES / 8);
    for status in [Status::Accepted, Status::Accepted, Status::InboxFull] {
        assert_eq!(inbox.accept(stranger(), 7, half(), FREE).await, status);
    }
    assert_eq!(inbox.accept(member(), 7, half(), FREE).await, Status::Accepted);
}

#[tokio::test]
async fn strangers_by_the_thousand_do_not_make_a_members_messages_be_forgotten() {
    let (inbox, key) = (Inbox::new(), member());
    let mut reader = inbox.subscribe(None);
    come(&inbox, key, 1, 1).await;
    for _ in 0..MAX_SENDERS + 10 {
        inbox.accept(stranger(), 7, message(1, 0), FREE).await;
        assert!(reader.try_recv().is_ok());
    }
    while reader.try_recv().is_ok() {}
    assert_eq!(inbox.accept(key, 7, message(1, 1), FREE).await, Status::Accepted, "as it was answered first");
    assert!(reader.try_recv().is_err(), "and not delivered twice");
}

#[tokio::test]
async fn every_subscriber_gets_all_and_one_that_left_holds_nobody_up() {
    let (inbox, key) = (Inbox::new(), member());
    let (mut one, gone, mut two) = (inbox.subscribe(None), inbox.subscribe(None), inbox.subscribe(None));
    drop(gone);
    assert_eq!(inbox.accept(key, 7, message(1, 1), FREE).await, Status::Accepted);
    assert_eq!(one.try_recv().unwrap().id, two.try_recv().unwrap().id);
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_off_and_loses_nothing_of_what_it_has() {
    let inbox = Inbox::with_patience(Duration::from_millis(1));
    let key = member();
    let mut stuck = inbox.subscribe(None);
    let room = (INBOX_MESSAGES + BEHIND) as u64;
    for sequence in 1..=room + 1 {
        assert_eq!(inbox.accept(key, 7, message(sequence, 0), FREE).await, Status::Accepted);
    }
    let mut read = 0;
    while stuck.recv().await.is_some() {
        read += 1;
    }
    assert_eq!(read, room, "then its channel ended");
    assert_eq!(inbox.subscribe(None).try_recv().unwrap().id, room + 1, "the last one waits for a reader");
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_large_messages_is_cut_off_as_well_and_the_others_get_all() {
    let inbox = Inbox::with_patience(Duration::from_millis(1));
    let key = member();
    let (_stuck, mut reads) = (inbox.subscribe(None), inbox.subscribe(None));
    for sequence in 1..=100 {
        assert_eq!(inbox.accept(key, 7, message(sequence, 1024 * 1024), FREE).await, Status::Accepted);
        assert_eq!(reads.try_recv().unwrap().id, sequence);
    }
}

const NOTHING: [u64; 0] = [];

/// What a subscriber has in its channel, by id.
fn read(reader: &mut Subscription) -> Vec<u64> {
    std::iter::from_fn(|| reader.try_recv().ok()).map(|message| message.id).collect()
}

/// Lets so many messages come in, from `first` on.
async fn come(inbox: &Inbox, key: Origin, first: u64, count: usize) {
    for sequence in (first..).take(count) {
        assert_eq!(inbox.accept(key, 7, message(sequence, 1), FREE).await, Status::Accepted);
    }
}

#[tokio::test]
async fn a_reader_that_comes_back_goes_on_after_its_last_message() {
    let (inbox, key) = (Inbox::new(), member());
    let (mut first, mut other) = (inbox.subscribe(None), inbox.subscribe(None));
    come(&inbox, key, 1, 5).await;
    assert_eq!((read(&mut first), read(&mut other)), (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]));
    drop(first);
    let mut back = inbox.subscribe(Some(3));
    come(&inbox, key, 6, 1).await;
    assert_eq!(read(&mut back), [4, 5, 6]);
    assert_eq!(read(&mut other), [6], "nothing twice for the one that stayed");
    assert_eq!(read(&mut inbox.subscribe(Some(6))), NOTHING);
    assert_eq!(read(&mut inbox.subscribe(None)), NOTHING, "all of it is read");
    assert_eq!(read(&mut inbox.subscribe(Some(7))), [1, 2, 3, 4, 5, 6], "of an earlier life of the process");
}

#[tokio::test]
async fn what_a_reader_left_unread_waits_for_the_next_one_unless_somebody_has_it() {
    let (inbox, key) = (Inbox::new(), member());
    let mut leaves = inbox.subscribe(None);
    come(&inbox, key, 1, 3).await;
    assert_eq!(leaves.try_recv().unwrap().id, 1);
    let mut stays = inbox.subscribe(None);
    assert_eq!(read(&mut stays), NOTHING, "somebody has them and may still read them");
    come(&inbox, key, 4, 1).await;
    drop(leaves);
    let mut next = inbox.subscribe(None);
    assert_eq!(
        read(&mut next),
        [1, 2, 3],
        "the first may not have got through, and the fourth is with another"
    );
    assert_eq!(read(&mut stays), [4]);
    drop((stays, next));
    assert_eq!(read(&mut inbox.subscribe(None)), NOTHING);
}

#[tokio::test]
async fn what_is_unread_from_before_comes_also_to_a_reader_that_names_a_later_message() {
    let (inbox, key) = (Inbox::new(), member());
    let leaves = inbox.subscribe(None);
    come(&inbox, key, 1, 2).await;
    let mut stays = inbox.subscribe(None);
    come(&inbox, key, 3, 2).await;
    assert_eq!(read(&mut stays), [3, 4]);
    drop((leaves, stays));
    assert_eq!(read(&mut inbox.subscribe(Some(3))), [1, 2, 4]);
}

#[tokio::test]
async fn the_last_messages_are_kept_within_bounds_and_make_room_for_those_that_wait() {
    let (inbox, key) = (Inbox::new(), member());
    let mut reader = inbox.subscribe(None);
    let most = INBOX_MESSAGES as u64;
    come(&inbox, key, 1, INBOX_MESSAGES + 10).await;
    assert_eq!(read(&mut reader).len(), INBOX_MESSAGES + 10);
    assert_eq!(read(&mut inbox.subscribe(Some(0))), (11..=most + 10).collect::<Vec<_>>());
    drop(reader);
    let (first, last) = (most + 11, most + 10 + OWN as u64);
    come(&inbox, key, first, OWN).await;
    let over = message(last + 1, 1);
    assert_eq!(inbox.accept(key, 7, over, FREE).await, Status::InboxFull, "what waits is not thrown away");
    let waited: Vec<_> = (first..=last).collect();
    assert_eq!(read(&mut inbox.subscribe(Some(first - 1))), waited);
}

#[tokio::test]
async fn the_bytes_that_are_kept_are_bounded_and_a_message_beyond_them_costs_nobody_the_others() {
    let (inbox, key) = (Inbox::new(), member());
    let mut reader = inbox.subscribe(None);
    for (sequence, size) in [(1, INBOX_BYTES / 2), (2, INBOX_BYTES / 2), (3, 1), (4, INBOX_BYTES + 1), (5, 1)]
    {
        assert_eq!(inbox.accept(key, 7, message(sequence, size), FREE).await, Status::Accepted);
    }
    assert_eq!(read(&mut reader), [1, 2, 3, 4, 5]);
    assert_eq!(read(&mut inbox.subscribe(Some(0))), [2, 3, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_comes_and_goes_while_messages_flow_misses_and_repeats_nothing() {
    // So many may wait of one sender, should the reader be away for all of them.
    const COUNT: usize = INBOX_MESSAGES / 4 * OF_ONE;
    let (inbox, key) = (Arc::new(Inbox::new()), member());
    let writer = tokio::spawn({
        let inbox = Arc::clone(&inbox);
        async move { come(&inbox, key, 1, COUNT).await }
    });
    let mut last = 0;
    while last < COUNT as u64 {
        let mut reader = inbox.subscribe(Some(last));
        for _ in 0..(COUNT as u64 - last).min(7) {
            let message = reader.recv().await.unwrap();
            assert_eq!(message.id, last + 1);
            last = message.id;
        }
    }
    writer.await.unwrap();
}
