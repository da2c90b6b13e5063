//! The configuration, the file that it comes from, and files as its history.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reload::error::may_pass;
use reload::{
    Candidate, Change, Class, Configuration, ConfirmChange, Generation, Outcome, Problem, Record, Recorded,
    Recorder, Rejection, Source, Strategy, Which,
};
use serde::Deserialize;
use serde_json::json;

/// The whole configuration. Each component's part is shared with it, so that a part that did not change costs nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// How long a reload may take, to its end or back, in milliseconds.
    pub(crate) budget_ms: u64,
    pub(crate) phrasebook: Arc<PhrasebookSection>,
    pub(crate) greeter: Arc<GreeterSection>,
    /// As it was written: what the history keeps, and gives back.
    #[serde(skip)]
    text: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct PhrasebookSection {
    /// With `{name}` where the name goes.
    greeting: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct GreeterSection {
    pub(crate) listen: SocketAddr,
}

/// `conf`, and beside it `history/N.json` for each generation and `history/audit.jsonl` for each attempt.
pub(crate) struct Files {
    pub(crate) conf: PathBuf,
    history: PathBuf,
    /// Generations that the disk has not taken yet.
    unwritten: Mutex<Vec<(PathBuf, String)>>,
}

impl PhrasebookSection {
    /// What stands before the name and after it.
    pub(crate) fn phrase(&self) -> (String, String) {
        let (before, after) = self.greeting.split_once("{name}").unwrap_or((&self.greeting, ""));
        (before.to_owned(), after.to_owned())
    }
}

impl Configuration for Config {
    fn changes(&self, next: &Self) -> Vec<Change> {
        use Strategy::{InPlace, ReplacePart};
        let keys = [
            ("budget_ms", "reload", InPlace, json!(self.budget_ms), json!(next.budget_ms)),
            (
                "phrasebook.greeting",
                "phrasebook",
                InPlace,
                json!(self.phrasebook.greeting),
                json!(next.phrasebook.greeting),
            ),
            (
                "greeter.listen",
                "greeter",
                ReplacePart,
                json!(self.greeter.listen),
                json!(next.greeter.listen),
            ),
        ];
        let changed = keys.into_iter().filter(|(.., from, to)| from != to);
        changed
            .map(|(path, component, strategy, from, to)| Change {
                path: path.to_owned(),
                from,
                to,
                component: component.to_owned(),
                components: vec![component.to_owned()],
                strategy,
            })
            .collect()
    }

    fn budget(&self) -> Duration {
        Duration::from_millis(self.budget_ms)
    }

    fn health_gate(&self) -> bool {
        true
    }
}

impl Files {
    pub(crate) fn beside(conf: PathBuf) -> Self {
        let history = conf.with_file_name("history");
        Self { conf, history, unwritten: Mutex::default() }
    }

    fn generation(&self, generation: Generation) -> PathBuf {
        self.history.join(format!("{generation}.json"))
    }

    /// Writes the first generation down. (A service that is to find its history again after a start reads it here.)
    pub(crate) fn begin(&self, config: &Config) {
        self.lock().push((self.generation(Generation::FIRST), config.text.clone()));
        Recorder::<Config>::retry(self);
    }

    /// Reads and judges a file: everything that is wrong with it, at once, with its place and its remedy.
    pub(crate) fn read(&self, path: &Path) -> Result<Config, Vec<Problem>> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| {
            // A disk that fails for the moment is asked again; a file that is not there is the operator's affair.
            let class = if may_pass(&error) { Class::System } else { Class::Validation };
            vec![Problem::new(class, error.to_string()).file(&name)]
        })?;
        let mut config: Config = serde_json::from_str(&text).map_err(|error| {
            let (line, column) = (u32::try_from(error.line()).ok(), u32::try_from(error.column()).ok());
            let problem = Problem::new(Class::Validation, error.to_string()).file(&name);
            vec![Problem { line, column, ..problem }]
        })?;
        config.text = text;
        let mut problems = Vec::new();
        if !config.phrasebook.greeting.contains("{name}") {
            let problem = Problem::at("phrasebook.greeting", "greets nobody");
            problems.push(problem.hint("put {name} where the name goes").file(&name));
        }
        if !(100..=30_000).contains(&config.budget_ms) {
            let message = format!("{} is no time to reload in", config.budget_ms);
            problems.push(Problem::at("budget_ms", message).hint("100 to 30000").file(&name));
        }
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(PathBuf, String)>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Called on a thread that may block.
impl Source<Config> for Files {
    fn load(&self, _: &Arc<Config>, which: &Which) -> Result<Candidate<Config>, Rejection> {
        let began = Instant::now();
        let path = match which {
            Which::Own | Which::OwnToLook => self.conf.clone(),
            Which::Other(path) => path.clone(),
            Which::Generation(generation) => self.generation(*generation),
        };
        let (read, validate) = (Duration::ZERO, began.elapsed());
        match self.read(&path) {
            Ok(config) => Ok(Candidate { config: Arc::new(config), warnings: Vec::new(), read, validate }),
            Err(problems) => Err(Rejection { problems, read, validate }),
        }
    }
}

impl Recorder<Config> for Files {
    fn record(&self, record: &Record<Config>, _: ConfirmChange) -> Recorded {
        let text = &record.config.text;
        self.lock().push((self.generation(record.generation), text.clone()));
        let durable = Recorder::<Config>::retry(self);
        let mut warnings = Vec::new();
        // An older generation came back: the file is made to say so, or the next reload would take it away again.
        if record.restore
            && let Err(error) = replace(&self.conf, text)
        {
            let problem = Problem::new(Class::System, format!("does not say what runs: {error}"));
            warnings.push(problem.file(self.conf.display().to_string()));
        }
        Recorded { durable, warnings }
    }

    fn audit(&self, outcome: &Outcome) {
        let line = json!(outcome).to_string() + "\n";
        let audit = self.history.join("audit.jsonl");
        let file = fs::OpenOptions::new().append(true).create(true).open(audit);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("an attempt is not in the audit log: {error}");
        }
    }

    /// Whoever writes at this moment is not done.
    fn is_durable(&self) -> bool {
        self.unwritten.try_lock().is_ok_and(|unwritten| unwritten.is_empty())
    }

    /// The engine asks again until everything is on disk.
    fn retry(&self) -> bool {
        let mut unwritten = self.lock();
        unwritten.retain(|(path, text)| {
            let written = fs::create_dir_all(&self.history).and_then(|()| replace(path, text));
            written.inspect_err(|error| eprintln!("{}: {error}", path.display())).is_err()
        });
        unwritten.is_empty()
    }
}

/// Whoever reads the file, also after a crash, finds the old text or the new one, and never half of it.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
