use std::sync::atomic::AtomicU32;
use std::time::Duration;

use actix::{Addr, Handler, System};

use super::*;

/// Steps that wait until they are let go.
type Gate = oneshot::Receiver<()>;

/// An actor whose commit and finish may wait, with what it runs in a number that others see.
struct Slow {
    books: Books<u32, u32>,
    live: Arc<AtomicU32>,
    commits: Vec<Gate>,
    probes: Vec<Gate>,
    finish: Option<Gate>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Reconfigurable for Slow {
    const NAME: &'static str = "slow";
    type Section = u32;
    type Prepared = u32;

    fn books(&mut self) -> &mut Books<u32, u32> {
        &mut self.books
    }

    fn prepare(&mut self, next: &Arc<u32>, _: Instant) -> StepFuture<u32> {
        done(Ok(**next))
    }

    fn commit(&mut self, prepared: u32, _: &Arc<u32>, _: &mut Context<Self>) -> StepFuture<()> {
        let (gate, live) = (self.commits.pop(), Arc::clone(&self.live));
        Box::pin(async move {
            pass(gate).await;
            live.store(prepared, Ordering::SeqCst);
            Ok(())
        })
    }

    fn restore(&mut self, before: &Arc<u32>, _: &mut Context<Self>) -> StepFuture<()> {
        self.live.store(**before, Ordering::SeqCst);
        done(Ok(()))
    }

    fn probe(&mut self) -> StepFuture<()> {
        let gate = self.probes.pop();
        Box::pin(async move {
            pass(gate).await;
            Ok(())
        })
    }

    fn finish(&mut self, _: &mut Context<Self>) -> StepFuture<()> {
        let gate = self.finish.take();
        Box::pin(async move {
            pass(gate).await;
            Ok(())
        })
    }
}

impl Handler<Reconfigure<u32>> for Slow {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<u32>, ctx: &mut Context<Self>) -> Self::Result {
        reconfigure(self, message, ctx)
    }
}

async fn pass(gate: Option<Gate>) {
    if let Some(gate) = gate {
        let _ = gate.await;
    }
}

/// A component that runs section 1, was committed to 2 by the first transaction, and works on its finish.
struct Finishing {
    addr: Addr<Slow>,
    live: Arc<AtomicU32>,
    let_finish: oneshot::Sender<()>,
    finish: tokio::task::JoinHandle<Ack>,
    /// Lets the second commit go on.
    let_commit: oneshot::Sender<()>,
    let_probes: [oneshot::Sender<()>; 2],
}

const FIRST: Transaction = Transaction::NONE.next();
const SECOND: Transaction = FIRST.next();

impl Finishing {
    async fn new() -> Self {
        let (let_finish, finish) = oneshot::channel();
        let (let_commit, second) = oneshot::channel();
        let (open, first) = oneshot::channel();
        let _ = open.send(());
        let (let_probe, probe) = oneshot::channel();
        let (let_later_probe, later_probe) = oneshot::channel();
        let live = Arc::new(AtomicU32::new(1));
        let addr = Slow {
            books: Books::new(Arc::new(1)),
            live: Arc::clone(&live),
            commits: vec![second, first],
            probes: vec![later_probe, probe],
            finish: Some(finish),
        }
        .start();
        let tell = |step| addr.send(Reconfigure::new(FIRST, step));
        tell(prepare(2)).await.unwrap().unwrap();
        tell(Step::Commit).await.unwrap().unwrap();
        let finish = tell(Step::Finish);
        let finish = tokio::spawn(async move { finish.await.unwrap() });
        Self { addr, live, let_finish, finish, let_commit, let_probes: [let_probe, let_later_probe] }
    }
}

fn prepare(next: u32) -> Step<u32> {
    Step::Prepare(Arc::new(next), Instant::now() + Duration::from_secs(1))
}

#[test]
fn a_finish_that_ends_during_the_next_commit_does_not_save_that_from_its_rollback() {
    System::new().block_on(async {
        let Finishing { addr, live, let_finish, finish, let_commit, .. } = Finishing::new().await;
        let tell = |step| addr.send(Reconfigure::new(SECOND, step));
        tell(prepare(3)).await.unwrap().unwrap();
        let commit = tell(Step::Commit);
        let _ = let_finish.send(());
        finish.await.unwrap().unwrap();

        tell(Step::Rollback).await.unwrap().unwrap();
        // What the commit waited for comes after all; it must not be there any more to see it.
        let_commit.send(()).expect_err("the commit was cancelled");
        commit.await.unwrap().expect_err("cancelled");
        assert_eq!(live.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_rollback_of_the_next_transaction_does_not_cancel_a_finish() {
    System::new().block_on(async {
        let Finishing { addr, let_finish, finish, .. } = Finishing::new().await;
        addr.send(Reconfigure::new(SECOND, Step::Rollback)).await.unwrap().unwrap();
        let_finish.send(()).expect("the finish still waits");
        finish.await.unwrap().unwrap();
    });
}

#[test]
fn a_step_that_is_repeated_while_it_is_under_way_takes_its_own_place() {
    System::new().block_on(async {
        let Finishing { addr, live, let_probes: [first, second], .. } = Finishing::new().await;
        let tell = |step| addr.send(Reconfigure::new(FIRST, step));
        let probes = [tell(Step::Probe), tell(Step::Probe)];
        tell(Step::Rollback).await.unwrap().unwrap();
        for (let_probe, probe) in [first, second].into_iter().zip(probes) {
            let_probe.send(()).expect_err("the probe was cancelled");
            probe.await.unwrap().expect_err("cancelled");
        }
        assert_eq!(live.load(Ordering::SeqCst), 1);
    });
}
