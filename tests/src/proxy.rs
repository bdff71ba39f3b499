//! A line that can be cut, stalled and slowed: what stands between two services in a test that breaks their connection.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::clock::{Clock as _, SystemClock};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// They go through.
    Open,
    /// Those of answers go through so much later.
    Slow(Duration),
    /// None go through; they are kept.
    Stalled,
    /// Connections are cut, and new ones are cut at once.
    Cut,
}

/// A proxy on a port of its own, which ends with the test.
pub struct Proxy {
    address: String,
    target: Arc<Mutex<String>>,
    line: watch::Sender<Line>,
}

impl Proxy {
    /// Opens the port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let target: Arc<Mutex<String>> = Arc::default();
        let line = watch::Sender::new(Line::Open);
        let (to, seen) = (target.clone(), line.subscribe());
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let (to, seen) = (to.lock().unwrap().clone(), seen.clone());
                tokio::spawn(pass(here, to, seen));
            }
        });
        Self {
            address,
            target,
            line,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Where new connections go.
    pub fn point_at(&self, target: &str) {
        target.clone_into(&mut self.target.lock().unwrap());
    }

    /// What becomes of bytes from now on.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn pass(here: TcpStream, target: String, mut line: watch::Receiver<Line>) {
    if *line.borrow() == Line::Cut {
        return;
    }
    let Ok(there) = TcpStream::connect(target).await else {
        return;
    };
    for stream in [&here, &there] {
        stream.set_nodelay(true).unwrap();
    }
    let (asks, answers) = (here.into_split(), there.into_split());
    let (asked, answered) = (line.clone(), line.clone());
    let both = async {
        tokio::join!(
            carry(asks.0, answers.1, asked, false),
            carry(answers.0, asks.1, answered, true)
        )
    };
    tokio::select! {
        _ = both => {}
        _ = async { line.wait_for(|line| *line == Line::Cut).await.map(|_| ()) } => {}
    }
}

/// Carries bytes one way. What is slow is late, not held up: bytes that came together leave together.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>, slow: bool) {
    let (late, mut due) = tokio::sync::mpsc::unbounded_channel::<(Duration, Vec<u8>)>();
    let clock = Arc::new(SystemClock::new());
    let reading = clock.clone();
    let seen = line.clone();
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let wait = match *seen.borrow() {
                Line::Slow(wait) if slow => wait,
                _ => Duration::ZERO,
            };
            if late
                .send((reading.monotonic() + wait, buffer[..count].to_vec()))
                .is_err()
            {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep(at.saturating_sub(clock.monotonic())).await;
            if line.wait_for(|line| *line != Line::Stalled).await.is_err()
                || to.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
