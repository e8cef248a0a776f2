//! Dataset versions: the recipients that agents encrypt to, with every slot, as data owners signed them.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    client::api::{self, DatasetLine, DatasetPage, DocumentBody, Taken},
    protocol::{
        dataset_version::{DatasetVersionRecord, SeenVersion, VersionError},
        hash::Hash,
        ids::{DatasetName, DatasetVersion},
        roll::Act,
        wire::Document,
    },
    service::{
        App,
        peer::Caller,
        policy::Act as Asked,
        problem::{Code, Problem},
        routes::{Body, InPath, InQuery},
        versions,
    },
    store::{Kind, Put},
};

/// The most versions in one answer.
const PAGE: u32 = 64;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(datasets, take_dataset)).routes(routes!(dataset))
}

/// Where to go on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct After {
    /// `next` of the answer before.
    after: Option<String>,
}

/// Every version of every dataset.
#[utoipa::path(
    get,
    path = "/v1/datasets",
    tag = "datasets",
    params(After),
    responses((status = 200, body = DatasetPage), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn datasets(
    State(app): State<App>,
    caller: Caller,
    InQuery(asked): InQuery<After>,
) -> Result<Json<DatasetPage>, Problem> {
    app.ask(&caller, Asked::ReadDatasets)?;
    let rows = app.store().list(Kind::DatasetVersion, asked.after.as_deref(), PAGE).await?;
    let next = rows.last().map(|(id, _)| id.clone());
    let mut listed = Vec::new();
    for (_, row) in rows {
        let record = DatasetVersionRecord::decode(&row.bytes)
            .map_err(|_| Code::Store.because("a stored dataset version does not read"))?;
        let description = record.unverified();
        listed.push(DatasetLine {
            dataset: description.dataset.to_string(),
            version: description.version.get(),
            owner: description.owner.to_string(),
            generation: record.unverified_generation().get(),
            recipient: description.recipient.to_string(),
            record: Hash::of_bytes(&row.bytes).to_string(),
        });
    }
    Ok(Json(DatasetPage { versions: listed, next }))
}

/// One version with its slots, as its data owner signed it.
#[utoipa::path(
    get,
    path = "/v1/datasets/{name}/{version}",
    tag = "datasets",
    params(("name" = String, Path, description = "The dataset"), ("version" = u32, Path, description = "The version, from 1")),
    responses((status = 200, body = DocumentBody), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn dataset(
    State(app): State<App>,
    caller: Caller,
    InPath((name, version)): InPath<(String, u32)>,
) -> Result<Json<DocumentBody>, Problem> {
    app.ask(&caller, Asked::ReadDatasets)?;
    let missing = || Code::NotFound.because("there is no such dataset version here");
    let (name, version) =
        (DatasetName::new(&name).map_err(|_| missing())?, DatasetVersion::new(version).ok_or_else(missing)?);
    let record = app.store().get(&versions::key(&name, version)).await?.ok_or_else(missing)?;
    Ok(Json(DocumentBody::of_bytes(&record.bytes)))
}

/// Takes a version that its data owner made and signed.
#[utoipa::path(
    post,
    path = "/v1/datasets",
    tag = "datasets",
    request_body = DocumentBody,
    responses((status = 200, body = Taken), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn take_dataset(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<DocumentBody>,
) -> Result<Json<Taken>, Problem> {
    let record: DatasetVersionRecord = body.read()?;
    let (name, version) = (record.unverified().dataset.clone(), record.unverified().version);
    let owner = app.owner_of(&name)?;
    app.ask(&caller, Asked::TakeDataset { dataset: &name, owner: &owner })?;
    let (key, bytes) = (versions::key(&name, version), record.encode());
    let hash = Hash::of_bytes(&bytes);
    if let Some(known) = app.store().get(&key).await? {
        if known.bytes == bytes {
            return Ok(Json(Taken { id: hash.to_string(), new: false }));
        }
        return Err(VersionError::TwoRecipients { version }.into());
    }
    let verified = app.verify_version(record).await?;
    let newest = app.newest_version(&name).await?;
    let seen = newest.as_ref().map(|newest| {
        let known = newest.unverified();
        SeenVersion {
            charter: known.charter,
            dataset: known.dataset.clone(),
            version: known.version,
            recipient: known.recipient.clone(),
        }
    });
    if let Some(seen) = seen.filter(|seen| version <= seen.version) {
        return Err(VersionError::Lower { seen: seen.version, offered: version }.into());
    }
    let act = Act::DatasetTaken { dataset: name.clone(), version, record: hash };
    app.save(vec![Put { key, expected: None, bytes }], vec![(caller.who()?, act)]).await?;
    app.versions().keep(verified);
    tracing::info!(dataset = %name, version = version.get(), "a dataset version was taken");
    Ok(Json(Taken { id: hash.to_string(), new: true }))
}

impl From<VersionError> for Problem {
    fn from(error: VersionError) -> Self {
        match error {
            VersionError::Lower { .. } => Code::Older.because(error),
            VersionError::TwoRecipients { .. } => Code::Conflict.because(error).who("the data owner"),
            other => Code::Refused.because(other),
        }
    }
}
