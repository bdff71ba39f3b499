//! The two extensions of a card certificate that rcgen does not encode.

use rcgen::CustomExtension;

use super::der::{
    CONTEXT_0, CONTEXT_4, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING, element, object_identifier,
};

const CERTIFICATE_POLICIES: &[u64] = &[2, 5, 29, 32];
const CRL_DISTRIBUTION_POINTS: &[u64] = &[2, 5, 29, 31];

const COUNTRY: &[u64] = &[2, 5, 4, 6];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const ORGANIZATIONAL_UNIT: &[u64] = &[2, 5, 4, 11];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];

/// certificatePolicies with one policy, critical as JPKI has it (RFC 5280, 4.2.1.4).
pub(super) fn certificate_policies(policy: &[u64]) -> CustomExtension {
    let information = element(SEQUENCE, &object_identifier(policy));
    let mut extension =
        CustomExtension::from_oid_content(CERTIFICATE_POLICIES, element(SEQUENCE, &information));
    extension.set_criticality(true);
    extension
}

/// cRLDistributionPoints with one point whose full name is a directory name (RFC 5280, 4.2.1.13): there is nothing to
/// fetch over HTTP, the list comes another way.
pub(super) fn crl_distribution_point() -> CustomExtension {
    let name = [
        attribute(COUNTRY, PRINTABLE_STRING, "JP"),
        attribute(ORGANIZATION, UTF8_STRING, super::root::ORGANIZATION),
        attribute(ORGANIZATIONAL_UNIT, UTF8_STRING, super::root::UNIT),
        attribute(ORGANIZATIONAL_UNIT, UTF8_STRING, "CRL Distribution Points"),
        attribute(COMMON_NAME, UTF8_STRING, "Sandbox CRLDP"),
    ]
    .concat();
    let directory_name = element(CONTEXT_4, &element(SEQUENCE, &name));
    let full_name = element(CONTEXT_0, &directory_name);
    let point = element(SEQUENCE, &element(CONTEXT_0, &full_name));
    CustomExtension::from_oid_content(CRL_DISTRIBUTION_POINTS, element(SEQUENCE, &point))
}

/// One RelativeDistinguishedName with one attribute.
fn attribute(kind: &[u64], tag: u8, value: &str) -> Vec<u8> {
    let pair = [object_identifier(kind), element(tag, value.as_bytes())].concat();
    element(SET, &element(SEQUENCE, &pair))
}
