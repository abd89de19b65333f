use proptest::prelude::*;

use super::super::fuzz::{Drip, check, read};
use super::*;

#[test]
fn lists_and_objects_are_what_serde_json_takes() {
    for text in [
        "",
        " ",
        "{}",
        "[]",
        "[ ]",
        "{ }",
        "[1,]",
        "[,1]",
        "{,}",
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a"::1}"#,
        r#"{"a"}"#,
        r"{1:2}",
        "[1 2]",
        "[1,,2]",
        "[",
        "]",
        "{",
        "}",
        "[}",
        "{]",
        r#"{"a":1,"a":{"b":[2,{}]}}"#,
    ] {
        check(text.as_bytes());
    }
}

#[test]
fn numbers_texts_and_words_are_what_serde_json_takes() {
    for text in [
        "true",
        "tru",
        "truex",
        "false",
        "null",
        "nul",
        "nulll",
        "0",
        "-0",
        "00",
        "01",
        "-",
        "-a",
        "1.",
        ".1",
        "1.5",
        "1.5.2",
        "1e5",
        "1E+05",
        "1e",
        "1e-",
        "1.0e-3",
        "1e+400",
        "123456789012345678901234567890.12",
        "1 2",
        "+1",
        r#""""#,
        r#""a"#,
        r#""\n\t\"\\\/\b\f\r""#,
        r#""\x""#,
        r#""\u0041\u00e9""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ud83d\n""#,
        r#""\ud83dx""#,
        r#""\ud83d\u0041""#,
        r#""\u12"#,
        "\"a\nb\"",
        "\"\u{7f}é😀\"",
        "\u{feff}1",
        "[1]\u{0}",
        "nan",
        "'a'",
        "// x\n1",
    ] {
        check(text.as_bytes());
    }
    check(b"\"\xff\"");
    check(b"\"\xe2\x82\"");
    check(b"{\"\xc3\": 1}");
}

#[test]
fn nesting_has_a_limit() {
    for depth in [1, 126, 127, 128, 100_000] {
        check(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
        check(r#"{"a":"#.repeat(depth).as_bytes());
    }
}

#[test]
fn values_come_as_they_are_or_not_at_all() {
    let small = |text: &str, size_max| read(text.as_bytes(), 7, size_max).unwrap();
    for text in ["1.50", "1e+400", "true", "null", r#""x""#, r#"{"a":[1,{"b":2.0}],"c":{}}"#] {
        assert_eq!(small(text, 100).map(|value| value.to_string()).as_deref(), Some(text));
    }
    assert_eq!(small(r#"["abc", {"d": [0]}]"#, 3), None);
    assert_eq!(small(&format!("[{}0]", "0,".repeat(100)), 50), None);
    assert_eq!(small(r#""abc""#, 3), Some("abc".into()));
    assert_eq!(small(r#""abcd""#, 3), None);
    assert_eq!(small(r#""\u0061bcd""#, 3), None);
    assert_eq!(small("1234", 3), None);
}

#[test]
fn what_is_too_long_is_not_kept() {
    let text = format!(r#"["{}", {}, "é"]"#, "é\\n".repeat(50_000), "1".repeat(100_000));
    let mut drip = Drip(text.as_bytes(), 1000);
    let mut json = Json::new(&mut drip);

    assert!(json.list().unwrap() && json.next_item().unwrap());
    let long = json.text(10).unwrap();
    assert_eq!((long.get(), long.size), (None, 150_000));
    assert!(json.next_item().unwrap());
    let long = json.number(10).unwrap();
    assert_eq!((long.get(), long.size), (None, 100_000));
    assert!(json.next_item().unwrap());
    assert_eq!(json.text(2).unwrap().get(), Some("é"));
    assert!(!json.next_item().unwrap());
    json.end().unwrap();
    assert!(json.scratch.capacity() < 2 * READ_SIZE);
}

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        "-?[1-9][0-9]{0,30}\\.[0-9]{1,30}"
            .prop_map(|text| Value::Number(text.parse().expect("digits and a point"))),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((".{0,8}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_is_read_as_serde_json_reads_it(value in value(), pretty in any::<bool>()) {
        let text = if pretty {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        check(text.as_bytes());
    }

    #[test]
    fn what_is_mutilated_is_refused_as_serde_json_refuses_it(
        value in value(),
        place in any::<prop::sample::Index>(),
        byte in prop_oneof![
            Just(b'"'), Just(b','), Just(b'{'), Just(b']'), Just(b'\\'), Just(b'0'), any::<u8>()
        ],
        way in 0..3,
    ) {
        let mut text = value.to_string().into_bytes();
        let place = place.index(text.len());
        match way {
            0 => text[place] = byte,
            1 => text.insert(place, byte),
            _ => drop(text.remove(place)),
        }
        check(&text);
    }
}
