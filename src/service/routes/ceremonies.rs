//! Ceremonies over HTTP: opened, watched, contributed to, denied, stopped. What decides is in the documents, which are signed;
//! a request only carries them, and the same document again changes nothing.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    extract::State,
    response::sse::{Event as Sent, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use tokio_stream::wrappers::WatchStream;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    client::{
        api::{self, DocumentBody, Taken},
        ceremonies::{CeremonyAnswer, CeremonyPage, CeremonyView},
        release::ReleaseBody,
    },
    protocol::{
        ceremony::{Event, Reply},
        ids::{CeremonyId, DatasetName},
        statement::{Mode, SignedStatement, Statement},
    },
    service::{
        App,
        peer::Caller,
        policy::{Act as Asked, CeremonyFacts, Mode as AskedMode},
        problem::{Code, Problem},
        routes::{Body, InPath, InQuery},
    },
};

/// The most ceremonies that are over in one answer.
const PAGE: u32 = 64;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(ceremonies, open))
        .routes(routes!(ceremony))
        .routes(routes!(offer))
        .routes(routes!(events))
        .routes(routes!(release))
        .routes(routes!(contribute))
        .routes(routes!(deny))
        .routes(routes!(stop))
}

/// An id as it stands in a path: 64 hexadecimal digits, in the one form.
pub(crate) fn id(text: &str) -> Result<CeremonyId, Problem> {
    let missing = |_| Code::NotFound.because("a ceremony's id is 64 hexadecimal digits in lower case");
    text.parse().map(CeremonyId).map_err(missing)
}

impl App {
    /// What the policy looks at in a ceremony.
    pub(crate) fn facts_of(&self, statement: &Statement) -> CeremonyFacts {
        let trust = self.trust().get();
        let datasets: Vec<DatasetName> = statement.datasets().iter().map(|at| at.dataset.clone()).collect();
        // Whoever home does not vouch for now is no recipient; the ceremony stays a release.
        let recipient = self.recipient_of(statement).map(|recipient| {
            let identity = recipient.identity();
            (identity.role, identity.name.clone())
        });
        let mode = match statement.mode() {
            Mode::Lease(_) => AskedMode::Lease,
            Mode::Release { .. } => AskedMode::Release,
            Mode::Adoption(_) => AskedMode::Amendment,
        };
        CeremonyFacts { mode, ..CeremonyFacts::new(statement.id(), &datasets, recipient, trust.charter().charter()) }
    }
}

/// Where to go on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct After {
    /// `next` of the answer before.
    after: Option<String>,
}

