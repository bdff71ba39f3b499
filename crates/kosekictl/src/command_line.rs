//! The command as it was typed, so that an error can say exactly which command goes on or repeats it.

use std::ffi::OsString;

/// The words behind the program's name.
pub(crate) struct CommandLine(Vec<String>);

impl CommandLine {
    pub(crate) fn new(words: Vec<OsString>) -> Self {
        let words = words.into_iter().skip(1);
        Self(words.map(|word| word.to_string_lossy().into_owned()).collect())
    }

    /// The command with flags set (`Some`: with a value) and others left out, quoted for a shell.
    pub(crate) fn with(&self, set: &[(&str, Option<&str>)], without: &[(&str, bool)]) -> String {
        let set_flags = set.iter().map(|(flag, value)| (*flag, value.is_some()));
        let dropped: Vec<(&str, bool)> = set_flags.chain(without.iter().copied()).collect();
        let mut words = vec!["kosekictl".to_owned()];
        let mut skip_value = false;
        for word in &self.0 {
            if std::mem::take(&mut skip_value) {
                continue;
            }
            let flag = dropped.iter().find(|(flag, takes_value)| {
                word == flag
                    || (*takes_value && word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('=')))
            });
            match flag {
                Some((flag, takes_value)) => skip_value = *takes_value && word == flag,
                None => words.push(quoted(word)),
            }
        }
        for (flag, value) in set {
            words.push((*flag).to_owned());
            words.extend(value.map(quoted));
        }
        words.join(" ")
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> CommandLine {
        CommandLine::new(words.iter().map(OsString::from).collect())
    }

    #[test]
    fn what_is_set_is_there_once_and_the_rest_stays() {
        let typed = line(&[
            "kosekictl",
            "ingest",
            "a b.jsonl",
            "--from-line=3",
            "--results",
            "r",
            "--yes",
        ]);
        assert_eq!(
            typed.with(&[("--from-line", Some("9"))], &[("--results", true)]),
            "kosekictl ingest 'a b.jsonl' --yes --from-line 9"
        );
        assert_eq!(
            typed.with(&[("--resume", None)], &[("--from-line", true)]),
            "kosekictl ingest 'a b.jsonl' --results r --yes --resume"
        );
    }

    #[test]
    fn a_shell_takes_each_word_as_it_was() {
        let typed = line(&["kosekictl", "suspend", "--reason", "it's $HOME; rm", ""]);
        assert_eq!(
            typed.with(&[], &[]),
            r"kosekictl suspend --reason 'it'\''s $HOME; rm' ''"
        );
    }
}
