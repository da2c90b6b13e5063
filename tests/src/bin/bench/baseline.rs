//! Figures that were stored, as ratios: a machine that is twice as fast has the same.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::figure::Figure;

/// By how much a ratio may be worse, by the figure's group, where the file does not say otherwise. Rates over seconds are steady;
/// reloads of a few milliseconds stand beside a disk that is not.
const TOLERANCES: [(&str, f64); 7] = [
    ("reload", 0.75),
    ("rollback", 0.5),
    ("start", 0.5),
    ("data", 0.15),
    ("tunnel", 0.25),
    ("memory", 0.2),
    ("store", 0.75),
];

/// For a group that nothing is said of.
const TOLERANCE: f64 = 0.5;

/// A quick run has fewer rounds, and so much more room.
const IF_QUICK: f64 = 2.0;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Baseline {
    tolerances: BTreeMap<String, f64>,
    ratios: BTreeMap<String, f64>,
}

/// What came of a comparison.
#[derive(Debug)]
pub(crate) struct Verdict {
    compared: usize,
    worse: Vec<Worse>,
    /// Measured, and not in the baseline.
    new: Vec<String>,
    /// In the baseline, and not measured.
    missing: Vec<String>,
    optimised: bool,
}

#[derive(Debug)]
struct Worse {
    id: String,
    ratio: f64,
    before: f64,
    by: f64,
    tolerance: f64,
}

// === impl Baseline ===

impl Baseline {
    pub(crate) fn of(figures: &[Figure]) -> Self {
        Self {
            tolerances: TOLERANCES
                .iter()
                .map(|(group, tolerance)| ((*group).to_owned(), *tolerance))
                .collect(),
            ratios: figures.iter().map(|figure| (figure.id.clone(), figure.ratio())).collect(),
        }
    }

    /// The error names the file and what is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let value: Value =
            serde_json::from_str(&text).map_err(|error| format!("{}: no JSON: {error}", path.display()))?;
        let numbers = |key: &str| {
            let entries = value[key].as_object().ok_or_else(|| {
                format!("{}: '{key}' is missing (write one by --save-baseline)", path.display())
            })?;
            let number = |(name, value): (&String, &Value)| match value.as_f64() {
                Some(number) if number > 0.0 => Ok((name.clone(), number)),
                _ => Err(format!("{}: {key}.{name} is no number above 0", path.display())),
            };
            entries.iter().map(number).collect::<Result<BTreeMap<_, _>, _>>()
        };
        Ok(Self { tolerances: numbers("tolerances")?, ratios: numbers("ratios")? })
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let value = json!({
            "about": "ratios of bench --all, each to its floor or peer of the same run; docs/bench.md",
            "tolerances": self.tolerances,
            "ratios": self.ratios,
        });
        fs::write(path, format!("{value:#}\n"))
    }

    pub(crate) fn judge(&self, figures: &[Figure], quick: bool) -> Verdict {
        let mut verdict = Verdict {
            compared: 0,
            worse: Vec::new(),
            new: Vec::new(),
            missing: Vec::new(),
            optimised: !cfg!(debug_assertions),
        };
        for figure in figures {
            let Some(before) = self.ratios.get(&figure.id).copied() else {
                verdict.new.push(figure.id.clone());
                continue;
            };
            verdict.compared += 1;
            let tolerance = self.tolerances.get(figure.group()).copied().unwrap_or(TOLERANCE);
            let tolerance = if quick { tolerance * IF_QUICK } else { tolerance };
            let ratio = figure.ratio();
            let by = figure.better.worse_by(ratio, before);
            // A figure that is no number is one that was not measured.
            if by.is_nan() || by > tolerance {
                verdict.worse.push(Worse { id: figure.id.clone(), ratio, before, by, tolerance });
            }
        }
        let is_measured = |id: &&String| figures.iter().any(|figure| figure.id == **id);
        verdict.missing = self.ratios.keys().filter(|id| !is_measured(id)).cloned().collect();
        verdict
    }
}

// === impl Verdict ===

