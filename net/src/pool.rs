//! The threads that drive connections, as many as the configuration says now (N11).
//!
//! A pool is never resized: another one takes its place. Connections stay on the pool that they began on, and a pool ends
//! with its last connection, because every future that runs on it owns a share of it. Of each size there is one: a number that
//! comes back finds the threads that are still there, so that there are never more pools than numbers, however many
//! connections and reloads.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use reload::fault;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

tokio::task_local! {
    /// Those that a task runs on.
    static HERE: Arc<Workers>;
}

/// A fixed number of threads. Ends, without waiting, when the last owner lets go.
#[derive(Debug)]
pub struct Workers {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    threads: usize,
}

/// The workers in office, and the one thread that listening sockets live on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    current: Arc<ArcSwap<Workers>>,
    /// All that live, of each size the newest.
    sizes: Arc<Mutex<Vec<Weak<Workers>>>>,
    /// A listening socket stays with the runtime that it was opened under, so that runtime must never go.
    io: Arc<Workers>,
}

// === impl Workers ===

impl Workers {
    /// Starts `threads` threads, at least one.
    ///
    /// # Errors
    /// If the machine refuses a thread.
    pub fn start(threads: usize) -> io::Result<Self> {
        Self::named("fednode-conn", threads)
    }

    fn named(name: &'static str, threads: usize) -> io::Result<Self> {
        let threads = threads.max(1);
        let runtime =
            Builder::new_multi_thread().worker_threads(threads).thread_name(name).enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle, threads })
    }

    /// How many threads there are.
    #[must_use]
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// One thread for what belongs to one endpoint, and ends with it.
    ///
    /// # Errors
    /// If the machine refuses a thread.
    pub(crate) fn of_endpoint() -> io::Result<Self> {
        Self::named("fednode-quic", 1)
    }

    /// Keeps them from ending for so long.
    pub(crate) fn linger(self: &Arc<Self>, time: Duration) {
        let share = Arc::clone(self);
        drop(self.handle.spawn(async move {
            // What is done meanwhile tells nobody that it is done.
            tokio::time::sleep(time).await;
            drop(share);
        }));
    }

    /// Ends when they have had a turn for everything that was woken before this was called.
    pub(crate) fn turn(&self) -> impl Future<Output = ()> + Send + use<> {
        let turn = self.handle.spawn(tokio::task::yield_now());
        // An error means that the workers are gone, and with them whatever was to be waited for.
        async move { turn.await.unwrap_or_default() }
    }

    /// Makes this the runtime that sockets and timers made on this thread belong to, while the guard lives.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last owner may be one of these very threads, where waiting for them would panic.
            runtime.shutdown_background();
        }
    }
}

// === impl Pool ===

impl Pool {
    /// A pool with `threads` threads.
    ///
    /// # Errors
    /// If the machine refuses a thread.
    pub fn start(threads: usize) -> io::Result<Self> {
        let workers = Arc::new(Workers::start(threads)?);
        Ok(Self {
            sizes: Arc::new(Mutex::new(vec![Arc::downgrade(&workers)])),
            current: Arc::new(ArcSwap::new(workers)),
            io: Arc::new(Workers::named("fednode-io", 1)?),
        })
    }

    /// `threads` threads, at least one, for [`Self::replace`]: those that still have connections, or new ones.
    ///
    /// # Errors
    /// If the machine refuses a thread.
    pub fn of_size(&self, threads: usize) -> io::Result<Arc<Workers>> {
        fault::io("workers::start")?;
        let threads = threads.max(1);
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.retain(|workers| workers.strong_count() > 0);
        let mut living = sizes.iter().filter_map(Weak::upgrade);
        if let Some(workers) = living.find(|workers| workers.threads == threads) {
            return Ok(workers);
        }
        let workers = Arc::new(Workers::start(threads)?);
        sizes.push(Arc::downgrade(&workers));
        Ok(workers)
    }

    /// The workers that new connections go to. Enter them around every poll of the swarm: an inbound socket is driven
    /// by the runtime that accepted it.
    #[must_use]
    pub fn workers(&self) -> Arc<Workers> {
        self.current.load_full()
    }

    /// The workers that a socket which is made here and now belongs to: those of the task that asks, which may have begun under others
    /// than those in office, or else these.
    pub(crate) fn here(&self) -> Arc<Workers> {
        HERE.try_with(Arc::clone).unwrap_or_else(|_| self.workers())
    }

