//! An officer of a municipality: sends register copies.

use std::path::Path;

use common::{
    identity::Role,
    lines::send::{LineReport, read_behind},
};
use koseki_proto::koseki::ingest::v1::ingest_client::IngestClient;
use tokio::{
    fs::File,
    io::{AsyncBufRead, BufReader},
};
use tonic::transport::Channel;

use super::{Access, AccessError, lines::Loaded};
use crate::deployment::OFFICER;

/// A municipality, connected to the provider's ingest listener. Cloning shares the connection.
#[derive(Clone)]
pub struct Municipality {
    client: IngestClient<Channel>,
}

impl Municipality {
    /// The officer of the municipality with this code, at the ingest listener's `host:port`.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn new(access: &Access, code: &str, address: &str) -> Result<Self, AccessError> {
        let channel = access.to_provider(Role::Municipality, &format!("{code}/{OFFICER}"), address)?;
        Ok(Self {
            client: IngestClient::new(channel),
        })
    }

    /// Sends the register copies of a file.
    ///
    /// # Errors
    /// When the file cannot be opened; everything else is in the result.
    pub async fn send_file(&self, path: &Path) -> std::io::Result<Loaded> {
        Ok(self.send(BufReader::new(File::open(path).await?)).await)
    }

    /// Sends register copies.
    pub async fn send<R: AsyncBufRead + Unpin + Send + 'static>(&self, file: R) -> Loaded {
        self.send_watched(file, |_| {}).await
    }

    /// Sends register copies, and shows each result as soon as it is there.
    pub async fn send_watched<R: AsyncBufRead + Unpin + Send + 'static>(
        &self,
        file: R,
        seen: impl FnMut(&LineReport),
    ) -> Loaded {
        let (stream, reader) = read_behind(file, 0);
        let answered = self.client.clone().send_copies(stream).await;
        Loaded::take(answered, reader, seen).await
    }
}
