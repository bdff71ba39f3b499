//! Strict JSON for the file formats: unknown fields, fields given twice and `null` are refused, and what is told of an
//! error never has a value in it.

use std::{fmt, marker::PhantomData, ops::Deref};

use koseki_proto::koseki::common::v1::LineReason;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        DeserializeOwned, Error, IntoDeserializer as _, MapAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};
use serde_path_to_error::{Path, Segment};

use crate::{digest, lines::LineFault};

/// Reads one line as one JSON object.
pub fn parse<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineFault> {
    let text = std::str::from_utf8(line).map_err(|_| LineFault::new(LineReason::NotUtf8, "", "UTF-8"))?;
    if let Ok(Object(parsed)) = serde_json::from_str(text) {
        return Ok(parsed);
    }
    // Once more, to say where it is at fault: keeping track of that is dear, and most lines are good.
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let Object(parsed) = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let (path, parent) = (error.path().to_string(), parent(error.path()));
        let inner = error.into_inner();
        let (field, rule) = describe(&inner, &path, parent);
        LineFault::new(LineReason::NotTheFormat, &field, rule)
    })?;
    deserializer.end().map_err(|_| {
        LineFault::new(
            LineReason::NotTheFormat,
            "",
            "one JSON object and nothing after it",
        )
    })?;
    Ok(parsed)
}

/// Which of a format's records a line is: the word of its member `type`. (serde's tagged enums would lose the path of a
/// field at fault.)
pub fn type_of<W: DeserializeOwned>(line: &[u8]) -> Result<W, LineFault> {
    #[derive(Deserialize)]
    #[serde(bound(deserialize = "W: DeserializeOwned"))]
    struct Typed<W> {
        r#type: Word<W>,
    }
    Ok(parse::<Typed<W>>(line)?.r#type.0)
}

/// A path without its last step, which may be a name of the sender's own with anything in it, dots too.
fn parent(path: &Path) -> String {
    let mut steps: Vec<&Segment> = path.iter().collect();
    steps.pop();
    let mut text = String::new();
    for step in steps {
        if !text.is_empty() && !matches!(step, Segment::Seq { .. }) {
            text.push('.');
        }
        text.push_str(&step.to_string());
    }
    text
}

/// What serde says, without the values that it quotes. Names of fields that are missing or given twice are ours.
fn describe(error: &serde_json::Error, path: &str, parent: String) -> (String, &'static str) {
    let message = error.to_string();
    let quoted = || message.split('`').nth(1).unwrap_or_default();
    let at = |name: &str| {
        if path == "." {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    let here = || {
        if path == "." {
            String::new()
        } else {
            path.to_owned()
        }
    };
    if !error.is_data() {
        (String::new(), "one JSON object")
    } else if message.starts_with("missing field") {
        (at(quoted()), "required")
    } else if message.starts_with("duplicate field") {
        (at(quoted()), "given once")
    } else if message.starts_with("unknown field") {
        // The path ends in the unknown name, which is the sender's text.
        (parent, "no field that the format does not have")
    } else if message.starts_with("unknown variant") {
        (here(), "one of the words of the format")
    } else {
        (here(), "of the type that the format says")
    }
}

/// For `Option` fields with `#[serde(default)]`: left out is `None`, and `null` is an error.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A record that is written as an object: serde would also take an array of the fields' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Object<T>(pub T);

impl<T> Deref for Object<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A word of a closed list that is written as a string: serde would also take `{"word": null}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Word<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Text<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
                let word: StrDeserializer<'_, E> = text.into_deserializer();
                T::deserialize(word)
            }
        }

        deserializer.deserialize_str(Text(PhantomData)).map(Self)
    }
}

/// SHA-256 of a value in the JSON Canonicalization Scheme (RFC 8785), for values with ASCII member names in the order of
/// their bytes and no fractions: then it is what `serde_json` writes. Whoever has such a type tests its order.
pub fn canonical_sha256<T: Serialize>(value: &T) -> Result<[u8; 32], serde_json::Error> {
    Ok(digest::sha256(&[&serde_json::to_vec(value)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Record {
        #[expect(dead_code, reason = "only its presence counts")]
        name: String,
        #[serde(default, deserialize_with = "present")]
        #[expect(dead_code, reason = "only its presence counts")]
        kana: Option<String>,
        #[serde(default)]
        #[expect(dead_code, reason = "only its presence counts")]
        inner: Vec<Object<Inner>>,
        #[serde(default)]
        #[expect(dead_code, reason = "only its presence counts")]
        colour: Option<Word<Colour>>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its presence counts")]
        size: u8,
    }

    #[test]
    fn faults_name_field_and_rule_and_never_a_value() {
        for (line, field, rule) in [
            (r#"{"kana":"PLANTED"}"#, "name", "required"),
            (r#"{"name":"a","name":"PLANTED"}"#, "name", "given once"),
            (
                r#"{"name":"a","kana":null}"#,
                "kana",
                "of the type that the format says",
            ),
            (
                r#"{"name":"a","PLANTED":1}"#,
                "",
                "no field that the format does not have",
            ),
            (
                r#"{"name":"a","inner":[{"size":1},{"size":"PLANTED"}]}"#,
                "inner[1].size",
                "of the type that the format says",
            ),
            (
                r#"{"name":"a","inner":[{"size":1,"PLANTED.x":2}]}"#,
                "inner[0]",
                "no field that the format does not have",
            ),
            (
                r#"{"name":"a","PLANTED.x":1}"#,
                "",
                "no field that the format does not have",
            ),
            (
                r#"{"name":"a","inner":[{"size":1,"PLANTED":2}]}"#,
                "inner[0]",
                "no field that the format does not have",
            ),
            (
                r#"{"name":"a"} PLANTED"#,
                "",
                "one JSON object and nothing after it",
            ),
            (r#"PLANTED"#, "", "one JSON object"),
            ("[]", "", "of the type that the format says"),
            (r#"["PLANTED"]"#, "", "of the type that the format says"),
            (
                r#"{"name":"a","inner":[[1]]}"#,
                "inner[0]",
                "of the type that the format says",
            ),
            (
                r#"{"name":"a","colour":{"red":null}}"#,
                "colour",
                "of the type that the format says",
            ),
            (
                r#"{"name":"a","colour":"PLANTED"}"#,
                "colour",
                "one of the words of the format",
            ),
        ] {
            let fault = parse::<Record>(line.as_bytes()).unwrap_err();
            assert_eq!((fault.field.as_str(), fault.rule), (field, rule), "{line}");
            assert_eq!(fault.reason, LineReason::NotTheFormat);
        }
        assert_eq!(
            parse::<Record>(b"{\"name\":\"\xff\"}").unwrap_err().reason,
            LineReason::NotUtf8
        );
        let whole = r#"{"name":"a","kana":"b","inner":[{"size":1}],"colour":"red"}"#;
        parse::<Record>(whole.as_bytes()).unwrap();
    }

    #[test]
    fn canonical_form_is_that_of_rfc_8785() {
        let value: serde_json::Value =
            serde_json::from_str(r#"{"b":[1,"\u0001\n\"é𠮷"],"a":{"d":true,"c":9007199254740991}}"#).unwrap();
        let canonical = "{\"a\":{\"c\":9007199254740991,\"d\":true},\"b\":[1,\"\\u0001\\n\\\"é𠮷\"]}";
        assert_eq!(
            canonical_sha256(&value).unwrap(),
            digest::sha256(&[canonical.as_bytes()])
        );
    }
}
