//! Who the embassy is and how it is, for everybody who was let in.

use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    client::api::{self, You},
    service::{
        App,
        peer::{Caller, Exchange},
        policy::Act as Asked,
        problem::Problem,
    },
};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(status))
}

/// Who this embassy says it is, how it is, and whom it takes you for.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "embassy",
    responses((status = 200, body = api::Status), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn status(State(app): State<App>, caller: Caller) -> Result<Json<api::Status>, Problem> {
    app.ask(&caller, Asked::Look)?;
    // A TPM that is away is no reason to say nothing.
    let asked = app.machine(|tpm| Ok((tpm.clock()?, tpm.charter_pin()?))).await.ok();
    let (clock, pinned) = asked.unzip();
    let trust = app.trust().get();
    let parts = trust.charter().charter().parts();
    Ok(Json(api::Status {
        embassy: app.embassy().to_string(),
        country: parts.country.to_string(),
        mode: "serving".to_owned(),
        charter: trust.charter().id().to_string(),
        charter_version: parts.version,
        charter_hash: trust.charter().hash().to_string(),
        pinned_version: pinned.and_then(|pinned| trust.charter().find(&pinned)).map(|known| known.version),
        pinned_hash: pinned.map(|pinned| pinned.to_string()),
        revocation_list: trust.revocations().number(),
        revocation_list_until: trust.revocations().until().0,
        reset_count: clock.map(|clock| clock.reset_count),
        restart_count: clock.map(|clock| clock.restart_count),
        roll_size: app.store().roll_size().await?,
        leases: u64::try_from(app.leases().standing()).unwrap_or(u64::MAX),
        key_memory: app.leases().arena().protection().to_string(),
        last_beat_seconds: app.leases().last_beat().map(|(_, age)| age.as_secs()),
        now: app.now().0,
        you: You {
            role: caller.role().to_string(),
            name: caller.name().to_string(),
            hybrid: caller.exchange() == Exchange::Hybrid,
        },
    }))
}
