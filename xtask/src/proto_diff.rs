//! What differs between two descriptor sets, as far as the other side of an interface can see it.
//!
//! A set is flattened to elements: a key that stands for the element's place on the wire (a field is its number, not its
//! name), and a description of everything about it that matters. A key that is gone is a removal, another description
//! is a change, a new key an addition. What stands in an element that was itself added or removed is not listed again.

use std::{collections::BTreeMap, fmt};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// One difference between the committed interface and the one in the protos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    Added { what: String, is: String },
    Removed { what: String, was: String },
    Changed { what: String, was: String, is: String },
}

impl Difference {
    /// Whether a party that was built against the committed interface goes on working.
    pub(crate) fn is_compatible(&self) -> bool {
        matches!(self, Self::Added { .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { what, is } => write!(f, "added {what}{}", in_brackets(is)),
            Self::Removed { what, was } => write!(f, "removed {what}{}", in_brackets(was)),
            Self::Changed { what, was, is } => write!(f, "changed {what}: was `{was}`, is `{is}`"),
        }
    }
}

fn in_brackets(description: &str) -> String {
    if description.is_empty() {
        String::new()
    } else {
        format!(" (`{description}`)")
    }
}

/// Everything that differs, in the order of names.
pub(crate) fn differences(committed: &FileDescriptorSet, current: &FileDescriptorSet) -> Vec<Difference> {
    let (was, is) = (elements(committed), elements(current));
    let mut found = Vec::new();
    for (key, element) in &was {
        match is.get(key) {
            None if !element.stands_in_missing(&is) => found.push(Difference::Removed {
                what: element.what.clone(),
                was: element.description.clone(),
            }),
            Some(now) if now.description != element.description => found.push(Difference::Changed {
                what: element.what.clone(),
                was: element.description.clone(),
                is: now.description.clone(),
            }),
            None | Some(_) => {}
        }
    }
    for (key, element) in &is {
        if !was.contains_key(key) && !element.stands_in_missing(&was) {
            found.push(Difference::Added {
                what: element.what.clone(),
                is: element.description.clone(),
            });
        }
    }
    found
}

/// Package and name; what stands in it has the kind and number beside it.
type Key = (String, String);
type Elements = BTreeMap<Key, Element>;

struct Element {
    /// For people: `field 3 of koseki.linkage.v1.Envelope`.
    what: String,
    description: String,
    /// The element that it stands in.
    parent: Option<Key>,
}

impl Element {
    fn stands_in_missing(&self, others: &Elements) -> bool {
        self.parent
            .as_ref()
            .is_some_and(|parent| !others.contains_key(parent))
    }
}

fn elements(set: &FileDescriptorSet) -> Elements {
    let mut out = Elements::new();
    for file in set
        .file
        .iter()
        .filter(|file| !file.package().starts_with("google."))
    {
        let package = file.package();
        let key = add(
            &mut out,
            (package, "package"),
            format!("package {package}"),
            String::new(),
            None,
        );
        for message in &file.message_type {
            add_message(&mut out, package, message, &key);
        }
        for values in &file.enum_type {
            add_enum(&mut out, package, values, &key);
        }
        for service in &file.service {
            add_service(&mut out, package, service, &key);
        }
    }
    out
}

fn add(
    out: &mut Elements,
    (name, kind): (&str, &str),
    what: String,
    description: String,
    parent: Option<&Key>,
) -> Key {
    let key = (name.to_owned(), kind.to_owned());
    out.insert(
        key.clone(),
        Element {
            what,
            description,
            parent: parent.cloned(),
        },
    );
    key
}

fn add_message(out: &mut Elements, scope: &str, message: &DescriptorProto, parent: &Key) {
    let name = format!("{scope}.{}", message.name());
    let key = add(
        out,
        (&name, "message"),
        format!("message {name}"),
        String::new(),
        Some(parent),
    );
    for field in &message.field {
        let kind = format!("field {}", field.number());
        let description = describe_field(message, field);
        add(
            out,
            (&name, &kind),
            format!("{kind} of {name}"),
            description,
            Some(&key),
        );
    }
    let numbers = message
        .reserved_range
        .iter()
        .map(|range| format!("{}..{}", range.start(), range.end()));
    for reserved in numbers.chain(message.reserved_name.iter().cloned()) {
        let kind = format!("reservation of {reserved}");
        add(
            out,
            (&name, &kind),
            format!("{kind} in {name}"),
            String::new(),
            Some(&key),
        );
    }
    for nested in &message.nested_type {
        add_message(out, &name, nested, &key);
    }
    for values in &message.enum_type {
        add_enum(out, &name, values, &key);
    }
}

/// `repeated koseki.common.v1.RequestKind kinds`, with what else decides how it is written.
fn describe_field(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let label = match field.label() {
        Label::Optional if field.proto3_optional() => "optional ",
        Label::Optional => "",
        Label::Required => "required ",
        Label::Repeated => "repeated ",
    };
    let kind = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_ascii_lowercase(),
    };
    let mut description = format!("{label}{kind} {}", field.name());
    if !field.proto3_optional()
        && let Some(oneof) = field
            .oneof_index
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| message.oneof_decl.get(at))
    {
        description.push_str(" in oneof ");
        description.push_str(oneof.name());
    }
    if let Some(packed) = field.options.as_ref().and_then(|options| options.packed) {
        description.push_str(if packed { " packed" } else { " not packed" });
    }
    description
}

