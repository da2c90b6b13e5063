//! The components, and how each step of theirs fails on command.

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, ResponseFuture};
use reload::{Ack, Books, Reconfigurable, Reconfigure, StepError, StepFuture, done};

use super::BUDGET;
use super::service::{Shared, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// An error before anything is done.
    Refuse,
    /// An error after it is done.
    FailAfter,
    /// A panic before anything is done.
    Panic,
    /// A panic after it is done.
    PanicLater,
    /// Done, and never answered.
    Hang,
    /// Done, and answered when nobody waits any more.
    Late,
    /// Nobody runs for longer than the budget, then all go on.
    StandStill,
    /// The machine fails it, so many times.
    Unavailable(u32),
}

impl Shared {
    /// Does `work` as the fault of this step has it.
    fn step<T: 'static>(
        &self,
        name: &'static str,
        step: &str,
        work: impl FnOnce(&mut World) -> T,
    ) -> StepFuture<T> {
        let fault = self.fault(name, step);
        match fault {
            Fault::Unavailable(0) => {}
            Fault::Unavailable(times) => {
                let again = Fault::Unavailable(times - 1);
                self.lock().faults.insert((name.to_owned(), step.to_owned()), again);
                return done(Err(StepError::system("no descriptor left")));
            }
            Fault::Refuse => return done(Err(StepError::component("refused"))),
            Fault::Panic => panic!("on command"),
            _ => {}
        }
        let result = {
            let mut world = self.lock();
            world.told.push(format!("{name}.{step}"));
            work(&mut world)
        };
        Box::pin(async move {
            match fault {
                Fault::FailAfter => Err(StepError::component("failed")),
                Fault::PanicLater => panic!("on command, later"),
                Fault::Hang => std::future::pending().await,
                Fault::Late => {
                    tokio::time::sleep(4 * BUDGET).await;
                    Ok(result)
                }
                Fault::StandStill => {
                    tokio::time::advance(2 * BUDGET).await;
                    Ok(result)
                }
                Fault::None | Fault::Refuse | Fault::Panic | Fault::Unavailable(_) => Ok(result),
            }
        })
    }
}

macro_rules! part {
    ($actor:ident, $name:literal) => {
        pub struct $actor {
            books: Books<u32, u32>,
            shared: Shared,
        }

        impl $actor {
            pub fn start_with(section: Arc<u32>, shared: Shared) -> Addr<Self> {
                {
                    let mut world = shared.lock();
                    world.running.insert($name, *section);
                    *world.incarnations.entry($name).or_default() += 1;
                }
                Self { books: Books::new(section), shared }.start()
            }
        }

        impl Actor for $actor {
            type Context = Context<Self>;
        }

        impl Handler<Reconfigure<u32>> for $actor {
            type Result = ResponseFuture<Ack>;

            fn handle(&mut self, message: Reconfigure<u32>, ctx: &mut Self::Context) -> Self::Result {
                reload::reconfigure(self, message, ctx)
            }
        }

        impl Reconfigurable for $actor {
            const NAME: &'static str = $name;
            type Section = u32;
            type Prepared = u32;

            fn books(&mut self) -> &mut Books<u32, u32> {
                &mut self.books
            }

            fn prepare(&mut self, next: &Arc<u32>, _: std::time::Instant) -> StepFuture<u32> {
                let next = **next;
                self.shared.step($name, "prepare", move |_| next)
            }

            fn commit(&mut self, prepared: u32, next: &Arc<u32>, _: &mut Self::Context) -> StepFuture<()> {
                assert_eq!(prepared, **next);
                self.shared.step($name, "commit", |world| {
                    world.running.insert($name, prepared);
                })
            }

            fn restore(&mut self, before: &Arc<u32>, _: &mut Self::Context) -> StepFuture<()> {
                let before = **before;
                self.shared.step($name, "rollback", move |world| {
                    world.running.insert($name, before);
                })
            }

            fn probe(&mut self) -> StepFuture<()> {
                self.shared.step($name, "probe", |_| ())
            }

            fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
                self.shared.step($name, "finish", |_| ())
            }
        }
    };
}

part!(Log, "log");
part!(Store, "store");
part!(Server, "server");
