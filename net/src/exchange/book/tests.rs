use libp2p::Multiaddr;
use storage::Member;

use super::*;
use crate::Identity;
use crate::fixtures::member;

/// A moment, in milliseconds of Unix time.
const NOW: u64 = 1_700_000_000_000;
const LIMIT: usize = 64;

fn key() -> PeerKey {
    Identity::generate().public_key()
}

/// As if it were signed: the book judges no signature.
fn record(key: PeerKey, seq: u64, addresses: &[&str]) -> Record {
    let addresses: Vec<Multiaddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let reach = addresses.iter().map(Reach::of).max().unwrap_or(Reach::World);
    let mut bytes = [&key.as_bytes()[..], &seq.to_be_bytes(), &[reach.to_byte()]].concat();
    bytes.resize(190, 7);
    Record { key, seq, addresses, reach, bytes: bytes.into() }
}

fn world(key: PeerKey, seq: u64) -> Record {
    record(key, seq, &["/ip4/8.8.8.8/tcp/9"])
}

fn members(keys: &[PeerKey]) -> Arc<Members> {
    Arc::new(keys.iter().map(|key| (*key, member(*key, &[]))).collect::<BTreeMap<_, Member>>())
}

fn policy(keys: &[PeerKey], only_members: bool) -> Policy {
    Policy { members: members(keys), only_members }
}

fn request(book: &mut Book, reach: Reach, after: u64, depth: u8) -> Request {
    Request { number: 1, reach, session: 1, after, digests: book.digests(reach, depth) }
}

/// Asks `of` as one who knows what `by` does.
fn ask(of: &mut Book, by: &mut Book, reach: Reach, after: u64, depth: u8) -> Response {
    let request = request(by, reach, after, depth);
    of.answer(&request, &key(), reach, after).0
}

fn keys(book: &Book) -> Vec<PeerKey> {
    book.peers().map(|(key, _)| *key).collect()
}

#[test]
fn the_newest_statement_counts_and_a_replay_gains_nothing() {
    let (mut book, peer, other) = (Book::new(), key(), key());
    assert_eq!(
        book.learn(record(peer, NOW, &["/ip4/8.8.8.8/tcp/1"]), Bringer::Other(other), NOW, LIMIT),
        Fate::Taken
    );
    let moved = record(peer, NOW + 1, &["/ip4/8.8.4.4/tcp/1"]);
    assert_eq!(book.learn(moved.clone(), Bringer::Other(other), NOW, LIMIT), Fate::Taken);
    let version = book.version();
    assert_eq!(
        book.learn(record(peer, NOW, &["/ip4/8.8.8.8/tcp/1"]), Bringer::Other(other), NOW, LIMIT),
        Fate::Old
    );
    assert_eq!(book.learn(moved.clone(), Bringer::Other(other), NOW, LIMIT), Fate::Same);
    assert_eq!(book.version(), version, "nothing has changed");
    assert_eq!(book.get(&peer).unwrap().addresses(), moved.addresses);
    assert!(book.has(&mark(&moved.bytes)));
    assert_eq!(book.marks.len(), 1, "what is not known any more is not recognised");
}

#[test]
fn one_statement_may_say_more_to_those_who_are_near() {
    let (mut book, peer) = (Book::new(), key());
    book.learn(world(peer, NOW), Bringer::Itself, NOW, LIMIT);
    let near = record(peer, NOW, &["/ip4/8.8.8.8/tcp/9", "/ip4/10.0.0.1/tcp/9"]);
    assert_eq!(book.learn(near, Bringer::Itself, NOW, LIMIT), Fate::Taken);
    assert_eq!(book.get(&peer).unwrap().addresses().len(), 2);
    // A newer one takes the place of all of them: what it does not say is not so any more.
    book.learn(world(peer, NOW + 1), Bringer::Itself, NOW, LIMIT);
    assert_eq!(book.get(&peer).unwrap().addresses().len(), 1);
}

