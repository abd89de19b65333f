use warp::http::header;

use super::answer::JSON;
use super::call::Call;

/// In which form a document is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    /// With its media type.
    Xml(&'static str),
}

/// In which form v2 sends figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figures {
    Json(Decimals),
    Csv,
}

/// How decimals stand in JSON; the digits are exact either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decimals {
    Numbers,
    /// For readers that would take a number for a double.
    Texts,
}

impl Figures {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Figures::Json(Decimals::Numbers) => JSON,
            Figures::Json(Decimals::Texts) => "application/json; decimal=string",
            Figures::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// What v1 can send, best first.
const FORMATS: [(&str, Format); 3] = [
    (JSON, Format::Json),
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

    /// The form of v2's figures. CSV is for those who prefer it to JSON; everybody else gets JSON,
    /// as v2 always did.
    pub(crate) fn figures(&self) -> Figures {
        let json = self.quality(JSON);
        if self.quality("text/csv") > json {
            return Figures::Csv;
        }
        let best = self.ranges().filter(|range| range.covers(JSON).is_some());
        let best = best.max_by_key(|range| (range.quality(), range.has("decimal", "string")));
        match best {
            Some(range) if range.quality() > 0 && range.has("decimal", "string") => {
                Figures::Json(Decimals::Texts)
            }
            _ => Figures::Json(Decimals::Numbers),
        }
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

    /// Thousandths; the most exact range that covers the media type counts, of equal ones the
    /// first.
    fn quality(&self, media: &str) -> u32 {
        let mut best = (0, 0);
        for range in self.ranges() {
            match range.covers(media) {
                Some(exactness) if exactness > best.0 => best = (exactness, range.quality()),
                _ => {}
            }
        }
        best.1
    }

    fn ranges(&self) -> impl Iterator<Item = Range<'_>> {
        self.text().split(',').map(|text| Range { text })
    }
}

/// `text/*;q=0.5`.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    text: &'a str,
}

impl<'a> Range<'a> {
    /// How exactly it names the media type; `None` = not at all.
    fn covers(self, media: &str) -> Option<u32> {
        let kind = media.split('/').next().unwrap_or_default();
        let name = self.text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "*/*" => Some(1),
            name if name.strip_suffix("/*") == Some(kind) => Some(2),
            name if name == media => Some(3),
            _ => None,
        }
    }

    fn parameters(self) -> impl Iterator<Item = &'a str> {
        self.text.split(';').skip(1).map(str::trim)
    }

    fn quality(self) -> u32 {
        self.parameters().find_map(quality_of).unwrap_or(1000)
    }

    fn has(self, name: &str, value: &str) -> bool {
        let unquoted = |text: &'a str| text.trim().trim_matches('"');
        let mut parameters = self.parameters().filter_map(|parameter| parameter.split_once('='));
        parameters.any(|(found, text)| {
            found.trim().eq_ignore_ascii_case(name) && unquoted(text).eq_ignore_ascii_case(value)
        })
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
    fn figures_are_json_numbers_unless_something_else_is_preferred() {
        let figures = |text: &str| Accepts { text: Some(text.to_owned()) }.figures();
        let (numbers, texts) = (Figures::Json(Decimals::Numbers), Figures::Json(Decimals::Texts));
        assert_eq!(Accepts { text: None }.figures(), numbers);
        for text in ["*/*", "image/png", "application/json; v=1", "text/csv, application/json"] {
            assert_eq!(figures(text), numbers, "{text}");
        }
        assert_eq!(figures("application/json; decimal=string"), texts);
        assert_eq!(figures("application/json;v=1; Decimal=\"String\" ;q=0.9, */*;q=0.1"), texts);
        assert_eq!(figures("application/json, application/json;decimal=string"), texts);
        assert_eq!(figures("application/json;decimal=string;q=0.5, application/json"), numbers);
        assert_eq!(figures("application/json;decimal=string;q=0, */*;q=0"), numbers);
        assert_eq!(figures("text/csv"), Figures::Csv);
        assert_eq!(figures("text/csv, application/json;q=0.9"), Figures::Csv);
        assert_eq!(figures("text/csv;q=0.5, */*"), numbers);
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
