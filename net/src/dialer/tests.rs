use super::*;
use crate::Identity;
use crate::fixtures::member;
use crate::view::MemberState;

const PACE: Pace =
    Pace { timeout: Duration::from_secs(10), min: Duration::from_secs(1), max: Duration::from_secs(60) };
/// In the middle of the spread: pauses are what the formula says.
const MID: f64 = 0.5;

/// A connection that the peer dialled: none of the dialer's own.
fn called() -> ConnectionId {
    ConnectionId::new_unchecked(usize::MAX)
}

struct Scene {
    dialer: Dialer,
    now: Instant,
    members: Members,
    next: usize,
}

impl Scene {
    fn new(count: usize) -> Self {
        let members: Members = (0..count)
            .map(|_| Identity::generate().public_key())
            .map(|key| (key, member(key, &["/ip4/127.0.0.1/tcp/1"])))
            .collect();
        let mut scene = Self { dialer: Dialer::new(PACE), now: Instant::now(), members, next: 0 };
        scene.set();
        scene
    }

    fn set(&mut self) {
        self.dialer.set(&self.members, self.now, |_| false);
    }

    fn peer(&self) -> PeerId {
        self.members.keys().next().unwrap().peer_id()
    }

    fn state(&mut self) -> Option<MemberState> {
        let entry = self.dialer.entries.values().next()?;
        entry.view().map(|view| view.state)
    }

    /// Performs what is due now; gives the number of dials.
    fn dials(&mut self) -> usize {
        self.assert_agenda();
        let actions = self.dialer.due(self.now, || MID);
        let mut dials = 0;
        for action in actions {
            if let Action::Dial { peer, .. } = action {
                dials += 1;
                self.next += 1;
                self.dialer.dialing(&peer, ConnectionId::new_unchecked(self.next));
            }
        }
        dials
    }

    fn fail(&mut self) {
        let (peer, id) = (self.peer(), ConnectionId::new_unchecked(self.next));
        self.dialer.failed(&peer, id, "refused".into(), self.now, MID);
    }

    /// The last dial has arrived.
    fn connected(&mut self, peer: &PeerId) {
        self.dialer.connected(peer, ConnectionId::new_unchecked(self.next), self.now);
    }

    /// Whatever was done, the agenda is what the entries say.
    fn assert_agenda(&self) {
        let mut expected = Agenda::default();
        for (key, entry) in &self.dialer.entries {
            expected.moved(*key, None, entry.standing());
        }
        assert_eq!(self.dialer.agenda, expected);
    }

    /// Moves to the time that the dialer wants to be asked at; gives how long that took.
    fn wait(&mut self) -> Duration {
        let at = self.dialer.next().expect("something is to come");
        let waited = at - self.now;
        self.now = at;
        waited
    }
}