#[test]
fn what_means_another_place_there_is_not_told() {
    let (mut book, mut nobody) = (Book::new(), Book::new());
    let [at_home, next_door, far] = [0; 3].map(|_| key());
    book.learn(record(at_home, NOW, &["/ip4/127.0.0.1/tcp/9"]), Bringer::Itself, NOW, LIMIT);
    book.learn(record(next_door, NOW, &["/ip4/192.168.1.7/tcp/9"]), Bringer::Itself, NOW, LIMIT);
    book.learn(world(far, NOW), Bringer::Itself, NOW, LIMIT);
    for (reach, count) in [(Reach::World, 1), (Reach::Site, 2), (Reach::Host, 3)] {
        assert_eq!(ask(&mut book, &mut nobody, reach, 0, 0).records.len(), count, "{reach:?}");
    }
}

#[test]
fn records_from_the_future_and_from_long_ago_are_not_believed() {
    let (mut book, member, stranger) = (Book::new(), key(), key());
    book.set_policy(policy(&[member], false));
    let (ahead, expiry) = (millis(AHEAD), millis(EXPIRY));
    assert_eq!(book.learn(world(stranger, NOW + ahead + 1), Bringer::Itself, NOW, LIMIT), Fate::Future);
    assert_eq!(book.learn(world(member, NOW + ahead + 1), Bringer::Itself, NOW, LIMIT), Fate::Future);
    assert_eq!(book.learn(world(member, u64::MAX), Bringer::Itself, NOW, LIMIT), Fate::Future);
    assert_eq!(book.learn(world(stranger, NOW - expiry - 1), Bringer::Itself, NOW, LIMIT), Fate::Expired);
    assert_eq!(book.learn(world(member, NOW - expiry - 1), Bringer::Itself, NOW, LIMIT), Fate::Taken);
    assert_eq!(book.learn(world(stranger, NOW + ahead), Bringer::Itself, NOW, LIMIT), Fate::Taken);
}

#[test]
fn strangers_are_forgotten_in_time_and_members_never() {
    let (mut book, member, stranger) = (Book::new(), key(), key());
    book.set_policy(policy(&[member], false));
    for peer in [member, stranger] {
        book.learn(world(peer, NOW), Bringer::Other(key()), NOW, LIMIT);
    }
    let later = NOW + millis(STALE) + 2000;
    assert!(book.is_silent(&stranger, book.get(&stranger).unwrap(), STALE, later));
    book.tidy(later);
    assert_eq!(keys(&book).len(), 2);
    book.tidy(NOW + millis(EXPIRY) + 2000);
    assert_eq!(keys(&book), [member]);
    // One that is connected is vouched for.
    book.learn(world(stranger, NOW), Bringer::Itself, NOW, LIMIT);
    book.connected(&stranger, true, NOW);
    book.tidy(NOW + millis(EXPIRY) * 9);
    assert_eq!(keys(&book).len(), 2);
}

#[test]
fn whoever_is_connected_is_seen_now_also_if_it_came_before_it_was_known() {
    let (mut book, peer) = (Book::new(), key());
    let seen = |book: &Book, now| book.last_seen(&peer, book.get(&peer).unwrap(), now) * 1000;
    book.connected(&peer, true, NOW);
    book.connected(&peer, true, NOW);
    book.learn(world(peer, NOW), Bringer::Itself, NOW, LIMIT);
    assert_eq!(seen(&book, NOW + 9000), NOW + 9000);
    book.connected(&peer, false, NOW + 10_000);
    assert_eq!(seen(&book, NOW + 11_000), NOW + 11_000, "there is another");
    // Forgotten and learned again it is still there.
    book.forget(&peer);
    book.learn(world(peer, NOW), Bringer::Itself, NOW, LIMIT);
    book.tidy(NOW + millis(EXPIRY) * 2);
    assert_eq!(seen(&book, NOW + 12_000), NOW + 12_000);
    book.connected(&peer, false, NOW + 13_000);
    assert_eq!(seen(&book, NOW + 99_000), NOW + 13_000);
}

#[test]
fn those_for_whom_there_was_no_room_are_asked_for_where_somebody_is_forgotten_or_the_bound_is_raised() {
    let (mut book, mut now) = (Book::new(), Instant::now());
    book.learn(world(key(), NOW), Bringer::Itself, NOW, 1);
    assert!(!book.has_room_again(9, now), "nobody was turned away");
    assert_eq!(book.learn(world(key(), NOW), Bringer::Itself, NOW, 0), Fate::NoRoom);
    assert!(book.has_room_again(9, now));
    assert_eq!(book.learn(world(key(), NOW), Bringer::Itself, NOW, 1), Fate::Taken);
    assert!(!book.has_room_again(1, now), "one took the place of one");
    assert!(book.has_room_again(2, now));
    for make_room in [
        |book: &mut Book| book.tidy(NOW + millis(EXPIRY) * 2),
        |book: &mut Book| {
            let peer = keys(book)[0];
            book.forget(&peer);
        },
    ] {
        book.learn(world(key(), NOW), Bringer::Itself, NOW, 1);
        book.learn(world(key(), NOW), Bringer::Itself, NOW, 1);
        make_room(&mut book);
        now += Duration::from_secs(24 * 60 * 60);
        assert!(book.has_room_again(1, now));
    }
}

