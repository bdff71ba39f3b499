//! Finds what has no comment in the protos: the interface is read by people who do not have the code, and a method says
//! whether it may be repeated, how long to wait, and why it may refuse.

use std::collections::BTreeMap;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

// Field numbers of descriptor.proto: they make up the paths of source locations.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUM: i32 = 4;
const ENUM_VALUE: i32 = 2;
const SERVICE_METHOD: i32 = 2;

/// What the comment of a method has to say.
const METHOD_WORDS: [&str; 3] = ["Retry:", "Deadline:", "Reasons"];

/// One line for each element without a comment, and for each method whose comment lacks something.
pub(crate) fn missing(set: &FileDescriptorSet) -> Vec<String> {
    let mut found = Vec::new();
    for file in set
        .file
        .iter()
        .filter(|file| !file.package().starts_with("google."))
    {
        Comments::of(file).check_file(file, &mut found);
    }
    found
}

struct Comments<'a> {
    file: &'a str,
    by_path: BTreeMap<&'a [i32], &'a str>,
}

impl<'a> Comments<'a> {
    fn of(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let by_path = locations
            .map(|place| (place.path.as_slice(), place.leading_comments()))
            .collect();
        Self {
            file: file.name(),
            by_path,
        }
    }

    fn check_file(&self, file: &FileDescriptorProto, found: &mut Vec<String>) {
        for (path, message) in numbered(&[], FILE_MESSAGE, &file.message_type) {
            self.check_message(&path, file.package(), message, found);
        }
        for (path, values) in numbered(&[], FILE_ENUM, &file.enum_type) {
            self.check_enum(&path, file.package(), values, found);
        }
        for (path, service) in numbered(&[], FILE_SERVICE, &file.service) {
            let name = format!("{}.{}", file.package(), service.name());
            self.check(&path, "service", &name, found);
            for (path, method) in numbered(&path, SERVICE_METHOD, &service.method) {
                let name = format!("{name}/{}", method.name());
                let Some(comment) = self.check(&path, "method", &name, found) else {
                    continue;
                };
                for word in METHOD_WORDS.iter().filter(|word| !comment.contains(**word)) {
                    found.push(format!(
                        "{}: the comment of method {name} has no `{word}`",
                        self.file
                    ));
                }
            }
        }
    }

    fn check_message(&self, path: &[i32], scope: &str, message: &DescriptorProto, found: &mut Vec<String>) {
        if message
            .options
            .as_ref()
            .is_some_and(|options| options.map_entry())
        {
            return;
        }
        let name = format!("{scope}.{}", message.name());
        self.check(path, "message", &name, found);
        for (path, field) in numbered(path, MESSAGE_FIELD, &message.field) {
            self.check(&path, "field", &format!("{name}.{}", field.name()), found);
        }
        for (path, nested) in numbered(path, MESSAGE_NESTED, &message.nested_type) {
            self.check_message(&path, &name, nested, found);
        }
        for (path, values) in numbered(path, MESSAGE_ENUM, &message.enum_type) {
            self.check_enum(&path, &name, values, found);
        }
    }

    fn check_enum(&self, path: &[i32], scope: &str, values: &EnumDescriptorProto, found: &mut Vec<String>) {
        let name = format!("{scope}.{}", values.name());
        self.check(path, "enum", &name, found);
        for (path, value) in numbered(path, ENUM_VALUE, &values.value) {
            self.check(&path, "enum value", &format!("{name}.{}", value.name()), found);
        }
    }

    fn check(&self, path: &[i32], kind: &str, name: &str, found: &mut Vec<String>) -> Option<&'a str> {
        let comment = self
            .by_path
            .get(path)
            .copied()
            .filter(|comment| !comment.trim().is_empty());
        if comment.is_none() {
            found.push(format!("{}: {kind} {name} has no comment above it", self.file));
        }
        comment
    }
}

/// The elements with the path of each.
fn numbered<'a, T>(parent: &[i32], kind: i32, elements: &'a [T]) -> impl Iterator<Item = (Vec<i32>, &'a T)> {
    let parent = parent.to_vec();
    (0i32..).zip(elements).map(move |(at, element)| {
        let mut path = parent.clone();
        path.extend([kind, at]);
        (path, element)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing_in(proto: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("demo.proto"), proto).unwrap();
        let mut compiler = protox::Compiler::new([folder.path()]).unwrap();
        compiler
            .include_source_info(true)
            .open_file("demo.proto")
            .unwrap();
        missing(&compiler.file_descriptor_set())
    }

    const COMMENTED: &str = r#"
        syntax = "proto3";
        package demo.v1;
        // M.
        message Asked {
          // F.
          string name = 1;
          // N.
          message Inner {
            // D.
            string deep = 1;
          }
          // A map has an entry message that nobody wrote.
          map<string, string> labels = 2;
        }
        // E.
        enum Kind {
          // V.
          KIND_UNSPECIFIED = 0;
        }
        // S.
        service Desk {
          // Asks. Retry: safe. Deadline: 1 s. Reasons: none.
          rpc Ask(Asked) returns (Asked);
        }
    "#;

    #[test]
    fn a_commented_file_passes() {
        assert_eq!(missing_in(COMMENTED), [""; 0]);
    }

    #[test]
    fn each_missing_comment_is_found() {
        for (comment, said) in [
            ("// M.", "message demo.v1.Asked has no comment above it"),
            ("// F.", "field demo.v1.Asked.name has no comment above it"),
            ("// N.", "message demo.v1.Asked.Inner has no comment above it"),
            ("// D.", "field demo.v1.Asked.Inner.deep has no comment above it"),
            ("// E.", "enum demo.v1.Kind has no comment above it"),
            (
                "// V.",
                "enum value demo.v1.Kind.KIND_UNSPECIFIED has no comment above it",
            ),
            ("// S.", "service demo.v1.Desk has no comment above it"),
            (
                "// Asks. Retry: safe. Deadline: 1 s. Reasons: none.",
                "method demo.v1.Desk/Ask has no comment above it",
            ),
            (
                "Retry: safe.",
                "the comment of method demo.v1.Desk/Ask has no `Retry:`",
            ),
            (
                "Deadline: 1 s.",
                "the comment of method demo.v1.Desk/Ask has no `Deadline:`",
            ),
            (
                "Reasons: none.",
                "the comment of method demo.v1.Desk/Ask has no `Reasons`",
            ),
        ] {
            assert_eq!(
                missing_in(&COMMENTED.replacen(comment, "", 1)),
                [format!("demo.proto: {said}")]
            );
        }
    }
}
