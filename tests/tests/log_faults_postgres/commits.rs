//! A line to PostgreSQL that breaks at COMMIT: the service does not learn what came of it.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
};

/// The message that commits: `Q`, its length, and the statement.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// What becomes of a COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// It goes through.
    Answered,
    /// The server does it; its reply is swallowed, and the connection closed.
    ReplySwallowed,
    /// It never arrives: the connection is closed.
    NotDelivered,
    /// It never arrives, and nobody closes the connection, for good: a line that has gone dead.
    NothingMore,
}

/// The line, on a port of its own, which ends with the test.
pub(crate) struct Line {
    pub(crate) port: u16,
    commits: Arc<watch::Sender<Commits>>,
    cut: watch::Receiver<usize>,
}

impl Line {
    /// Opens it to a server on loopback.
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let commits = Arc::new(watch::Sender::new(Commits::Answered));
        let (count, cut) = watch::channel(0);
        let (seen, count) = (commits.clone(), Arc::new(count));
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let (seen, count) = (seen.clone(), count.clone());
                tokio::spawn(async move {
                    if let Ok(there) = TcpStream::connect(("127.0.0.1", server)).await {
                        pass(here, there, &seen, &count).await;
                    }
                });
            }
        });
        Self { port, commits, cut }
    }

    /// What becomes of every COMMIT from now on.
    pub(crate) fn set(&self, commits: Commits) {
        self.commits.send_replace(commits);
    }

    /// How many connections came to nothing at their COMMIT.
    pub(crate) fn cut(&self) -> usize {
        *self.cut.borrow()
    }
}

/// Carries bytes until one of them closes, or a COMMIT does not come through.
async fn pass(
    here: TcpStream,
    there: TcpStream,
    commits: &watch::Sender<Commits>,
    cut: &watch::Sender<usize>,
) {
    for stream in [&here, &there] {
        stream.set_nodelay(true).unwrap();
    }
    let ((mut asks, mut to_here), (mut answers, mut to_there)) = (here.into_split(), there.into_split());
    let stopped = {
        let answers = copy(&mut answers, &mut to_here);
        tokio::select! {
            stopped = until_commit(&mut asks, &mut to_there, commits) => stopped,
            _ = answers => None,
        }
    };
    let Some((commits, commit)) = stopped else {
        return;
    };
    if commits == Commits::ReplySwallowed {
        // The reply means that it is done.
        let done = to_there.write_all(&commit).await.is_ok();
        let _ = done && answers.read(&mut [0; 1024]).await.is_ok();
    }
    cut.send_modify(|cut| *cut += 1);
    if commits == Commits::NothingMore {
        std::future::pending::<()>().await;
    }
}

/// Carries what the service asks, up to a COMMIT that is not to come through.
async fn until_commit(
    asks: &mut OwnedReadHalf,
    to_there: &mut (impl tokio::io::AsyncWrite + Unpin),
    commits: &watch::Sender<Commits>,
) -> Option<(Commits, Vec<u8>)> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = asks.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        let bytes = &buffer[..count];
        let commits = *commits.borrow();
        if commits != Commits::Answered && bytes.ends_with(COMMIT) {
            return Some((commits, bytes.to_vec()));
        }
        to_there.write_all(bytes).await.ok()?;
    }
}
