//! The reader of series against a slow one that builds the whole document first.

use proptest::prelude::*;
use rated_plugin::Status;
use serde_json::{Value, json};

use crate::fuzz::{LABELS, collected, modelled, request};

const SCOPES: [&str; 5] = ["alpha", "be\"ta", "ga\\mma", "\u{1f600} ü", "line\nbreak"];

/// A JSON text, with every character escaped or as few as possible.
fn json_text(text: &str, escapes: bool) -> String {
    if !escapes {
        return Value::from(text).to_string();
    }
    let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{}\"", units.concat())
}

fn any_series() -> impl Strategy<Value = String> {
    let scope = prop_oneof![
        40 => prop::sample::select(&SCOPES[..]),
        2 => Just(""),
        1 => Just("foreign"),
    ];
    let id = prop_oneof![9 => "[a-z0-9ü\"\\\\]{3,9}", 1 => "[ab]"];
    let flavor = prop::option::of("[ab]");
    let number = prop_oneof![
        9 => "[0-9]{1,12}(\\.[0-9]{1,9})?",
        3 => prop::sample::select(&["1e3", "0.1", "-0", "1.7e-05", "12345678901234567890.123"][..])
            .prop_map(str::to_owned),
        1 => prop::sample::select(&["NaN", "+Inf", "-Inf", "", "1,5", "1e+40"][..])
            .prop_map(str::to_owned),
    ];
    let extra = prop::bool::ANY;
    (scope, id, flavor, number, extra, prop::bool::weighted(0.2)).prop_map(
        |(scope, id, flavor, number, extra, escapes)| {
            let mut labels = vec![format!("\"id\":{}", json_text(&id, escapes))];
            if extra {
                labels.push(r#""instance":"left out""#.to_owned());
            }
            if !scope.is_empty() {
                labels.push(format!(
                    "{}:{}",
                    json_text(LABELS[0], escapes),
                    json_text(scope, false)
                ));
            }
            labels
                .extend(flavor.map(|flavor| format!("\"flavor\":{}", json_text(&flavor, escapes))));
            let (labels, number) = (labels.join(","), json_text(&number, escapes));
            format!("{{\"metric\":{{{labels}}},\"value\":[3600.123,{number}]}}")
        },
    )
}

fn any_answer(series_max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(any_series(), 0..series_max).prop_map(|series| {
        let data = format!(r#"{{"resultType":"vector","result":[{}]}}"#, series.join(", "));
        format!(r#"{{"status":"success","data":{data},"infos":[]}}"#)
    })
}

proptest! {
    #[test]
    fn rows_are_those_of_the_whole_document(
        answer in any_answer(12),
        all_scopes in prop::bool::ANY,
        precision in prop::sample::select(&[0_u32, 9, 28][..]),
    ) {
        let request = request(if all_scopes { &[] } else { &SCOPES }, precision);

        let found = collected(answer.clone().into_bytes(), &request);

        prop_assert_eq!(found, modelled(answer.as_bytes(), &request, precision));
    }

    #[test]
    fn half_an_answer_is_asked_for_again(answer in any_answer(3), part: prop::sample::Index) {
        // Something of it that is bad may have been read before it broke off.
        let request = request(&SCOPES, 9);
        prop_assume!(collected(answer.clone().into_bytes(), &request).is_ok());
        let length = part.index(answer.len());

        let found = collected(answer.as_bytes()[..length].to_vec(), &request);

        prop_assert_eq!(found, Err(Status::Unavailable));
    }
}

/// Rows like these have no text that is new to its column.
#[test]
fn rows_of_known_texts_are_compared_with_all_others() {
    let rows = |last: &str| {
        let series = ["alpha|a|x", "alpha|b|y", "be\"ta|b|x", "alpha|b|x", last].map(|row| {
            let mut labels = row.split('|');
            let mut next = || labels.next().unwrap();
            json!({
                "metric": {"project_id": next(), "id": next(), "flavor": next()},
                "value": [3600, "1"],
            })
        });
        let data = json!({"resultType": "vector", "result": series});
        let body = json!({"status": "success", "data": data}).to_string();
        collected(body.into_bytes(), &request(&SCOPES, 9)).map(|rows| rows.len())
    };

    assert_eq!(rows("alpha|a|y"), Ok(5));
    assert_eq!(rows("be\"ta|a|x"), Ok(5));
    assert_eq!(rows("alpha|b|y"), Err(Status::BadData));
    assert_eq!(rows("be\"ta|b|x"), Err(Status::BadData));
}

#[test]
fn bytes_that_are_no_utf_8_are_asked_for_again() {
    let whole = r#"{"status":"success","data":{"resultType":"vector","result":[]},"infos":["ü"]}"#;
    let request = request(&SCOPES, 9);
    let end = whole.len() - 4;
    assert_eq!(collected(whole.as_bytes().to_vec(), &request), Ok(Vec::new()));

    let cut_inside_a_character = &whole.as_bytes()[..end];
    assert!(std::str::from_utf8(cut_inside_a_character).is_err());
    assert_eq!(collected(cut_inside_a_character.to_vec(), &request), Err(Status::Unavailable));
    let mut broken = whole.as_bytes().to_vec();
    broken[end] = b'?';
    assert_eq!(collected(broken, &request), Err(Status::Unavailable));
}

/// Which of the two would be true?
#[test]
fn what_an_answer_says_twice_is_doubtful() {
    let one = r#"{"metric":{"project_id":"alpha"},"value":[3600,"1"]}"#;
    let whole = |series: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    };
    let request = request(&SCOPES, 9);
    let found = |body: &str| collected(body.as_bytes().to_vec(), &request).map(|rows| rows.len());
    assert_eq!(found(&whole(one)), Ok(1));

    for (once, twice) in [
        (r#""metric":"#, r#""metric":{"id":"x"},"metric":"#),
        (r#""value":"#, r#""value":[3600,"2"],"value":"#),
        (r#""project_id":"#, r#""project_id":"be\"ta","project_id":"#),
        (r#""result":"#, r#""result":[],"result":"#),
        (r#""data":"#, r#""data":{"resultType":"vector","result":[]},"data":"#),
        (r#""status":"#, r#""status":"error","status":"#),
    ] {
        assert_eq!(found(&whole(one).replace(once, twice)), Err(Status::BadData), "{twice}");
    }
    let partial =
        whole(one).replace("{\"status", "{\"isPartial\":true,\"isPartial\":false,\"status");
    assert_eq!(found(&partial), Err(Status::Unavailable));
}