#[test]
fn one_that_makes_up_peers_cannot_push_out_what_others_have_brought() {
    let (mut book, liar, honest, member) = (Book::new(), key(), key(), key());
    book.set_policy(policy(&[member], false));
    book.learn(world(member, NOW), Bringer::Other(liar), NOW, LIMIT);
    let good: Vec<_> = (0..LIMIT).map(|_| key()).collect();
    for peer in &good {
        assert_eq!(book.learn(world(*peer, NOW), Bringer::Other(honest), NOW, LIMIT), Fate::Taken);
    }
    for n in 0..1000 {
        // Newer than all others, which would save them where the oldest goes.
        assert_eq!(book.learn(world(key(), NOW + n), Bringer::Other(liar), NOW, LIMIT), Fate::Taken);
        assert_eq!(book.shares.len(), LIMIT, "the bound holds");
    }
    let left = good.iter().filter(|peer| book.get(peer).is_some()).count();
    assert_eq!(left, LIMIT - LIMIT / 4);
    assert!(book.get(&member).is_some());
    // A thousand identities that come by themselves are one source, too.
    for n in 0..1000 {
        book.learn(world(key(), NOW + n), Bringer::Itself, NOW, LIMIT);
    }
    let left = good.iter().filter(|peer| book.get(peer).is_some()).count();
    assert!(left >= LIMIT / 2, "{left}");
    assert_eq!(book.changes.len(), LIMIT + 1);
    assert_eq!(book.marks.len(), LIMIT + 1);
}

#[test]
fn a_lower_bound_sheds_nobody_and_none_means_none() {
    let (mut book, member) = (Book::new(), key());
    book.set_policy(policy(&[member], false));
    for _ in 0..LIMIT {
        book.learn(world(key(), NOW), Bringer::Other(key()), NOW, LIMIT);
    }
    book.learn(world(key(), NOW), Bringer::Other(key()), NOW, 4);
    assert_eq!(book.shares.len(), LIMIT, "one for one");
    let mut book = Book::new();
    book.set_policy(policy(&[member], false));
    assert_eq!(book.learn(world(key(), NOW), Bringer::Itself, NOW, 0), Fate::NoRoom);
    assert_eq!(book.learn(world(member, NOW), Bringer::Itself, NOW, 0), Fate::Taken);
}

#[test]
fn under_members_nobody_else_is_taken_told_or_shown_and_a_rollback_finds_all() {
    let (mut book, mut nobody, member, stranger) = (Book::new(), Book::new(), key(), key());
    book.set_policy(policy(&[member], false));
    for peer in [member, stranger] {
        book.learn(world(peer, NOW), Bringer::Itself, NOW, LIMIT);
    }
    let before = book.digests(Reach::World, 0);
    book.set_policy(policy(&[member], true));
    assert_eq!(book.learn(world(key(), NOW), Bringer::Itself, NOW, LIMIT), Fate::Stranger);
    assert_eq!(keys(&book), [member]);
    assert_eq!(ask(&mut book, &mut nobody, Reach::World, 0, 0).records.len(), 1);
    assert_ne!(book.digests(Reach::World, 0), before);
    let version = book.version();
    book.set_policy(policy(&[member], false));
    assert_eq!(keys(&book).len(), 2);
    assert_eq!(book.digests(Reach::World, 0), before);
    // Whoever asked meanwhile hears of the one that is shown again.
    let told = ask(&mut book, &mut nobody, Reach::World, version, 0);
    assert_eq!(told.records.len(), 1);
}

