//! Whether an address can be reached from here: shows that a network keeps others out.

use std::{process::ExitCode, time::Duration};

use futures_util::future::join_all;
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
    /// host:port; given several times, all are tried at once
    #[arg(long = "address", required = true)]
    addresses: Vec<String>,
}

/// What became of one address, the best first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Answers,
    DoesNotAnswer,
    DoesNotResolve,
}

pub(crate) async fn run(options: &Options) -> ExitCode {
    let found = join_all(options.addresses.iter().map(|address| probe(address))).await;
    match found.into_iter().min() {
        Some(Found::Answers) => ExitCode::SUCCESS,
        Some(Found::DoesNotAnswer) => DOES_NOT_ANSWER.into(),
        Some(Found::DoesNotResolve) | None => DOES_NOT_RESOLVE.into(),
    }
}

async fn probe(address: &str) -> Found {
    let resolved: Vec<_> = match lookup_host(address).await {
        Ok(resolved) => resolved.collect(),
        Err(error) => {
            println!("{address} does not resolve: {error}");
            return Found::DoesNotResolve;
        }
    };
    match timeout(WITHIN, TcpStream::connect(resolved.as_slice())).await {
        Ok(Ok(_)) => {
            println!("{address} answers");
            Found::Answers
        }
        Ok(Err(error)) => {
            println!("{address} does not answer: {error}");
            Found::DoesNotAnswer
        }
        Err(_) => {
            println!("{address} does not answer within {} s", WITHIN.as_secs());
            Found::DoesNotAnswer
        }
    }
}
