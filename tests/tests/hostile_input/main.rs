//! Whatever is sent, the answer is a refusal that says what is wrong, or a closed connection: never
//! a failure of the daemon, never silence, never memory that does not come back.
#![forbid(unsafe_code)]

mod site;
mod values;

use std::io::Write as _;

use serde_json::{Value, json};

use self::site::{HASHMAP, MIB, Site, refused, rest, shortened, status_and_body};

/// Everything that takes a body.
const WRITES: &[(&str, &str)] = &[
    ("POST", "/v1/rating/quote"),
    ("PUT", "/v1/rating/modules/hashmap"),
    ("PUT", "/v1/collector/states/prometheus"),
    ("POST", "/v1/collector/mappings"),
    ("DELETE", "/v1/collector/mappings"),
    ("POST", "/v1/rating/module_config/hashmap/services"),
    ("POST", "/v1/rating/module_config/hashmap/fields"),
    ("POST", "/v1/rating/module_config/hashmap/groups"),
    ("POST", "/v1/rating/module_config/hashmap/mappings"),
    ("PUT", "/v1/rating/module_config/hashmap/mappings"),
    ("POST", "/v1/rating/module_config/hashmap/thresholds"),
    ("PUT", "/v1/rating/module_config/hashmap/thresholds"),
    ("DELETE", "/v1/rating/module_config/hashmap/groups"),
    ("PUT", "/v2/rating/modules/hashmap"),
    ("POST", "/v2/dataframes"),
    ("POST", "/v2/scope"),
    ("PUT", "/v2/scope"),
    ("PATCH", "/v2/scope"),
    ("POST", "/v2/task/reprocesses"),
];

#[test]
fn bodies_that_are_no_documents_are_refused() {
    let site = Site::start("");
    let nested_list = "[".repeat(100_000);
    let nested_object = "{\"a\":".repeat(100_000);
    let closed = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let in_member = format!("{{\"resources\": {closed}}}");
    let in_name = format!("{{\"name\": {closed}}}");
    let json: [&[u8]; 14] = [
        b"{",
        b"{\"name\": ",
        b"{\"name\": \"\xff\xfe\"}",
        b"\xef\xbb\xbf{}x",
        b"[]",
        b"\"text\"",
        b"17",
        b"1e400",
        b"NaN",
        b"\x00",
        nested_list.as_bytes(),
        nested_object.as_bytes(),
        in_member.as_bytes(),
        in_name.as_bytes(),
    ];
    let xml_nested = "<a>".repeat(100_000);
    let entities = "<!DOCTYPE a [<!ENTITY b \"bbbbbbbb\"><!ENTITY c \"&b;&b;&b;\">]><a>&c;</a>";
    let xml: [&[u8]; 7] = [
        b"<",
        b"<a><b></a>",
        b"<a>\xff</a>",
        b"\x00",
        b"no xml",
        xml_nested.as_bytes(),
        entities.as_bytes(),
    ];
    for (method, target) in WRITES {
        for body in json {
            let what = format!("{method} {target} {}", shortened(&String::from_utf8_lossy(body)));
            refused(site.send(method, target, "application/json", body), &what);
        }
        for body in xml {
            let what = format!("{method} {target} {}", shortened(&String::from_utf8_lossy(body)));
            refused(site.send(method, target, "text/xml", body), &what);
        }
    }
    site.is_well();
}

