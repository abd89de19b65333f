use warp::http::header;

use super::call::Call;

/// In which form a document is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    /// With its media type.
    Xml(&'static str),
}

/// What v1 can send, best first.
const FORMATS: [(&str, Format); 3] = [
    ("application/json", Format::Json),
    ("application/xml", Format::Xml("application/xml")),
    ("text/xml", Format::Xml("text/xml")),
];

/// The `Accept` header of a request.
#[derive(Debug, Clone)]
pub(crate) struct Accepts {
    /// `None` when there is no such header.
    text: Option<String>,
}

impl Accepts {
    pub(crate) fn of(call: &Call) -> Accepts {
        let values = call.headers.get_all(header::ACCEPT).iter();
        let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        let text = values.join(", ");
        Accepts { text: (!text.trim().is_empty()).then_some(text) }
    }

    /// No such header.
    pub(crate) fn of_nobody() -> Accepts {
        Accepts { text: None }
    }

    /// The form of a v1 answer; `None` = the caller takes nothing that we have.
    pub(crate) fn format(&self) -> Option<Format> {
        if self.text.is_none() {
            return Some(Format::Json);
        }
        let mut best: Option<(u32, Format)> = None;
        for (media, format) in FORMATS {
            let quality = self.quality(media);
            if quality > best.map_or(0, |(quality, _)| quality) {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format)
    }

    /// Is an error of the router shown as HTML?
    pub(crate) fn html(&self) -> bool {
        let html = self.quality("text/html");
        html > 0 && html >= self.quality("application/json")
    }

    /// Is an error of the router shown as JSON?
    pub(crate) fn json(&self) -> bool {
        !self.html() && self.quality("application/json") > 0
    }

    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    /// Thousandths; the most exact range that covers the media type counts.
    fn quality(&self, media: &str) -> u32 {
        let kind = media.split('/').next().unwrap_or_default();
        let mut best = (0, 0);
        for range in self.text().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let exactness = match name.as_str() {
                "*/*" => 1,
                name if name.strip_suffix("/*") == Some(kind) => 2,
                name if name == media => 3,
                _ => continue,
            };
            if exactness > best.0 {
                best = (exactness, parts.find_map(quality_of).unwrap_or(1000));
            }
        }
        best.1
    }
}

/// `q=0.5` in thousandths. A quality that is no number is 0: nobody knows what was meant.
fn quality_of(parameter: &str) -> Option<u32> {
    let text = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && fraction.len() <= 3;
    let thousandths = match (whole, digits) {
        ("1", true) => 1000,
        ("0", true) => format!("{fraction:0<3}").parse().unwrap_or(0),
        _ => 0,
    };
    Some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(accept: &str) -> Option<Format> {
        Accepts { text: Some(accept.to_owned()) }.format()
    }

    #[test]
    fn the_best_form_is_chosen() {
        let xml = Some(Format::Xml("application/xml"));
        assert_eq!(Accepts { text: None }.format(), Some(Format::Json));
        assert_eq!(format_of("*/*"), Some(Format::Json));
        assert_eq!(format_of("application/xml"), xml);
        assert_eq!(format_of("text/xml"), Some(Format::Xml("text/xml")));
        assert_eq!(format_of("application/json;q=0.5, application/xml"), xml);
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(format_of(browser), xml);
        assert_eq!(format_of("text/html"), None);
        assert_eq!(format_of("image/png"), None);
        assert_eq!(format_of("application/json;q=0"), None);
    }

    #[test]
    fn errors_of_the_router_are_html_for_browsers() {
        let accepts = |text: &str| Accepts { text: Some(text.to_owned()) };
        assert!(accepts("*/*").html());
        assert!(accepts("text/html").html());
        assert!(accepts("application/json").json());
        assert!(!accepts("application/xml").json());
        assert!(!Accepts { text: None }.html());
    }
}
