//! Leases over HTTP: watched, stopped, unwrapped under, and kept alive by beats. Who may do what the policy says; the lease
//! itself asks once more.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    client::{
        api::{self, DocumentBody},
        leases::{BeatQuestion, BeatTaken, LeaseList, LeaseView, LeasedDataset},
        unwrap::{FileKeyText, UnwrapRequest, Unwrapped, UnwrappedKey},
    },
    protocol::{
        beat::Beat,
        certificate::Role,
        ids::{AgentName, CeremonyId, DatasetName, WitnessName},
        lease::{LeaseEnd, LeaseState},
        notice::Stop,
        secret::SecretVec,
    },
    service::{
        App,
        lease::{
            clock::BootTime,
            error::{LeaseError, MAX_STANZAS},
            keeper::Answer,
            once::Once,
            table::{InstallError, Lease, UnwrapRefusal},
        },
        peer::{Caller, Exchange},
        policy::{Act, LeaseFacts, LeaseState as AskedState},
        problem::{Code, Problem},
        routes::{Body, ceremonies::id},
    },
};

/// Room for one answer of a batch in JSON: a key, or a sentence.
const ANSWER_BYTES: usize = 256;

pub(in crate::service) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(leases))
        .routes(routes!(lease))
        .routes(routes!(stop))
        .routes(routes!(unwrap))
        .routes(routes!(beat_question, beat))
}

fn view(lease: &Lease, now: BootTime) -> LeaseView {
    let state = match lease.state() {
        LeaseState::Live => "live",
        LeaseState::Suspended => "suspended",
        LeaseState::Ended(_) => "ended",
    };
    LeaseView {
        id: lease.ceremony().to_string(),
        state: state.to_owned(),
        why: lease.state().to_string(),
        purpose: lease.statement().map(|statement| statement.purpose().to_string()),
        datasets: lease
            .datasets()
            .iter()
            .map(|at| LeasedDataset { name: at.dataset.to_string(), version: at.version.get() })
            .collect(),
        agents: lease.terms().agents.iter().map(ToString::to_string).collect(),
        began_at: lease.began_at().0,
        duration_seconds: lease.terms().duration_seconds,
        seconds_left: lease.left(now).as_secs(),
        unwraps: lease.account().budget(),
        used: lease.account().used(),
    }
}

impl App {
    /// What the policy looks at in a lease.
    fn facts_of_lease(&self, lease: &Lease) -> LeaseFacts {
        let state = match lease.state() {
            LeaseState::Live => AskedState::Live,
            LeaseState::Suspended => AskedState::Suspended,
            LeaseState::Ended(_) => AskedState::Ended,
        };
        let datasets: Vec<DatasetName> = lease.datasets().iter().map(|at| at.dataset.clone()).collect();
        let trust = self.trust().get();
        LeaseFacts::new(lease.ceremony(), state, &lease.terms().agents, &datasets, trust.charter().charter())
    }

    fn lease(&self, id: CeremonyId) -> Result<(LeaseFacts, LeaseView), Problem> {
        let found = self.leases().show(Some(id), |lease, now| (self.facts_of_lease(lease), view(lease, now))).pop();
        found.ok_or_else(|| UnwrapRefusal::NoSuchLease { ceremony: id }.into())
    }
}

