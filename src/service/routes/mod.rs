//! The API's paths, one file per subject, and what they have in common: bounds, reading, the description.

pub(in crate::service) mod ceremonies;
mod datasets;
pub(in crate::service) mod network;
mod roll;
mod status;

use std::{sync::LazyLock, time::Duration};

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State, rejection::JsonRejection},
    http::{HeaderValue, StatusCode, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::service::{
    App, lease,
    peer::Caller,
    policy::Act as Asked,
    problem::{Code, Problem},
};

/// The longest request, in bytes: the largest document (a dataset version, or a charter with its signatures) in base64.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;

/// For a request as a whole; watching a ceremony is the exception, and sends as long as it is watched.
const REQUEST_SECONDS: u64 = 60;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "chancery, the embassy",
        description = "What officials, agents, data owners, auditors and witnesses ask of an embassy, over TLS 1.3 with \
                       client certificates that home issued. Documents travel in base64; only their own bytes are ever \
                       signed or acted upon. Each refusal is application/problem+json with a stable code.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(crate::client::api::Problem)),
    modifiers(&Mutual)
)]
struct Description;

/// Every path asks for a client certificate.
struct Mutual;

impl Modify for Mutual {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::MutualTls {
            description: Some("A certificate that the home authority issued".to_owned()),
            deprecated: None,
            extensions: None,
        };
        let components = openapi.components.get_or_insert_default();
        components.security_schemes.insert("certificate".to_owned(), scheme.into());
        openapi.security = Some(vec![SecurityRequirement::new("certificate", Vec::<String>::new())]);
    }
}

/// Every path with its description.
pub fn all() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(described))
        .merge(status::routes())
        .merge(network::routes())
        .merge(datasets::routes())
        .merge(ceremonies::routes())
        .merge(lease::routes::routes())
        .merge(roll::routes())
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
}

/// The API's description: what `docs/openapi.json` holds.
pub fn description() -> String {
    let mut described = all().into_openapi();
    // The few paths of an embassy that is being founded; those with one name in both are one.
    described.merge(crate::service::genesis::routes().into_openapi());
    described.to_pretty_json().unwrap_or_default()
}

/// This description.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    tag = "embassy",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json"), (status = "4XX", body = crate::client::api::Problem, content_type = "application/problem+json"))
)]
async fn described(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    static TEXT: LazyLock<String> = LazyLock::new(description);
    app.ask(&caller, Asked::Look)?;
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], TEXT.as_str()).into_response())
}

pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Code::NoSuchPath.because(format!("{} is not a path of the API", uri.path().escape_default()))
}

pub(super) async fn no_such_method(uri: Uri) -> Problem {
    Code::NoSuchMethod.because(format!("{} does not have this method", uri.path().escape_default()))
}

/// No request holds its place for ever, whatever it waits for. A stream that has begun is its own affair.
pub(super) async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(Duration::from_secs(REQUEST_SECONDS), next.run(request)).await {
        Ok(response) => response,
        Err(_) => Code::Timeout.because(format!("there was no answer within {REQUEST_SECONDS} s")).into_response(),
    }
}

/// A body of JSON, whose refusals are problems too.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(refused(&rejection)),
        }
    }
}

/// Parts of a path, whose refusals are problems too.
#[derive(Debug)]
pub struct InPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Code::Malformed.because(rejection.body_text())),
        }
    }
}

/// What stands behind the question mark, whose refusals are problems too.
#[derive(Debug)]
pub struct InQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Code::Malformed.because(rejection.body_text())),
        }
    }
}

fn refused(rejection: &JsonRejection) -> Problem {
    let code = match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        _ => Code::Malformed,
    };
    code.because(rejection.body_text())
}
