//! The API of a founding: status, charters, the board.

use axum::{
    Json,
    extract::{DefaultBodyLimit, State},
};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    client::{
        api::{CharterPage, DocumentBody, Problem as ProblemBody, Status, You},
        genesis::{BoardPage, GenesisView, Heard},
    },
    protocol::{ceremony::genesis::Message, ids::OfficialName, wire::Document},
    service::{
        genesis::Founding,
        peer::{Caller, Door, Exchange},
        policy::Act,
        problem::{Code, Problem},
        routes::{Body, InQuery, MAX_REQUEST_BYTES},
    },
};

/// The most bytes of posts in one answer, before base64.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<Founding> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(charters))
        .routes(routes!(genesis))
        .routes(routes!(board, say))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
}

/// Who this embassy says it is, and that it is being founded.
#[utoipa::path(get, path = "/v1/status", tag = "embassy",
    responses((status = 200, body = Status), (status = "4XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn status(State(founding): State<Founding>, caller: Caller) -> Result<Json<Status>, Problem> {
    founding.ask(&caller, Act::Look)?;
    let trust = founding.trust().get();
    let charter = founding.charter();
    let parts = charter.charter().parts();
    Ok(Json(Status {
        embassy: founding.embassy().to_string(),
        country: parts.country.to_string(),
        mode: "founding".to_owned(),
        charter: charter.id().to_string(),
        charter_version: parts.version,
        charter_hash: charter.hash().to_string(),
        pinned_version: None,
        pinned_hash: None,
        revocation_list: trust.revocations().number(),
        revocation_list_until: trust.revocations().until().0,
        reset_count: None,
        restart_count: None,
        roll_size: founding.store().roll_size().await?,
        leases: 0,
        // There are no keys to keep yet.
        key_memory: "none".to_owned(),
        last_beat_seconds: None,
        now: founding.now().0,
        you: You {
            role: caller.role().to_string(),
            name: caller.name().to_string(),
            hybrid: caller.exchange() == Exchange::Hybrid,
        },
    }))
}

/// From which on.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct From {
    /// The first version, or post.
    #[serde(default)]
    from: u64,
}

/// The network's charters, from a version on.
#[utoipa::path(get, path = "/v1/charters", tag = "network", params(From),
    responses((status = 200, body = CharterPage), (status = "4XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn charters(
    State(founding): State<Founding>,
    caller: Caller,
    InQuery(From { from }): InQuery<From>,
) -> Result<Json<CharterPage>, Problem> {
    founding.ask(&caller, Act::Look)?;
    let chain = founding.chain();
    let in_force = chain.last().map_or(0, |last| last.charter().parts().version);
    let later = chain.iter().filter(|charter| u64::from(charter.charter().parts().version) >= from);
    Ok(Json(CharterPage { documents: later.map(|charter| DocumentBody::of(charter.signed())).collect(), in_force }))
}

/// Where the founding stands.
#[utoipa::path(get, path = "/v1/genesis", tag = "genesis",
    responses((status = 200, body = GenesisView), (status = "4XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn genesis(State(founding): State<Founding>, caller: Caller) -> Result<Json<GenesisView>, Problem> {
    founding.ask(&caller, Act::ReadGenesis)?;
    Ok(Json(founding.view().await))
}

/// The board's posts.
#[utoipa::path(get, path = "/v1/genesis/messages", tag = "genesis", params(From),
    responses((status = 200, body = BoardPage), (status = "4XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn board(
    State(founding): State<Founding>,
    caller: Caller,
    InQuery(From { from }): InQuery<From>,
) -> Result<Json<BoardPage>, Problem> {
    founding.ask(&caller, Act::ReadGenesis)?;
    let (posts, size) = founding.posts(from, PAGE_BYTES).await;
    Ok(Json(BoardPage { from, posts: posts.iter().map(|post| DocumentBody::of_bytes(post)).collect(), size }))
}

/// Says something on the board: a message (chancery/v1/genesis/message).
#[utoipa::path(post, path = "/v1/genesis/messages", tag = "genesis", request_body = DocumentBody,
    responses((status = 200, body = Heard), (status = "4XX", body = ProblemBody, content_type = "application/problem+json")))]
async fn say(
    State(founding): State<Founding>,
    caller: Caller,
    Body(body): Body<DocumentBody>,
) -> Result<Json<Heard>, Problem> {
    founding.ask(&caller, Act::PostGenesis)?;
    let from = OfficialName::new(caller.name().as_str()).map_err(|error| Code::Role.because(error))?;
    let bytes = body.bytes()?;
    let message = Message::decode(&bytes).map_err(|error| Code::Malformed.because(error))?;
    if matches!(message, Message::Charter(_)) {
        founding.ask(&caller, Act::SignCharter)?;
    }
    Ok(Json(founding.hear(from, message).await?))
}