#[test]
fn only_what_is_new_is_told_and_nothing_to_one_who_knows_the_same() {
    let (mut one, mut other) = (Book::new(), Book::new());
    let all: Vec<_> = (0..20).map(|_| key()).collect();
    for peer in &all {
        one.learn(world(*peer, NOW), Bringer::Itself, NOW, LIMIT);
    }
    let first = ask(&mut one, &mut other, Reach::World, 0, 4);
    assert_eq!((first.records.len(), first.version, first.more), (20, 20, false));
    // In another order: what is known counts, not when it came.
    for peer in all.iter().rev() {
        other.learn(world(*peer, NOW), Bringer::Other(key()), NOW, LIMIT);
    }
    for depth in [0, 4, 8] {
        assert_eq!(ask(&mut one, &mut other, Reach::World, 0, depth).records.len(), 0);
    }
    one.learn(world(all[7], NOW + 1), Bringer::Itself, NOW, LIMIT);
    let delta = ask(&mut one, &mut other, Reach::World, first.version, 0);
    assert_eq!(delta.records, [world(all[7], NOW + 1).bytes]);
    // One who comes anew and knows nearly all is told little more than what differs.
    let differing = ask(&mut one, &mut other, Reach::World, 0, 8);
    assert!(differing.records.len() < 5, "{}", differing.records.len());
    assert!(differing.records.contains(&delta.records[0]));
}

#[test]
fn ten_thousand_peers_are_told_without_a_message_over_the_cap() {
    let (mut one, mut other) = (Book::new(), Book::new());
    const MANY: usize = 10_000;
    for n in 0..MANY {
        one.learn(world(key(), NOW + n as u64), Bringer::Itself, NOW + 60_000, MANY);
    }
    let mut after = 0;
    let mut messages = 0;
    loop {
        let response = ask(&mut one, &mut other, Reach::World, after, if after == 0 { 8 } else { 0 });
        messages += 1;
        for bytes in &response.records {
            let key = PeerKey::from_bytes(bytes[..32].try_into().unwrap()).unwrap();
            let seq = u64::from_be_bytes(bytes[32..40].try_into().unwrap());
            assert_eq!(
                other.learn(world(key, seq), Bringer::Other(key), NOW + 60_000, MANY),
                Fate::Taken,
                "each once"
            );
        }
        assert!(response.version > after);
        after = response.version;
        let more = response.more;
        assert!(super::super::wire::Message::Response(response).encode().len() <= MAX_MESSAGE);
        if !more {
            break;
        }
    }
    assert_eq!(keys(&other).len(), MANY);
    assert_eq!(one.digests(Reach::World, 0), other.digests(Reach::World, 0));
    assert!(messages <= MANY * 192 / (MAX_MESSAGE - 1000) + 1, "{messages} messages");
}

#[test]
fn this_node_is_told_of_but_not_shown_and_nobody_speaks_for_it() {
    let (mut book, mut nobody, own) = (Book::new(), Book::new(), key());
    book.set_own(own, vec![world(own, NOW)], NOW);
    assert_eq!(keys(&book), []);
    assert_eq!(ask(&mut book, &mut nobody, Reach::World, 0, 0).records.len(), 1);
    assert_eq!(book.learn(world(own, NOW - 1), Bringer::Other(key()), NOW, LIMIT), Fate::Same);
    assert_eq!(book.learn(world(own, NOW + 1), Bringer::Other(key()), NOW, LIMIT), Fate::Outrun);
    assert_eq!(book.get(&own).unwrap().seq, NOW, "it signs anew by itself");
    assert_eq!(book.learn(world(own, u64::MAX), Bringer::Other(key()), NOW, LIMIT), Fate::Future);
}

#[test]
fn whom_a_clock_saw_in_the_future_loses_its_advantage_when_the_clock_is_set_right() {
    let (mut book, ahead, other) = (Book::new(), key(), key());
    for key in [ahead, other] {
        book.learn(world(key, NOW), Bringer::Itself, NOW, 2);
    }
    let year = 365 * 24 * 60 * 60 * 1000;
    for is_there in [true, false] {
        book.connected(&ahead, is_there, NOW + year);
    }
    book.tidy(NOW);
    assert_eq!(book.get(&ahead).unwrap().last_seen, NOW / 1000);
    // Somebody who was heard of since is more useful.
    book.recall(&other, 0, NOW / 1000 + 1, 0);
    book.learn(world(key(), NOW), Bringer::Itself, NOW, 2);
    assert!(book.get(&ahead).is_none() && book.get(&other).is_some());
}