#[test]
fn a_body_of_the_largest_size_is_read_and_a_larger_one_is_not() {
    let site = Site::start("");
    let services = format!("{HASHMAP}/services");
    let padded = |name: &str, size: usize| {
        let body = format!("{{\"name\": \"{name}\"");
        format!("{body}{}}}", " ".repeat(size - body.len() - 1))
    };

    let largest = padded("a", 8 * MIB);
    let (status, _) = site.send("POST", &services, "application/json", largest.as_bytes());
    assert_eq!(status, 201);
    for (target, size_max) in [(services.as_str(), 8 * MIB), ("/v1/rating/quote", MIB)] {
        let larger = padded("b", size_max + 1);
        let (status, body) = site.send("POST", target, "application/json", larger.as_bytes());
        // What was sent and not read may cost the answer.
        if status != 0 {
            assert_eq!(status, 413);
            let fault: Value = serde_json::from_str(&body).unwrap();
            let text = format!("the body must be at most {size_max} bytes long");
            assert_eq!(
                (&fault["faultcode"], &fault["faultstring"]),
                (&json!("Client"), &json!(text))
            );
        }
    }
    let long_name = json!({"name": "x".repeat(1_000_000)}).to_string();
    refused(site.send("POST", &services, "application/json", long_name.as_bytes()), "a long name");
    let service = site.service();
    let long = json!({"service_id": service, "cost": "1", "description": "d".repeat(1_000_000)});
    let mappings = format!("{HASHMAP}/mappings");
    refused(
        site.send("POST", &mappings, "application/json", long.to_string().as_bytes()),
        "a long description",
    );
    site.is_well();
}

