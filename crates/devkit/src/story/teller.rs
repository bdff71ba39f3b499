//! Tells the story to a person, and keeps what every step came to.

use data_encoding::HEXLOWER;

use super::{Came, Expected};
use crate::registers::{ProvidedRegister, RequesterItems};

/// One step and what became of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Who did what.
    pub what: String,
    /// Whether it came out as it must.
    pub passed: bool,
    /// What was expected and what came, in a few words.
    pub verdict: String,
}

/// Tells, and counts.
pub struct Teller {
    say: Box<dyn FnMut(&str) + Send>,
    steps: Vec<Step>,
}

impl Teller {
    /// Says each line to `say`.
    pub fn new(say: impl FnMut(&str) + Send + 'static) -> Self {
        Self {
            say: Box::new(say),
            steps: Vec::new(),
        }
    }

    /// A part of the story begins.
    pub fn scene(&mut self, title: &str) {
        (self.say)("");
        (self.say)(&format!("== {title}"));
    }

    /// Says something that is no step.
    pub fn tell(&mut self, text: &str) {
        for line in text.lines() {
            (self.say)(&format!("    {line}"));
        }
    }

    /// A step: who did what, what came back, and whether that is what had to.
    pub fn step(&mut self, what: &str, expected: &Expected, came: &Came) {
        (self.say)(&format!("  - {what}"));
        match came {
            Came::Provided(items) => {
                items.registers.iter().for_each(|register| self.show(register));
                items.handles.iter().for_each(|handle| {
                    self.tell(&format!("→ 戸籍のハンドル: {}", HEXLOWER.encode(handle)));
                });
                items.requester.iter().for_each(|own| self.show_entry(own));
            }
            Came::Refused(refused) => self.tell(&format!("→ {}: {}", refused.reason, refused.japanese)),
            Came::Done(text) if text.is_empty() => {}
            Came::Done(text) => self.tell(&format!("→ {text}")),
            Came::Failed(text) => self.tell(&format!("→ {text}")),
        }
        let passed = expected.is_met_by(came);
        let verdict = if passed {
            format!("as it must be: {}", expected.in_words())
        } else {
            format!("expected: {}; came: {}", expected.in_words(), came.in_words())
        };
        (self.say)(&format!("    {} {verdict}", if passed { "✓" } else { "✗" }));
        self.steps.push(Step {
            what: what.to_owned(),
            passed,
            verdict,
        });
    }

    fn show(&mut self, register: &ProvidedRegister) {
        let mut line = |label: &str, value: &str| {
            if !value.is_empty() {
                (self.say)(&format!("    → {label}: {value}"));
            }
        };
        line("戸籍の別", super::outcome::register_kind(register.register_kind));
        line("本籍", &register.registered_domicile);
        line("筆頭に記載した者の氏名", &register.first_entered_person);
        line("全国地方公共団体コード", &register.municipality_code);
        let unusual = unusual(&[&register.registered_domicile, &register.first_entered_person]);
        line("文字", &unusual);
    }

    fn show_entry(&mut self, own: &RequesterItems) {
        self.tell(&format!("→ 請求者の氏名: {}", own.name));
        let kana = own.name_kana.as_deref().unwrap_or_default();
        let status = super::outcome::kana_status(own.name_kana_status);
        self.tell(&format!("→ 振り仮名: {kana} ({status})"));
        self.tell(&format!("→ 生年月日: {}", own.birth_date.written));
    }

    /// All steps so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps that did not come out as they must.
    pub fn failed(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !step.passed)
    }
}

/// Code points that are easily lost on the way, so that a reader sees that they were not.
fn unusual(texts: &[&str]) -> String {
    let is_unusual = |letter: &char| {
        let code = u32::from(*letter);
        code > 0xffff || (0xf900..=0xfaff).contains(&code) || code == 0x3000
    };
    let codes = texts.iter().flat_map(|text| text.chars()).filter(is_unusual);
    codes
        .map(|letter| format!("U+{:04X}", u32::from(letter)))
        .collect::<Vec<_>>()
        .join(" ")
}
