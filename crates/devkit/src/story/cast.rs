//! Who plays.

use std::collections::BTreeMap;

use super::StoryError;
use crate::{
    card::VirtualCard,
    client::{Access, Frontend, Municipality, PortalOperator, Reach, RegistryOperator},
    deployment::{Deployment, OPERATORS},
    registers::{Scenario, ScenarioPerson},
};

/// The portal frontend and the people in front of it.
pub struct Cast {
    /// The files.
    pub deployment: Deployment,
    /// The frontend.
    pub frontend: Frontend,
    /// The scenario persons.
    pub persons: Vec<ScenarioPerson>,
}

impl Cast {
    /// The deployment's frontend, at the portal listener's `host:port`.
    ///
    /// # Errors
    /// When a file is missing.
    pub fn new(deployment: &Deployment, access: &Access, portal: &str) -> Result<Self, StoryError> {
        Ok(Self {
            deployment: deployment.clone(),
            frontend: Frontend::new(access, portal)?,
            persons: deployment.scenarios()?,
        })
    }

    /// A scenario person and their card.
    ///
    /// # Errors
    /// When the data set does not have them.
    pub fn person(&self, scenario: Scenario) -> Result<(&ScenarioPerson, VirtualCard), StoryError> {
        let person = self.persons.iter().find(|person| person.name == scenario.name());
        let person = person.ok_or(StoryError::Missing(scenario.name()))?;
        Ok((person, self.deployment.card(person)?))
    }
}

/// Those who are not in front of the portal: municipalities, and two operators of each side.
pub struct Offices {
    /// By code.
    pub municipalities: BTreeMap<String, Municipality>,
    /// Of the registry side.
    pub registry: [RegistryOperator; 2],
    /// Of the portal side.
    pub portal: [PortalOperator; 2],
}

impl Offices {
    /// The deployment's offices, at the listeners given.
    ///
    /// # Errors
    /// When a file is missing.
    pub fn new(deployment: &Deployment, access: &Access, reach: &Reach) -> Result<Self, StoryError> {
        let mut municipalities = BTreeMap::new();
        for (code, _) in deployment.copies()? {
            let municipality = Municipality::new(access, &code, &reach.ingest)?;
            municipalities.insert(code, municipality);
        }
        let [first, second] = OPERATORS;
        let registry = |name| RegistryOperator::new(access, name, &reach.registry_admin);
        let portal = |name| PortalOperator::new(access, name, &reach.portal_admin);
        Ok(Self {
            municipalities,
            registry: [registry(first)?, registry(second)?],
            portal: [portal(first)?, portal(second)?],
        })
    }
}