/// Ceremonies that you may watch: first all that go on, then those that are over.
#[utoipa::path(
    get,
    path = "/v1/ceremonies",
    tag = "ceremonies",
    params(After),
    responses((status = 200, body = CeremonyPage), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn ceremonies(
    State(app): State<App>,
    caller: Caller,
    InQuery(asked): InQuery<After>,
) -> Result<Json<CeremonyPage>, Problem> {
    app.ask(&caller, Asked::List)?;
    let (seen, next) = app.list_ceremonies(asked.after.as_deref(), PAGE).await?;
    let may_watch = |view: &CeremonyView| {
        let statement = view.statement.read::<SignedStatement>();
        statement.is_ok_and(|statement| {
            app.ask(&caller, Asked::WatchCeremony(&app.facts_of(statement.unverified()))).is_ok()
        })
    };
    Ok(Json(CeremonyPage { ceremonies: seen.into_iter().filter(may_watch).collect(), next }))
}

/// Opens a ceremony with a statement that its opener signed.
#[utoipa::path(
    post,
    path = "/v1/ceremonies",
    tag = "ceremonies",
    request_body = DocumentBody,
    responses((status = 200, body = Taken), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn open(State(app): State<App>, caller: Caller, Body(body): Body<DocumentBody>) -> Result<Json<Taken>, Problem> {
    let signed: SignedStatement = body.read()?;
    let (mode, lease_seconds, unwraps) = match signed.unverified().mode() {
        Mode::Lease(terms) => (AskedMode::Lease, terms.duration_seconds, terms.unwraps),
        Mode::Release { .. } => (AskedMode::Release, 0, 0),
        Mode::Adoption(_) => (AskedMode::Amendment, 0, 0),
    };
    app.ask(&caller, Asked::OpenCeremony { mode, lease_seconds, unwraps })?;
    let (id, new) = app.open_ceremony(signed).await?;
    Ok(Json(Taken { id: id.to_string(), new }))
}

/// A ceremony as it stands.
#[utoipa::path(
    get,
    path = "/v1/ceremonies/{id}",
    tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony: SHA-256 of its statement, in hexadecimal")),
    responses((status = 200, body = CeremonyView), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn ceremony(
    State(app): State<App>,
    caller: Caller,
    InPath(named): InPath<String>,
) -> Result<Json<CeremonyView>, Problem> {
    let id = may_watch(&app, &caller, &named).await?;
    app.see(id).await.map(Json)
}

/// The offer that officials can contribute to, or that was opened.
#[utoipa::path(
    get,
    path = "/v1/ceremonies/{id}/offer",
    tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony")),
    responses((status = 200, body = DocumentBody), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn offer(
    State(app): State<App>,
    caller: Caller,
    InPath(named): InPath<String>,
) -> Result<Json<DocumentBody>, Problem> {
    let id = may_watch(&app, &caller, &named).await?;
    Ok(Json(DocumentBody::of(&app.offer(id).await?)))
}

/// What was released, for the recipient that the statement names.
#[utoipa::path(
    get,
    path = "/v1/ceremonies/{id}/release",
    tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony")),
    responses((status = 200, body = ReleaseBody), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn release(
    State(app): State<App>,
    caller: Caller,
    InPath(named): InPath<String>,
) -> Result<Json<ReleaseBody>, Problem> {
    let id = id(&named)?;
    let statement = app.statement(id).await?;
    app.ask(&caller, Asked::FetchRelease(&app.facts_of(&statement)))?;
    // It is sealed to the recipient's key, and travels over a hybrid exchange all the same.
    caller.over_hybrid()?;
    app.release(id, caller.who()?).await.map(Json)
}

/// Tells of every change, beginning with how it stands now, until it is over.
#[utoipa::path(
    get,
    path = "/v1/ceremonies/{id}/events",
    tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony")),
    responses(
        (status = 200, body = CeremonyView, content_type = "text/event-stream", description = "Each event's data is a CeremonyView"),
        (status = "4XX", body = api::Problem, content_type = "application/problem+json")
    )
)]
async fn events(
    State(app): State<App>,
    caller: Caller,
    InPath(named): InPath<String>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let id = may_watch(&app, &caller, &named).await?;
    let seen = match app.watch(id) {
        // The first item is how it stands now; the last, how it ended.
        Some(watched) => WatchStream::new(watched).left_stream(),
        None => stream::iter([app.see(id).await?]).right_stream(),
    };
    let sent = seen.map(|view| {
        let data = serde_json::to_string(&view).unwrap_or_default();
        Ok(Sent::default().event("ceremony").data(data))
    });
    Ok(Sse::new(sent).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

async fn may_watch(app: &App, caller: &Caller, named: &str) -> Result<CeremonyId, Problem> {
    let id = id(named)?;
    let statement = app.statement(id).await?;
    app.ask(caller, Asked::WatchCeremony(&app.facts_of(&statement)))?;
    Ok(id)
}

/// An official's contribution to the offer. Anyone of the quorum may carry it; who sealed and signed it is who counts.
#[utoipa::path(
    post,
    path = "/v1/ceremonies/{id}/contributions",
    tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony")),
    request_body = DocumentBody,
    responses((status = 200, body = CeremonyAnswer), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn contribute(
    State(app): State<App>,
    caller: Caller,
    InPath(named): InPath<String>,
    Body(body): Body<DocumentBody>,
) -> Result<Json<CeremonyAnswer>, Problem> {
    let id = id(&named)?;
    let statement = app.statement(id).await?;
    app.ask(&caller, Asked::Contribute(&app.facts_of(&statement)))?;
    told(app.tell(id, Event::Contribution(Box::new(body.read()?))).await?)
}

/// An official's vote against the ceremony.
#[utoipa::path(
    post,
    path = "/v1/ceremonies/{id}/denials",
    tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony")),
    request_body = DocumentBody,
    responses((status = 200, body = CeremonyAnswer), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn deny(
    State(app): State<App>,
    caller: Caller,
    InPath(named): InPath<String>,
    Body(body): Body<DocumentBody>,
) -> Result<Json<CeremonyAnswer>, Problem> {
    let id = id(&named)?;
    let statement = app.statement(id).await?;
    app.ask(&caller, Asked::Deny(&app.facts_of(&statement)))?;
    told(app.tell(id, Event::Denial(body.read()?)).await?)
}

/// One official's stop, which ends the ceremony.
#[utoipa::path(
    post,
    path = "/v1/ceremonies/{id}/stops",
    tag = "ceremonies",
    params(("id" = String, Path, description = "The ceremony")),
    request_body = DocumentBody,
    responses((status = 200, body = CeremonyAnswer), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn stop(
    State(app): State<App>,
    caller: Caller,
    InPath(named): InPath<String>,
    Body(body): Body<DocumentBody>,
) -> Result<Json<CeremonyAnswer>, Problem> {
    let id = id(&named)?;
    let statement = app.statement(id).await?;
    app.ask(&caller, Asked::StopCeremony(&app.facts_of(&statement)))?;
    told(app.tell(id, Event::Stop(body.read()?)).await?)
}

fn told((reply, ceremony): (Reply, CeremonyView)) -> Result<Json<CeremonyAnswer>, Problem> {
    let reply = match reply {
        Reply::Accepted { .. } => "accepted",
        Reply::AlreadyAccepted => "already-accepted",
        Reply::Taken | Reply::Done => "taken",
        Reply::Refused(refused) => return Err(refused.into()),
    };
    Ok(Json(CeremonyAnswer { reply: reply.to_owned(), ceremony }))
}
