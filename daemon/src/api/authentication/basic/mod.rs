//! Users with passwords, from an htpasswd file.
//!
//! Comparing a password is slow on purpose, so it happens off the async threads, a few at once. Who
//! was right is remembered for a minute, under a keyed hash of name and password; after a wrong
//! password its place stays taken as long again, and a name that was wrong too often has to wait.
//! Guessing therefore costs at most half of those places, and nobody else's requests.
//!
//! A name that does not exist takes as long as one that does: its password is compared too, with
//! that of somebody who is chosen by the name.

mod failures;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod htpasswd;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;
use tracing::warn;

use self::failures::Failures;
use self::htpasswd::{Htpasswd, PasswordHash};
use super::Refusal;
use super::token::identity;
use crate::api::caller::Identity;
use crate::api::kept::{FileError, Kept, Privacy};
use crate::config::{BasicConfig, Rights};

/// Longest name, bytes.
const NAME_SIZE_MAX: usize = 255;
/// Longest password, bytes.
const PASSWORD_SIZE_MAX: usize = 1024;

/// Most passwords compared at once.
const COMPARISONS_MAX: usize = 4;
/// Most requests that wait for their turn: the rest of the API has requests to answer, too.
const WAITING_MAX: usize = 64;
/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest rest of a place after a wrong password.
const REST_MAX: Duration = Duration::from_secs(2);

/// How long a right password is remembered.
const MEMORY: Duration = Duration::from_mins(1);
/// Most right passwords remembered.
const REMEMBERED_MAX: usize = 1024;

type Fingerprint = [u8; 32];

pub(super) struct Basic {
    users: Kept<Users>,
    rights: BTreeMap<String, Rights>,
    places: Arc<Semaphore>,
    waiting: Semaphore,
    failures: Mutex<Failures>,
    /// Nobody else can tell which fingerprint belongs to which password.
    key: hmac::Key,
}

/// The users of one state of the file: with the next one, nothing is remembered.
struct Users {
    file: Htpasswd,
    remembered: Mutex<HashMap<Fingerprint, Instant>>,
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Basic").finish_non_exhaustive()
    }
}

/// What was sent.
struct Login {
    name: String,
    password: Vec<u8>,
}

impl Basic {
    pub(super) fn load(config: &BasicConfig) -> Result<Basic, FileError> {
        let path = config.htpasswd_file.clone();
        let files = vec![(path.clone(), Privacy::Secret)];
        let users = Kept::load("passwords", files, move |contents| {
            let file = Htpasswd::parse(&contents[0], &path)?;
            Ok::<_, htpasswd::HtpasswdError>(Users { file, remembered: Mutex::default() })
        })?;
        let now = users.now();
        for name in config.users.keys().filter(|name| !now.file.has(name)) {
            warn!(name, "A user has rights and no password: `api.basic.users` knows more names.");
        }
        // Half of the machine at most is for passwords.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Ok(Basic {
            users,
            rights: config.users.clone(),
            places: Arc::new(Semaphore::new((cores / 2).clamp(1, COMPARISONS_MAX))),
            waiting: Semaphore::new(WAITING_MAX),
            failures: Mutex::default(),
            key: key.expect("the system has random bytes"),
        })
    }

    pub(super) fn reread(&self) {
        self.users.reread();
    }

    /// `sent` is what stands behind `Basic`.
    pub(super) async fn caller(&self, sent: &[u8]) -> Result<Identity, Refusal> {
        let login = Login::decode(sent).ok_or(Refusal::Wrong)?;
        let users = self.users.now();
        let fingerprint = self.fingerprint(&[login.name.as_bytes(), &login.password]);
        if users.remembers(&fingerprint, Instant::now()) {
            return Ok(self.identity(&login.name));
        }
        let subject = self.fingerprint(&[login.name.as_bytes()]);
        self.check_failures(&subject)?;
        let Ok(waiting) = self.waiting.try_acquire() else { return Err(Refusal::Busy) };
        let place = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(&self.places).acquire_owned());
        let Ok(Ok(place)) = place.await else { return Err(Refusal::Busy) };
        drop(waiting);
        // Others may have been first while this one waited.
        if users.remembers(&fingerprint, Instant::now()) {
            return Ok(self.identity(&login.name));
        }
        self.check_failures(&subject)?;
        let begin = Instant::now();
        let (compared, name) = (Arc::clone(&users), login.name.clone());
        let job = tokio::task::spawn_blocking(move || {
            // Held until the comparison has ended, even when nobody waits for it any more.
            (compared.file.is_right(&login.name, &login.password, &subject), place)
        });
        let (is_right, place) = job.await.map_err(|error| {
            Refusal::Unavailable(format!("comparing a password ended early: {error}"))
        })?;
        if is_right {
            users.remember(fingerprint, Instant::now());
            return Ok(self.identity(&name));
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.add(subject, Instant::now());
        drop(failures);
        let rest = begin.elapsed().min(REST_MAX);
        tokio::spawn(async move {
            tokio::time::sleep(rest).await;
            drop(place);
        });
        Err(Refusal::Wrong)
    }

    fn check_failures(&self, subject: &Fingerprint) -> Result<(), Refusal> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.are_too_many(subject, Instant::now()) {
            return Err(Refusal::TooMany);
        }
        Ok(())
    }

    fn identity(&self, name: &str) -> Identity {
        identity(name, self.rights.get(name))
    }

    fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.copy_from_slice(context.sign().as_ref());
        fingerprint
    }
}

impl Login {
    /// `None` when no user can have sent it.
    fn decode(sent: &[u8]) -> Option<Login> {
        let mut bytes = STANDARD.decode(sent).ok()?;
        let colon = bytes.iter().position(|byte| *byte == b':')?;
        let password = bytes.split_off(colon + 1);
        bytes.truncate(colon);
        let name = String::from_utf8(bytes).ok()?;
        let sound = (1..=NAME_SIZE_MAX).contains(&name.len())
            && (1..=PASSWORD_SIZE_MAX).contains(&password.len())
            && !password.contains(&0);
        sound.then_some(Login { name, password })
    }
}

impl Users {
    fn remembers(&self, fingerprint: &Fingerprint, now: Instant) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(fingerprint).is_some_and(|until| now < *until)
    }

    fn remember(&self, fingerprint: Fingerprint, now: Instant) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, until| now < *until);
        }
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(fingerprint, now + MEMORY);
    }
}

impl Htpasswd {
    /// Compares with somebody's password in any case.
    fn is_right(&self, name: &str, password: &[u8], subject: &Fingerprint) -> bool {
        if let Some(hash) = self.of(name) {
            return hash.is_of(password);
        }
        let index = u64::from_be_bytes(std::array::from_fn(|index| subject[index]));
        if let Some(hash) = self.any(index) {
            let _: bool = PasswordHash::is_of(hash, password);
        }
        false
    }
}

#[cfg(test)]
mod tests;
