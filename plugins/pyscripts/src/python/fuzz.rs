//! Answers of processes as a fuzzer has them: a script can write the whole answer itself.

use rated_plugin::serde_json::{self, Value};

use super::messages::{Missing, NamedText};
use super::pool::{prices, read};
use crate::settings::Containment;

const POINTS: usize = 2;

/// Prices are exactly those of the answer, one for each point; an error is fit to be shown.
pub(crate) fn answer(bytes: &[u8]) {
    let Ok(answer) = read(bytes) else { return };
    let scripts = [NamedText { name: "a".to_owned(), data: String::new() }];
    if let Some(wrong) = answer.error.clone() {
        let wrong = wrong.tamed(&scripts);
        assert!(!wrong.message.contains(char::is_control), "{wrong:?}");
        let shown = wrong.traceback.lines().all(|line| !line.contains(char::is_control));
        assert!(shown, "{wrong:?}");
        assert!(wrong.script.is_none_or(|script| script == "a"));
    }
    let missing = answer.missing.clone().unwrap_or_default();
    let is_whole = missing == Missing::default();
    assert_eq!(missing.against(Containment::Full).is_none(), is_whole, "{missing:?}");

    let Ok(prices) = prices(answer, POINTS) else { return };

    let document: Value = serde_json::from_slice(bytes).expect("it was read");
    let texts = document["prices"].as_array().expect("prices were taken of it");
    assert_eq!((texts.len(), prices.len()), (POINTS, POINTS));
    for (text, price) in texts.iter().zip(prices) {
        assert_eq!(text.as_str().and_then(|text| text.parse().ok()), Some(price));
    }
}
