//! The interfaces that both sides agree on (clause 5), generated from the protos beside this crate.
//!
//! Generated messages have a `Debug` that prints their name only: they carry personal data, codes and tokens.

// Generated code documents what the protos document, which is every message, field and method.
#![allow(missing_docs, clippy::all)]

macro_rules! package {
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}

pub mod koseki {
    pub mod admin {
        pub mod v1 {
            package!("koseki.admin.v1");
        }
    }
    pub mod common {
        pub mod v1 {
            package!("koseki.common.v1");
        }
    }
    pub mod evidence {
        pub mod v1 {
            package!("koseki.evidence.v1");
        }
    }
    pub mod ingest {
        pub mod v1 {
            package!("koseki.ingest.v1");
        }
    }
    pub mod linkage {
        pub mod v1 {
            package!("koseki.linkage.v1");
        }
    }
}
pub mod portal {
    pub mod admin {
        pub mod v1 {
            package!("portal.admin.v1");
        }
    }
    pub mod v1 {
        package!("portal.v1");
    }
}

mod redacted {
    include!(concat!(env!("OUT_DIR"), "/redacted.rs"));
}

/// The encoded `google.protobuf.FileDescriptorSet` of all interfaces, as compiled into this build.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.binpb"));
