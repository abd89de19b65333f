use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// As `htpasswd -nbB -C 5 ada lovelace` writes it.
fn bcrypt_line(name: &str, password: &str) -> String {
    let parts = bcrypt::hash_with_result(password, 5).unwrap();
    format!("{name}:{}\n", parts.format_for_version(bcrypt::Version::TwoY))
}

fn argon2_line(name: &str, password: &str) -> String {
    use argon2::password_hash::{PasswordHasher as _, SaltString};

    let params = argon2::Params::new(7168, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let salt = SaltString::encode_b64(b"somesalt").unwrap();
    format!("{name}:{}\n", argon2.hash_password(password.as_bytes(), &salt).unwrap())
}

struct Site {
    folder: TempDir,
    basic: Basic,
}

impl Site {
    fn new(content: &str) -> Site {
        let folder = TempDir::new().unwrap();
        let htpasswd_file = folder.path().join("htpasswd");
        fs::write(&htpasswd_file, content).unwrap();
        let scope = crate::usage::ScopeId::new("p1").unwrap();
        let rights = Rights { roles: vec!["reader".to_owned()], scope: Some(scope) };
        let users = BTreeMap::from([("ada".to_owned(), rights)]);
        let basic = Basic::load(&BasicConfig { htpasswd_file, users }).unwrap();
        Site { folder, basic }
    }

    async fn login(&self, name: &str, password: &str) -> Result<Identity, Refusal> {
        let sent = STANDARD.encode(format!("{name}:{password}"));
        self.basic.caller(sent.as_bytes()).await
    }
}

fn refused(content: &str) -> String {
    Htpasswd::parse(content.as_bytes(), Path::new("htpasswd")).err().unwrap().to_string()
}

#[tokio::test]
async fn right_passwords_are_let_in_with_their_rights() {
    let site = Site::new(
        &("# users\n\n".to_owned()
            + &bcrypt_line("ada", "lovelace")
            + &argon2_line("grace", "ho:pper é")),
    );

    let ada = site.login("ada", "lovelace").await.unwrap();
    assert_eq!((ada.user_id.as_str(), ada.project_id.as_deref()), ("ada", Some("p1")));
    assert_eq!(ada.roles, ["reader"]);
    let grace = site.login("grace", "ho:pper é").await.unwrap();
    assert_eq!((grace.project_id, grace.roles), (None, Vec::new()));
    for (name, password) in
        [("ada", "Lovelace"), ("ada", ""), ("", "lovelace"), ("bob", "lovelace"), ("grace", "x")]
    {
        assert!(matches!(site.login(name, password).await, Err(Refusal::Wrong)), "{name}");
    }
    for sent in ["", "====", "YWRh", "not base64"] {
        assert!(matches!(site.basic.caller(sent.as_bytes()).await, Err(Refusal::Wrong)), "{sent}");
    }
}

/// The example of Apache's documentation, and a test vector of argon2's authors.
#[test]
fn hashes_of_other_programs_are_understood() {
    let content = "bcrypt:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n\
        argon2:$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ\
        $CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\n";

    let file = Htpasswd::parse(content.as_bytes(), Path::new("f")).unwrap();

    assert!(file.of("bcrypt").unwrap().is_of(b"myPassword"));
    assert!(!file.of("bcrypt").unwrap().is_of(b"mypassword"));
    assert!(file.of("argon2").unwrap().is_of(b"password"));
    assert!(!file.of("argon2").unwrap().is_of(b"passwore"));
}

#[test]
fn weak_and_costly_hashes_are_refused_with_their_line() {
    let good = bcrypt_line("ada", "x");
    let check = |hash: &str, words: &str| {
        let text = refused(&format!("{good}eve:{hash}"));
        assert!(text.starts_with("cannot read `htpasswd`: line 2: "), "{text}");
        assert!(text.contains(words), "no `{words}` in {text}");
        assert!(hash.len() < 6 || !text.contains(hash), "{text}");
    };

    check("$apr1$x$Of3rJ9nXiU1pyQG7DEKAi0", "too weak");
    check("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "too weak");
    check("plain-password", "too weak");
    check("$2x$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "too weak");
    check("$argon2i$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b0", "too weak");
    check("$2y$31$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "between 5 and 14");
    check("$2y$04$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "got 4");
    check("$2y$05$c4WoMPo3SXsafkva", "damaged");
    let argon2 = |costs: &str| {
        format!("$argon2id$v=19${costs}$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
    };
    check(&argon2("m=1048576,t=1,p=1"), "`m` (KiB) must be between 7168 and 131072");
    check(&argon2("m=64,t=1,p=1"), "got 64");
    check(&argon2("m=8192,t=21,p=1"), "`t` must be between 1 and 20");
    check(&argon2("m=131072,t=9,p=1"), "must be at most 1048576");
    check(&argon2("m=8192,t=1,p=17"), "`p` must be between 1 and 16");
    check("$argon2id$v=19$m=8192", "damaged");
    assert!(refused(&(good.clone() + &good)).contains("line 2: the name stands there twice"));
    assert!(refused("ada").contains("must be `name:hash`"));
}

#[tokio::test]
async fn a_new_password_ends_what_was_remembered() {
    let site = Site::new(&bcrypt_line("ada", "old"));
    site.login("ada", "old").await.unwrap();

    fs::write(site.folder.path().join("htpasswd"), bcrypt_line("ada", "new")).unwrap();
    site.basic.reread();

    assert!(site.login("ada", "old").await.is_err());
    site.login("ada", "new").await.unwrap();
}

#[tokio::test]
async fn guessing_one_name_ends_and_others_go_on() {
    let site = Site::new(&(bcrypt_line("ada", "right") + &bcrypt_line("bob", "right")));

    for _ in 0..failures::FAILURES_MAX {
        assert!(matches!(site.login("ada", "wrong").await, Err(Refusal::Wrong)));
    }

    assert!(matches!(site.login("ada", "right").await, Err(Refusal::TooMany)));
    site.login("bob", "right").await.unwrap();
}

#[tokio::test]
async fn only_so_many_wait_for_their_turn() {
    let site = Arc::new(Site::new(&bcrypt_line("ada", "right")));
    let all = u32::try_from(site.basic.places.available_permits()).unwrap();
    let places = site.basic.places.acquire_many(all).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..WAITING_MAX {
        let site = Arc::clone(&site);
        waiting.spawn(async move { site.login("ada", "right").await.is_ok() });
    }
    while site.basic.waiting.available_permits() > 0 {
        tokio::task::yield_now().await;
    }

    assert!(matches!(site.login("ada", "right").await, Err(Refusal::Busy)));

    drop(places);
    assert_eq!(waiting.join_all().await, [true; WAITING_MAX]);
}

#[tokio::test]
async fn who_was_right_is_not_compared_again() {
    let site = Site::new(&bcrypt_line("ada", "right"));
    site.login("ada", "right").await.unwrap();

    // Nobody can be compared any more.
    site.basic.places.close();

    site.login("ada", "right").await.unwrap();
    assert!(matches!(site.login("ada", "wrong").await, Err(Refusal::Busy)));
}

#[test]
fn what_is_remembered_ends_and_has_a_limit() {
    let file = Htpasswd::parse(b"", Path::new("f")).unwrap();
    let users = Users { file, remembered: Mutex::default() };
    let now = Instant::now();

    for index in 0..2 * REMEMBERED_MAX as u64 {
        let mut fingerprint = Fingerprint::default();
        fingerprint[..8].copy_from_slice(&index.to_be_bytes());
        users.remember(fingerprint, now);
        assert!(users.remembers(&fingerprint, now));
        assert!(!users.remembers(&fingerprint, now + MEMORY));
    }

    assert!(users.remembered.lock().unwrap().len() <= REMEMBERED_MAX);
}