#[test]
fn a_member_is_dialled_at_once_and_again_and_again_with_growing_pauses() {
    let mut scene = Scene::new(1);
    assert_eq!(scene.state(), Some(MemberState::Idle));
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(scene.dials(), 1);
        assert_eq!(scene.state(), Some(MemberState::Connecting));
        scene.fail();
        assert_eq!(scene.state(), Some(MemberState::Failed));
        assert_eq!(scene.dials(), 0, "not before its time");
        pauses.push(scene.wait().as_millis());
    }
    assert_eq!(pauses, [250, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
}

#[test]
fn pauses_are_spread_and_never_overflow() {
    assert_eq!(PACE.pause(2, false, 0.0), Duration::from_millis(750));
    assert_eq!(PACE.pause(2, false, 1.0), Duration::from_millis(1250));
    assert_eq!(PACE.pause(u32::MAX, false, 0.5), PACE.max);
    assert_eq!(PACE.pause(1, true, 0.5), PACE.max, "more failures than max_retries");
}

#[test]
fn a_member_that_is_tired_is_not_when_it_may_be_tried_more_often() {
    let mut scene = Scene::new(1);
    let tries = |scene: &mut Scene, most: Option<u32>| {
        scene.members.values_mut().for_each(|member| member.max_retries = most);
        scene.set();
        let pause = scene.wait();
        assert_eq!(scene.dials(), 1);
        scene.fail();
        pause.as_secs()
    };
    assert_eq!(tries(&mut scene, Some(0)), 0, "nobody is tired at first");
    assert_eq!(tries(&mut scene, Some(0)), PACE.max.as_secs());
    assert_eq!(tries(&mut scene, Some(2)), 1, "as after two failures");
    assert_eq!(tries(&mut scene, None), 2, "as after three");
    assert_eq!(tries(&mut scene, Some(1)), 4, "a pause that has begun is not made longer");
    assert_eq!(tries(&mut scene, Some(1)), PACE.max.as_secs());
}

#[test]
fn a_dial_without_an_answer_is_given_up_and_its_late_end_changes_nothing() {
    let mut scene = Scene::new(1);
    scene.dials();
    assert_eq!(scene.wait(), PACE.timeout);
    assert_eq!(scene.dialer.due(scene.now, || MID), [Action::Abort { peer: scene.peer() }]);
    let before = scene.dialer.next();
    scene.fail();
    assert_eq!(scene.dialer.next(), before);
    assert_eq!(scene.state(), Some(MemberState::Failed));
}

#[test]
fn after_a_good_connection_the_member_is_dialled_again_quickly() {
    let mut scene = Scene::new(1);
    let peer = scene.peer();
    for _ in 0..5 {
        scene.dials();
        scene.fail();
        scene.wait();
    }
    scene.dials();
    scene.connected(&peer);
    assert_eq!(scene.state(), Some(MemberState::Connected));
    assert_eq!(scene.dialer.next(), None);
    scene.now += STABLE;
    scene.dialer.disconnected(&peer, None, scene.now, MID);
    assert_eq!(scene.wait(), Duration::from_millis(250));

    // One that breaks at once counts as a failure.
    scene.dials();
    scene.connected(&peer);
    scene.dialer.disconnected(&peer, None, scene.now, MID);
    scene.wait();
    scene.dials();
    scene.connected(&peer);
    scene.dialer.disconnected(&peer, None, scene.now, MID);
    assert_eq!(scene.wait(), Duration::from_secs(1));
}

#[test]
fn what_was_learned_survives_a_reload_and_new_addresses_are_tried_at_once() {
    let mut scene = Scene::new(1);
    for _ in 0..4 {
        scene.dials();
        scene.fail();
        scene.wait();
    }
    scene.dials();
    scene.fail();
    let due = scene.dialer.next();
    scene.set();
    assert_eq!(scene.dialer.next(), due, "unchanged");

    // Removed, and rolled back: as before.
    let kept = std::mem::take(&mut scene.members);
    scene.set();
    assert_eq!((scene.dialer.next(), scene.state()), (None, None));
    scene.members = kept;
    scene.set();
    assert_eq!(scene.dialer.next(), due);

    let key = *scene.members.keys().next().unwrap();
    scene.members.insert(key, member(key, &["/ip4/127.0.0.1/tcp/2"]));
    scene.set();
    assert_eq!(scene.dialer.next(), Some(scene.now));
}

#[test]
fn a_removed_member_is_not_dialled_and_a_dial_to_it_is_given_up() {
    let mut scene = Scene::new(1);
    scene.dials();
    let peer = scene.peer();
    scene.members.clear();
    scene.set();
    assert_eq!(scene.dialer.due(scene.now, || MID), [Action::Abort { peer }]);
    let (gone, view) = scene.dialer.changes().pop().unwrap();
    assert_eq!((gone.peer_id(), view), (peer, None));
    scene.dialer.forget();
    assert!(scene.dialer.entries.is_empty() && scene.dialer.keys.is_empty());
}

#[test]
fn dials_at_one_time_are_bounded_and_those_in_line_get_their_turn() {
    let mut scene = Scene::new(DIALS + 1);
    assert_eq!(scene.dials(), DIALS);
    assert_eq!(scene.wait(), PACE.timeout, "no busy waiting for a free place");
    assert_eq!(scene.dials(), 1, "the one that waited longest; the others have failed and pause");
}

#[test]
fn a_member_without_addresses_waits_to_be_called() {
    let mut scene = Scene::new(1);
    let key = *scene.members.keys().next().unwrap();
    scene.members.insert(key, member(key, &[]));
    scene.set();
    assert_eq!((scene.dials(), scene.dialer.next()), (0, None));
    scene.connected(&key.peer_id());
    assert_eq!(scene.dialer.census(), (1, 1));
}

#[test]
fn nothing_is_dialled_after_a_stop() {
    let mut scene = Scene::new(2);
    scene.dialer.stop();
    assert_eq!((scene.dials(), scene.dialer.next()), (0, None));
}

#[test]
fn the_agenda_knows_every_change() {
    let mut scene = Scene::new(6);
    let all = scene.members.clone();
    let mut random = 1_u64;
    for step in 0..5_000 {
        // Knuth's generator: any order will do, as long as it is the same in every run.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let choice = random >> 33;
        let (key, usual) = all.iter().nth((choice / 16 % 6) as usize).unwrap();
        let peer = key.peer_id();
        match choice % 16 {
            0 | 1 => drop(scene.members.remove(key)),
            2..=4 => drop(scene.members.insert(*key, usual.clone())),
            5 => drop(scene.members.insert(*key, member(*key, &["/ip4/127.0.0.1/tcp/2"]))),
            6 => drop(scene.members.insert(*key, member(*key, &[]))),
            7 => scene.dialer.connected(&peer, called(), scene.now),
            8 => scene.dialer.disconnecting(&peer),
            9 => scene.dialer.disconnected(&peer, None, scene.now, MID),
            10 => scene.dialer.refused(&peer, "no".into(), scene.now, MID),
            11 => scene.dialer.forget(),
            12 => scene.now += Duration::from_secs(choice / 128 % 20),
            _ => drop(scene.dials()),
        }
        if choice % 16 < 7 {
            scene.set();
        }
        scene.assert_agenda();
        assert!(scene.dialer.agenda.dialing_now() <= DIALS, "step {step}");
    }
}

#[test]
fn a_shorter_pace_ends_long_pauses_and_a_longer_one_counts_from_the_next() {
    let mut scene = Scene::new(1);
    assert_eq!(scene.dials(), 1);
    scene.fail();
    let pause = |pace: Pace| pace.pause(1, false, MID);
    let slow = Pace { min: Duration::from_secs(3600), max: Duration::from_secs(3600), ..PACE };
    scene.dialer.set_pace(slow, scene.now, || MID);
    scene.assert_agenda();
    assert_eq!(scene.wait(), pause(PACE), "the pause that has begun is not made longer");
    assert_eq!(scene.dials(), 1);
    scene.fail();
    let begun = scene.now;
    scene.now += Duration::from_secs(60);
    scene.dialer.set_pace(PACE, scene.now, || MID);
    scene.assert_agenda();
    let shortened = PACE.pause(2, false, MID);
    assert!(begun + slow.pause(2, false, MID) > scene.now + shortened);
    assert_eq!(scene.wait(), shortened);
    assert_eq!(scene.dials(), 1);
    // One that is due at once is not put off.
    scene.fail();
    scene.wait();
    scene.dialer.set_pace(slow, scene.now, || MID);
    assert_eq!(scene.dials(), 1);
}

#[test]
fn where_a_member_says_that_it_is_it_is_dialled_besides_where_it_is_configured() {
    let mut scene = Scene::new(1);
    assert_eq!(scene.dials(), 1);
    scene.fail();
    assert_eq!(scene.dials(), 0, "it waits");
    let key = *scene.members.keys().next().unwrap();
    let addresses =
        |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Multiaddr>>();
    let told = addresses(&["/ip4/127.0.0.1/tcp/2", "/ip4/127.0.0.1/tcp/1"]);
    assert!(scene.dialer.learn(&key, told.clone(), scene.now));
    assert!(!scene.dialer.learn(&key, told, scene.now), "it said so before");
    let due = scene.dialer.due(scene.now, || MID);
    let expected = addresses(&["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"]);
    assert_eq!(due, [Action::Dial { peer: key.peer_id(), addresses: expected }]);
    scene.assert_agenda();
    // What is known already is no reason to dial sooner, and what is said of somebody else changes nothing.
    scene.dialer.dialing(&key.peer_id(), ConnectionId::new_unchecked(2));
    scene.next = 2;
    scene.fail();
    assert!(scene.dialer.learn(&key, addresses(&["/ip4/127.0.0.1/tcp/1"]), scene.now));
    assert_eq!(scene.dials(), 0);
    let nobody = Identity::generate().public_key();
    assert!(!scene.dialer.learn(&nobody, addresses(&["/ip4/127.0.0.1/tcp/3"]), scene.now));
}

#[test]
fn a_member_without_addresses_is_dialled_once_it_is_known_where_it_is() {
    let mut scene = Scene::new(0);
    let key = Identity::generate().public_key();
    scene.members.insert(key, member(key, &[]));
    scene.set();
    assert_eq!(scene.dials(), 0);
    assert_eq!(scene.dialer.next(), None);
    scene.dialer.learn(&key, vec!["/ip4/127.0.0.1/tcp/2".parse().unwrap()], scene.now);
    assert_eq!(scene.dials(), 1);
    scene.fail();
    scene.dialer.learn(&key, Vec::new(), scene.now);
    scene.assert_agenda();
    assert_eq!(scene.dialer.next(), None, "it is nowhere any more");
}

#[test]
fn a_dial_that_a_connection_has_overtaken_goes_on_when_that_is_gone_and_no_other_begins_beside_it() {
    let mut scene = Scene::new(1);
    let peer = scene.peer();
    assert_eq!(scene.dials(), 1);
    scene.dialer.connected(&peer, called(), scene.now);
    scene.dialer.disconnected(&peer, None, scene.now, MID);
    assert_eq!(scene.state(), Some(MemberState::Connecting));
    assert_eq!((scene.wait(), scene.dialer.due(scene.now - STABLE, || MID)), (PACE.timeout, vec![]));
    scene.now -= PACE.timeout;
    scene.fail();
    assert_eq!(scene.wait(), Duration::from_millis(250), "only then it pauses");

    // It ends while the connection is there: nothing goes on when that is gone.
    for arrives in [false, true] {
        assert_eq!(scene.dials(), 1);
        scene.dialer.connected(&peer, called(), scene.now);
        if arrives {
            scene.connected(&peer)
        } else {
            scene.fail()
        }
        assert_eq!(scene.state(), Some(MemberState::Connected));
        scene.now += STABLE;
        scene.dialer.disconnected(&peer, None, scene.now, MID);
        assert_eq!(scene.wait(), Duration::from_millis(250));
    }

    // Its time is over.
    assert_eq!(scene.dials(), 1);
    scene.dialer.connected(&peer, called(), scene.now);
    scene.now += PACE.timeout;
    scene.dialer.disconnected(&peer, None, scene.now, MID);
    assert_eq!(scene.wait(), Duration::from_millis(250));

    // A node that stops waits for no dial.
    assert_eq!(scene.dials(), 1);
    scene.dialer.connected(&peer, called(), scene.now);
    scene.dialer.stop();
    scene.dialer.disconnected(&peer, None, scene.now, MID);
    assert_eq!(scene.dialer.due(scene.now, || MID), [Action::Abort { peer }]);
}

#[test]
fn what_is_learned_while_other_addresses_are_dialled_is_tried_right_after_them_and_once() {
    let mut scene = Scene::new(1);
    let (key, peer) = (*scene.members.keys().next().unwrap(), scene.peer());
    let told = vec!["/ip4/127.0.0.1/tcp/2".parse().unwrap()];
    assert_eq!(scene.dials(), 1);
    assert!(scene.dialer.learn(&key, told.clone(), scene.now));
    assert_eq!(scene.dials(), 0, "one dial at a time");
    scene.fail();
    assert_eq!(scene.dials(), 1);
    assert!(!scene.dialer.learn(&key, told, scene.now));
    scene.fail();
    assert_eq!(scene.dials(), 0);

    // A member that is connected is not dialled, whatever it says.
    scene.connected(&peer);
    scene.dialer.learn(&key, vec!["/ip4/127.0.0.1/tcp/3".parse().unwrap()], scene.now);
    assert_eq!((scene.dials(), scene.dialer.next()), (0, None));
    scene.dialer.disconnecting(&peer);
    scene.dialer.learn(&key, vec!["/ip4/127.0.0.1/tcp/4".parse().unwrap()], scene.now);
    assert_eq!((scene.dials(), scene.dialer.next()), (0, None));
}
