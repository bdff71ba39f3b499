//! Municipalities send their register copies, operators load persons and linkages.

use koseki_proto::koseki::common::v1::{LineOutcome, LineReason};

use super::{Came, Expected, Offices, StoryError, Teller};
use crate::{
    client::Loaded,
    deployment::{Deployment, OPERATORS},
    registers::MUNICIPALITIES,
};

/// Loads everything. It may have been loaded before.
///
/// # Errors
/// When a file cannot be read.
pub async fn load(deployment: &Deployment, offices: &Offices, teller: &mut Teller) -> Result<(), StoryError> {
    teller.scene("Municipalities send their register copies (副本)");
    let files = deployment.copies()?;
    for (code, file) in &files {
        let sender = offices
            .municipalities
            .get(code)
            .ok_or(StoryError::Missing("municipality"))?;
        let what = format!("{} ({code}) sends its copies", name_of(code));
        teller.step(&what, &Expected::Done, &whole(&sender.send_file(file).await?));
    }
    if let [(code, file), .., (other, _)] = files.as_slice() {
        let sender = offices
            .municipalities
            .get(code)
            .ok_or(StoryError::Missing("municipality"))?;
        let what = format!("{} sends the same file again", name_of(code));
        teller.step(&what, &Expected::Done, &unchanged(&sender.send_file(file).await?));

        let sender = offices
            .municipalities
            .get(other)
            .ok_or(StoryError::Missing("municipality"))?;
        let what = format!("{} tries to send the copies of {}", name_of(other), name_of(code));
        teller.step(
            &what,
            &Expected::Done,
            &not_allowed(&sender.send_file(file).await?),
        );
    }

    teller.scene("Operators load persons and linkages");
    let ([registry, _], [portal, _], [operator, _]) = (&offices.registry, &offices.portal, OPERATORS);
    let loaded = registry.load_file(&deployment.persons()).await?;
    let what =
        format!("operator {operator} of the registry side loads persons and linkages (システム連携用符号)");
    teller.step(&what, &Expected::Done, &whole(&loaded));
    let loaded = portal.load_file(&deployment.linkages()).await?;
    let what = format!("operator {operator} of the portal side loads linkages");
    teller.step(&what, &Expected::Done, &whole(&loaded));
    Ok(())
}

/// Every line is in.
fn whole(loaded: &Loaded) -> Came {
    if loaded.is_whole() {
        Came::Done(counts(loaded))
    } else {
        Came::Failed(fault(loaded))
    }
}

/// Nothing was changed.
fn unchanged(loaded: &Loaded) -> Came {
    let changed = loaded
        .lines
        .iter()
        .any(|line| line.outcome != LineOutcome::Unchanged);
    if loaded.is_whole() && !changed {
        Came::Done(counts(loaded))
    } else {
        Came::Failed(fault(loaded))
    }
}

/// Every line was refused, for the sender.
fn not_allowed(loaded: &Loaded) -> Came {
    let taken = loaded
        .lines
        .iter()
        .any(|line| line.reason != LineReason::NotAllowed);
    if loaded.broken.is_none() && !taken && !loaded.lines.is_empty() {
        Came::Done(counts(loaded))
    } else {
        Came::Failed(fault(loaded))
    }
}

fn counts(loaded: &Loaded) -> String {
    let told = [
        (LineOutcome::Stored, "stored"),
        (LineOutcome::Unchanged, "unchanged"),
        (LineOutcome::Older, "older than what is stored"),
        (LineOutcome::Refused, "refused"),
    ];
    let told = told.map(|(outcome, word)| (loaded.count(outcome), word));
    let counts: Vec<_> = told
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    format!("{} lines: {}", loaded.lines.len(), counts.join(", "))
}

fn fault(loaded: &Loaded) -> String {
    let mut text = counts(loaded);
    if let Some(line) = loaded.refused().next() {
        text += &format!(
            "; line {}: {} {} {}",
            line.line_number,
            line.reason_name(),
            line.field,
            line.rule
        );
    }
    if let Some(error) = &loaded.broken {
        text += &format!("; the stream broke: {error}");
    }
    if let Some(error) = &loaded.unread {
        text += &format!("; the file could not be read: {error}");
    }
    text
}

fn name_of(code: &str) -> &str {
    MUNICIPALITIES
        .iter()
        .find(|municipality| municipality.code == code)
        .map_or(code, |municipality| municipality.name)
}