impl Verdict {
    /// Nothing is worse than it may be, and the ratios are worth something.
    pub(crate) fn is_good(&self) -> bool {
        self.optimised && self.worse.is_empty()
    }

    pub(crate) fn report(&self) -> Value {
        let worse = |worse: &Worse| {
            json!({
                "id": worse.id, "ratio": worse.ratio, "before": worse.before, "worse_by": worse.by,
                "tolerance": worse.tolerance,
            })
        };
        json!({
            "good": self.is_good(), "compared": self.compared, "worse": self.worse.iter().map(worse).collect::<Vec<_>>(),
            "new": self.new, "missing": self.missing,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compared, worse, new, missing, optimised } = self;
        write!(f, "compared with the baseline: {compared} figures, {} worse", worse.len())?;
        for Worse { id, ratio, before, by, tolerance } in worse {
            let (by, tolerance) = (by * 100.0, tolerance * 100.0);
            write!(f, "\nWORSE  {id}: ratio {ratio}, was {before}: by {by:.0} %, allowed {tolerance:.0} %")?;
        }
        if !new.is_empty() {
            write!(f, "\nnot in the baseline: {}", new.join(", "))?;
        }
        if !missing.is_empty() {
            write!(f, "\nnot measured: {}", missing.join(", "))?;
        }
        if !optimised {
            write!(f, "\nnot comparable: this bench was built without --release")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Better;

    fn figure(id: &str, value: f64, better: Better) -> Figure {
        let what = id.to_owned();
        Figure {
            id: id.to_owned(),
            what,
            unit: "ms",
            value,
            beside: "a floor",
            floor: 2.0,
            better,
            goal: None,
        }
    }

    fn worse(before: &[Figure], now: &[Figure], quick: bool) -> Vec<String> {
        let verdict = Baseline::of(before).judge(now, quick);
        assert_eq!(verdict.compared + verdict.new.len(), now.len());
        verdict.worse.into_iter().map(|worse| worse.id).collect()
    }

    #[test]
    fn what_is_worse_than_its_tolerance_is_named_and_what_is_better_is_not() {
        let before = [figure("data.time", 10.0, Better::Less), figure("data.rate", 10.0, Better::More)];
        let at =
            |time, rate| [figure("data.time", time, Better::Less), figure("data.rate", rate, Better::More)];
        assert!(worse(&before, &at(11.0, 9.0), false).is_empty());
        assert_eq!(worse(&before, &at(12.0, 10.0), false), ["data.time"]);
        assert_eq!(worse(&before, &at(10.0, 8.0), false), ["data.rate"]);
        assert!(worse(&before, &at(1.0, 100.0), false).is_empty());
        assert!(worse(&before, &at(12.0, 8.0), true).is_empty(), "a quick run has more room");
    }

    #[test]
    fn what_could_not_be_measured_is_worse_than_anything() {
        let before = [figure("data.time", 10.0, Better::Less)];
        assert_eq!(worse(&before, &[figure("data.time", f64::NAN, Better::Less)], false), ["data.time"]);
    }

    #[test]
    fn new_and_missing_figures_are_told() {
        let verdict = Baseline::of(&[figure("data.old", 1.0, Better::Less)])
            .judge(&[figure("data.new", 1.0, Better::Less)], false);
        assert_eq!(
            (verdict.new, verdict.missing),
            (vec!["data.new".to_owned()], vec!["data.old".to_owned()])
        );
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written_and_a_wrong_one_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.json");
        let baseline = Baseline::of(&[figure("data.time", 10.0, Better::Less)]);
        baseline.write(&path).unwrap();
        assert_eq!(Baseline::read(&path), Ok(baseline));
        fs::write(&path, r#"{"tolerances": {}, "ratios": {"data.time": "fast"}}"#).unwrap();
        assert!(Baseline::read(&path).unwrap_err().contains("ratios.data.time is no number above 0"));
        fs::write(&path, "{}").unwrap();
        assert!(Baseline::read(&path).unwrap_err().contains("'tolerances' is missing"));
    }
}
