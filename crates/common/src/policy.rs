//! The provision policy: the one file that both sides load and compare by its hash (clause 5). It says which items a
//! kind and procedure give, and the bounds that both sides must agree on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    digest,
    files::{self, FileError},
    terms::{MunicipalityCode, Procedure, RegisterKind, RequestKind},
};

/// An item that can be provided: of each register, or of the requester's own entry in the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// 本籍.
    RegisteredDomicile,
    /// 筆頭に記載した者の氏名.
    FirstEnteredPerson,
    /// Code of the municipality that keeps the register.
    MunicipalityCode,
    /// The opaque handle of the register.
    RegisterHandle,
    /// The requester's own 氏名.
    RequesterName,
    /// The requester's own 振り仮名.
    RequesterNameKana,
    /// Where the requester's 振り仮名 comes from.
    RequesterNameKanaStatus,
    /// The requester's own 生年月日.
    RequesterBirthDate,
}

impl Item {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::RegisteredDomicile,
        Self::FirstEnteredPerson,
        Self::MunicipalityCode,
        Self::RegisterHandle,
        Self::RequesterName,
        Self::RequesterNameKana,
        Self::RequesterNameKanaStatus,
        Self::RequesterBirthDate,
    ];

    /// Whether it is of the requester's own entry.
    pub fn is_of_requester(self) -> bool {
        match self {
            Self::RegisteredDomicile
            | Self::FirstEnteredPerson
            | Self::MunicipalityCode
            | Self::RegisterHandle => false,
            Self::RequesterName
            | Self::RequesterNameKana
            | Self::RequesterNameKanaStatus
            | Self::RequesterBirthDate => true,
        }
    }
}

/// What a kind and procedure give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    /// Kinds of register besides the current one, which is always asked for.
    pub registers: BTreeSet<RegisterKind>,
    /// Items of each.
    pub items: BTreeSet<Item>,
}

/// A consent text in force.
#[derive(Debug, Clone)]
pub struct ConsentText {
    /// The kind that it is for.
    pub kind: RequestKind,
    /// `ja` or `en`.
    pub language: String,
    /// The text.
    pub text: String,
    /// SHA-256 of the text: what a consent keeps.
    pub sha256: [u8; 32],
}

/// Bounds of logins and sessions.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginPolicy {
    /// Accepted certificate policies of cards (OIDs).
    pub certificate_policies: BTreeSet<String>,
    /// Seconds in which a login text can be used; at most 120.
    pub challenge_seconds: u64,
    /// Seconds after which a session ends.
    pub session_seconds: u64,
    /// Seconds without a call after which it ends.
    pub session_idle_seconds: u64,
    /// Hours after which a revocation list is too old to be believed.
    pub crl_max_age_hours: u64,
}

/// Bounds of the exchange between the two sides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangePolicy {
    /// An answer older than this, from the sending of its batch, is withheld by the gateway; milliseconds.
    pub max_answer_age_ms: u64,
    /// A committed answer that is not handed to the transport within this is withheld; milliseconds.
    pub max_hand_off_ms: u64,
    /// A register refusal is sent this long after the request came in; milliseconds; at least `forward_deadline_ms`.
    pub refusal_after_ms: u64,
    /// Deadline of a forwarded call; milliseconds.
    pub forward_deadline_ms: u64,
    /// Difference of the two sides' clocks at most; milliseconds.
    pub max_clock_skew_ms: u64,
    /// How long an eligibility is fresh, beyond the skew; milliseconds.
    pub eligibility_fresh_ms: u64,
}

impl ExchangePolicy {
    /// How long a forbidding act at the provider waits after its commit, so that no conforming gateway releases an
    /// earlier answer after it has returned (DESIGN §4).
    pub fn guard_wait(&self) -> Duration {
        Duration::from_millis(self.max_answer_age_ms + self.max_hand_off_ms)
    }

    /// See [`Self::max_answer_age_ms`].
    pub fn max_answer_age(&self) -> Duration {
        Duration::from_millis(self.max_answer_age_ms)
    }

    /// See [`Self::max_hand_off_ms`].
    pub fn max_hand_off(&self) -> Duration {
        Duration::from_millis(self.max_hand_off_ms)
    }

    /// See [`Self::refusal_after_ms`].
    pub fn refusal_after(&self) -> Duration {
        Duration::from_millis(self.refusal_after_ms)
    }

    /// See [`Self::forward_deadline_ms`].
    pub fn forward_deadline(&self) -> Duration {
        Duration::from_millis(self.forward_deadline_ms)
    }

    /// See [`Self::max_clock_skew_ms`].
    pub fn max_clock_skew(&self) -> Duration {
        Duration::from_millis(self.max_clock_skew_ms)
    }

    /// How old an eligibility may be.
    pub fn eligibility_age(&self) -> Duration {
        Duration::from_millis(self.eligibility_fresh_ms + self.max_clock_skew_ms)
    }
}

