//! `lockstep.lock.v1.LockService`.
//!
//! Invariant: what comes in is checked whole before any part of it is carried out.

use std::{cmp::Reverse, sync::Arc};

use lockstep_model::{
    Answer, Command, LockAnswer, LockName, LockQuery, Priority, Query, Refusal, Reply,
    SessionAnswer, SessionCommand, SessionId, SessionQuery, SessionRefusal, SessionReply,
    locks::deadlock::MAX_REMEMBERED, locks::query::LockView, page::Page, request::RequestId,
    session::EndReason,
};
use lockstep_proto::lock::v1::{self as pb, lock_service_server::LockService};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{convert, detached::detached, operation, watch};
use crate::api::{
    error::Fault,
    everywhere::everywhere,
    stream::{self, acked, acked_below, session_id, unary_serial},
};
use crate::{
    entry::Entry,
    router::{RouteError, Router, unexpected},
};

/// Serves clients' locks and sessions.
#[derive(Clone)]
pub struct LockServer {
    /// The way in.
    pub entry: Entry,
    /// Cancelled when the node stops.
    pub stop: CancellationToken,
}

impl LockServer {
    fn router(&self) -> Result<Arc<Router>, Fault> {
        self.entry.router()
    }
}

fn request_id(
    session: u64,
    serial: u64,
    bound: u64,
    ranges: &[pb::SerialRange],
) -> Result<RequestId, Fault> {
    let serial = unary_serial(serial)?;
    let acked_below = acked_below(bound, serial)?;
    Ok(RequestId {
        session: session_id(session)?,
        serial,
        acked_below,
        acked: acked(ranges, acked_below, serial)?,
    })
}

