//! The whole set of files.

use std::collections::BTreeMap;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::family::{Families, Family};
use super::{DataError, ScenarioCards, ScenarioPerson, scenario_registers};
use crate::files;

/// Register copies, persons, linkages and scenario persons that fit together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSet {
    /// By municipality code, the lines of its register copies.
    pub copies: BTreeMap<String, Vec<String>>,
    /// `person` lines, then `linkage` lines, for the registry side.
    pub provider_linkages: Vec<String>,
    /// `linkage` lines for the portal side.
    pub portal_linkages: Vec<String>,
    /// What to expect of whom.
    pub scenarios: Vec<ScenarioPerson>,
}

impl DataSet {
    /// The set of this seed with so many registers, those of the scenario persons included; they are there in any case.
    /// The same seed, number and cards give the same bytes.
    ///
    /// # Errors
    /// When a card is missing or a line cannot be encoded.
    pub fn generate(seed: u64, registers: usize, cards: &ScenarioCards) -> Result<Self, DataError> {
        // Stream 0 of the seed; every family has a stream of its own.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scenarios = scenario_registers::build(&mut rng, cards)?;
        let families_registers = registers.saturating_sub(scenarios.lines.copies.len());
        let mut set = Self {
            scenarios: scenarios.persons,
            ..Self::default()
        };
        let mut provider_linkages = Vec::new();
        set.add(scenarios.lines, &mut provider_linkages);
        for family in Families::new(seed, families_registers) {
            set.add(family?, &mut provider_linkages);
        }
        set.provider_linkages.append(&mut provider_linkages);
        Ok(set)
    }

    /// Person lines go straight in, linkage lines wait: every person has to be loaded before its linkage.
    fn add(&mut self, family: Family, provider_linkages: &mut Vec<String>) {
        for copy in family.copies {
            self.copies
                .entry(copy.municipality_code)
                .or_default()
                .push(copy.line);
        }
        self.provider_linkages.extend(family.persons);
        provider_linkages.extend(family.provider_linkages);
        self.portal_linkages.extend(family.portal_linkages);
    }

    /// Writes `copies/<code>.jsonl`, `persons-registry.jsonl`, `linkages-portal.jsonl` and `scenarios.json`. The cards
    /// write themselves ([`ScenarioCards::write_to`]).
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_to(&self, directory: &Path) -> Result<(), DataError> {
        for (code, lines) in &self.copies {
            write_lines(&directory.join("copies").join(format!("{code}.jsonl")), lines)?;
        }
        write_lines(&directory.join("persons-registry.jsonl"), &self.provider_linkages)?;
        write_lines(&directory.join("linkages-portal.jsonl"), &self.portal_linkages)?;
        let scenarios = serde_json::to_string_pretty(&self.scenarios)? + "\n";
        files::write_public(&directory.join("scenarios.json"), scenarios.as_bytes())?;
        Ok(())
    }
}

fn write_lines(path: &Path, lines: &[String]) -> Result<(), DataError> {
    let mut content = lines.join("\n");
    if !content.is_empty() {
        content.push('\n');
    }
    Ok(files::write_public(path, content.as_bytes())?)
}
