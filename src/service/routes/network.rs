//! What everybody checks the embassy by: the charters and home's revocation list. Read by all, brought by few.
//!
//! Nobody has to be believed: a charter carries the signatures that make it one, a list home's. What is taken is durable, with
//! its entry in the roll, before it is in force.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    client::api::{self, CharterPage, DocumentBody, RevocationList, Taken},
    protocol::{
        certificate::UnixTime,
        charter::{Authority, SignedCharter},
        hash::Hash,
        roll::{Act, Entry, Who},
        wire::Document,
    },
    service::{
        App,
        boot::{charter_key, list_key},
        peer::Caller,
        policy::Act as Asked,
        problem::{Code, Problem},
        routes::{Body, InQuery},
        trust::{InForce, TrustError},
    },
    store::{Batch, Kind, Put, Store},
};

/// The most bytes of charters in one answer.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(charters, take_charter)).routes(routes!(revocations, take_revocations))
}

/// From which version on.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Since {
    /// The first version to send; 1 by default.
    from: Option<u32>,
}

/// The chain of charters.
#[utoipa::path(
    get,
    path = "/v1/charters",
    tag = "network",
    params(Since),
    responses((status = 200, body = CharterPage), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn charters(
    State(app): State<App>,
    caller: Caller,
    InQuery(asked): InQuery<Since>,
) -> Result<Json<CharterPage>, Problem> {
    app.ask(&caller, Asked::Look)?;
    let after = asked.from.and_then(|from| from.checked_sub(1)).map(|before| charter_key(before).id);
    let rows = app.store().list(Kind::Charter, after.as_deref(), crate::store::MAX_ROWS).await?;
    let mut room = PAGE_BYTES;
    let documents = rows
        .into_iter()
        .take_while(|(_, record)| {
            let fits = room >= record.bytes.len();
            room = room.saturating_sub(record.bytes.len());
            fits
        })
        .map(|(_, record)| DocumentBody::of_bytes(&record.bytes))
        .collect();
    Ok(Json(CharterPage { documents, in_force: app.trust().get().charter().charter().parts().version }))
}

/// Takes the successor of the charter in force.
#[utoipa::path(
    post,
    path = "/v1/charters",
    tag = "network",
    request_body = DocumentBody,
    responses((status = 200, body = Taken), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn take_charter(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<DocumentBody>,
) -> Result<Json<Taken>, Problem> {
    app.ask(&caller, Asked::TakeCharter)?;
    let signed: SignedCharter = body.read()?;
    let (hash, version) = (signed.unverified().hash(), signed.unverified().parts().version);
    let taken = |new| Ok(Json(Taken { id: hash.to_string(), new }));
    // One after the other: each is judged against its predecessor.
    let _turn = app.turn().await;
    let trust = app.trust().get();
    if let Some(record) = app.store().get(&charter_key(version)).await? {
        let known = SignedCharter::decode(&record.bytes).is_ok_and(|known| known.unverified().hash() == hash);
        let other = "another charter of this version was taken before: somebody shows an old or another charter";
        return if known { taken(false) } else { Err(Code::Older.because(other)) };
    }
    let next = signed.succeed(trust.charter())?;
    let recovery_alone = matches!(next.authority(), Authority::RecoveryAlone(_));
    let bytes = next.signed().encode();
    let custody = app.custody_of(&next)?;
    let Some(trust) = trust.with_charter(next)? else { return taken(false) };
    let act = Act::CharterTaken { version, charter: hash, recovery_alone };
    app.save(vec![Put { key: charter_key(version), expected: None, bytes }], vec![(caller.who()?, act)]).await?;
    app.enforce(trust, custody);
    tracing::info!(version, %hash, recovery_alone, "a charter came into force");
    taken(true)
}

/// Home's revocation list in force.
#[utoipa::path(
    get,
    path = "/v1/revocations",
    tag = "network",
    responses((status = 200, body = RevocationList), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn revocations(State(app): State<App>, caller: Caller) -> Result<Json<RevocationList>, Problem> {
    app.ask(&caller, Asked::Look)?;
    let trust = app.trust().get();
    let DocumentBody { document } = DocumentBody::of_bytes(trust.list());
    let list = trust.revocations();
    Ok(Json(RevocationList { document, number: list.number(), until: list.until().0 }))
}

/// Takes home's next revocation list. Connections of those on it end at once.
#[utoipa::path(
    post,
    path = "/v1/revocations",
    tag = "network",
    request_body = DocumentBody,
    responses((status = 200, body = Taken), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn take_revocations(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<DocumentBody>,
) -> Result<Json<Taken>, Problem> {
    app.ask(&caller, Asked::TakeRevocations)?;
    app.take_list(&body.bytes()?, caller.who()?).await.map(Json)
}

impl App {
    /// Takes home's next list, whoever brings it.
    ///
    /// # Errors
    /// A [`Problem`] for a list that is not home's, or lower than one that was seen.
    pub(crate) async fn take_list(&self, list: &[u8], by: Who) -> Result<Taken, Problem> {
        let _turn = self.turn().await;
        take_list(self.store().as_ref(), self.trust(), list, by, self.now()).await
    }
}

/// Takes home's next list: durable, with its entry in the roll, before it is in force. One at a time.
///
/// # Errors
/// A [`Problem`] for a list that is not home's, or lower than one that was seen.
pub(crate) async fn take_list(
    store: &dyn Store,
    in_force: &InForce,
    list: &[u8],
    by: Who,
    at: UnixTime,
) -> Result<Taken, Problem> {
    let trust = in_force.get();
    let Some(next) = trust.with_list(list)? else {
        return Ok(Taken { id: trust.revocations().number().to_string(), new: false });
    };
    let number = next.revocations().number();
    let expected = store.get(&list_key()).await?.map(|record| record.version);
    let act = Act::RevocationsTaken { number, list: Hash::of_bytes(list) };
    let puts = vec![Put { key: list_key(), expected, bytes: list.to_vec() }];
    store.commit(Batch { puts, entries: vec![Entry { at, by, act }.encode()] }).await?;
    in_force.set(next);
    tracing::info!(number, "home's revocation list is in force");
    Ok(Taken { id: number.to_string(), new: true })
}

impl From<TrustError> for Problem {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Chain(error) => error.into(),
            TrustError::OlderList { .. } => Code::Older.because(error),
            TrustError::TwoLists { .. } => Code::Conflict.because(error).who("the home authority"),
            other => Code::Refused.because(other),
        }
    }
}
