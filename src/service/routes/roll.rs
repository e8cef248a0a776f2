//! The roll, read: every act that happened here, in order, for those who answer for the embassy and those who check it.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    client::api::{self, DocumentBody, Line, RollEntry, RollPage},
    protocol::{roll::Entry, wire::Document},
    service::{App, peer::Caller, policy::Act as Asked, problem::Problem, routes::InQuery},
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(roll))
}

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Stretch {
    /// The first one; 0 by default.
    from: Option<u64>,
    /// How many at most; 100 by default, 256 at most.
    limit: Option<u32>,
}

/// Entries of the roll.
#[utoipa::path(
    get,
    path = "/v1/roll",
    tag = "roll",
    params(Stretch),
    responses((status = 200, body = RollPage), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn roll(
    State(app): State<App>,
    caller: Caller,
    InQuery(asked): InQuery<Stretch>,
) -> Result<Json<RollPage>, Problem> {
    app.ask(&caller, Asked::ReadRoll)?;
    let size = app.store().roll_size().await?;
    let rows = app.store().roll(asked.from.unwrap_or(0), asked.limit.unwrap_or(100)).await?;
    let entries = rows
        .into_iter()
        .map(|row| RollEntry {
            sequence: row.sequence,
            leaf: row.leaf.to_string(),
            document: DocumentBody::of_bytes(&row.bytes).document,
            // An entry of a newer version is handed on as it is.
            lines: Entry::decode(&row.bytes).map(|entry| Line::of(entry.lines())).unwrap_or_default(),
        })
        .collect();
    Ok(Json(RollPage { size, entries }))
}
