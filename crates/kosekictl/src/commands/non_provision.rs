//! `non-provision`: records that copy information must not be provided (registry side).

use clap::{Args, Subcommand};
use common::{approval::Opening, clock::Timestamp, terms::ActId};
use koseki_proto::koseki::{
    admin::v1::{
        ListNonProvisionRequest, NonProvisionRecord, NonProvisionScope, RecordNonProvisionRequest,
        RegisterRef,
    },
    ingest::v1::RecordOwnNonProvisionRequest,
};
use koseki_provider::non_provision::{Malformed, Named, NonProvisionRecord as Checked};
use serde_json::{Value, json};
use tonic::Status;

use super::{closing::Closing, propose::propose};
use crate::{
    answer,
    arguments::{self, ActArguments, ProposalArguments},
    connection::{Side, request},
    context::Context,
    failure::{Failure, Result},
    moment,
    report::Report,
    table,
};

/// From the messages' fields to the flags that they come from.
const FLAGS: &[(&str, &str)] = &[
    ("act_id", "--act-id"),
    ("person_id", "--person"),
    ("requester_reference", "--requester"),
    ("register.municipality_code", "--municipality"),
    ("register.local_number", "--register"),
    ("municipality_code", "--municipality"),
    ("local_number", "--register"),
    ("valid_from", "--from"),
    ("valid_until", "--until"),
    ("authority", "--authority"),
    ("document_number", "--document"),
];

/// Records that copy information must not be provided (提供すべきでない旨の記録)
#[derive(Subcommand)]
pub(crate) enum NonProvision {
    Record(Record),
    RecordOwn(RecordOwn),
    List(List),
    Release(Release),
    Shorten(Shorten),
}

/// Record non-provision of a person, a register, or one requester against a register: acts at once
#[derive(Args)]
pub(crate) struct Record {
    /// The person, by the registry side's id; with a register: that requester against it
    #[arg(long, value_name = "ID")]
    person: Option<String>,
    /// Code of the municipality that keeps the register; six digits
    #[arg(long, value_name = "CODE", requires = "register")]
    municipality: Option<String>,
    /// The municipality's number of the register
    #[arg(long, value_name = "NUMBER", requires = "municipality")]
    register: Option<String>,
    #[command(flatten)]
    decision: Decision,
    #[command(flatten)]
    act: ActArguments,
}

/// A municipality records non-provision of a register of its own, over the ingest listener: acts at once
#[derive(Args)]
pub(crate) struct RecordOwn {
    /// Code of the municipality that keeps the register; six digits
    #[arg(long, value_name = "CODE")]
    municipality: String,
    /// The municipality's number of the register
    #[arg(long, value_name = "NUMBER")]
    register: String,
    /// Towards this requester only, by the municipality's own reference; every requester when it is left out
    #[arg(long, value_name = "REFERENCE")]
    requester: Option<String>,
    #[command(flatten)]
    decision: Decision,
    #[command(flatten)]
    act: ActArguments,
}

/// Who decided, and for how long.
#[derive(Args)]
struct Decision {
    /// The authority that decided; 1 to 256 bytes
    #[arg(long, value_name = "TEXT")]
    authority: String,
    /// Number of the authority's document; 1 to 128 bytes
    #[arg(long, value_name = "NUMBER")]
    document: String,
    /// From when it holds (RFC 3339); at once when it is left out
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Until when it holds (RFC 3339); until it is released when it is left out
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// List the records about a person or a register; reading them is an entry of the audit log
#[derive(Args)]
pub(crate) struct List {
    /// Records that name this person
    #[arg(long, value_name = "ID")]
    person: Option<String>,
    /// Code of the municipality that keeps the register; six digits
    #[arg(long, value_name = "CODE", requires = "register")]
    municipality: Option<String>,
    /// Records that name this register
    #[arg(long, value_name = "NUMBER", requires = "municipality")]
    register: Option<String>,
}

/// Propose to release a record: another operator approves
#[derive(Args)]
pub(crate) struct Release {
    /// The record: the act id under which it was made (UUID)
    record: String,
    #[command(flatten)]
    proposal: ProposalArguments,
}

/// Propose that a record ends earlier: another operator approves
#[derive(Args)]
pub(crate) struct Shorten {
    /// The record: the act id under which it was made (UUID)
    record: String,
    /// When it shall end (RFC 3339); earlier than what is recorded
    #[arg(long, value_name = "TIME")]
    until: String,
    #[command(flatten)]
    proposal: ProposalArguments,
}

impl NonProvision {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Record(command) => command.run(context).await,
            Self::RecordOwn(command) => command.run(context).await,
            Self::List(command) => command.run(context).await,
            Self::Release(Release { record, proposal }) => {
                let opening = Opening::ReleaseNonProvision(arguments::id("RECORD", &record)?);
                propose(context, Some(Side::Registry), &opening, &proposal).await
            }
            Self::Shorten(Shorten {
                record,
                until,
                proposal,
            }) => {
                let record = arguments::id("RECORD", &record)?;
                let opening = Opening::ShortenNonProvision(record, arguments::moment("--until", &until)?);
                propose(context, Some(Side::Registry), &opening, &proposal).await
            }
        }
    }
}