/// The provision policy in force.
#[derive(Debug)]
pub struct Policy {
    /// SHA-256 of the file: what the two sides compare. Texts are in it by their hash.
    pub sha256: [u8; 32],
    /// Consent texts in force.
    pub consent_texts: Vec<ConsentText>,
    /// Days until which a consent may hold at most.
    pub consent_max_days: u64,
    /// Bounds of logins and sessions.
    pub login: LoginPolicy,
    /// Bounds of the exchange.
    pub exchange: ExchangePolicy,
    provisions: BTreeMap<(RequestKind, Procedure), Provision>,
    predecessors: BTreeMap<MunicipalityCode, BTreeSet<MunicipalityCode>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provision: Vec<ProvisionEntry>,
    consent: ConsentEntry,
    login: LoginPolicy,
    exchange: ExchangePolicy,
    #[serde(default)]
    predecessors: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvisionEntry {
    kind: RequestKind,
    procedure: String,
    registers: BTreeSet<RegisterKind>,
    items: BTreeSet<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsentEntry {
    max_days: u64,
    text: Vec<TextEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextEntry {
    kind: RequestKind,
    language: String,
    file: String,
    sha256: String,
}

impl Policy {
    /// Reads and checks the policy and the consent texts that it names, beside it.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = files::read_text(path)?;
        let bad = |rule: String| FileError::content(path, rule);
        let file: File = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;

        let mut provisions = BTreeMap::new();
        for entry in file.provision {
            let procedure =
                Procedure::parse(&entry.procedure).map_err(|rule| bad(format!("procedure: {rule}")))?;
            if entry.items.is_empty() || !entry.registers.contains(&RegisterKind::Current) {
                return Err(bad(
                    "a provision lists the current register and at least one item".to_owned(),
                ));
            }
            let provision = Provision {
                registers: entry.registers,
                items: entry.items,
            };
            if provisions.insert((entry.kind, procedure), provision).is_some() {
                return Err(bad("a kind and procedure stand once".to_owned()));
            }
        }

        let folder = path.parent().unwrap_or(Path::new("."));
        let mut consent_texts = Vec::new();
        for entry in file.consent.text {
            let text = files::read_text(&folder.join(&entry.file))?;
            let sha256 = digest::sha256(&[text.as_bytes()]);
            if data_encoding::HEXLOWER.encode(&sha256) != entry.sha256 {
                return Err(bad(format!(
                    "the SHA-256 of {} is not the one that the policy pins",
                    entry.file
                )));
            }
            if !matches!(entry.language.as_str(), "ja" | "en") || text.len() > 4_096 {
                return Err(bad(
                    "a consent text is in ja or en and has at most 4,096 bytes".to_owned()
                ));
            }
            consent_texts.push(ConsentText {
                kind: entry.kind,
                language: entry.language,
                text,
                sha256,
            });
        }
        if let Some(kind) = RequestKind::ALL
            .into_iter()
            .find(|kind| consent_texts.iter().all(|text| text.kind != *kind))
        {
            return Err(bad(format!("there is no consent text for {kind:?}")));
        }

        let code =
            |text: &str| MunicipalityCode::parse(text).map_err(|rule| bad(format!("predecessors: {rule}")));
        let mut predecessors = BTreeMap::new();
        for (successor, codes) in &file.predecessors {
            let codes = codes.iter().map(|text| code(text)).collect::<Result<_, _>>()?;
            predecessors.insert(code(successor)?, codes);
        }

        let exchange = &file.exchange;
        let bounds = [
            exchange.max_answer_age_ms,
            exchange.max_hand_off_ms,
            exchange.refusal_after_ms,
            exchange.forward_deadline_ms,
            exchange.max_clock_skew_ms,
            exchange.eligibility_fresh_ms,
        ];
        if !bounds.iter().all(|bound| (1..=60_000).contains(bound)) {
            return Err(bad("every bound of the exchange is 1 to 60,000 ms".to_owned()));
        }
        if exchange.refusal_after_ms < exchange.forward_deadline_ms {
            return Err(bad("refusal_after_ms is at least forward_deadline_ms".to_owned()));
        }
        if exchange.max_answer_age_ms < exchange.forward_deadline_ms {
            return Err(bad("max_answer_age_ms is at least forward_deadline_ms".to_owned()));
        }
        if !(1..=120).contains(&file.login.challenge_seconds) {
            return Err(bad("challenge_seconds is 1 to 120".to_owned()));
        }
        Ok(Self {
            sha256: digest::sha256(&[text.as_bytes()]),
            consent_texts,
            consent_max_days: file.consent.max_days,
            login: file.login,
            exchange: file.exchange,
            provisions,
            predecessors,
        })
    }

    /// What a kind and procedure give; `None` when the policy does not have them.
    pub fn provision(&self, kind: RequestKind, procedure: &Procedure) -> Option<&Provision> {
        self.provisions.get(&(kind, procedure.clone()))
    }

    /// Hashes of the consent texts in force for a kind.
    pub fn text_hashes(&self, kind: RequestKind) -> impl Iterator<Item = &[u8; 32]> {
        self.consent_texts
            .iter()
            .filter(move |text| text.kind == kind)
            .map(|text| &text.sha256)
    }

    /// Whether a municipality may write copies for `code`: its own, and those of its predecessors.
    pub fn may_write(&self, municipality: MunicipalityCode, code: MunicipalityCode) -> bool {
        municipality == code
            || self
                .predecessors
                .get(&municipality)
                .is_some_and(|codes| codes.contains(&code))
    }
}