    /// The thread of listening sockets. Enter it around `listen_on`.
    #[must_use]
    pub fn io(&self) -> &Workers {
        &self.io
    }

    /// Ends when the listening sockets' runtime knows of every connection that was there when this was called.
    ///
    /// The kernel queues readiness in order, and the runtime takes it in order: what is ready on a socket of our own, made
    /// ready now, comes after what was ready on the listeners before.
    pub fn caught_up(&self) -> impl Future<Output = ()> + Send + use<> {
        let marker = {
            let _entered = self.io.enter();
            UnixStream::pair().and_then(|(near, far)| far.try_write(&[0]).map(|_| (near, far)))
        };
        async move {
            match marker {
                // `far` stays open until then: its end would be readable, too.
                Ok((near, far)) => drop((near.readable().await, far)),
                Err(error) => tracing::debug!(%error, "no socket to mark a moment with"),
            }
        }
    }

    /// Sends new connections to `workers`. Gives back those before; they run on while anything runs on them.
    pub fn replace(&self, workers: Arc<Workers>) -> Arc<Workers> {
        self.current.swap(workers)
    }

    /// Runs a future on the thread that never goes, for what is not about a connection.
    pub(crate) fn spawn_for_good(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.io.handle.spawn(future));
    }

    /// Runs a future to its end on the workers in office.
    pub fn spawn(&self, future: BoxFuture<'static, ()>) {
        let workers = self.workers();
        let handle = workers.handle.clone();
        let here = Arc::clone(&workers);
        drop(handle.spawn(HERE.scope(here, async move {
            // The future goes first: what it owns may need the runtime that this share keeps alive.
            future.await;
            drop(workers);
        })));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn the_io_thread_has_not_caught_up_while_it_is_busy() {
        let pool = Pool::start(1).unwrap();
        let (busy, is_busy) = sync_channel(0);
        let (go, gone) = sync_channel::<()>(0);
        pool.io.handle.spawn(async move {
            busy.send(()).unwrap();
            gone.recv().unwrap();
        });
        is_busy.recv().unwrap();
        let mut caught_up = std::pin::pin!(pool.caught_up());
        assert!(caught_up.as_mut().now_or_never().is_none());
        go.send(()).unwrap();
        futures::executor::block_on(caught_up);
    }

    #[test]
    fn what_is_made_in_a_task_belongs_to_the_workers_of_the_task() {
        let pool = Pool::start(1).unwrap();
        let (go, gone) = oneshot::channel::<()>();
        let (say, said) = sync_channel(1);
        let inside = pool.clone();
        let task = async move {
            // As a dial that begins a little later than another one to the same member.
            gone.await.unwrap();
            say.send(inside.here().threads()).unwrap();
        };
        pool.spawn(task.boxed());
        drop(pool.replace(pool.of_size(2).unwrap()));
        go.send(()).unwrap();
        assert_eq!(said.recv().unwrap(), 1);
        assert_eq!(pool.here().threads(), 2, "outside of any task");
    }

    #[test]
    fn a_future_ends_on_the_pool_that_it_began_on() {
        let pool = Pool::start(1).unwrap();
        let (go, gone) = oneshot::channel::<()>();
        let (said, heard) = sync_channel(2);
        let late = said.clone();
        pool.spawn(
            async move {
                gone.await.unwrap();
                // Not to wait for anything: it needs a living timer of its own runtime.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                late.send("old").unwrap();
            }
            .boxed(),
        );
        let old = pool.replace(pool.of_size(2).unwrap());
        let ended = Arc::downgrade(&old);
        drop(old);
        assert_eq!(pool.workers().threads(), 2);
        pool.spawn(async move { said.send("new").unwrap() }.boxed());
        assert_eq!(heard.recv().unwrap(), "new");
        assert!(ended.upgrade().is_some(), "a future still runs on the old pool");
        assert!(Arc::ptr_eq(&pool.of_size(1).unwrap(), &ended.upgrade().unwrap()), "it is still there");
        go.send(()).unwrap();
        assert_eq!(heard.recv().unwrap(), "old");
        while ended.upgrade().is_some() {
            std::thread::yield_now();
        }
    }
}
