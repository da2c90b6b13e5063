//! What a thread does that owns an output: writes the lines that wait for it, and tells of those that it could not.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use super::desk::{Desk, Note, Place};
use super::queue::{Batch, Queue};
use super::rotate::Limits;

/// Something that lines are written to, by the one thread that owns it.
pub(super) trait Output {
    /// Writes one line, whole or not at all. May block for as long as the system likes.
    fn write(&mut self, line: &[u8], limits: Limits) -> (bool, Option<Note>);

    /// So many lines that were lost could not be told of, because a short line had room and that one had not: they are told of when
    /// there is room again.
    fn owe(&mut self, lost: u64);
}

/// Writes until nobody holds the queue any more.
pub(super) fn serve<T: Output>(
    output: &mut T,
    queue: &Queue<T>,
    batch: &mut Batch,
    desk: &Desk,
    place: &Place,
) {
    while let Some(requests) = queue.next(batch) {
        for (line, limits) in batch.lines() {
            let (written, note) = write(output, line, limits);
            desk.count(written);
            match note {
                None => {}
                // Told where it was missing.
                Some(note @ Note::Recovered(lost)) => {
                    let notice = desk.notice(place, &note);
                    let (written, _) = write(output, notice.as_bytes(), limits);
                    desk.count(written);
                    if !written {
                        output.owe(lost);
                    }
                }
                Some(note) => desk.tell(place, &note),
            }
        }
        if !requests.is_empty() {
            queue.lines_are_written();
        }
        for request in requests {
            // Whoever asked finds the answer dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| request(output)));
        }
    }
}

/// A panic in there is a bug, and costs this line.
fn write<T: Output>(output: &mut T, line: &[u8], limits: Limits) -> (bool, Option<Note>) {
    catch_unwind(AssertUnwindSafe(|| output.write(line, limits))).unwrap_or((false, None))
}

/// A console, or what stands in for one, with the thread that writes to it. Dropped, the thread ends with the lines that wait.
#[derive(Debug)]
pub(super) struct Stream<T>(Arc<Queue<T>>);

// === impl Stream ===

impl<T: Output + Send + 'static> Stream<T> {
    /// Starts the thread.
    pub(super) fn start(mut output: T, desk: Arc<Desk>, place: Place) -> io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let stream = Self(Arc::clone(&queue));
        thread::Builder::new().name("log-console".to_owned()).spawn(move || {
            serve(&mut output, &queue, &mut Batch::default(), &desk, &place);
        })?;
        Ok(stream)
    }

    pub(super) fn queue(&self) -> &Queue<T> {
        &self.0
    }
}

impl<T> Drop for Stream<T> {
    fn drop(&mut self) {
        self.0.let_go();
    }
}
