//! Bodies in XML do what the same bodies in JSON do.

use serde_json::{Value, json};

use super::setup::{Api, empty, text, with_modules};

const XML: (&str, &str) = ("content-type", "text/xml; charset=utf-8");
const WANT_JSON: (&str, &str) = ("accept", "application/json");
const HASHMAP: &str = "/v1/rating/module_config/hashmap";

async fn send(api: &Api, method: &str, target: &str, body: &str) -> (u16, Value) {
    let response = api.ask(method, target, &[XML, WANT_JSON], body).await;
    let value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), value)
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_made_and_removed_in_xml() {
    let api = with_modules().await;
    let body = "<?xml version=\"1.0\"?><service_data><name>compute</name></service_data>";
    let (status, service) = send(&api, "POST", &format!("{HASHMAP}/services"), body).await;
    assert_eq!((status, &service["name"]), (201, &json!("compute")));
    let service = service["service_id"].as_str().unwrap();
    let body = "<group_data><name>night</name></group_data>";
    let (_, group) = send(&api, "POST", &format!("{HASHMAP}/groups"), body).await;
    let group = group["group_id"].as_str().unwrap();

    let body = format!(
        "<mapping xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
         <cost>0.1</cost><service_id>{service}</service_id><group_id>{group}</group_id>\
         <field_id xsi:nil=\"true\"/><tenant_id nil=\"true\"/><type>flat</type></mapping>"
    );
    let (status, mapping) = send(&api, "POST", &format!("{HASHMAP}/mappings"), &body).await;
    assert_eq!(status, 201, "{mapping}");
    assert_eq!(mapping["cost"], "0.1000000000000000000000000000");

    // Not recursive: the mapping stays.
    let body = format!("<x><group_id>{group}</group_id><recursive>false</recursive></x>");
    assert_eq!(send(&api, "DELETE", &format!("{HASHMAP}/groups"), &body).await.0, 204);
    let mapping = mapping["mapping_id"].as_str().unwrap();
    let (status, _) = send(&api, "GET", &format!("{HASHMAP}/mappings/{mapping}"), "").await;
    assert_eq!(status, 200);

    let (status, fault) =
        send(&api, "POST", &format!("{HASHMAP}/services"), "<x><name>a</name><y/></x>").await;
    let unknown = "Unknown attribute for argument service_data: y";
    assert_eq!((status, &fault["faultstring"]), (400, &json!(unknown)));
}

#[tokio::test]
async fn numbers_booleans_and_lists_are_read_from_text() {
    let api = empty();
    let body = "<module><module_id>hashmap</module_id><enabled>false</enabled>\
                <priority>7</priority></module>";
    assert_eq!(send(&api, "PUT", "/v1/rating/modules/hashmap", body).await.0, 302);
    let (_, module) = send(&api, "GET", "/v1/rating/modules/hashmap", "").await;
    assert_eq!((&module["enabled"], &module["priority"]), (&json!(false), &json!(7)));
    let body = "<module><module_id>hashmap</module_id><enabled>1</enabled></module>";
    assert_eq!(send(&api, "PUT", "/v1/rating/modules/hashmap", body).await.0, 302);

    let resource = "<item><service>compute</service><volume>2</volume><desc><metadata>\
                    <flavor>big</flavor></metadata></desc></item>";
    let in_pairs = "<item><service>compute</service><volume>1.0</volume><desc><item>\
                    <key>flavor</key><value>big</value></item></desc></item>";
    for (resources, sum) in [
        (format!("<resources>{resource}</resources>"), "8.000000000000000000000000000"),
        (format!("<resources>{in_pairs}</resources>"), "4.000000000000000000000000000"),
        (
            "<resources><item><service>compute</service><volume>1</volume><desc/></item>\
             </resources>"
                .to_owned(),
            "0.2500000000000000000000000000",
        ),
        ("<resources/>".to_owned(), "0"),
    ] {
        let body = format!("<res_data>{resources}</res_data>");
        let answer = send(&api, "POST", "/v1/rating/quote", &body).await;
        assert_eq!(answer, (200, json!(sum)), "{resources}");
    }

    let body = "<x><collector>col</collector><service>metric</service></x>";
    let (status, mapping) = send(&api, "POST", "/v1/collector/mappings", body).await;
    assert_eq!((status, mapping), (200, json!({"service": "metric", "collector": "col"})));
    let body = "<infos><enabled>off</enabled></infos>";
    let (status, state) = send(&api, "PUT", "/v1/collector/states/col", body).await;
    assert_eq!((status, &state["enabled"]), (200, &json!(false)));
}

#[tokio::test]
async fn malformed_xml_is_a_fault_of_the_caller() {
    let api = empty();
    for (body, reason) in [
        ("<x", "at byte"),
        ("<x><y></x>", "at byte"),
        ("{}", "at byte 0: there must be one root element"),
        ("<!DOCTYPE x [<!ENTITY y \"z\">]><x>&y;</x>", "a document type is not accepted"),
    ] {
        let (status, fault) = send(&api, "POST", "/v1/rating/quote", body).await;
        let text = fault["faultstring"].as_str().unwrap();
        assert_eq!(status, 400, "{text}");
        assert!(text.starts_with("Request is not in valid XML format: "), "{text}");
        assert!(text.contains(reason), "{text}");
    }
    let wanted = [("content-type", "application/xml"), WANT_JSON];
    let response = api.ask("POST", "/v1/rating/quote", &wanted, "<x/>").await;
    assert_eq!(response.status(), 415);
    assert!(text(&response).contains("Unknown mimetype: application/xml"));
    let (status, _) = send(&api, "PUT", "/v2/rating/modules/hashmap", "<x/>").await;
    assert_eq!(status, 415, "v2 takes JSON only");
}

#[tokio::test]
async fn the_configuration_in_xml_is_one_text() {
    let api = empty();

    let response = api.ask("GET", "/v1/info/config", &[("accept", "application/xml")], "").await;

    let begin = "<result><item><key>metrics</key><value>{'cpu': {'unit': 'instance', \
                 'alt_name': 'instance', 'groupby': ['id', 'project_id'], 'metadata': ['flavor', \
                 'flavor_id', 'vcpus'], 'mutate': 'NUMBOOL', 'extra_args': {'aggregation_method': \
                 'max', 'resource_type': 'instance'}}, 'image.size': {";
    let xml = text(&response);
    assert!(xml.starts_with(begin), "{xml}");
    assert!(xml.ends_with("}}</value></item></result>"), "{xml}");
}
