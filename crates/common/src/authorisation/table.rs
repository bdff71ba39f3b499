use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::identity::Role;

/// A gRPC listener: what is served on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listener {
    /// The gateway's, for portal frontends.
    Portal,
    /// The gateway's, for its operators.
    PortalAdmin,
    /// The provider's, for gateways.
    Linkage,
    /// The provider's, for municipalities.
    Ingest,
    /// The provider's, for its operators.
    KosekiAdmin,
}

impl Listener {
    /// Every listener.
    pub const ALL: [Self; 5] = [
        Self::Portal,
        Self::PortalAdmin,
        Self::Linkage,
        Self::Ingest,
        Self::KosekiAdmin,
    ];

    /// Name in configuration, logs and tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portal => "portal",
            Self::PortalAdmin => "portal-admin",
            Self::Linkage => "linkage",
            Self::Ingest => "ingest",
            Self::KosekiAdmin => "koseki-admin",
        }
    }
}

use Listener::{Ingest, KosekiAdmin, Linkage, Portal, PortalAdmin};
use Role::{Auditor, KosekiProvider, Municipality, Operator, PortalFrontend, PortalGateway};

const ANY_ROLE: &[Role] = &[
    PortalFrontend,
    PortalGateway,
    KosekiProvider,
    Municipality,
    Operator,
    Auditor,
];

/// Listener, full method path, roles. The whole of what anybody may call.
const TABLE: &[(&[Listener], &str, &[Role])] = &[
    (&[Portal], "/portal.v1.Portal/BeginLogin", &[PortalFrontend]),
    (&[Portal], "/portal.v1.Portal/CompleteLogin", &[PortalFrontend]),
    (&[Portal], "/portal.v1.Portal/Logout", &[PortalFrontend]),
    (&[Portal], "/portal.v1.Portal/ListConsentTexts", &[PortalFrontend]),
    (&[Portal], "/portal.v1.Portal/GrantConsent", &[PortalFrontend]),
    (&[Portal], "/portal.v1.Portal/WithdrawConsent", &[PortalFrontend]),
    (&[Portal], "/portal.v1.Portal/ListConsents", &[PortalFrontend]),
    (
        &[Portal],
        "/portal.v1.Portal/GetConsentReceipt",
        &[PortalFrontend],
    ),
    (&[Portal], "/portal.v1.Portal/RequestCopyInfo", &[PortalFrontend]),
    (
        &[Portal],
        "/portal.v1.Portal/ListProvisionRecords",
        &[PortalFrontend],
    ),
    (&[Portal], "/portal.v1.Portal/GetStatus", &[PortalFrontend]),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/LoadLinkages",
        &[Operator],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/SetBlock",
        &[Operator],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/SuspendProvision",
        &[Operator],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/CloseLog",
        &[Operator],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/ClosePeerLog",
        &[Operator],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/Propose",
        &[Operator],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/Approve",
        &[Operator],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/Confirm",
        &[Operator],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/ListPending",
        &[Operator, Auditor],
    ),
    (
        &[PortalAdmin],
        "/portal.admin.v1.PortalAdmin/GetStatus",
        &[Operator, Auditor],
    ),
    (
        &[Linkage],
        "/koseki.linkage.v1.Linkage/ProvideCopyInfo",
        &[PortalGateway],
    ),
    (
        &[Linkage],
        "/koseki.linkage.v1.Linkage/GetLinkageStatus",
        &[PortalGateway],
    ),
    (
        &[Linkage],
        "/koseki.linkage.v1.Linkage/WatchSuppressions",
        &[PortalGateway],
    ),
    (
        &[Linkage],
        "/koseki.linkage.v1.Linkage/ExchangeCheckpoints",
        &[PortalGateway],
    ),
    (
        &[Linkage],
        "/koseki.linkage.v1.Linkage/GetReceipts",
        &[PortalGateway],
    ),
    (&[Ingest], "/koseki.ingest.v1.Ingest/SendCopies", &[Municipality]),
    (
        &[Ingest],
        "/koseki.ingest.v1.Ingest/RecordOwnNonProvision",
        &[Municipality],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/LoadPersons",
        &[Operator],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/RecordNonProvision",
        &[Operator],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/SuspendProvision",
        &[Operator],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/CloseLog",
        &[Operator],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/ClosePeerLog",
        &[Operator],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/Propose",
        &[Operator],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/Approve",
        &[Operator],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/Confirm",
        &[Operator],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/ListPending",
        &[Operator, Auditor],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/ListNonProvision",
        &[Operator, Auditor],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/ListMunicipalities",
        &[Operator, Auditor],
    ),
    (
        &[KosekiAdmin],
        "/koseki.admin.v1.KosekiAdmin/GetStatus",
        &[Operator, Auditor],
    ),
    (
        &[PortalAdmin, KosekiAdmin],
        "/koseki.evidence.v1.AuditLog/ListLogs",
        &[Auditor],
    ),
    (
        &[PortalAdmin, KosekiAdmin],
        "/koseki.evidence.v1.AuditLog/ReadBundles",
        &[Auditor],
    ),
    (&Listener::ALL, "/grpc.health.v1.Health/Check", ANY_ROLE),
    (&Listener::ALL, "/grpc.health.v1.Health/Watch", ANY_ROLE),
];