#[tonic::async_trait]
impl LockService for LockServer {
    type SessionStream = ReceiverStream<Result<pb::SessionResponse, Status>>;
    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        let request = request.into_inner();
        let router = self.router()?;
        let ttl = convert::ttl(request.ttl_ms)?;
        let session = SessionId(rand::random::<u64>().max(1));
        let command = Command::Session(SessionCommand::Open {
            session,
            ttl,
            priority: Priority(request.priority),
            labels: convert::labels(request.labels)?,
        });
        let home = router.directory().home_of(session);
        let epoch = match router.command(home, command).await.map_err(Fault::from)? {
            Reply::Session(SessionReply::Opened { epoch, .. }) => epoch.0,
            // The first attempt's answer was lost: the random id says that this is ours.
            Reply::Refused(Refusal::Session(SessionRefusal::SessionExists { .. })) => 1,
            Reply::Refused(refusal) => return Err(Fault::from(refusal).into()),
            other => return Err(Fault::from(unexpected(&other)).into()),
        };
        Ok(Response::new(pb::OpenSessionResponse {
            session_id: session.0,
            ttl_ms: ttl.0,
            epoch,
        }))
    }

    async fn keep_alive(
        &self,
        request: Request<pb::KeepAliveRequest>,
    ) -> Result<Response<pb::KeepAliveResponse>, Status> {
        let session = session_id(request.into_inner().session_id)?;
        let ttl = self
            .router()?
            .keep_alive(session)
            .await
            .map_err(Fault::from)?;
        Ok(Response::new(pb::KeepAliveResponse { ttl_ms: ttl.0 }))
    }

    async fn close_session(
        &self,
        request: Request<pb::CloseSessionRequest>,
    ) -> Result<Response<pb::CloseSessionResponse>, Status> {
        let request = request.into_inner();
        let session = session_id(request.session_id)?;
        let router = self.router()?;
        let home = router.directory().home_of(session);
        let command = if request.at_once {
            let reason = EndReason::Closed;
            Command::Session(SessionCommand::End { session, reason })
        } else {
            Command::Session(SessionCommand::Revoke { session })
        };
        match router.command(home, command).await.map_err(Fault::from)? {
            Reply::Done => Ok(Response::new(pb::CloseSessionResponse { lease_ms: 0 })),
            Reply::Session(SessionReply::Revoked { lease }) => {
                let lease_ms = lease.0;
                Ok(Response::new(pb::CloseSessionResponse { lease_ms }))
            }
            Reply::Refused(refusal) => Err(Fault::from(refusal).into()),
            other => Err(Fault::from(unexpected(&other)).into()),
        }
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        let request = request.into_inner();
        let router = self.router()?;
        let limit = convert::page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(SessionId(u64::from_str_radix(token, 16).map_err(|_| {
                Fault::invalid("page_token", "must be the next_page_token of a page")
            })?)),
        };
        let query = Query::Session(SessionQuery::Sessions { after, limit });
        let mut pages = Vec::new();
        for answer in everywhere(&router, &query).await? {
            if let (_, Answer::Session(SessionAnswer::Sessions(page))) = answer {
                pages.push(page);
            }
        }
        let page = Page::merge(pages, limit, |session| session.session);
        let next = page.rows.last().filter(|_| page.more);
        let next = next.map(|session| session.session.to_string());
        Ok(Response::new(pb::ListSessionsResponse {
            sessions: page.rows.into_iter().map(convert::session_info).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let router = self.router()?;
        let stop = self.stop.child_token();
        Ok(Response::new(stream::serve(
            router,
            request.into_inner(),
            stop,
        )))
    }

    async fn acquire(
        &self,
        request: Request<pb::AcquireRequest>,
    ) -> Result<Response<pb::AcquireResponse>, Status> {
        let request = request.into_inner();
        let id = request_id(
            request.session_id,
            request.serial,
            request.acked_below,
            &request.acked,
        )?;
        let acquisition = operation::acquisition(id, request.operation)?;
        let grants = detached(self.router()?, acquisition).await?;
        Ok(Response::new(pb::AcquireResponse {
            grants: grants.iter().map(convert::grant).collect(),
        }))
    }

    async fn abandon(
        &self,
        request: Request<pb::AbandonRequest>,
    ) -> Result<Response<pb::AbandonResponse>, Status> {
        let request = request.into_inner();
        let session = session_id(request.session_id)?;
        let serial = stream::serial(request.serial)?;
        let router = self.router()?;
        operation::abandon(&router, session, serial, &request.names).await?;
        Ok(Response::new(pb::AbandonResponse {}))
    }

    async fn release(
        &self,
        request: Request<pb::ReleaseRequest>,
    ) -> Result<Response<pb::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let id = request_id(
            request.session_id,
            request.serial,
            request.acked_below,
            &request.acked,
        )?;
        let router = self.router()?;
        let holds = operation::release(&router, id, request.operation).await?;
        Ok(Response::new(pb::ReleaseResponse { holds }))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let request = request.into_inner();
        let session = session_id(request.session_id)?;
        let router = self.router()?;
        let ttl = operation::renew(&router, session, request.operation).await?;
        Ok(Response::new(pb::RenewResponse { ttl_ms: ttl.0 }))
    }

    async fn upgrade(
        &self,
        request: Request<pb::UpgradeRequest>,
    ) -> Result<Response<pb::UpgradeResponse>, Status> {
        let request = request.into_inner();
        let id = request_id(
            request.session_id,
            request.serial,
            request.acked_below,
            &request.acked,
        )?;
        let router = self.router()?;
        let grant = operation::upgrade(&router, id, request.operation).await?;
        Ok(Response::new(pb::UpgradeResponse {
            grant: Some(convert::grant(&grant)),
        }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let request = request.into_inner();
        let id = request_id(
            request.session_id,
            request.serial,
            request.acked_below,
            &request.acked,
        )?;
        let router = self.router()?;
        let token = operation::downgrade(&router, id, request.operation).await?;
        Ok(Response::new(pb::DowngradeResponse { token: token.0 }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let request = request.into_inner();
        let id = request_id(
            request.session_id,
            request.serial,
            request.acked_below,
            &request.acked,
        )?;
        let router = self.router()?;
        operation::proclaim(&router, id, request.operation).await?;
        Ok(Response::new(pb::ProclaimResponse {}))
    }

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let stop = self.stop.child_token();
        let news = watch::serve(self.router()?, request.into_inner(), stop)?;
        Ok(Response::new(news))
    }

    async fn list_deadlocks(
        &self,
        _request: Request<pb::ListDeadlocksRequest>,
    ) -> Result<Response<pb::ListDeadlocksResponse>, Status> {
        let router = self.router()?;
        let mut total = 0;
        let mut deadlocks = Vec::new();
        for answer in everywhere(&router, &Query::Lock(LockQuery::Deadlocks)).await? {
            if let (_, Answer::Lock(LockAnswer::Deadlocks { count, last })) = answer {
                total += count;
                deadlocks.extend(last);
            }
        }
        deadlocks.sort_by_key(|deadlock| Reverse(deadlock.at));
        let last = deadlocks.iter().take(MAX_REMEMBERED);
        Ok(Response::new(pb::ListDeadlocksResponse {
            deadlocks: last.map(convert::deadlock).collect(),
            count: total,
        }))
    }

    async fn validate(
        &self,
        request: Request<pb::ValidateRequest>,
    ) -> Result<Response<pb::ValidateResponse>, Status> {
        let request = request.into_inner();
        let name = convert::name("name", &request.name)?;
        let token = convert::token("token", request.token)?;
        let router = self.router()?;
        let valid = operation::valid(&router, name, token, None).await?;
        Ok(Response::new(pb::ValidateResponse { valid }))
    }

    async fn get_lock(
        &self,
        request: Request<pb::GetLockRequest>,
    ) -> Result<Response<pb::GetLockResponse>, Status> {
        let name = convert::name("name", &request.into_inner().name)?;
        let router = self.router()?;
        let shard = router.directory().shard_of_lock(&name);
        match router
            .query(shard, Query::Lock(LockQuery::Lock { name }))
            .await
            .map_err(Fault::from)?
        {
            Answer::Lock(LockAnswer::Lock(view)) => Ok(Response::new(pb::GetLockResponse {
                lock: Some(convert::lock_info(shard.0, view)),
            })),
            _ => Err(wrong_answer().into()),
        }
    }

    async fn list_locks(
        &self,
        request: Request<pb::ListLocksRequest>,
    ) -> Result<Response<pb::ListLocksResponse>, Status> {
        let request = request.into_inner();
        let router = self.router()?;
        let limit = convert::page_size(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(LockName::new(token).map_err(|_| {
                Fault::invalid("page_token", "must be the next_page_token of a page")
            })?),
        };
        if request.prefix.len() > lockstep_model::id::MAX_LOCK_NAME_BYTES {
            return Err(Fault::invalid("prefix", "is longer than any lock's name").into());
        }
        let query = Query::Lock(LockQuery::Locks {
            prefix: request.prefix,
            after,
            limit,
        });
        let mut pages = Vec::new();
        for (_, answer) in everywhere(&router, &query).await? {
            if let Answer::Lock(LockAnswer::Locks(page)) = answer {
                pages.push(page);
            }
        }
        let page = Page::merge(pages, limit, |view| view.name.clone());
        let next = page.rows.last().filter(|_| page.more);
        let next = next.map(|view| view.name.as_str().to_owned());
        let shard_of = |view: &LockView| router.directory().shard_of_lock(&view.name);
        let locks = page.rows.into_iter();
        Ok(Response::new(pb::ListLocksResponse {
            locks: locks
                .map(|view| convert::lock_info(shard_of(&view).0, view))
                .collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }
}

fn wrong_answer() -> Fault {
    RouteError::Incompatible {
        what: "a wrong kind of answer".to_owned(),
    }
    .into()
}
