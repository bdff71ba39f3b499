//! The language in which a refusal is told: Japanese, or English when the call prefers it.

use std::future::Future;

use http::{HeaderMap, header::ACCEPT_LANGUAGE};
use tokio::task::futures::TaskLocalFuture;

tokio::task_local! {
    /// A refusal becomes a status in many places, and all of them are within their call.
    static OF_CALL: Language;
}

/// A language that refusals are told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// 日本語.
    Japanese,
    /// English.
    English,
}

impl Language {
    /// Its tag (BCP 47).
    pub fn tag(self) -> &'static str {
        match self {
            Self::Japanese => "ja",
            Self::English => "en",
        }
    }

    /// The one that a call's metadata prefers: `accept-language` (RFC 9110 §12.5.4). Japanese unless English is preferred;
    /// what cannot be read prefers nothing.
    pub fn preferred(metadata: &HeaderMap) -> Self {
        let mut best = (Self::Japanese, 0.0);
        let listed = metadata
            .get(ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok());
        for range in listed.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let primary = tag.split('-').next().unwrap_or_default();
            let language = match primary.to_ascii_lowercase().as_str() {
                "ja" => Self::Japanese,
                "en" => Self::English,
                _ => continue,
            };
            let weight = parts
                .next()
                .map_or(Some(1.0), |weight| weight.strip_prefix("q=")?.parse::<f32>().ok());
            // The first of those that weigh alike; a weight of 0 is a refusal.
            if let Some(weight) = weight.filter(|weight| *weight > best.1) {
                best = (language, weight);
            }
        }
        best.0
    }

    /// That of the call in which this runs.
    pub fn of_call() -> Self {
        OF_CALL.try_with(|language| *language).unwrap_or(Self::Japanese)
    }

    /// Runs a call in this language.
    pub fn run<F: Future>(self, call: F) -> TaskLocalFuture<Self, F> {
        OF_CALL.scope(self, call)
    }

    /// Does something in this language.
    pub fn within<T>(self, what: impl FnOnce() -> T) -> T {
        OF_CALL.sync_scope(self, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn japanese_unless_english_is_preferred() {
        for (accept, language) in [
            (None, Language::Japanese),
            (Some(""), Language::Japanese),
            (Some("en"), Language::English),
            (Some("en-GB, ja;q=0.9"), Language::English),
            (Some("EN"), Language::English),
            (Some("ja, en"), Language::Japanese),
            (Some("en;q=0.2, ja-JP;q=0.4"), Language::Japanese),
            (Some("fr, en;q=0.1"), Language::English),
            (Some("en;q=0"), Language::Japanese),
            (Some("en;q=x"), Language::Japanese),
            (Some("english"), Language::Japanese),
            (Some("*"), Language::Japanese),
        ] {
            let mut metadata = HeaderMap::new();
            if let Some(accept) = accept {
                metadata.insert(ACCEPT_LANGUAGE, accept.parse().unwrap());
            }
            assert_eq!(Language::preferred(&metadata), language, "{accept:?}");
        }
    }
}