/// Whether `role` may call `path` on `listener`.
pub(super) fn allows(listener: Listener, path: &str, role: Role) -> bool {
    TABLE.iter().any(|(listeners, method, roles)| {
        *method == path && listeners.contains(&listener) && roles.contains(&role)
    })
}

/// Full paths of all methods in the table, in its order.
pub fn methods() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(_, method, _)| *method)
}

/// The table and the interfaces differ.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The descriptor set cannot be read.
    #[error("the descriptor set cannot be decoded")]
    Descriptors(#[from] prost::DecodeError),
    /// A method is served that nobody has been given.
    #[error("method {0} is in the interfaces but not in the table of methods and roles")]
    NotInTable(String),
    /// A method is given to somebody that no interface has.
    #[error("method {0} is in the table of methods and roles but not in the interfaces")]
    NotInInterfaces(String),
}

/// Compares the table with a descriptor set and the health interface. A service calls it before it opens a port.
pub fn check_table(descriptor_set: &[u8]) -> Result<(), TableError> {
    let mut served = BTreeSet::new();
    for encoded in [descriptor_set, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        for file in FileDescriptorSet::decode(encoded)?.file {
            for service in &file.service {
                for method in &service.method {
                    served.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
    }
    let given: BTreeSet<String> = methods().map(str::to_owned).collect();
    if let Some(missing) = served.difference(&given).next() {
        return Err(TableError::NotInTable(missing.clone()));
    }
    match given.difference(&served).next() {
        Some(extra) => Err(TableError::NotInInterfaces(extra.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};

    use super::*;

    #[test]
    fn table_and_interfaces_agree() {
        check_table(koseki_proto::DESCRIPTOR_SET).unwrap();
    }

    #[test]
    fn a_method_that_the_table_lacks_is_found() {
        let mut set = FileDescriptorSet::decode(koseki_proto::DESCRIPTOR_SET).unwrap();
        set.file.push(FileDescriptorProto {
            package: Some("new.v1".to_owned()),
            service: vec![ServiceDescriptorProto {
                name: Some("New".to_owned()),
                method: vec![MethodDescriptorProto {
                    name: Some("Call".to_owned()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        });
        let error = check_table(&set.encode_to_vec()).unwrap_err();
        assert!(matches!(error, TableError::NotInTable(method) if method == "/new.v1.New/Call"));
    }

    #[test]
    fn a_method_that_no_interface_has_is_found() {
        let mut set = FileDescriptorSet::decode(koseki_proto::DESCRIPTOR_SET).unwrap();
        set.file.retain(|file| file.package() != "portal.v1");
        assert!(matches!(
            check_table(&set.encode_to_vec()),
            Err(TableError::NotInInterfaces(_))
        ));
    }
}
