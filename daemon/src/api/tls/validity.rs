//! From when until when a certificate is valid.
//!
//! Of a certificate (RFC 5280, DER) only the way to these two dates is read:
//!
//! ```text
//! Certificate    ::= SEQUENCE { TBSCertificate, … }
//! TBSCertificate ::= SEQUENCE { [0] version OPTIONAL, INTEGER serial, SEQUENCE signature,
//!                               SEQUENCE issuer, SEQUENCE { notBefore Time, notAfter Time }, … }
//! Time           ::= UTCTime (17, YYMMDDHHMMSSZ) | GeneralizedTime (18, YYYYMMDDHHMMSSZ)
//! ```

use chrono::{DateTime, NaiveDateTime, Utc};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Two-digit years below it are of this century.
const CENTURY_BEGIN: u32 = 50;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) begin: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
}

/// `None` when it is no certificate.
pub(super) fn of(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (signed, _) = element(certificate, SEQUENCE)?;
    let rest = element(signed, VERSION).map_or(signed, |(_, rest)| rest);
    let (_, rest) = element(rest, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (dates, _) = element(rest, SEQUENCE)?;
    let (begin, rest) = date(dates)?;
    let (end, _) = date(rest)?;
    Some(Validity { begin, end })
}

/// The content of the element at the begin, and what comes after it.
fn element(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if tag != wanted {
        return None;
    }
    let (size, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The number of bytes that hold the size.
        0x81..=0x84 => {
            let (size, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(size)
}

fn date(der: &[u8]) -> Option<(DateTime<Utc>, &[u8])> {
    let (text, rest, century) = if let Some((short, rest)) = element(der, UTC_TIME) {
        let year: u32 = std::str::from_utf8(short.get(..2)?).ok()?.parse().ok()?;
        (short, rest, if year < CENTURY_BEGIN { "20" } else { "19" })
    } else {
        let (text, rest) = element(der, GENERALIZED_TIME)?;
        (text, rest, "")
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let date = NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?;
    Some((date.and_utc(), rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn validity(from: i32, to: i32) -> Option<Validity> {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(from, 2, 3);
        params.not_after = date_time_ymd(to, 12, 31);
        let key = KeyPair::generate().unwrap();
        of(params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn dates_are_read_in_both_forms() {
        let between = |begin: &str, end: &str| {
            let date = |text: &str| format!("{text}T00:00:00Z").parse().unwrap();
            Some(Validity { begin: date(begin), end: date(end) })
        };

        assert_eq!(validity(2024, 2049), between("2024-02-03", "2049-12-31"));
        assert_eq!(validity(1975, 2050), between("1975-02-03", "2050-12-31"));
        assert_eq!(validity(2051, 9999), between("2051-02-03", "9999-12-31"));
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        let key = KeyPair::generate().unwrap();
        let whole = CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        assert!(of(&whole).is_some());

        for length in 0..whole.len() / 4 {
            assert_eq!(of(&whole[..length]), None);
        }
        assert_eq!(of(b"\x30\x84\xff\xff\xff\xff"), None);
        assert_eq!(of(b"\x30\x80\x00\x00"), None);
    }
}