/// What the server would refuse as malformed is refused here, by the same code.
fn malformed((field, rule): Malformed) -> Box<Failure> {
    Failure::flag(&answer::flag_of(field, FLAGS), rule)
}

fn register_of(municipality: Option<String>, register: Option<String>) -> Option<RegisterRef> {
    Some(RegisterRef {
        municipality_code: municipality?,
        local_number: register?,
    })
}

/// A decision with its times read.
struct Read {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    act_id: ActId,
}

impl Decision {
    fn read(&self, act: &ActArguments) -> Result<Read> {
        let moment = |flag, text: &Option<String>| {
            let text = text.as_deref();
            text.map(|text| arguments::moment(flag, text)).transpose()
        };
        Ok(Read {
            from: moment("--from", &self.from)?,
            until: moment("--until", &self.until)?,
            act_id: arguments::id_or_new("--act-id", act.act_id.as_deref())?,
        })
    }

    fn message(&self, read: &Read) -> Value {
        json!({
            "act_id": read.act_id.to_string(),
            "valid_from": read.from.map(Timestamp::to_rfc3339),
            "valid_until": read.until.map(Timestamp::to_rfc3339),
            "authority": self.authority,
            "document_number": self.document,
        })
    }
}

impl Record {
    async fn run(self, context: &Context) -> Result<Report> {
        let read = self.decision.read(&self.act)?;
        let message = RecordNonProvisionRequest {
            act_id: read.act_id.to_string(),
            person_id: self.person.unwrap_or_default(),
            register: register_of(self.municipality, self.register),
            valid_from: read.from.map(Timestamp::to_proto),
            valid_until: read.until.map(Timestamp::to_proto),
            authority: self.decision.authority.clone(),
            document_number: self.decision.document.clone(),
        };
        Checked::parse(&message, context.now()).map_err(malformed)?;
        let mut shown = self.decision.message(&read);
        let scope = match (message.person_id.as_str(), &message.register) {
            ("", _) => "a register",
            (_, None) => "a person",
            (_, Some(_)) => "a register to one requester",
        };
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("person_id".to_owned(), message.person_id.clone().into());
            let register = message.register.as_ref();
            let register = register.map(|named| {
                json!({"municipality_code": named.municipality_code, "local_number": named.local_number})
            });
            shown.insert("register".to_owned(), register.into());
        }
        let (mut client, admin) = context.profile()?.registry()?;
        let closing = Closing {
            what: format!("record non-provision of {scope}"),
            side: Side::Registry,
            act_id: read.act_id,
            method: "koseki.admin.v1.KosekiAdmin/RecordNonProvision",
            message: shown,
            flags: FLAGS,
            confirmed_at: "",
        };
        let send = async move {
            Ok(client
                .record_non_provision(request(message))
                .await?
                .into_inner()
                .epoch)
        };
        closing
            .run(context, &self.act, &admin.server, Some(&admin), send)
            .await
    }
}

