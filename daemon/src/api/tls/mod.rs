//! Encryption of the listener: a certificate and its key, exchanged while the daemon runs.
//!
//! Connections keep the certificate that they began with. A new pair that cannot be used (half
//! written, mismatched, expired) leaves the old one in force.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod validity;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;
use tracing::warn;

use super::kept::{FileError, Kept, Privacy};
use crate::clock::Clock;
use crate::config::TlsConfig;

/// What a client may ask to speak; what it asks beside that is not spoken.
const PROTOCOL: &[u8] = b"http/1.1";

/// A certificate that ends sooner is worth a warning.
const LAST_DAYS: i64 = 7;

/// The certificate in force.
#[derive(Debug)]
pub struct Tls(Kept<ServerConfig>);

#[derive(Debug, thiserror::Error)]
enum PairError {
    #[error("`{}` holds no certificate in PEM form", path.display())]
    NoCertificate { path: PathBuf },
    #[error("`{}` holds no private key in PEM form", path.display())]
    NoKey { path: PathBuf },
    #[error("the certificate of `{}` cannot be read", path.display())]
    Malformed { path: PathBuf },
    #[error("the certificate of `{}` is not valid before {begin}", path.display())]
    NotYetValid { path: PathBuf, begin: DateTime<Utc> },
    #[error("the certificate of `{}` expired on {end}", path.display())]
    Expired { path: PathBuf, end: DateTime<Utc> },
    #[error("`{}` and `{}` do not belong together", certificate.display(), key.display())]
    Unusable {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        error: rustls::Error,
    },
}

impl Tls {
    /// Reads the files for the first time.
    pub fn load(config: &TlsConfig, clock: Arc<dyn Clock>) -> Result<Tls, FileError> {
        let files = vec![
            (config.cert_file.clone(), Privacy::Public),
            (config.key_file.clone(), Privacy::Secret),
        ];
        let TlsConfig { cert_file, key_file } = config.clone();
        let read = move |contents: &[Vec<u8>]| {
            let pair =
                Pair { certificate: (&cert_file, &contents[0]), key: (&key_file, &contents[1]) };
            pair.server_config(clock.now())
        };
        Kept::load("certificate", files, read).map(Tls)
    }

    /// The last moment at which the first certificate of a file is valid; `None` = there is none.
    pub fn certificate_end(file: &Path) -> Option<DateTime<Utc>> {
        let content = std::fs::read(file).ok()?;
        let first = CertificateDer::pem_slice_iter(&content).next()?.ok()?;
        validity::of(&first).map(|validity| validity.end)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.now())
    }

    /// Looks for new files; blocks.
    pub(super) fn reread(&self) {
        self.0.reread();
    }
}

/// Paths and contents.
struct Pair<'a> {
    certificate: (&'a Path, &'a [u8]),
    key: (&'a Path, &'a [u8]),
}

impl Pair<'_> {
    fn server_config(&self, now: DateTime<Utc>) -> Result<ServerConfig, PairError> {
        let (path, content) = self.certificate;
        let path = || path.to_owned();
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(content).collect();
        let certificates = certificates.map_err(|_| PairError::Malformed { path: path() })?;
        let first =
            certificates.first().ok_or_else(|| PairError::NoCertificate { path: path() })?;
        let validity = validity::of(first).ok_or_else(|| PairError::Malformed { path: path() })?;
        if now < validity.begin {
            return Err(PairError::NotYetValid { path: path(), begin: validity.begin });
        }
        if now > validity.end {
            return Err(PairError::Expired { path: path(), end: validity.end });
        }
        let (key_path, content) = self.key;
        let key = PrivateKeyDer::from_pem_slice(content)
            .map_err(|_| PairError::NoKey { path: key_path.to_owned() })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let unusable = |error| {
            let (certificate, key) = (path(), key_path.to_owned());
            PairError::Unusable { certificate, key, error }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        if (validity.end - now).num_days() < LAST_DAYS {
            warn!(file = %path().display(), end = %validity.end, "The certificate expires soon.");
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;
    use crate::api::failure::chain;
    use crate::clock::ManualClock;

    struct Site {
        folder: TempDir,
        clock: Arc<ManualClock>,
    }

    impl Site {
        fn new() -> Site {
            let clock = Arc::new(ManualClock::new("2026-06-01T00:00:00Z".parse().unwrap()));
            Site { folder: TempDir::new().unwrap(), clock }
        }

        fn write(&self, (certificate, key): (&str, &str)) {
            fs::write(self.folder.path().join("cert.pem"), certificate).unwrap();
            fs::write(self.folder.path().join("key.pem"), key).unwrap();
        }

        fn load(&self) -> Result<Tls, FileError> {
            let file = |name| self.folder.path().join(name);
            let config = TlsConfig { cert_file: file("cert.pem"), key_file: file("key.pem") };
            Tls::load(&config, Arc::clone(&self.clock) as Arc<dyn Clock>)
        }

        #[track_caller]
        fn refused(&self, pair: (&str, &str), words: &str) {
            self.write(pair);
            let text = chain(&self.load().unwrap_err());
            assert!(text.contains(words), "{text}");
            assert!(text.contains(".pem`"), "no file in: {text}");
        }
    }

    /// Valid in the given years.
    fn pair(from: i32, to: i32) -> (String, String) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn an_unusable_pair_is_refused_with_file_and_reason() {
        let site = Site::new();
        let (certificate, key) = pair(2026, 2027);
        let (_, other_key) = pair(2026, 2027);

        site.refused((&key, &key), "holds no certificate");
        site.refused((&certificate, &certificate), "holds no private key");
        site.refused((&certificate, &other_key), "do not belong together");
        let (past, its_key) = pair(2024, 2025);
        site.refused((&past, &its_key), "expired on 2025-01-01 00:00:00 UTC");
        let (future, its_key) = pair(2030, 2031);
        site.refused((&future, &its_key), "is not valid before 2030-01-01");
        site.write((&certificate, &key));
        site.load().unwrap();
    }

    #[test]
    fn a_new_pair_comes_into_force_and_an_unusable_one_does_not() {
        let site = Site::new();
        let (certificate, key) = pair(2026, 2027);
        site.write((&certificate, &key));
        let tls = site.load().unwrap();
        let first = tls.0.now();

        let (new_certificate, new_key) = pair(2026, 2028);
        site.write((&new_certificate, &key));
        tls.reread();
        assert!(Arc::ptr_eq(&first, &tls.0.now()), "half of a new pair came into force");
        site.write((&new_certificate, &new_key));
        tls.reread();

        assert!(!Arc::ptr_eq(&first, &tls.0.now()));
    }

    #[test]
    fn a_certificate_that_becomes_valid_needs_no_second_change() {
        let site = Site::new();
        let (certificate, key) = pair(2026, 2027);
        site.write((&certificate, &key));
        let tls = site.load().unwrap();
        let first = tls.0.now();
        let (next, its_key) = pair(2027, 2028);
        site.write((&next, &its_key));
        tls.reread();
        assert!(Arc::ptr_eq(&first, &tls.0.now()));

        site.clock.set("2027-06-01T00:00:00Z".parse().unwrap());
        tls.reread();

        assert!(!Arc::ptr_eq(&first, &tls.0.now()));
    }
}
