//! The closed lists of what can be found and of why something was not checked, in Japanese and English.

use crate::{
    moment,
    report::{Check, LogSummary, Place, Verdict},
};

/// In which language people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Japanese.
    Ja,
    /// English.
    En,
}

impl Language {
    /// Both, in the order in which answers are kept.
    pub(crate) const ALL: [Self; 2] = [Self::Ja, Self::En];

    pub(crate) fn of(self, japanese: &'static str, english: &'static str) -> &'static str {
        match self {
            Self::Ja => japanese,
            Self::En => english,
        }
    }
}

macro_rules! list {
    ($(#[$doc:meta])* $list:ident { $($(#[$about:meta])* $variant:ident $name:literal $ja:literal $en:literal)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $list {
            $($(#[$about])* $variant,)*
        }

        impl $list {
            /// Its stable name.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What it means.
            pub(crate) fn words(self, language: Language) -> &'static str {
                match self {
                    $(Self::$variant => language.of($ja, $en),)*
                }
            }

            /// Every name, for the page that lists them.
            #[cfg(test)]
            pub(crate) const NAMES: &'static [&'static str] = &[$($name),*];
        }
    };
}

list! {
    /// What can be found.
    Trouble {
        RootDiffers "ROOT_DIFFERS"
            "記録の内容が署名済みチェックポイントのルートと一致しません（削除・改変・並べ替えの疑い）"
            "the entries do not have the root that was signed: something was deleted, edited or reordered"
        FewerThanSigned "FEWER_THAN_SIGNED"
            "記録の件数が署名済みチェックポイントより少なくなっています（削除の疑い）"
            "there are fewer entries than were signed: some were deleted"
        Forked "FORKED"
            "相手側が確認署名したチェックポイントと異なる履歴です（分岐の疑い）"
            "the other side has countersigned another history: the log was forked"
        RolledBack "ROLLED_BACK"
            "相手側が確認署名した記録がこのログにありません（古い状態への巻き戻しの疑い）"
            "the other side had countersigned more than there is: the log was rolled back"
        CheckpointUnsigned "CHECKPOINT_UNSIGNED"
            "チェックポイントにこのログの鍵による署名がありません"
            "no known key of the log has signed the checkpoint"
        Numbering "NUMBERING"
            "バンドルの番号が続いていません"
            "the bundle's number does not follow the one before"
        Indexing "INDEXING"
            "記録の索引が続いていません"
            "the index of the bundle's first entry does not follow the entry before"
        ForeignBundle "FOREIGN_BUNDLE"
            "別のログのバンドルです"
            "the bundle says that it is another log's"
        MalformedBundle "MALFORMED_BUNDLE"
            "バンドルを読み取れません"
            "the bundle cannot be read"
        MalformedEntry "MALFORMED_ENTRY"
            "記録を読み取れないか、公開部と非公開部の内容が食い違っています"
            "the entry cannot be read, or its two parts are about different things"
        EntryEpoch "ENTRY_EPOCH"
            "記録のエポックがバンドルのエポックと異なります"
            "the entry's epoch is not its bundle's"
        EntryTime "ENTRY_TIME"
            "記録の時刻がバンドルの時刻と異なります"
            "the entry's time is not its bundle's"
        EpochFell "EPOCH_FELL"
            "エポックが前のバンドルより小さくなっています"
            "the epoch is lower than that of the bundle before"
        EpochTwice "EPOCH_TWICE"
            "禁止または解除の行為のエポックが新しいものではありません"
            "an act that forbids or lifts has an epoch that is not new"
        EpochWithoutAct "EPOCH_WITHOUT_ACT"
            "エポックを作った行為がどのログにもありません"
            "no log has the act that made this epoch"
        AfterItsEnd "AFTER_ITS_END"
            "閉鎖されたログの最後の記録より後に記録があります"
            "something follows the entry that closed the log"
        BeyondClosing "BEYOND_CLOSING"
            "相手側がこのログを閉鎖した件数を超えて記録が続いています"
            "the log goes on beyond the size at which the other side has closed it"
        EndDiffers "END_DIFFERS"
            "ファイルの末尾に記された件数と内容が一致しません"
            "the file does not hold as much as its end says"
        ArchivedAboveMark "ARCHIVED_ABOVE_MARK"
            "保存期限の標を超えて本文が削除されています"
            "a body was dropped that no retention mark allows to drop"
        ReleasedWhileSuspended "RELEASED_WHILE_SUSPENDED"
            "提供停止中に提供されています"
            "released while provision was suspended"
        ReleasedWhileBlocked "RELEASED_WHILE_BLOCKED"
            "利用停止中のカードに提供されています"
            "released to a card that was blocked"
        ReleasedAfterLogout "RELEASED_AFTER_LOGOUT"
            "ログアウト後のセッションに提供されています"
            "released to a session that had ended"
        ReleasedAfterWithdrawal "RELEASED_AFTER_WITHDRAWAL"
            "撤回済みの同意に基づいて提供されています"
            "released under a consent that was withdrawn"
        ReleasedAgainstRecord "RELEASED_AGAINST_RECORD"
            "提供すべきでない旨の記録に反して提供されています"
            "released against a non-provision record"
        ReleasedWithoutLinkage "RELEASED_WITHOUT_LINKAGE"
            "連携が有効でないカードに提供されています"
            "released to a card whose linkage was not active"
        ReleasedTwice "RELEASED_TWICE"
            "同じ請求番号で二度提供されています"
            "one request id was released twice"
        NoTwinAtProvider "NO_TWIN_AT_PROVIDER"
            "戸籍側のログに対応する記録がありません"
            "the registry side's log has no such answer"
        NoTwinAtGateway "NO_TWIN_AT_GATEWAY"
            "ポータル側のどのログにも対応する記録がありません"
            "no log of the portal side has a trace of this answer"
        AnswerDiffers "ANSWER_DIFFERS"
            "両側が記録した回答のダイジェストが異なります"
            "the two sides have recorded different digests of the answer"
        OutcomeDiffers "OUTCOME_DIFFERS"
            "戸籍側が提供していない回答がポータル側で提供されています"
            "the portal side has released what the registry side did not provide"
    }
}

