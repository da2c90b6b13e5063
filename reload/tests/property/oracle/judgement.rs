//! The beginning of a transaction: what is read, again where reading fails, and what follows from it.

use reload::machine::State;
use reload::outcome::Kind;
use reload::{Aim, Class, StepKind, Which};

use super::{LAST_RETRY, Run, Verdict, Walk};
use crate::log::What;
use crate::world::{Settings, differences};

impl Walk<'_> {
    /// Reading until there is a judgement: one that ends the transaction, or the configuration that is to run.
    pub(super) fn judgement(&mut self, run: &Run) -> Verdict<(Option<Kind>, Aim, Option<Settings>)> {
        let given_up = run.deadline(StepKind::Prepare);
        let mut aim = None;
        let mut restored = false;
        let mut last: Option<Result<Settings, Class>> = None;
        loop {
            let entry = self.peek()?.ok_or("the log ends in the middle of reading")?;
            let now = entry.at;
            match &entry.what {
                What::Reading { which, current, .. } => {
                    let this = match which {
                        Which::Generation(generation) => Aim::Generation(*generation),
                        _ => Aim::Files,
                    };
                    ensure!(aim.is_none_or(|aim| aim == this), "a transaction changes its aim");
                    ensure!(matches!(last, None | Some(Err(Class::System))), "what was read is read again");
                    ensure!(*current == self.current, "compared with something that does not run");
                    (aim, last) = (Some(this), None);
                }
                What::Read { result, .. } => {
                    if let (Ok(settings), Some(Aim::Generation(generation))) = (result, aim) {
                        ensure!(
                            self.kept.get(&generation.get()) == Some(settings),
                            "generation {generation} does not come back as it was"
                        );
                    }
                    last = Some(result.clone());
                }
                What::Restored(settings) => {
                    let is_idle = last == Some(Ok(settings.clone()))
                        && differences(&self.current, settings).is_empty()
                        && self.broken.is_empty();
                    ensure!(is_idle && aim != Some(Aim::Files), "files are written without need");
                    self.file = settings.clone();
                    restored = true;
                }
                _ => {
                    let Some(aim) = aim else {
                        // Nobody was left who wanted it.
                        return Ok((Some(Kind::Unchanged), Aim::Files, None));
                    };
                    return match last {
                        None => {
                            ensure!(self.is_deadline(now, given_up), "a reading is not waited for");
                            Ok((Some(Kind::Rejected), aim, None))
                        }
                        Some(Err(Class::System)) => {
                            ensure!(now + LAST_RETRY >= given_up, "a reading is given up too early");
                            Ok((Some(Kind::Rejected), aim, None))
                        }
                        Some(Err(_)) => Ok((Some(Kind::Rejected), aim, None)),
                        Some(Ok(next)) => {
                            // Read, and in the same instant too late.
                            let late = matches!(entry.what, What::Entered(State::Idle | State::Failed))
                                && self.is_deadline(now, given_up);
                            let same = differences(&self.current, &next).is_empty();
                            let runs_already = same && self.broken.is_empty();
                            // What runs already is brought back to the files first, and that may hang too.
                            let unwritten = aim != Aim::Files && !restored;
                            if runs_already && !(late && unwritten) {
                                Ok((Some(Kind::Unchanged), aim, Some(next)))
                            } else if late && self.case.hangs() {
                                Ok((Some(Kind::Rejected), aim, None))
                            } else {
                                Ok((None, aim, Some(next)))
                            }
                        }
                    };
                }
            }
            self.at += 1;
        }
    }
}