impl RecordOwn {
    async fn run(self, context: &Context) -> Result<Report> {
        let read = self.decision.read(&self.act)?;
        let message = RecordOwnNonProvisionRequest {
            act_id: read.act_id.to_string(),
            municipality_code: self.municipality,
            local_number: self.register,
            requester_reference: self.requester.unwrap_or_default(),
            valid_from: read.from.map(Timestamp::to_proto),
            valid_until: read.until.map(Timestamp::to_proto),
            authority: self.decision.authority.clone(),
            document_number: self.decision.document.clone(),
        };
        Checked::parse_own(&message, context.now()).map_err(malformed)?;
        let mut shown = self.decision.message(&read);
        if let Some(shown) = shown.as_object_mut() {
            for (name, value) in [
                ("municipality_code", &message.municipality_code),
                ("local_number", &message.local_number),
                ("requester_reference", &message.requester_reference),
            ] {
                shown.insert(name.to_owned(), value.clone().into());
            }
        }
        let (mut client, server) = context.profile()?.ingest()?;
        let closing = Closing {
            what: "record non-provision of a register of the municipality's own".to_owned(),
            side: Side::Registry,
            act_id: read.act_id,
            method: "koseki.ingest.v1.Ingest/RecordOwnNonProvision",
            message: shown,
            flags: FLAGS,
            confirmed_at: "",
        };
        let send = async move {
            let recorded = client.record_own_non_provision(request(message)).await;
            Ok::<_, Status>(recorded?.into_inner().epoch)
        };
        // The listener has no call that only reads.
        closing.run(context, &self.act, &server, None, send).await
    }
}

impl List {
    async fn run(self, context: &Context) -> Result<Report> {
        let message = ListNonProvisionRequest {
            person_id: self.person.unwrap_or_default(),
            register: register_of(self.municipality, self.register),
        };
        if message.person_id.is_empty() && message.register.is_none() {
            return Err(Failure::flag("--person", "a person, a register, or both"));
        }
        Named::parse(&message.person_id, message.register.as_ref()).map_err(malformed)?;
        let (mut client, admin) = context.profile()?.registry()?;
        let listed = client.list_non_provision(request(message)).await;
        let listed = listed.map_err(|status| match answer::reason(&status) {
            Some(reason) => answer::refused(&status, reason, &admin.server, FLAGS),
            None => answer::of_reading(&status, &admin.server),
        })?;
        let records = listed.into_inner().records;
        let json: Vec<Value> = records.iter().map(record_json).collect();
        let rows: Vec<_> = records.iter().map(record_row).collect();
        let text = match rows.as_slice() {
            [] => "no records".to_owned(),
            rows => table::with_headings(
                &[
                    "record",
                    "covers",
                    "from",
                    "until",
                    "released",
                    "by",
                    "authority",
                    "document",
                ],
                rows,
            ),
        };
        Ok(Report::done(json!({ "records": json }), text))
    }
}

fn scope(record: &NonProvisionRecord) -> &'static str {
    match record.scope() {
        NonProvisionScope::Unspecified => "UNKNOWN",
        NonProvisionScope::Person => "PERSON",
        NonProvisionScope::Register => "REGISTER",
        NonProvisionScope::RequesterAgainstRegister => "REQUESTER_AGAINST_REGISTER",
    }
}

fn record_json(record: &NonProvisionRecord) -> Value {
    json!({
        "record_id": record.record_id,
        "scope": scope(record),
        "valid_from": moment::json(record.valid_from.as_ref()),
        "valid_until": moment::json(record.valid_until.as_ref()),
        "authority": record.authority,
        "document_number": record.document_number,
        "recorded_at": moment::json(record.recorded_at.as_ref()),
        "recorded_by": record.recorded_by,
        "released_at": moment::json(record.released_at.as_ref()),
    })
}

fn record_row(record: &NonProvisionRecord) -> Vec<String> {
    let from = record.valid_from.as_ref().or(record.recorded_at.as_ref());
    vec![
        record.record_id.clone(),
        scope(record).to_owned(),
        moment::text(from),
        moment::text(record.valid_until.as_ref()),
        moment::text(record.released_at.as_ref()),
        record.recorded_by.clone(),
        record.authority.clone(),
        record.document_number.clone(),
    ]
}