#[test]
fn odd_requests_are_refused_or_cut_off() {
    let site = Site::start("");
    let get =
        |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let many = "a=1&".repeat(10_000);
    let long = "a".repeat(MIB);
    let headers = "X-Bomb: 1\r\n".repeat(10_000);
    let odd: Vec<Vec<u8>> = vec![
        get(&format!("/v1/report/total?{many}")).into_bytes(),
        get(&format!("/v2/summary?{many}")).into_bytes(),
        get(&format!("/v1/report/total?a={long}")).into_bytes(),
        get(&format!("/{long}")).into_bytes(),
        get("/v1/%ff%fe").into_bytes(),
        get("/v1/info/metrics/%00").into_bytes(),
        get("/v1/info/metrics/%ff").into_bytes(),
        get("/v1/info/metrics/..%2f..%2fetc").into_bytes(),
        get("/v1/rating/module_config/%2e%2e/%2e%2e").into_bytes(),
        get("/v1/collector/mappings/%f0%28%8c%28").into_bytes(),
        get("/v2/summary?filters=%ff").into_bytes(),
        get("/v2/summary?groupby=%ff%00&limit=%31%ff").into_bytes(),
        get("/v1/report/total?%ff=%ff").into_bytes(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(),
        b"GET /v1/report/total HTTP/1.1\r\nHost: h\r\nX-\xff: 1\r\nConnection: close\r\n\r\n"
            .to_vec(),
        b"GET /v1/report/total HTTP/1.1\r\nHost: h\r\nX-A: 1\x00\r\nConnection: close\r\n\r\n"
            .to_vec(),
        format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: h\r\nX-A: {long}\r\n\r\n").into_bytes(),
        b"GARBAGE\r\n\r\n".to_vec(),
        b"GET /\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"BREW /v1/report/total HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(),
        b"TRACE /v1/report/total HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(),
        b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n\r\n".to_vec(),
        with_body("Content-Length: 2\r\nContent-Length: 3\r\n", b"{}"),
        with_body("Content-Length: -1\r\n", b"{}"),
        with_body("Content-Length: 99999999999999999999999\r\n", b"{}"),
        with_body("Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n"),
        with_body("Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\n{}"),
        with_body("Transfer-Encoding: gzip\r\n", b"{}"),
        with_body("Content-Length: 2\r\nContent-Encoding: gzip\r\n", b"\x1f\x8b"),
        with_body("Content-Length: 2\r\nExpect: miracles\r\n", b"{}"),
    ];
    for request in odd {
        let what = shortened(&String::from_utf8_lossy(&request));
        let (status, body) = status_and_body(&site.raw(&request));
        let is_fine = status == 0 || (400..500).contains(&status);
        // The address is fine, nothing is found below it.
        let is_empty = status == 200 && what.contains("/v2/summary?filters");
        assert!(is_fine || is_empty, "{what}: {status} {}", shortened(&body));
    }
    site.is_well();
}

fn with_body(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/rating/quote HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
         Connection: close\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn old_and_hasty_clients_are_served() {
    let site = Site::start("");
    let old = site.raw(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("ok\n"), "{old}");

    let absolute = site.raw(
        b"GET http://h/v1/report/total HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\
          Connection: close\r\n\r\n",
    );
    assert!(absolute.ends_with("\r\n\r\n\"0\""), "{absolute}");

    let one = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    let last = "GET /v2/nope HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let pipelined = site.raw(format!("{}{last}", one.repeat(200)).as_bytes());
    assert_eq!(pipelined.matches("HTTP/1.1 200 OK\r\n").count(), 200);
    assert_eq!(pipelined.matches("HTTP/1.1 404 Not Found\r\n").count(), 1);

    // Two requests in one: the second is no body of the first.
    let smuggled = site.raw(
        b"POST /v1/rating/quote HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\
          Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\
          Host: h\r\n\r\n",
    );
    assert!(!smuggled.contains("ok\n"), "{smuggled}");
    site.is_well();
}

#[test]
fn hundreds_of_half_sent_requests_hold_up_nobody() {
    let site = Site::start("head_timeout_secs = 3\nbody_timeout_secs = 3\n");
    let halves: [&[u8]; 5] = [
        b"",
        b"G",
        b"GET /v1/report/total HTTP/1.1\r\nHost: h\r\nX-Slow: ",
        b"POST /v1/rating/quote HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
          Content-Length: 1000\r\n\r\n{",
        b"POST /v1/rating/quote HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
          Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ];
    let mut half_open = Vec::new();
    for index in 0..300 {
        let mut stream = site.connect();
        stream.write_all(halves[index % halves.len()]).unwrap();
        half_open.push(stream);
    }

    for _ in 0..50 {
        assert_eq!(site.get("/v1/report/total"), (200, "\"0\"".to_owned()));
    }
    for mut stream in half_open {
        let answer = rest(&mut stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    site.is_well();
}

#[test]
fn a_body_without_end_is_cut_off() {
    let site = Site::start("");
    let mut stream = site.connect();
    stream
        .write_all(
            b"POST /v1/rating/quote HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\
              Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(65_536));
    // The write fails when the daemon has had enough.
    let sent = (0..1024).take_while(|_| stream.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(sent < 1024, "64 MiB were taken for a body of 1 MiB");
    let answer = rest(&mut stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    site.is_well();
}

#[test]
fn memory_stays_flat_under_hostile_bodies() {
    let site = Site::start("");
    let nested = "[".repeat(MIB);
    let objects = format!("{{\"resources\": [{}1]}}", "{},".repeat(300_000));
    let many = format!(
        "{{{}\"z\": 1}}",
        (0..80_000).fold(String::new(), |mut text, index| {
            text.push_str(&format!("\"{index}\": 1,"));
            text
        })
    );
    let items = format!("<a><resources>{}</resources></a>", "<item/>".repeat(140_000));
    let attributes: Vec<String> = (0..80_000).map(|index| format!("a{index}=''")).collect();
    let attributes = format!("<a {}/>", attributes.join(" "));
    let round = || {
        for target in ["/v1/rating/quote", "/v1/rating/module_config/hashmap/services"] {
            for body in [&nested, &objects, &many] {
                refused(site.send("POST", target, "application/json", body.as_bytes()), target);
            }
            for body in [&items, &attributes] {
                refused(site.send("POST", target, "text/xml", body.as_bytes()), target);
            }
        }
    };
    // Each thread keeps a heap, as large as its largest request was.
    for _ in 0..8 {
        round();
    }
    let before = site.resident_kib();
    for _ in 0..12 {
        round();
    }
    let after = site.resident_kib();
    // Twelve rounds send 110 MiB.
    assert!(after < before + 64 * 1024, "{before} KiB became {after} KiB");
    site.is_well();
}
