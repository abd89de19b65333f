//! What it means when Gnocchi refuses to aggregate.
//!
//! | Gnocchi says | it means |
//! |---|---|
//! | 404, `Metric … does not exist` | nobody asked about has such measures in the period: no data |
//! | 400, `Metrics not found` (older ones) | the same |
//! | 404, `Metrics with unknown aggregation` | a resource's archive policy lacks the method |
//! | 400, `Metrics cannot be aggregated` | a resource's archive policy lacks the granularity |
//! | 404, `Unknown metrics` | a resource's metric has no measure yet |
//! | 400, `Resource type does not exist` | the definition is wrong, or there was none yet |
//! | 404 or 400 with other words | something else is wrong |
//! | 404 or 400 of something else than Gnocchi | the address is wrong, or a proxy is confused |
//!
//! Only the first two are answers. The next three stop the scope whose resource it is: the daemon
//! asks about halves of the scopes until it stands alone. The others stop the metric, and are asked
//! again.
//!
//! A metric whose name is misspelt looks like one that nobody uses yet; `CloudKitty` cannot tell
//! either. The daemon keeps "no data" apart from zero for both.

use rated_plugin::{Error, HttpResponse, Result};

use crate::answer::{Problem, refusal};

/// `Ok` when the refusal says that there are no data.
pub(crate) fn no_data(response: &HttpResponse) -> Result<()> {
    let problem = Problem::of(response);
    let message = || problem.message(response.status);
    if !problem.is_genuine {
        return Err(refusal(response));
    }
    match (response.status, problem.cause.as_str()) {
        (404, "") if names_unknown_metric(&problem.text) => Ok(()),
        (400, "Metrics not found") => Ok(()),
        (404, "Metrics with unknown aggregation") => Err(Error::bad_data(format!(
            "{}\n(hint: `aggregation_method` must be one that the archive policy of every metric \
             of that name computes)",
            message()
        ))),
        (400, "Metrics cannot be aggregated") => Err(Error::bad_data(format!(
            "{}\n(hint: `force_granularity` must be one that the archive policy of every metric \
             of that name keeps; 0 = any)",
            message()
        ))),
        (404, "Unknown metrics") => Err(Error::bad_data(message())),
        // Wrong for every scope: no use in asking about each of them.
        (400, "Resource type does not exist") => Err(Error {
            retryable: true,
            ..Error::invalid_request(format!("`extra_args`: `resource_type`: {}", message()))
        }),
        (400, _) => Err(Error { retryable: true, ..Error::invalid_request(message()) }),
        _ => Err(refusal(response)),
    }
}

/// `Metric ['cpu'] does not exist`.
fn names_unknown_metric(text: &str) -> bool {
    text.starts_with("Metric ") && text.ends_with("does not exist")
}

#[cfg(test)]
mod tests {
    use rated_plugin::Status;
    use serde_json::{Value, json};

    use super::*;

    fn answer(status: u16, description: &Value) -> Result<()> {
        let body = json!({"code": status, "title": "?", "description": description}).to_string();
        let headers = std::collections::BTreeMap::new();
        no_data(&HttpResponse { status, headers, body: body.into_bytes() })
    }

    #[test]
    fn only_the_words_of_gnocchi_are_no_data() {
        assert_eq!(answer(404, &json!("Metric ['cpu'] does not exist")), Ok(()));
        assert_eq!(answer(400, &json!({"cause": "Metrics not found", "detail": ["cpu"]})), Ok(()));
        for (status, description) in [
            (404, json!("Resource type x does not exist")),
            (404, json!("")),
            (404, json!({"cause": "Another", "detail": "Metric x does not exist"})),
            (400, json!("Metric ['cpu'] does not exist")),
            (500, json!("Metric ['cpu'] does not exist")),
            (403, json!("Metric ['cpu'] does not exist")),
        ] {
            assert!(answer(status, &description).is_err(), "{status} {description}");
        }
        let headers = std::collections::BTreeMap::new;
        let page = b"Metric x does not exist".to_vec();
        let bare = HttpResponse { status: 404, headers: headers(), body: page };
        assert!(no_data(&bare).unwrap_err().retryable);
        let half = br#"{"code": 404, "description": "Metric ['cpu'] does not exist""#.to_vec();
        assert!(no_data(&HttpResponse { body: half, ..bare }).is_err());
    }

    #[test]
    fn one_resource_stops_its_own_scope_only() {
        for (status, cause) in [
            (404, "Metrics with unknown aggregation"),
            (404, "Unknown metrics"),
            (400, "Metrics cannot be aggregated"),
        ] {
            let error = answer(status, &json!({"cause": cause, "detail": ["x"]})).unwrap_err();
            // The daemon halves the scopes of such an answer until those at fault stand alone.
            assert_eq!((error.status, error.retryable), (Status::BadData, false), "{cause}");
            assert!(error.message.contains(cause), "{error}");
        }
    }

    #[test]
    fn a_wrong_definition_is_wrong_for_every_scope() {
        let error = answer(400, &json!({"cause": "Resource type does not exist", "detail": "x"}))
            .unwrap_err();
        assert_eq!((error.status, error.retryable), (Status::InvalidRequest, true));
        assert_eq!(
            error.message,
            "`extra_args`: `resource_type`: HTTP status 400: Resource type does not exist: x"
        );
        let error = answer(400, &json!("Invalid pagination: `no such key`")).unwrap_err();
        assert_eq!((error.status, error.retryable), (Status::InvalidRequest, true));
        let error = answer(403, &json!("no")).unwrap_err();
        assert_eq!(error.status, Status::Unauthorized);
    }
}
