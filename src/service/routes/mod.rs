//! The API's paths, one file per subject, and what they have in common: bounds, reading, answering, the description.

pub(in crate::service) mod ceremonies;
mod datasets;
mod network;
mod roll;
mod status;

use std::time::Duration;

use axum::{
    Json,
    extract::{DefaultBodyLimit, FromRequest, Request, rejection::JsonRejection},
    http::{StatusCode, Uri},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::service::{
    App, lease,
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
    components(schemas(crate::client::api::Problem))
)]
struct Description;

/// Every path with its description.
pub fn all() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(status::routes())
        .merge(network::routes())
        .merge(datasets::routes())
        .merge(ceremonies::routes())
        .merge(lease::routes::routes())
        .merge(roll::routes())
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
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

fn refused(rejection: &JsonRejection) -> Problem {
    let code = match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        _ => Code::Malformed,
    };
    code.because(rejection.body_text())
}