/// The leases of this embassy, those that ended among them.
#[utoipa::path(
    get,
    path = "/v1/leases",
    tag = "leases",
    responses((status = 200, body = LeaseList), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn leases(State(app): State<App>, caller: Caller) -> Result<Json<LeaseList>, Problem> {
    app.ask(&caller, Act::List)?;
    let all = app.leases().show(None, |lease, now| (app.facts_of_lease(lease), view(lease, now)));
    // Each is shown to those who may watch it, and nobody learns of the others.
    let may = |facts: &LeaseFacts| app.ask(&caller, Act::WatchLease(facts)).is_ok();
    let leases = all.into_iter().filter(|(facts, _)| may(facts)).map(|(_, view)| view).collect();
    Ok(Json(LeaseList { leases }))
}

/// One lease.
#[utoipa::path(
    get,
    path = "/v1/leases/{id}",
    tag = "leases",
    params(("id" = String, Path, description = "The lease's id, which is its ceremony's")),
    responses((status = 200, body = LeaseView), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn lease(State(app): State<App>, caller: Caller, Path(text): Path<String>) -> Result<Json<LeaseView>, Problem> {
    let (facts, view) = app.lease(id(&text)?)?;
    app.ask(&caller, Act::WatchLease(&facts))?;
    Ok(Json(view))
}

/// Ends a lease by one official's signed stop. The keys are wiped before the answer.
#[utoipa::path(
    post,
    path = "/v1/leases/{id}/stops",
    tag = "leases",
    params(("id" = String, Path, description = "The lease's id, which is its ceremony's")),
    request_body = DocumentBody,
    responses((status = 200, body = LeaseView), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn stop(
    State(app): State<App>,
    caller: Caller,
    Path(text): Path<String>,
    Body(body): Body<DocumentBody>,
) -> Result<Json<LeaseView>, Problem> {
    let id = id(&text)?;
    let (facts, _) = app.lease(id)?;
    app.ask(&caller, Act::StopLease(&facts))?;
    let stop: Stop = body.read()?;
    match app.leases().stop(id, &stop, &app.custody().facts).await {
        Ok(()) => Ok(Json(app.lease(id)?.1)),
        Err(LeaseError::Store(error)) => {
            tracing::error!(lease = %id, %error, "a lease was stopped, and that is not written down yet");
            Err(Code::Store
                .because("the lease is stopped and its keys are wiped; that could not be written into the roll yet")
                .next("Nothing to do for the lease: the entry follows as soon as the disk takes it. Look at the disk."))
        }
        Err(error) => Err(error.into()),
    }
}

/// Unwraps file keys under a lease: up to 256 stanzas of one dataset, for an agent whom the lease names.
#[utoipa::path(
    post,
    path = "/v1/leases/{id}/unwrap",
    tag = "leases",
    params(
        ("id" = String, Path, description = "The lease's id, which is its ceremony's"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 64 visible ASCII characters, fresh for each request. A repeat under the same key is answered again and draws nothing from the lease's budget"),
    ),
    request_body = UnwrapRequest,
    responses((status = 200, body = Unwrapped), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn unwrap(
    State(app): State<App>,
    caller: Caller,
    Path(text): Path<String>,
    headers: HeaderMap,
    Body(request): Body<UnwrapRequest>,
) -> Result<Response, Problem> {
    let id = id(&text)?;
    let hybrid = caller.exchange() == Exchange::Hybrid;
    let dataset = DatasetName::new(&request.dataset).map_err(|error| Code::Malformed.because(error))?;
    let (facts, _) = app.lease(id)?;
    if let Err(denied) = app.ask(&caller, Act::Unwrap { lease: &facts, dataset: &dataset, hybrid }) {
        // Whom the lease names is told how it stands, by the lease's own codes.
        let named = Some(&caller).filter(|caller| caller.role() == Role::Agent);
        let named = named.and_then(|caller| AgentName::new(caller.name().as_str()).ok());
        let why = named.and_then(|agent| app.leases().why_not(id, &agent));
        return Err(why.map_or(denied, Into::into));
    }
    // Whatever a policy says: keys travel over a hybrid exchange, to an agent.
    let agent = AgentName::new(caller.over_hybrid()?.name().as_str()).map_err(|error| Code::Role.because(error))?;
    let found = request.stanzas.len();
    if found == 0 || found > MAX_STANZAS {
        return Err(LeaseError::Stanzas { found }.into());
    }

    let once = match headers.get("idempotency-key") {
        None => None,
        Some(key) => Some(once(&agent, key.as_bytes(), &request)?),
    };
    let read: Vec<_> = request.stanzas.iter().map(|stanza| stanza.read()).collect();
    let stanzas: Vec<_> = read.iter().filter_map(|stanza| stanza.as_ref().ok()?.clone()).collect();
    let answers = match stanzas.len() {
        0 => Vec::new(),
        _ => app.leases().unwrap_once(id, &agent, &dataset, stanzas, once).await?,
    };
    let mut answers = answers.into_iter();
    let keys = read.into_iter().map(|stanza| match stanza.map(|stanza| stanza.and_then(|_| answers.next())) {
        Ok(Some(Answer::Key(key))) => UnwrappedKey { file_key: Some(FileKeyText(key)), refused: None },
        Ok(Some(Answer::Refused(error))) | Err(error) => {
            UnwrappedKey { file_key: None, refused: Some(error.to_string()) }
        }
        Ok(Some(Answer::NotForThisDataset) | None) => UnwrappedKey { file_key: None, refused: None },
    });
    let unwrapped = Unwrapped { keys: keys.collect() };
    // Its final size at once: growing would leave copies of keys behind.
    let mut body = Vec::with_capacity(ANSWER_BYTES.saturating_mul(found.saturating_add(1)));
    serde_json::to_writer(&mut body, &unwrapped).map_err(|error| Code::Internal.because(error))?;
    let body = Bytes::from_owner(WipedBody(SecretVec::new(body)));
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response())
}

fn once(agent: &AgentName, key: &[u8], request: &UnwrapRequest) -> Result<Once, Problem> {
    let request = serde_json::to_vec(request).map_err(|error| Code::Internal.because(error))?;
    Once::new(agent, key, &request)
        .ok_or_else(|| Code::Malformed.because("an Idempotency-Key has 1 to 64 visible ASCII characters"))
}

/// A body that is wiped once it was sent.
struct WipedBody(SecretVec);

impl AsRef<[u8]> for WipedBody {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// What the witness who asks is to answer.
#[utoipa::path(
    get,
    path = "/v1/beat",
    tag = "leases",
    responses((status = 200, body = BeatQuestion), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn beat_question(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    app.ask(&caller, Act::Beat)?;
    let witness = WitnessName::new(caller.name().as_str()).map_err(|error| Code::Role.because(error))?;
    let request = app.leases().ask_for_beat(&witness)?;
    let question = BeatQuestion {
        charter: request.charter.to_string(),
        embassy: request.embassy.to_string(),
        nonce: request.nonce.0.iter().map(|byte| format!("{byte:02x}")).collect(),
        heartbeat_seconds: app.leases().heartbeat().map_or(0, |heartbeat| heartbeat.as_secs()),
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(question)).into_response())
}

/// Takes a witness's answer, on which leases live.
#[utoipa::path(
    post,
    path = "/v1/beat",
    tag = "leases",
    request_body = DocumentBody,
    responses((status = 200, body = BeatTaken), (status = "4XX", body = api::Problem, content_type = "application/problem+json"))
)]
async fn beat(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<DocumentBody>,
) -> Result<Json<BeatTaken>, Problem> {
    app.ask(&caller, Act::Beat)?;
    let beat: Beat = body.read()?;
    // protocol.md §17.3: a nonce is one witness's own, and so is its answer.
    if beat.witness().as_str() != caller.name().as_str() {
        let (of, you) = (beat.witness(), caller.name());
        return Err(Code::BeatRefused.because(format!("the beat is {of}'s, and your certificate is {you}'s")));
    }
    app.leases().take_beat(&beat).await?;
    let good_for = app.leases().heartbeat().zip(app.leases().last_beat());
    let good_for = good_for.map_or(0, |(heartbeat, (_, age))| heartbeat.saturating_sub(age).as_secs());
    let leases = u64::try_from(app.leases().standing()).unwrap_or(u64::MAX);
    Ok(Json(BeatTaken { leases, good_for_seconds: good_for }))
}

impl From<UnwrapRefusal> for Problem {
    fn from(refusal: UnwrapRefusal) -> Self {
        let code = match &refusal {
            UnwrapRefusal::NoSuchLease { .. } => Code::NotFound,
            UnwrapRefusal::NotForYou { .. } | UnwrapRefusal::OtherDataset { .. } => Code::Policy,
            UnwrapRefusal::Suspended => Code::LeaseSuspended,
            UnwrapRefusal::KeyReused => Code::KeyReused,
            UnwrapRefusal::Ended { why: LeaseEnd::Spent } | UnwrapRefusal::Spent(_) => Code::LeaseSpent,
            UnwrapRefusal::Ended { .. } => Code::LeaseEnded,
        };
        code.because(refusal)
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Unwrap(refusal) => refusal.into(),
            LeaseError::Store(error) => error.into(),
            LeaseError::Install(InstallError::NotAllowed { .. }) => Code::LeasesRefused.because(error),
            LeaseError::Install(InstallError::Arena(_)) => Code::Busy.because(error),
            LeaseError::Install(_) => Code::Conflict.because(error),
            LeaseError::Beat(_) => Code::BeatRefused.because(error),
            LeaseError::Stop(_) => Code::Refused.because(error),
            LeaseError::Stanzas { .. } => Code::Malformed.because(error),
            LeaseError::NoRules => Code::WrongMode.because(error),
            LeaseError::Record { .. } => {
                tracing::error!(%error, "a lease's record does not read");
                Code::Store.because("a record of a lease does not read; the embassy's log says which")
            }
            LeaseError::Fault => Code::Internal.because(error),
        }
    }
}
