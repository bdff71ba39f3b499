//! Automatic specification (自動的に特定; clauses 1, 4.2, 4.3.3): exactly one current register from which the person has not
//! been removed, text, nothing in motion; the closed registers that the procedure asks for, text only; all or nothing.

use common::{clock::Timestamp, keyring::Lookup, policy::Provision, terms::RegisterKind};
use zeroize::Zeroizing;

use super::copy::Medium;

/// A register in which the person is entered, as the release transaction read it.
pub struct RegisterFacts {
    /// What the store finds the register by.
    pub key: Lookup,
    /// Kind.
    pub kind: RegisterKind,
    /// On what it is kept.
    pub medium: Medium,
    /// Whether a notification is being processed.
    pub in_motion: bool,
    /// Whether the person has been removed from it.
    pub removed: bool,
    /// The person's place among the members of the copy, from 0.
    pub position: usize,
    /// Code of its municipality.
    pub municipality_code: String,
    /// Revision of the copy.
    pub revision: u64,
    /// When the copy was received.
    pub received_at: Timestamp,
    /// The line as it was received; `None` when it does not open.
    pub body: Option<Zeroizing<Vec<u8>>>,
}

/// Why no register is specified. For the provider's restricted audit only (I6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSpecified {
    /// The person is in no current register.
    NoCurrentRegister,
    /// The person is in more than one.
    SeveralCurrentRegisters,
    /// One is not text.
    NotText,
    /// A notification is being processed.
    InMotion,
    /// The person has been removed from the current register.
    PersonRemoved,
}

/// The registers that answer a request: only [`specify`] makes it.
pub struct Specified<'a>(Vec<&'a RegisterFacts>);

impl<'a> Specified<'a> {
    /// The registers, the current one first.
    pub fn registers(&self) -> &[&'a RegisterFacts] {
        &self.0
    }
}

/// Specifies a requester's registers for what the procedure asks.
pub fn specify<'a>(
    registers: &'a [RegisterFacts],
    provision: &Provision,
) -> Result<Specified<'a>, NotSpecified> {
    let is_current = |register: &&RegisterFacts| register.kind == RegisterKind::Current;
    // Who married out of the parents' register is still written there, as removed: that register is not theirs.
    let mut current = registers
        .iter()
        .filter(is_current)
        .filter(|register| !register.removed);
    let one = match (current.next(), current.next()) {
        (None, _) if registers.iter().any(|register| is_current(&register)) => {
            return Err(NotSpecified::PersonRemoved);
        }
        (None, _) => return Err(NotSpecified::NoCurrentRegister),
        (Some(_), Some(_)) => return Err(NotSpecified::SeveralCurrentRegisters),
        (Some(one), None) => one,
    };
    let mut specified = vec![one];
    // From closed registers the person may well have been removed: that is how they were closed.
    specified.extend(registers.iter().filter(|register| {
        register.kind != RegisterKind::Current && provision.registers.contains(&register.kind)
    }));
    // An order that does not depend on when which municipality sent its copies.
    specified.sort_by_key(|register| (register.kind, &register.municipality_code, register.key));
    if specified.iter().any(|register| register.medium != Medium::Text) {
        return Err(NotSpecified::NotText);
    }
    if specified.iter().any(|register| register.in_motion) {
        return Err(NotSpecified::InMotion);
    }
    Ok(Specified(specified))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use common::policy::Item;

    use super::*;

    fn register(kind: RegisterKind) -> RegisterFacts {
        RegisterFacts {
            key: [0; 32],
            kind,
            medium: Medium::Text,
            in_motion: false,
            removed: false,
            position: 0,
            municipality_code: "131016".to_owned(),
            revision: 1,
            received_at: Timestamp::from_unix_ms(0),
            body: None,
        }
    }

    fn provision(kinds: &[RegisterKind]) -> Provision {
        Provision {
            registers: kinds.iter().copied().collect(),
            items: BTreeSet::from([Item::RegisteredDomicile]),
        }
    }

    #[test]
    fn exactly_one_current_text_register_is_specified() {
        use RegisterKind::{Current, PreRevision, Removed};
        let plain = provision(&[Current]);
        let lineage = provision(&[Current, Removed, PreRevision]);
        let count = |registers: &[RegisterFacts], provision: &Provision| {
            specify(registers, provision).map(|specified| specified.registers().len())
        };
        assert_eq!(count(&[], &plain), Err(NotSpecified::NoCurrentRegister));
        assert_eq!(
            count(&[register(Removed)], &lineage),
            Err(NotSpecified::NoCurrentRegister)
        );
        assert_eq!(count(&[register(Current)], &plain), Ok(1));
        assert_eq!(
            count(&[register(Current), register(Current)], &plain),
            Err(NotSpecified::SeveralCurrentRegisters)
        );
        let all = || vec![register(Removed), register(Current), register(PreRevision)];
        assert_eq!(count(&all(), &plain), Ok(1));
        assert_eq!(count(&all(), &lineage), Ok(3));
        let one = |change: fn(&mut RegisterFacts)| {
            let mut register = register(Current);
            change(&mut register);
            count(&[register], &plain)
        };
        assert_eq!(
            one(|register| register.medium = Medium::Image),
            Err(NotSpecified::NotText)
        );
        assert_eq!(
            one(|register| register.medium = Medium::Paper),
            Err(NotSpecified::NotText)
        );
        assert_eq!(
            one(|register| register.in_motion = true),
            Err(NotSpecified::InMotion)
        );
        assert_eq!(
            one(|register| register.removed = true),
            Err(NotSpecified::PersonRemoved)
        );
        let mut parents = register(Current);
        parents.removed = true;
        assert_eq!(
            count(&[parents, register(Current)], &plain),
            Ok(1),
            "married out of the parents' register"
        );
    }

    #[test]
    fn a_closed_register_counts_only_where_the_procedure_asks_for_it() {
        use RegisterKind::{Current, PreRevision, Removed};
        let mut image = register(Removed);
        image.medium = Medium::Image;
        let registers = [register(Current), image];
        assert!(specify(&registers, &provision(&[Current])).is_ok());
        let refused = specify(&registers, &provision(&[Current, Removed, PreRevision])).map(|_| ());
        assert_eq!(refused, Err(NotSpecified::NotText));
    }

    #[test]
    fn the_current_register_comes_first() {
        let registers = [register(RegisterKind::Removed), register(RegisterKind::Current)];
        let asked = provision(&[RegisterKind::Current, RegisterKind::Removed]);
        let kinds: Vec<_> = specify(&registers, &asked)
            .unwrap()
            .registers()
            .iter()
            .map(|register| register.kind)
            .collect();
        assert_eq!(kinds, [RegisterKind::Current, RegisterKind::Removed]);
    }
}
