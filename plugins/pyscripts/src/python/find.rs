//! Which Python it is.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;
use rated_plugin::{Error, Result};

use super::process::{kill_group, wait_readable};

/// The program where the configuration names none.
const DEFAULT: &str = "python3";
const VERSION_MIN: (u32, u32) = (3, 9);
/// How long it may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any honest answer.
const ANSWER_SIZE_MAX: u64 = 16 * 1024;
/// Understood by every Python there ever was.
const QUESTION: &str = "import sys; sys.stdout.write('%d\\n%d\\n%s\\n%s' % (sys.version_info[0], \
                        sys.version_info[1], sys.implementation.name, sys.executable))";

/// The Python that the configuration names.
#[derive(Debug)]
pub(super) struct Named {
    program: PathBuf,
    /// Nobody named one.
    is_default: bool,
}

impl Named {
    pub(super) fn new(configured: Option<PathBuf>) -> Named {
        let is_default = configured.is_none();
        Named { program: configured.unwrap_or_else(|| DEFAULT.into()), is_default }
    }

    /// The path of the interpreter itself, beyond links and wrappers.
    ///
    /// This one question is asked with the daemon's environment: a name is looked for in its
    /// `PATH`, a wrapper may need more of it. No script is near.
    pub(super) fn find(&self) -> Result<PathBuf> {
        let said = ask(&self.program).map_err(|reason| self.unfit(&reason))?;
        let mut lines = said.splitn(4, '\n');
        let mut number = || lines.next().and_then(|line| line.parse::<u32>().ok());
        let (major, minor) = (number(), number());
        let (Some(major), Some(minor)) = (major, minor) else {
            return Err(self.unfit("it does not answer as Python does"));
        };
        let (name, path) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        if name != "cpython" || (major, minor) < VERSION_MIN {
            return Err(self.unfit(&format!("it is {name} {major}.{minor}")));
        }
        if !Path::new(path).is_absolute() {
            return Err(self.unfit("it does not know where it is"));
        }
        Ok(PathBuf::from(path))
    }

    /// A name that somebody wrote down is wrong; that nothing is there by default may change.
    fn unfit(&self, reason: &str) -> Error {
        let (major, minor) = VERSION_MIN;
        let program = self.program.display();
        let text = format!(
            "`python`: `{program}` will not do: {reason}\n(hint: scripts need CPython \
             {major}.{minor} or newer; install it, or name one with `python` in [rating.pyscripts])"
        );
        if self.is_default { Error::unavailable(text) } else { Error::invalid_config(text) }
    }
}

fn ask(program: &Path) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(["-I", "-S", "-B", "-c", QUESTION])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let end = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    let outcome = child.stdout.take().map_or(Err("it has no output".to_owned()), |mut output| {
        let mut part = [0; 1024];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match wait_readable(&output, timeout) {
                Ok(true) => {}
                Ok(false) => return Err(format!("it says nothing in {PATIENCE:?}")),
                Err(error) => return Err(error.to_string()),
            }
            let size = output.read(&mut part).map_err(|error| error.to_string())?;
            said.extend_from_slice(&part[..size]);
            if size == 0 {
                return Ok(());
            }
            if said.len() as u64 > ANSWER_SIZE_MAX {
                return Err("it does not stop talking".to_owned());
            }
        }
    });
    if outcome.is_err() {
        kill_group(&mut child);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    outcome?;
    if !status.success() {
        return Err(format!("it ends with {status}"));
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
