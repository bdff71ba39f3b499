//! A line to PostgreSQL that breaks at a commit: the service does not learn what came of it. A commit is COMMIT, or a call of a function
//! that releases and commits by itself.

use std::{collections::HashSet, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
};

/// The message that commits a transaction: `Q`, its length, and the statement.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
/// How a statement begins that releases by itself.
const RELEASE: &[u8] = b"SELECT release_";

/// The statements of a connection that release by themselves, by the names that they were prepared under.
#[derive(Default)]
struct Releases(HashSet<Vec<u8>>);

impl Releases {
    /// Whether what is asked commits. Each statement is asked by itself: `P` (name, text) prepares it, `B` (portal, name) begins its call.
    fn commits(&mut self, asked: &[u8]) -> bool {
        let Some((&kind, Some(body))) = asked.first().map(|kind| (kind, asked.get(5..))) else {
            return false;
        };
        let mut strings = body.split(|byte| *byte == 0);
        match (kind, strings.next(), strings.next()) {
            (b'P', Some(name), Some(text)) if text.starts_with(RELEASE) => {
                self.0.insert(name.to_vec());
                false
            }
            (b'B', _, Some(name)) => self.0.contains(name),
            _ => asked.ends_with(COMMIT),
        }
    }
}

/// What becomes of a commit.
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

    /// What becomes of every commit from now on.
    pub(crate) fn set(&self, commits: Commits) {
        self.commits.send_replace(commits);
    }

    /// How many connections came to nothing at a commit.
    pub(crate) fn cut(&self) -> usize {
        *self.cut.borrow()
    }
}

/// Carries bytes until one of them closes, or a commit does not come through.
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

/// Carries what the service asks, up to a commit that is not to come through.
async fn until_commit(
    asks: &mut OwnedReadHalf,
    to_there: &mut (impl tokio::io::AsyncWrite + Unpin),
    commits: &watch::Sender<Commits>,
) -> Option<(Commits, Vec<u8>)> {
    let mut buffer = vec![0; 64 * 1024];
    let mut releases = Releases::default();
    loop {
        let count = asks.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        let bytes = &buffer[..count];
        let is_commit = releases.commits(bytes);
        let commits = *commits.borrow();
        if commits != Commits::Answered && is_commit {
            return Some((commits, bytes.to_vec()));
        }
        to_there.write_all(bytes).await.ok()?;
    }
}
