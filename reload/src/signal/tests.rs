//! Holding signals back, on a paused clock and with signals from a channel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;

const LIMIT: Duration = Duration::from_secs(2);

fn sender(pid: i32) -> Sender {
    Sender { process: Some((pid, 1000)) }
}

fn reload(pid: i32) -> Signal {
    Signal::Reload(sender(pid))
}

fn stop(pid: i32) -> Signal {
    Signal::Stop(sender(pid))
}

type Channel = Pin<Box<dyn Stream<Item = Signal> + Send>>;

/// Signals that a test sends.
fn channel() -> (mpsc::Sender<Signal>, Signals<Channel>, Holder) {
    let (send, receive) = mpsc::channel(64);
    let source: Channel = Box::pin(stream::unfold(receive, |mut receive| async move {
        let signal = receive.recv().await?;
        Some((signal, receive))
    }));
    let (signals, holder) = Signals::new(source, LIMIT);
    (send, signals, holder)
}

/// What is there now.
async fn now(signals: &mut (impl Stream<Item = Signal> + Unpin)) -> Option<Signal> {
    poll_fn(|cx| match signals.poll_next_unpin(cx) {
        Poll::Ready(signal) => Poll::Ready(signal),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn nested_holds_are_counted_and_reloads_are_one() {
    let (send, mut signals, holder) = channel();
    let outer = holder.hold();
    let inner = holder.clone().hold();
    assert_eq!(holder.held(), 2);
    for pid in 1..=5 {
        send.send(reload(pid)).await.unwrap();
        assert_eq!(now(&mut signals).await, None);
    }
    drop(outer);
    assert_eq!((holder.held(), now(&mut signals).await), (1, None));
    drop(inner);
    assert_eq!((holder.held(), now(&mut signals).await), (0, Some(reload(5))));
    assert_eq!(now(&mut signals).await, None);
}

#[tokio::test]
async fn a_panic_lets_go_on_whatever_thread() {
    let (send, mut signals, holder) = channel();
    let (held, is_held) = std::sync::mpsc::sync_channel(0);
    let (go, may_go) = std::sync::mpsc::sync_channel::<()>(0);
    let thread = std::thread::spawn(move || {
        catch_unwind(AssertUnwindSafe(|| {
            let _hold = holder.hold();
            held.send(()).unwrap();
            may_go.recv().unwrap();
            panic!("in the middle of a critical section");
        }))
        .unwrap_err();
        holder.held()
    });
    is_held.recv().unwrap();
    send.send(reload(1)).await.unwrap();
    assert_eq!(now(&mut signals).await, None);
    go.send(()).unwrap();
    // The reader is woken by the guard's end.
    assert_eq!(signals.next().await, Some(reload(1)));
    assert_eq!(thread.join().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_kept_for_the_limit_after_its_arrival_and_no_longer() {
    let (send, mut signals, holder) = channel();
    let _hold = holder.hold();
    // The clock stands still: time that passes before the stop does not count.
    tokio::time::sleep(LIMIT * 3).await;
    send.send(reload(1)).await.unwrap();
    send.send(stop(2)).await.unwrap();
    let arrived = tokio::time::Instant::now();
    assert_eq!(signals.next().await, Some(stop(2)));
    assert_eq!(arrived.elapsed().as_secs(), LIMIT.as_secs());
    // The reload is still kept, a further stop is not.
    assert_eq!(now(&mut signals).await, None);
    send.send(stop(3)).await.unwrap();
    assert_eq!(now(&mut signals).await, Some(stop(3)));
}

#[tokio::test(start_paused = true)]
async fn the_limit_can_be_changed_while_a_stop_is_kept() {
    let (send, mut signals, holder) = channel();
    let _hold = holder.hold();
    send.send(stop(1)).await.unwrap();
    let arrived = tokio::time::Instant::now();
    let reading = tokio::spawn(async move { (signals.next().await, signals) });
    // The clock stands still until everybody waits, the reading too: half of the limit is over for it then.
    tokio::time::sleep(LIMIT / 2).await;
    holder.set_limit(LIMIT * 5);
    tokio::time::sleep(LIMIT).await;
    assert!(!reading.is_finished());
    holder.set_limit(LIMIT);
    let (signal, _signals) = reading.await.unwrap();
    assert_eq!(signal, Some(stop(1)));
    assert!(arrived.elapsed() < LIMIT * 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_lets_both_through_at_once() {
    let (send, mut signals, holder) = channel();
    let _hold = holder.hold();
    send.send(stop(1)).await.unwrap();
    assert_eq!(now(&mut signals).await, None);
    send.send(reload(2)).await.unwrap();
    for pid in 3..20 {
        send.send(stop(pid)).await.unwrap();
    }
    let passed = [now(&mut signals).await, now(&mut signals).await, now(&mut signals).await];
    assert_eq!(passed, [Some(stop(1)), Some(stop(3)), None]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_overtakes_reloads() {
    let (send, mut signals, _) = channel();
    send.send(reload(1)).await.unwrap();
    send.send(stop(2)).await.unwrap();
    assert_eq!(signals.next().await, Some(stop(2)));
    assert_eq!(signals.next().await, Some(reload(1)));
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_for_a_stop_loses_no_reload() {
    let (send, mut signals, holder) = channel();
    let hold = holder.hold();
    send.send(reload(1)).await.unwrap();
    send.send(stop(2)).await.unwrap();
    let waiting = tokio::time::timeout(LIMIT / 2, signals.stop()).await;
    assert!(waiting.is_err());
    drop(hold);
    assert_eq!(signals.stop().await, Some(sender(2)));
    drop(send);
    assert_eq!(signals.stop().await, None);
    assert_eq!((signals.next().await, signals.next().await), (Some(reload(1)), None));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_when_the_source_ends_still_comes() {
    let (signals, holder) = Signals::new(stream::iter([reload(1), stop(2), reload(3)]), LIMIT);
    let hold = holder.hold();
    let reading = tokio::spawn(signals.collect::<Vec<_>>());
    tokio::task::yield_now().await;
    drop(hold);
    assert_eq!(reading.await.unwrap(), [stop(2), reload(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_few_signals_and_the_last_one_is_among_them() {
    const FLOOD: i32 = 100_000;
    let flood = stream::iter((1..=FLOOD).map(|pid| if pid == 77_777 { stop(pid) } else { reload(pid) }));
    let (signals, holder) = Signals::new(flood, LIMIT);
    let passed: Vec<_> = signals.collect().await;
    assert!(passed.len() <= 100, "{}", passed.len());
    assert_eq!(passed.last(), Some(&reload(FLOOD)));
    assert!(passed.contains(&stop(77_777)));
    drop(holder);

    // Held back, it is one.
    let flood = stream::iter((1..=FLOOD).map(reload));
    let (signals, holder) = Signals::new(flood, LIMIT);
    let hold = holder.hold();
    let reading = tokio::spawn(signals.collect::<Vec<_>>());
    // Under this clock it ends when everybody waits: all has been read by then.
    tokio::time::sleep(LIMIT).await;
    drop(hold);
    assert_eq!(reading.await.unwrap(), [reload(FLOOD)]);
}

#[tokio::test(start_paused = true)]
async fn an_endless_flood_starves_nobody() {
    let (mut signals, holder) = Signals::new(stream::repeat(reload(1)), LIMIT);
    let hold = holder.hold();
    let other = tokio::spawn(async move {
        tokio::task::yield_now().await;
        drop(hold);
    });
    assert_eq!(signals.next().await, Some(reload(1)));
    other.await.unwrap();
}

/// What a program and its surroundings do.
#[derive(Clone, Debug)]
enum Deed {
    Reload,
    Stop,
    Hold,
    Release(usize),
    Wait(u64),
    Look,
}

/// What [`Signals`] promises, in the plainest words: every signal on a list, with the time of its arrival.
#[derive(Default)]
struct Model {
    now: u64,
    held: usize,
    reloads: Vec<i32>,
    stops: VecDeque<(i32, u64)>,
    insisted: bool,
}

impl Model {
    fn look(&mut self) -> Option<Signal> {
        if let Some((pid, at)) = self.stops.front().copied() {
            let too_long = self.now >= at + LIMIT.as_secs();
            if self.held == 0 || self.insisted || too_long {
                self.stops.pop_front();
                self.insisted = true;
                return Some(stop(pid));
            }
        }
        if self.held == 0
            && let Some(pid) = self.reloads.last().copied()
        {
            self.reloads.clear();
            return Some(reload(pid));
        }
        None
    }

    fn stop(&mut self, pid: i32) {
        if self.stops.len() < 2 {
            self.stops.push_back((pid, self.now));
        }
        self.insisted |= self.stops.len() == 2;
    }
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        3 => Just(Deed::Reload),
        1 => Just(Deed::Stop),
        2 => Just(Deed::Hold),
        3 => (0_usize..4).prop_map(Deed::Release),
        1 => (1_u64..3).prop_map(Deed::Wait),
        4 => Just(Deed::Look),
    ];
    prop::collection::vec(deed, 0..60)
}

proptest! {
    #[test]
    fn signals_do_what_the_model_says(deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            let queue = Rc::new(RefCell::new(VecDeque::new()));
            let source = Rc::clone(&queue);
            let source = stream::poll_fn(move |_: &mut Context<'_>| match source.borrow_mut().pop_front() {
                Some(signal) => Poll::Ready(Some(signal)),
                None => Poll::Pending,
            });
            let (mut signals, holder) = Signals::new(source, LIMIT);
            let (mut model, mut holds) = (Model::default(), Vec::new());
            for (pid, deed) in (1..).zip(deeds) {
                match deed {
                    Deed::Reload => {
                        queue.borrow_mut().push_back(reload(pid));
                        model.reloads.push(pid);
                    }
                    Deed::Stop => {
                        queue.borrow_mut().push_back(stop(pid));
                        model.stop(pid);
                    }
                    Deed::Hold => {
                        holds.push(holder.hold());
                        model.held += 1;
                    }
                    Deed::Release(which) if !holds.is_empty() => {
                        drop(holds.swap_remove(which % holds.len()));
                        model.held -= 1;
                    }
                    Deed::Wait(seconds) => {
                        // A program looks when something arrives; what has arrived is therefore known before time goes on.
                        prop_assert_eq!(now(&mut signals).await, model.look());
                        tokio::time::advance(Duration::from_secs(seconds)).await;
                        model.now += seconds;
                    }
                    Deed::Look => prop_assert_eq!(now(&mut signals).await, model.look()),
                    Deed::Release(_) => {}
                }
                prop_assert_eq!(holder.held(), model.held);
            }
            holds.clear();
            model.held = 0;
            // At the end everything that was kept comes, and then nothing.
            for _ in 0..4 {
                prop_assert_eq!(now(&mut signals).await, model.look());
            }
            Ok(())
        })?;
    }
}
