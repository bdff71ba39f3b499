use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{
    TryFutureExt as _,
    future::{Either, MapOk},
};
use tokio::task::futures::TaskLocalFuture;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::table::{self, Listener};
use crate::{
    clock::Clock,
    identity::PeerIdentity,
    language::Language,
    refusal::{Reason, Refusal},
    terms::RuleBroken,
    tls::PeerCertificate,
};

/// That this call, by this peer, on this path, was allowed. Handlers take it; only the layer makes it.
///
/// ```compile_fail
/// let permit = common::authorisation::Permit { peer: todo!() };
/// ```
#[derive(Debug)]
pub struct Permit {
    peer: PeerIdentity,
}

impl Permit {
    /// Who calls.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }
}

/// Takes the permit of a request. Without one the layer was not in front, and the call is refused.
pub fn permit<T>(request: &tonic::Request<T>) -> Result<Arc<Permit>, Status> {
    request
        .extensions()
        .get::<Arc<Permit>>()
        .cloned()
        .ok_or_else(|| Refusal::new(Reason::PermissionDenied).into())
}

/// The layer that decides. It looks at the peer's certificate again on each call: a connection outlives a certificate.
#[derive(Clone)]
pub struct Authorise {
    listener: Listener,
    clock: Arc<dyn Clock>,
}

impl Authorise {
    /// The layer for this listener.
    pub fn new(listener: Listener, clock: Arc<dyn Clock>) -> Self {
        Self { listener, clock }
    }

    fn decide<B>(&self, request: &http::Request<B>) -> Result<Permit, Reason> {
        let certificate = request
            .extensions()
            .get::<PeerCertificate>()
            .ok_or(Reason::IdentityInvalid)?;
        let peer = certificate.identity(self.clock.now()).map_err(|error| {
            tracing::warn!(listener = self.listener.name(), %error, "call by a certificate that names nobody");
            Reason::IdentityInvalid
        })?;
        if table::allows(self.listener, request.uri().path(), peer.role()) {
            Ok(Permit { peer })
        } else {
            // The path is the caller's text: it is not logged.
            tracing::warn!(listener = self.listener.name(), %peer, "call that the table does not allow");
            Err(Reason::PermissionDenied)
        }
    }
}

impl<S> Layer<S> for Authorise {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authorised {
            authorise: self.clone(),
            inner,
        }
    }
}

/// A service behind [`Authorise`].
#[derive(Clone)]
pub struct Authorised<S> {
    authorise: Authorise,
    inner: S,
}

type ToOwnWords = fn(http::Response<Body>) -> http::Response<Body>;

/// A message that the framework could not read never reached a handler, and it says so with words of its own: instead the
/// caller gets the refusal that any other bad input gets.
fn in_own_words(response: http::Response<Body>) -> http::Response<Body> {
    let unread = Status::from_header_map(response.headers()).is_some_and(|status| {
        status.details().is_empty() && matches!(status.code(), Code::Internal | Code::OutOfRange)
    });
    if unread {
        Status::from(Refusal::malformed(
            "message",
            RuleBroken("the method's message, within the listener's limit of bytes"),
        ))
        .into_http()
    } else {
        response
    }
}

impl<S, B> Service<http::Request<B>> for Authorised<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future =
        Either<TaskLocalFuture<Language, MapOk<S::Future, ToOwnWords>>, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let language = Language::preferred(request.headers());
        match self.authorise.decide(&request) {
            Ok(permit) => {
                request.extensions_mut().insert(Arc::new(permit));
                Either::Left(language.run(self.inner.call(request).map_ok(in_own_words as ToOwnWords)))
            }
            Err(reason) => {
                let status = language.within(|| Status::from(Refusal::new(reason)));
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}
