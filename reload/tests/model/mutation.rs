//! Deliberate bugs, in what surrounds the machine and the fence: each must be found.

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// Components do every step that they are sent, and a handler that was given up on runs on.
    Unfenced,
    /// Steps are fenced by the number of the generation that they are to make, which a second try has again.
    FencedByGeneration,
    /// Those who depend on others commit before them.
    CommitsReversed,
    /// An answer counts for whatever transaction runs when it comes.
    LateAnswersCount,
    /// A rollback restores the books, not what runs.
    NotReapplied,
    /// A rollback does not cancel the step that is under way.
    NothingCancelled,
    /// The step that a rollback cancels is whichever began last, a finish included, and forgotten when any ends.
    OneSlotForAll,
    /// An actor that has a successor may still change what both share.
    NoTerms,
    /// A request that comes during a transaction is taken to be answered by it.
    JoinsTheRunning,
    /// A rollback has no deadline.
    NoDeadline,
    /// A plan does not name those who run nothing for sure.
    BrokenForgotten,
    /// A `Prepare` is sent to everybody.
    EverybodyTold,
    /// A generation is reported durable when it was handed to the disk.
    DurableTooSoon,
    /// Those who depend on others go back after them.
    RollbacksReversed,
    /// What is to be tried again is not.
    NotTriedAgain,
    /// Whoever asked for a transaction that is rolled back is not told.
    AnswerForgotten,
    /// A generation is written under the number of the one before.
    NumberUsedTwice,
    /// A stop waits for a halt that nobody reports.
    HaltForgotten,
}
