//! JSON read piece by piece: what is there is looked at before it is kept.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The only key of what `serde_json` shows for a number, with the number's text, so that no digit
/// is lost (`arbitrary_precision`). A test says when that changes.
const NUMBER: &str = "$serde_json::private::Number";

/// Whoever reads a place where an object or a list belongs.
pub(super) trait Place<'de>: Sized {
    type Output;

    fn object<A: MapAccess<'de>>(self, members: Members<A>) -> Result<Self::Output, A::Error> {
        members.ignore()?;
        Ok(self.wrong())
    }

    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Output, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(self.wrong())
    }

    /// There is something else.
    fn wrong(self) -> Self::Output;
}

/// The members of an object.
pub(super) struct Members<A> {
    first: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> Members<A> {
    pub(super) fn next_name(&mut self) -> Result<Option<String>, A::Error> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.rest.next_key(),
        }
    }

    pub(super) fn read<P: Place<'de>>(&mut self, place: P) -> Result<P::Output, A::Error> {
        self.rest.next_value_seed(At(place))
    }

    pub(super) fn skip(&mut self) -> Result<(), A::Error> {
        self.rest.next_value::<IgnoredAny>().map(|_| ())
    }

    fn ignore(mut self) -> Result<(), A::Error> {
        while self.next_name()?.is_some() {
            self.skip()?;
        }
        Ok(())
    }
}

/// Reads a place.
pub(super) struct At<P>(pub(super) P);

impl<'de, P: Place<'de>> DeserializeSeed<'de> for At<P> {
    type Value = P::Output;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<P::Output, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, P: Place<'de>> Visitor<'de> for At<P> {
    type Value = P::Output;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<P::Output, E> {
        Ok(self.0.wrong())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<P::Output, E> {
        Ok(self.0.wrong())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<P::Output, E> {
        Ok(self.0.wrong())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<P::Output, E> {
        Ok(self.0.wrong())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<P::Output, E> {
        Ok(self.0.wrong())
    }

    fn visit_unit<E: Error>(self) -> Result<P::Output, E> {
        Ok(self.0.wrong())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<P::Output, A::Error> {
        self.0.list(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rest: A) -> Result<P::Output, A::Error> {
        let Some(first) = rest.next_key::<String>()? else {
            return self.0.object(Members { first: None, rest: &mut rest });
        };
        if first == NUMBER {
            rest.next_value::<IgnoredAny>()?;
            return Ok(self.0.wrong());
        }
        self.0.object(Members { first: Some(first), rest: &mut rest })
    }
}

/// A value of a limited size: what is longer is read and not kept.
pub(super) struct Small<'b> {
    /// Bytes that are left, roughly; `None` = it was too long.
    left: &'b mut Option<usize>,
}

/// A value whose text has roughly `size_max` bytes at most; `None` = it is longer.
pub(super) fn read_small<'de, A: MapAccess<'de>>(
    members: &mut Members<A>,
    size_max: usize,
) -> Result<Option<Value>, A::Error> {
    let mut left = Some(size_max);
    let value = members.rest.next_value_seed(Small { left: &mut left })?;
    Ok(left.map(|_| value))
}

impl Small<'_> {
    fn take(&mut self, size: usize) -> bool {
        *self.left = self.left.and_then(|left| left.checked_sub(size));
        self.left.is_some()
    }

    fn text(mut self, text: &str) -> Value {
        if self.take(text.len()) { Value::String(text.to_owned()) } else { Value::Null }
    }
}

impl<'de> DeserializeSeed<'de> for Small<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Small<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(self.text(text))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while self.take(1) {
            match items.next_element_seed(Small { left: &mut *self.left })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while self.take(1) {
            let Some(name) = members.next_key::<String>()? else {
                return Ok(Value::Object(object));
            };
            if object.is_empty() && name == NUMBER {
                let text: String = members.next_value()?;
                self.take(text.len());
                return text.parse::<Number>().map(Value::Number).map_err(Error::custom);
            }
            self.take(name.len());
            let value = members.next_value_seed(Small { left: &mut *self.left })?;
            object.insert(name, value);
        }
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kind;

    impl<'de> Place<'de> for Kind {
        type Output = &'static str;

        fn object<A: MapAccess<'de>>(self, members: Members<A>) -> Result<&'static str, A::Error> {
            members.ignore()?;
            Ok("object")
        }

        fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<&'static str, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok("list")
        }

        fn wrong(self) -> &'static str {
            "other"
        }
    }

    #[test]
    fn a_number_is_no_object() {
        for (text, kind) in [
            ("{}", "object"),
            (r#"{"a": 1, "b": {}}"#, "object"),
            ("[1, {}]", "list"),
            ("1.50", "other"),
            ("-7", "other"),
            ("true", "other"),
            ("null", "other"),
            (r#""x""#, "other"),
        ] {
            let mut json = serde_json::Deserializer::from_str(text);
            assert_eq!(At(Kind).deserialize(&mut json).unwrap(), kind, "{text}");
            json.end().unwrap();
        }
    }

    fn small(text: &str, size_max: usize) -> Option<Value> {
        let mut json = serde_json::Deserializer::from_reader(text.as_bytes());
        let mut left = Some(size_max);
        let value = Small { left: &mut left }.deserialize(&mut json).unwrap();
        json.end().unwrap();
        left.map(|_| value)
    }

    #[test]
    fn values_come_as_they_are_or_not_at_all() {
        for text in ["1.50", "1e+400", "true", "null", r#""x""#, r#"{"a":[1,{"b":2.0}],"c":{}}"#] {
            assert_eq!(small(text, 100).map(|value| value.to_string()).as_deref(), Some(text));
        }
        assert_eq!(small(r#"["abc", {"d": [0]}]"#, 3), None);
        assert_eq!(small(&format!("[{}0]", "0,".repeat(100)), 50), None);
    }
}