list! {
    /// Why something was not checked.
    Gap {
        FileUnreadable "FILE_UNREADABLE"
            "ファイルを読み取れません"
            "the file cannot be read"
        NotAnExport "NOT_AN_EXPORT"
            "書き出されたログではありません"
            "this is not an exported log of a format that is known"
        CutOff "CUT_OFF"
            "ファイルが途中で切れています"
            "the file is cut off"
        GoesOn "GOES_ON"
            "ファイルの末尾の後に余分な内容があります"
            "something is behind the file's end"
        Empty "EMPTY"
            "記録がありません"
            "there is no entry in it"
        NoKey "NO_KEY"
            "このログの公開鍵が鍵一覧にありません"
            "the list of keys has no key of this log"
        LogNotGiven "LOG_NOT_GIVEN"
            "鍵一覧にあるログのファイルが与えられていません"
            "the list of keys has this log, and no file of it was given"
        SideNotGiven "SIDE_NOT_GIVEN"
            "この側のログが与えられていません"
            "no log of this side was given"
        BeforeFile "BEFORE_FILE"
            "これより前の記録がファイルにありません"
            "the entries before the file"
        BetweenFiles "BETWEEN_FILES"
            "ファイルの間の記録がありません"
            "the entries between two files"
        ExportedTooEarly "EXPORTED_TOO_EARLY"
            "指定の時刻から二分を経る前に書き出されたファイルです"
            "the log was exported less than two minutes after the time until which it is asked about"
        NotCountersigned "NOT_COUNTERSIGNED"
            "相手側が確認署名したチェックポイントがありません"
            "there is no checkpoint that the other side has countersigned"
        BeyondCheckpoint "BEYOND_CHECKPOINT"
            "確認署名済みチェックポイントより後の記録です"
            "these entries are beyond the newest countersigned checkpoint"
        WitnessedBeyondFile "WITNESSED_BEYOND_FILE"
            "相手側が確認署名した記録がファイルにありません。ログを改めて書き出して検証してください"
            "the other side has countersigned more than the file has: export the log again and verify that"
        ActsMissing "ACTS_MISSING"
            "他のログの行為が欠けているため、提供の可否を確認できません"
            "acts of another log are missing, so that releases could not be checked against them"
        TwinNotYet "TWIN_NOT_YET"
            "相手側のファイルがこの時点まで及んでいません"
            "the other side's files do not reach this moment"
        RequestNotFound "REQUEST_NOT_FOUND"
            "この請求番号の記録がありません"
            "no entry of this request id is in the files"
    }
}

pub(crate) fn verdict(language: Language, verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => language.of(
            "判定: 問題なし（すべて確認済み）",
            "verdict: clean (everything was checked)",
        ),
        Verdict::Finding => language.of("判定: 問題あり", "verdict: finding"),
        Verdict::CouldNotCheck => language.of(
            "判定: 確認できない部分あり（問題なしとは言えません）",
            "verdict: could not check everything (this is not clean)",
        ),
    }
}

