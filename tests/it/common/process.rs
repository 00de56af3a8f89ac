//! The program as a user runs it: a process with its output kept, ended with the test. None may ever print a secret.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{ENV, eventually};

/// The program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ledgerhook");

/// One process of ours.
pub(crate) struct Process {
    child: Child,
    command: String,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn text(&self) -> String {
        self.0.lock().unwrap().iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    fn read(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                lines.0.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        })
    }
}

/// The program with these arguments, its output not yet taken.
pub(crate) fn command(config: &Path, args: &[&str], more: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(config).args(args).stdin(Stdio::null());
    command.envs(ENV).envs(more.iter().copied());
    command
}

impl Process {
    /// Starts the program with the installation's secrets, and `more` variables, in its environment.
    pub(crate) fn start(config: &Path, args: &[&str], more: &[(&str, &str)]) -> Self {
        let mut child = command(config, args, more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let readers = vec![stdout.read(child.stdout.take().unwrap()), stderr.read(child.stderr.take().unwrap())];
        Self { child, command: args.join(" "), stdout, stderr, readers }
    }

    /// The first line of its logs with all of these words, as soon as there is one.
    pub(crate) async fn line(&mut self, words: &[&str]) -> String {
        eventually(&format!("a line with {words:?} of {}", self.command), || {
            !self.lines(words).is_empty() || self.readers.iter().all(JoinHandle::is_finished)
        })
        .await;
        let found = self.lines(words).into_iter().next();
        found.unwrap_or_else(|| panic!("{} ended without a line with {words:?}", self.command))
    }

    /// Every line of its logs so far with all of these words.
    pub(crate) fn lines(&self, words: &[&str]) -> Vec<String> {
        let lines = self.stderr.0.lock().unwrap();
        lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).cloned().collect()
    }

    /// Address that a line of its logs gives.
    pub(crate) async fn address(&mut self, words: &[&str]) -> String {
        let line = self.line(words).await;
        let from = line.find("127.0.0.1:").unwrap();
        line[from..].chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect()
    }

    /// Tells it to stop.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends it a signal, as `kill` names it.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The most memory it had so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// What of its memory is the program's own code, in bytes: of a build for tests, far more than of a release.
    pub(crate) fn code_memory(&self) -> u64 {
        self.memory("RssFile:")
    }

    fn memory(&self, kind: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(kind)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.readers.iter().all(JoinHandle::is_finished)
    }

    /// Ends it with `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Ended {
        // Pipes close with the process; none of its children outlives it.
        eventually(&format!("the end of {}", self.command), || self.readers.iter().all(JoinHandle::is_finished)).await;
        let code = self.child.wait().unwrap().code();
        Ended { code, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

/// Runs the program to its end.
pub(crate) async fn run(config: &Path, args: &[&str]) -> Ended {
    Process::start(config, args, &[]).ended().await
}

/// Fails where a secret stands in what the program shows.
pub(crate) fn assert_no_secret(what: &str, text: &str) {
    for (name, secret) in ENV {
        assert!(!text.contains(secret), "{what} shows {name}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already over in most cases.
        drop(self.child.kill());
        drop(self.child.wait());
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        if std::thread::panicking() {
            eprintln!("--- {}: stdout\n{stdout}--- stderr\n{stderr}---", self.command);
        } else {
            assert_no_secret(&self.command, &format!("{stdout}{stderr}"));
        }
    }
}
