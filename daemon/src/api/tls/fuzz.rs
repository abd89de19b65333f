//! Certificates and keys as a fuzzer has them: a pair is refused, or it can be served with now.

use std::path::Path;

use chrono::{DateTime, Utc};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Pair, validity};

/// 2030-01-01T00:00:00Z.
const NOW_SECS: i64 = 1_893_456_000;

/// The certificate's file, a NUL, the key's.
pub(in crate::api) fn pair(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (certificate, key) = bytes.split_at(at);
    let now: DateTime<Utc> = DateTime::from_timestamp(NOW_SECS, 0).expect("a time of our days");
    let (path, key_path) = (Path::new("server.pem"), Path::new("server.key"));
    let key = key.get(1..).unwrap_or_default();
    let pair = Pair { certificate: (path, certificate), key: (key_path, key) };
    if pair.server_config(now).is_ok() {
        let first = CertificateDer::pem_slice_iter(certificate).next();
        let first = first.expect("it is served").expect("it is served");
        let validity = validity::of(&first).expect("it was checked");
        assert!(validity.begin <= now && now <= validity.end);
    }
}

/// A certificate without its PEM form.
pub(in crate::api) fn certificate(bytes: &[u8]) {
    let _ = validity::of(bytes);
}
