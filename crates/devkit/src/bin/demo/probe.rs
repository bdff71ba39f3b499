//! Whether an address can be reached from here: shows that a network keeps others out.

use std::{process::ExitCode, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// How long to wait: on a network that leads there, a connection takes a millisecond.
const WITHIN: Duration = Duration::from_secs(3);
const DOES_NOT_RESOLVE: u8 = 3;
const DOES_NOT_ANSWER: u8 = 4;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// host:port
    #[arg(long)]
    address: String,
}

pub(crate) async fn run(options: &Options) -> ExitCode {
    let address = &options.address;
    let found: Vec<_> = match lookup_host(address).await {
        Ok(found) => found.collect(),
        Err(error) => {
            println!("{address} does not resolve: {error}");
            return DOES_NOT_RESOLVE.into();
        }
    };
    match timeout(WITHIN, TcpStream::connect(found.as_slice())).await {
        Ok(Ok(_)) => {
            println!("{address} answers");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            println!("{address} does not answer: {error}");
            DOES_NOT_ANSWER.into()
        }
        Err(_) => {
            println!("{address} does not answer within {} s", WITHIN.as_secs());
            DOES_NOT_ANSWER.into()
        }
    }
}