pub(crate) fn until(language: Language, until_ms: i64) -> String {
    let until = both(language, until_ms);
    match language {
        Language::Ja => format!("対象: {until} より前の記録"),
        Language::En => format!("about what was before {until}"),
    }
}

pub(crate) fn log(language: Language, origin: &str, log: &LogSummary) -> String {
    let LogSummary {
        first_bundle,
        first_index,
        bundles,
        size,
        hashes_only,
        closed,
        ..
    } = log;
    let covered = log.checkpoint.as_ref().map(|(checkpoint, _, witness)| {
        let at = i64::try_from(witness.unix_s)
            .ok()
            .and_then(|unix_s| unix_s.checked_mul(1_000))
            .map_or_else(|| "?".to_owned(), |at| both(language, at));
        match language {
            Language::Ja => format!("、確認署名 {} 件まで（{at}）", checkpoint.size),
            Language::En => format!(", countersigned up to {} entries at {at}", checkpoint.size),
        }
    });
    let covered = covered.unwrap_or_default();
    let archived = match (language, hashes_only) {
        (_, 0) => String::new(),
        (Language::Ja, count) => format!("、うち {count} 件は本文なし（ハッシュのみ確認）"),
        (Language::En, count) => format!(", {count} of them archived (checked by hashes only)"),
    };
    let closed = match closed {
        true => language.of("、閉鎖済み", ", closed"),
        false => "",
    };
    let next_bundle = first_bundle + bundles;
    match language {
        Language::Ja => format!(
            "ログ {origin}: バンドル {first_bundle}〜{next_bundle}（未満）、記録 {first_index}〜{size}（未満）{archived}{covered}{closed}"
        ),
        Language::En => format!(
            "log {origin}: bundles {first_bundle} to before {next_bundle}, entries {first_index} to before \
             {size}{archived}{covered}{closed}"
        ),
    }
}

pub(crate) fn count(language: Language, check: Check, checked: u64, not_checked: u64) -> String {
    let what = match check {
        Check::Entries => language.of(
            "確認署名されたルートの下の記録",
            "entries under a countersigned root",
        ),
        Check::Releases => language.of(
            "提供と禁止行為の順序",
            "releases against the acts that forbid them",
        ),
        Check::WitnessedCheckpoints => language.of(
            "相手側が確認署名したチェックポイント",
            "checkpoints that the other side has countersigned",
        ),
        Check::Twins => language.of("両側の記録の突合", "provisions against the other side's"),
    };
    match language {
        Language::Ja => format!("{what}: 確認 {checked} 件、未確認 {not_checked} 件"),
        Language::En => format!("{what}: {checked} checked, {not_checked} not checked"),
    }
}

pub(crate) fn place(language: Language, place: &Place) -> String {
    let mut words = place.log.clone();
    if let Some(bundle) = place.bundle {
        words.push_str(&match language {
            Language::Ja => format!(" バンドル {bundle}"),
            Language::En => format!(" bundle {bundle}"),
        });
    }
    if let Some(index) = place.index {
        words.push_str(&match language {
            Language::Ja => format!(" 記録 {index}"),
            Language::En => format!(" entry {index}"),
        });
    }
    if let Some(at) = place.at_ms {
        words.push_str(&format!(" {}", both(language, at)));
    }
    words
}

/// A moment in both zones.
pub(crate) fn both(language: Language, at_ms: i64) -> String {
    let (utc, jst) = (moment::utc(at_ms), moment::jst(at_ms));
    match language {
        Language::Ja => format!("{utc}（日本時間 {jst}）"),
        Language::En => format!("{utc} (JST {jst})"),
    }
}

pub(crate) fn range(language: Language, from: u64, to: u64) -> String {
    match language {
        Language::Ja => format!(" 記録 {from}〜{to}（未満）"),
        Language::En => format!(" entries {from} to before {to}"),
    }
}

pub(crate) fn more(language: Language, total: u64) -> String {
    match language {
        Language::Ja => format!("問題は全部で {total} 件あり、先頭のみを示しています"),
        Language::En => format!("{total} findings in all; only the first are listed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_report_has_everything_that_can_be_said() {
        let page = include_str!("../../../docs/audit-report.md");
        for name in Trouble::NAMES.iter().chain(Gap::NAMES) {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}
