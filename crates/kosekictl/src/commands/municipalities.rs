//! `municipalities`: how many copies of each are stored, and how old they are.

use clap::Args;
use koseki_proto::koseki::admin::v1::{ListMunicipalitiesRequest, MunicipalityCopies};
use serde_json::{Value, json};

use crate::{answer, connection::request, context::Context, failure::Result, moment, report::Report, table};

/// Count the copies of each municipality, and tell how old they are (registry side)
#[derive(Args)]
pub(crate) struct Municipalities {}

impl Municipalities {
    pub(crate) async fn run(self, context: &Context) -> Result<Report> {
        let (mut client, admin) = context.profile()?.registry()?;
        let listed = client
            .list_municipalities(request(ListMunicipalitiesRequest {}))
            .await;
        let listed = listed.map_err(|status| answer::of_reading(&status, &admin.server))?;
        let found = listed.into_inner().municipalities;
        let total: u64 = found.iter().map(|row| row.copies).sum();
        let age = |received: Option<&prost_types::Timestamp>| {
            moment::read(received).map_or("-".to_owned(), |at| moment::age(context.now().since(at)))
        };
        let row = |row: &MunicipalityCopies| {
            vec![
                row.municipality_code.clone(),
                row.copies.to_string(),
                age(row.newest_received_at.as_ref()),
                moment::text(row.newest_received_at.as_ref()),
                moment::text(row.oldest_received_at.as_ref()),
            ]
        };
        let json = |row: &MunicipalityCopies| {
            json!({
                "municipality_code": row.municipality_code,
                "copies": row.copies,
                "oldest_received_at": moment::json(row.oldest_received_at.as_ref()),
                "newest_received_at": moment::json(row.newest_received_at.as_ref()),
            })
        };
        let rows: Vec<_> = found.iter().map(row).collect();
        let documents: Vec<Value> = found.iter().map(json).collect();
        let headings = [
            "code",
            "copies",
            "newest is",
            "newest received",
            "oldest received",
        ];
        let text = format!(
            "{}\n{} municipalities, {total} copies",
            table::with_headings(&headings, &rows),
            found.len()
        );
        Ok(Report::done(
            json!({"municipalities": documents, "copies": total}),
            text,
        ))
    }
}
