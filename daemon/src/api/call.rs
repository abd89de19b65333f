use std::borrow::Cow;

use bytes::Bytes;
use warp::http::{HeaderMap, HeaderName, Method, header};

use super::body::Unread;
use super::caller::{Caller, Sight};

/// One request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// `http` or `https`: how the caller speaks to us.
    pub(crate) scheme: &'static str,
    /// As sent: still percent-encoded, without the query.
    pub(crate) path: String,
    /// As sent.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    /// Empty where the route takes the body as a stream.
    pub(crate) body: Bytes,
    /// The body where the route takes it as a stream.
    pub(crate) unread: Unread,
    /// What the route's pattern left open, percent-decoded, in order.
    pub(crate) captures: Vec<String>,
    /// Who calls.
    pub(crate) caller: Caller,
    /// Whose figures the caller may see and change.
    pub(crate) sight: Sight,
}

/// Name and value, decoded.
pub(crate) type Pairs = Vec<(String, String)>;

impl Call {
    /// A request of which nothing is known yet but what was sent.
    pub(crate) fn new(method: Method, path: String, query: String, headers: HeaderMap) -> Call {
        Call {
            method,
            scheme: "http",
            path,
            query,
            headers,
            body: Bytes::new(),
            unread: Unread::default(),
            captures: Vec::new(),
            caller: Caller::Anonymous,
            sight: Sight::Nothing,
        }
    }

    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What the caller believes our address is.
    pub(crate) fn base_url(&self) -> String {
        let host = self.header(header::HOST).unwrap_or("localhost");
        format!("{}://{host}", self.scheme)
    }

    /// The request's own address without the query.
    pub(crate) fn own_url(&self) -> String {
        format!("{}{}", self.base_url(), self.path)
    }

    pub(crate) fn query_pairs(&self) -> Pairs {
        decode_pairs(&self.query)
    }

    /// The media type of the body, lower case, without parameters.
    pub(crate) fn content_type(&self) -> String {
        let whole = self.header(header::CONTENT_TYPE).unwrap_or_default();
        whole.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// A part of the path that the route's pattern left open.
    pub(crate) fn capture(&self, index: usize) -> Option<&str> {
        self.captures.get(index).map(String::as_str)
    }
}

/// The parts of a path, decoded. Empty parts (doubled slashes) are left out.
pub(crate) fn path_segments(path: &str) -> Vec<String> {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.map(|part| percent_decode(part.as_bytes())).collect()
}

/// `application/x-www-form-urlencoded`, as in a query.
pub(crate) fn decode_pairs(text: &str) -> Pairs {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let decode = |part: &str| {
        let spaced: Cow<'_, str> =
            if part.contains('+') { part.replace('+', " ").into() } else { part.into() };
        percent_decode(spaced.as_bytes())
    };
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// Bytes that are not UTF-8 become U+FFFD, which no stored name contains.
fn percent_decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high * 16 + low);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_once() {
        let pairs = decode_pairs("a=1+2&b=%2B01%3a00&c&&d=%zz%2&e=%25%32%35&f=%FF");

        let text = |pairs: &Pairs| {
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(text(&pairs), ["a=1 2", "b=+01:00", "c=", "d=%zz%2", "e=%25", "f=\u{fffd}"]);
    }

    #[test]
    fn doubled_slashes_are_one() {
        assert_eq!(path_segments("//v1/rating//modules/"), ["v1", "rating", "modules"]);
        assert_eq!(path_segments("/a%2Fb/c%20d"), ["a/b", "c d"]);
        assert!(path_segments("/").is_empty());
    }
}