fn add_enum(out: &mut Elements, scope: &str, values: &EnumDescriptorProto, parent: &Key) {
    let name = format!("{scope}.{}", values.name());
    let key = add(
        out,
        (&name, "enum"),
        format!("enum {name}"),
        String::new(),
        Some(parent),
    );
    let mut by_number: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for value in &values.value {
        by_number.entry(value.number()).or_default().push(value.name());
    }
    for (number, names) in by_number {
        let kind = format!("value {number}");
        add(
            out,
            (&name, &kind),
            format!("{kind} of {name}"),
            names.join(", "),
            Some(&key),
        );
    }
    let numbers = values
        .reserved_range
        .iter()
        .map(|range| format!("{}..={}", range.start(), range.end()));
    for reserved in numbers.chain(values.reserved_name.iter().cloned()) {
        let kind = format!("reservation of {reserved}");
        add(
            out,
            (&name, &kind),
            format!("{kind} in {name}"),
            String::new(),
            Some(&key),
        );
    }
}

fn add_service(out: &mut Elements, scope: &str, service: &ServiceDescriptorProto, parent: &Key) {
    let name = format!("{scope}.{}", service.name());
    let key = add(
        out,
        (&name, "service"),
        format!("service {name}"),
        String::new(),
        Some(parent),
    );
    for method in &service.method {
        let stream = |streams: bool| if streams { "stream " } else { "" };
        let description = format!(
            "{}{} returns {}{}",
            stream(method.client_streaming()),
            method.input_type().trim_start_matches('.'),
            stream(method.server_streaming()),
            method.output_type().trim_start_matches('.'),
        );
        let kind = format!("method {}", method.name());
        add(
            out,
            (&name, &kind),
            format!("{kind} of {name}"),
            description,
            Some(&key),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small interface with one of everything.
    const PROTO: &str = r#"
        syntax = "proto3";
        package demo.v1;
        message Asked {
          reserved 9, 20 to 22;
          reserved "old";
          string name = 1;
          repeated int32 counts = 2;
          Kind kind = 3;
          oneof either { string left = 4; bytes right = 5; }
          optional uint64 maybe = 6;
          Inner inner = 7;
          message Inner { string deep = 1; }
          map<string, string> labels = 8;
        }
        message Answered { bool done = 1; }
        enum Kind { KIND_UNSPECIFIED = 0; KIND_ONE = 1; }
        service Desk {
          rpc Ask(Asked) returns (Answered);
          rpc Watch(Asked) returns (stream Answered);
        }
    "#;

    fn set(proto: &str) -> FileDescriptorSet {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("demo.proto"), proto).unwrap();
        protox::compile(["demo.proto"], [folder.path()]).unwrap()
    }

    fn after(find: &str, replace: &str) -> Vec<String> {
        assert_eq!(PROTO.matches(find).count(), 1, "{find}");
        let found = differences(&set(PROTO), &set(&PROTO.replacen(find, replace, 1)));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_set_has_no_differences() {
        assert_eq!(differences(&set(PROTO), &set(PROTO)), []);
    }

    #[test]
    fn comments_order_and_file_do_not_matter() {
        let other = PROTO.replace("message Answered { bool done = 1; }", "").replace(
            "enum Kind",
            "// A comment.\nmessage Answered { bool done = 1; }\nenum Kind",
        );
        assert_eq!(differences(&set(PROTO), &set(&other)), []);
    }

    #[test]
    fn additions_are_compatible() {
        for (find, replace, said) in [
            (
                "bool done = 1;",
                "bool done = 1; string why = 2;",
                "added field 2 of demo.v1.Answered (`string why`)",
            ),
            (
                "KIND_ONE = 1;",
                "KIND_ONE = 1; KIND_TWO = 2;",
                "added value 2 of demo.v1.Kind (`KIND_TWO`)",
            ),
            (
                "message Answered",
                "message New { string x = 1; } message Answered",
                "added message demo.v1.New",
            ),
            (
                "enum Kind",
                "enum More { MORE_NOT = 0; } enum Kind",
                "added enum demo.v1.More",
            ),
            (
                "service Desk",
                "service New { rpc A(Asked) returns (Asked); } service Desk",
                "added service demo.v1.New",
            ),
            (
                "rpc Ask(",
                "rpc Tell(Asked) returns (Answered); rpc Ask(",
                "added method Tell of demo.v1.Desk (`demo.v1.Asked returns demo.v1.Answered`)",
            ),
            (
                "bytes right = 5;",
                "bytes right = 5; bool third = 10;",
                "added field 10 of demo.v1.Asked (`bool third in oneof either`)",
            ),
            (
                "reserved 9,",
                "reserved 9, 30,",
                "added reservation of 30..31 in demo.v1.Asked",
            ),
        ] {
            let found = differences(&set(PROTO), &set(&PROTO.replacen(find, replace, 1)));
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [said]);
            assert!(found.iter().all(Difference::is_compatible));
        }
    }

    #[test]
    fn every_removal_is_found() {
        for (find, replace, said) in [
            (
                "bool done = 1;",
                "",
                "removed field 1 of demo.v1.Answered (`bool done`)",
            ),
            (
                "KIND_ONE = 1;",
                "",
                "removed value 1 of demo.v1.Kind (`KIND_ONE`)",
            ),
            (
                "rpc Watch(Asked) returns (stream Answered);",
                "",
                "removed method Watch of demo.v1.Desk (`demo.v1.Asked returns stream demo.v1.Answered`)",
            ),
            (
                "reserved \"old\";",
                "",
                "removed reservation of old in demo.v1.Asked",
            ),
            (
                "string deep = 1;",
                "",
                "removed field 1 of demo.v1.Asked.Inner (`string deep`)",
            ),
        ] {
            assert_eq!(after(find, replace), [said]);
        }
        let found = differences(&set(PROTO), &set(&PROTO.replacen("bool done = 1;", "", 1)));
        assert!(!found.iter().any(Difference::is_compatible));
    }

    #[test]
    fn whole_elements_that_go_are_named_once() {
        let no_service = PROTO.split("service Desk").next().unwrap().to_owned();
        let found = differences(&set(PROTO), &set(&no_service));
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["removed service demo.v1.Desk"]
        );

        let found = differences(&set(PROTO), &FileDescriptorSet::default());
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["removed package demo.v1"]
        );

        let renamed = PROTO.replace("Kind", "Sort");
        let found: Vec<_> = differences(&set(PROTO), &set(&renamed))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "changed field 3 of demo.v1.Asked: was `demo.v1.Kind kind`, is `demo.v1.Sort kind`",
                "removed enum demo.v1.Kind",
                "added enum demo.v1.Sort",
            ]
        );
    }

    #[test]
    fn every_change_is_found() {
        for (find, replace, said) in [
            (
                "string name = 1;",
                "bytes name = 1;",
                "changed field 1 of demo.v1.Asked: was `string name`, is `bytes name`",
            ),
            (
                "string name = 1;",
                "string title = 1;",
                "changed field 1 of demo.v1.Asked: was `string name`, is `string title`",
            ),
            (
                "string name = 1;",
                "repeated string name = 1;",
                "changed field 1 of demo.v1.Asked: was `string name`, is `repeated string name`",
            ),
            (
                "optional uint64 maybe = 6;",
                "uint64 maybe = 6;",
                "changed field 6 of demo.v1.Asked: was `optional uint64 maybe`, is `uint64 maybe`",
            ),
            (
                "repeated int32 counts = 2;",
                "repeated int32 counts = 2 [packed = false];",
                "changed field 2 of demo.v1.Asked: was `repeated int32 counts`, is `repeated int32 counts not packed`",
            ),
            (
                "oneof either { string left = 4; bytes right = 5; }",
                "oneof either { string left = 4; } bytes right = 5;",
                "changed field 5 of demo.v1.Asked: was `bytes right in oneof either`, is `bytes right`",
            ),
            (
                "Kind kind = 3;",
                "Answered kind = 3;",
                "changed field 3 of demo.v1.Asked: was `demo.v1.Kind kind`, is `demo.v1.Answered kind`",
            ),
            (
                "KIND_ONE = 1;",
                "KIND_FIRST = 1;",
                "changed value 1 of demo.v1.Kind: was `KIND_ONE`, is `KIND_FIRST`",
            ),
            (
                "rpc Ask(Asked) returns (Answered);",
                "rpc Ask(Answered) returns (Answered);",
                "changed method Ask of demo.v1.Desk: was `demo.v1.Asked returns demo.v1.Answered`, \
                 is `demo.v1.Answered returns demo.v1.Answered`",
            ),
            (
                "rpc Ask(Asked) returns (Answered);",
                "rpc Ask(Asked) returns (Asked);",
                "changed method Ask of demo.v1.Desk: was `demo.v1.Asked returns demo.v1.Answered`, \
                 is `demo.v1.Asked returns demo.v1.Asked`",
            ),
            (
                "rpc Ask(Asked)",
                "rpc Ask(stream Asked)",
                "changed method Ask of demo.v1.Desk: was `demo.v1.Asked returns demo.v1.Answered`, \
                 is `stream demo.v1.Asked returns demo.v1.Answered`",
            ),
            (
                "(stream Answered)",
                "(Answered)",
                "changed method Watch of demo.v1.Desk: was `demo.v1.Asked returns stream demo.v1.Answered`, \
                 is `demo.v1.Asked returns demo.v1.Answered`",
            ),
            (
                "map<string, string> labels = 8;",
                "map<string, int64> labels = 8;",
                "changed field 2 of demo.v1.Asked.LabelsEntry: was `string value`, is `int64 value`",
            ),
        ] {
            assert_eq!(after(find, replace), [said]);
        }
    }

    #[test]
    fn another_number_is_a_removal_and_an_addition() {
        assert_eq!(
            after("bool done = 1;", "bool done = 2;"),
            [
                "removed field 1 of demo.v1.Answered (`bool done`)",
                "added field 2 of demo.v1.Answered (`bool done`)"
            ]
        );
    }
}
