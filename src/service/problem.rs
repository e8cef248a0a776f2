//! Refusals over HTTP: one table from what went wrong to status and stable code, and one shape for all of them (RFC 9457).
//!
//! Each refusal says what happened, who can act and what to do next. Nothing that it says is secret, and a refusal changes
//! nothing: whoever was refused may try again with something better.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::client::api::{self, PROBLEM_JSON, PROBLEM_TYPE, SealedTextError};

/// The stable codes. Programs decide by them; a code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No certificate came with the connection.
    NoCertificate,
    /// The certificate, or the path to home, breaks a rule.
    CertificateRefused,
    /// The connection's key is one that the charter names for another use.
    ApprovalKeyAsTlsKey,
    /// Home certified the name, but the charter in force does not know it.
    NotInCharter,
    /// The role may not do this.
    Role,
    /// The access policy says no.
    Policy,
    /// The connection's key exchange is not hybrid.
    HybridRequired,
    /// The request cannot be read.
    Malformed,
    /// The request is larger than anything of its kind.
    TooLarge,
    /// The path is not one of the API's.
    NoSuchPath,
    /// The path does not have this method.
    NoSuchMethod,
    /// There is no such thing.
    NotFound,
    /// What was sent does not fit what is there already.
    Conflict,
    /// The same `Idempotency-Key` came with another request.
    KeyReused,
    /// What was sent answers something that is over.
    Late,
    /// A document was read, and breaks a rule of its kind.
    Refused,
    /// A document is older than one that was seen.
    Older,
    /// The class of hardware is one that the charter allows no leases on.
    LeasesRefused,
    /// No witness was heard for a while.
    LeaseSuspended,
    /// The lease is over.
    LeaseEnded,
    /// The lease has not so many unwraps left.
    LeaseSpent,
    /// The beat keeps nothing alive.
    BeatRefused,
    /// The official has a ceremony open already.
    OneCeremonyEach,
    /// This embassy is not there yet, or not any more.
    WrongMode,
    /// Too many at once.
    Busy,
    /// The request took too long.
    Timeout,
    /// The TPM does not do it.
    Tpm,
    /// The store does not do it.
    Store,
    /// A fault of chancery.
    Internal,
}

/// One row of the table.
struct Row {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    who: &'static str,
    next: &'static str,
}

const fn row(
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    who: &'static str,
    next: &'static str,
) -> Row {
    Row { code, status, title, who, next }
}

impl Code {
    /// Every code, for the API's description and its tests.
    pub const ALL: [Self; 29] = [
        Self::NoCertificate,
        Self::CertificateRefused,
        Self::ApprovalKeyAsTlsKey,
        Self::NotInCharter,
        Self::Role,
        Self::Policy,
        Self::HybridRequired,
        Self::Malformed,
        Self::TooLarge,
        Self::NoSuchPath,
        Self::NoSuchMethod,
        Self::NotFound,
        Self::Conflict,
        Self::KeyReused,
        Self::Late,
        Self::Refused,
        Self::Older,
        Self::LeasesRefused,
        Self::LeaseSuspended,
        Self::LeaseEnded,
        Self::LeaseSpent,
        Self::BeatRefused,
        Self::OneCeremonyEach,
        Self::WrongMode,
        Self::Busy,
        Self::Timeout,
        Self::Tpm,
        Self::Store,
        Self::Internal,
    ];

    const fn row(self) -> Row {
        use StatusCode as S;
        match self {
            Self::NoCertificate => row(
                "no-certificate",
                S::UNAUTHORIZED,
                "The connection came without a certificate",
                "you",
                "Connect with the certificate that home issued to you.",
            ),
            Self::CertificateRefused => row(
                "certificate-refused",
                S::FORBIDDEN,
                "Your certificate is refused",
                "the home authority",
                "Ask home for a certificate that keeps the rule named here.",
            ),
            Self::ApprovalKeyAsTlsKey => row(
                "approval-key-as-tls-key",
                S::FORBIDDEN,
                "The connection's key is one that the charter names for another use",
                "you and the home authority",
                "Make a key for connections only, and ask home for a certificate on it.",
            ),
            Self::NotInCharter => row(
                "not-in-charter",
                S::FORBIDDEN,
                "The charter in force does not name you",
                "the home authority and the officials",
                "Check that you speak to the right embassy; a later charter can name you.",
            ),
            Self::Role => row(
                "role",
                S::FORBIDDEN,
                "Your role may not do this",
                "somebody in the role that is named",
                "Use a certificate of that role, or ask somebody who has one.",
            ),
            Self::Policy => row(
                "policy",
                S::FORBIDDEN,
                "The access policy does not permit this",
                "the home authority and the officials, who can amend the policy",
                "Read the policy that is named; ask for what it permits.",
            ),
            Self::HybridRequired => row(
                "hybrid-required",
                S::FORBIDDEN,
                "Keys travel only over a connection with the key exchange X25519MLKEM768",
                "you",
                "Connect again with a TLS library that offers X25519MLKEM768.",
            ),
            Self::Malformed => row(
                "malformed",
                S::BAD_REQUEST,
                "The request cannot be read",
                "whoever wrote the request",
                "Compare it with the API's description (GET /v1/openapi.json).",
            ),
            Self::TooLarge => row(
                "too-large",
                S::PAYLOAD_TOO_LARGE,
                "The request is larger than anything of its kind",
                "whoever wrote the request",
                "Check that this is the right document.",
            ),
            Self::NoSuchPath => row(
                "no-such-path",
                S::NOT_FOUND,
                "The API has no such path",
                "whoever wrote the request",
                "Compare it with the API's description (GET /v1/openapi.json).",
            ),
            Self::NoSuchMethod => row(
                "no-such-method",
                S::METHOD_NOT_ALLOWED,
                "This path does not have that method",
                "whoever wrote the request",
                "Compare it with the API's description (GET /v1/openapi.json).",
            ),
            Self::NotFound => row(
                "not-found",
                S::NOT_FOUND,
                "There is no such thing here",
                "you",
                "Check the name, and that you speak to the right embassy.",
            ),
            Self::Conflict => row(
                "conflict",
                S::CONFLICT,
                "This does not fit what is there already",
                "you",
                "Fetch what is there now, and decide again.",
            ),
            Self::KeyReused => row(
                "idempotency-key-reused",
                S::UNPROCESSABLE_ENTITY,
                "This Idempotency-Key came with another request before",
                "whoever wrote the request",
                "Take a fresh key for each act, and the same key only to repeat the same request.",
            ),
            Self::Late => row(
                "late",
                S::CONFLICT,
                "What this answers is over",
                "you",
                "Look at the ceremony's state; there may be a newer offer.",
            ),
            Self::Refused => row(
                "refused",
                S::UNPROCESSABLE_ENTITY,
                "The document was read, and is refused",
                "whoever made the document",
                "Correct what is named, and send it again. Nothing was changed.",
            ),
            Self::Older => row(
                "older",
                S::CONFLICT,
                "A newer one was seen before",
                "whoever sent it",
                "Get the newest one. Somebody may be showing you an old one.",
            ),
            Self::LeasesRefused => row(
                "leases-refused",
                S::FORBIDDEN,
                "The charter allows no leases on this embassy's class of hardware",
                "the officials",
                "Open a ceremony of the kind release, or amend the charter.",
            ),
            Self::LeaseSuspended => row(
                "lease-suspended",
                S::CONFLICT,
                "The lease is suspended until a witness is heard",
                "the charter's witnesses, and whoever runs the line to them",
                "Wait for a beat and try again. Without one for as long again, the lease is wiped.",
            ),
            Self::LeaseEnded => {
                row("lease-ended", S::GONE, "The lease is over", "the officials", "Ask an official to open another.")
            }
            Self::LeaseSpent => row(
                "lease-spent",
                S::CONFLICT,
                "The lease does not have so many unwraps left",
                "the officials",
                "Ask for fewer; or ask an official to open another lease.",
            ),
            Self::BeatRefused => row(
                "beat-refused",
                S::UNPROCESSABLE_ENTITY,
                "The beat keeps nothing alive",
                "the witness",
                "Ask for a new nonce (GET /v1/beat) and answer that, at once.",
            ),
            Self::OneCeremonyEach => row(
                "one-ceremony-each",
                S::CONFLICT,
                "You have a ceremony open already",
                "you",
                "Finish or stop it first.",
            ),
            Self::WrongMode => row(
                "wrong-mode",
                S::CONFLICT,
                "The embassy is not at this point",
                "the officials and home",
                "Look at GET /v1/status for where it is.",
            ),
            Self::Busy => row(
                "busy",
                S::SERVICE_UNAVAILABLE,
                "Too much is going on at once",
                "you",
                "Wait a moment and try again; repeating this request is safe.",
            ),
            Self::Timeout => row(
                "timeout",
                S::REQUEST_TIMEOUT,
                "The request took too long",
                "you",
                "Try again; repeating this request is safe.",
            ),
            Self::Tpm => row(
                "tpm",
                S::SERVICE_UNAVAILABLE,
                "The embassy's TPM did not do it",
                "the embassy's operator",
                "Try again; if it stays, have the machine examined.",
            ),
            Self::Store => row(
                "store",
                S::SERVICE_UNAVAILABLE,
                "The embassy could not write it down, so it did not happen",
                "the embassy's operator",
                "Try again; if it stays, look at the disk.",
            ),
            Self::Internal => row(
                "internal",
                S::INTERNAL_SERVER_ERROR,
                "A fault of chancery's own",
                "the embassy's operator",
                "Report it with the time and the embassy's log.",
            ),
        }
    }

    /// The code as it travels.
    pub const fn as_str(self) -> &'static str {
        self.row().code
    }

    /// Its HTTP status.
    pub const fn status(self) -> StatusCode {
        self.row().status
    }

    /// A refusal of this code.
    pub fn because(self, detail: impl std::fmt::Display) -> Problem {
        Problem { code: self, detail: detail.to_string(), who: None, next: None, retry_after: None, close: false }
    }
}

/// A refusal on its way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Problem {
    code: Code,
    detail: String,
    who: Option<String>,
    next: Option<String>,
    retry_after: Option<Duration>,
    close: bool,
}

impl Problem {
    /// Its code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What happened this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Names who can act, where it is not who the table says.
    #[must_use]
    pub fn who(mut self, who: impl std::fmt::Display) -> Self {
        self.who = Some(who.to_string());
        self
    }

    /// Says what to do next, where it is not what the table says.
    #[must_use]
    pub fn next(mut self, next: impl std::fmt::Display) -> Self {
        self.next = Some(next.to_string());
        self
    }

    /// Says when trying again makes sense.
    #[must_use]
    pub const fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Ends the connection after the answer.
    #[must_use]
    pub const fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// As it travels.
    pub fn body(&self) -> api::Problem {
        let Row { code, status, title, who, next } = self.code.row();
        api::Problem {
            kind: format!("{PROBLEM_TYPE}{code}"),
            code: code.to_owned(),
            title: title.to_owned(),
            detail: self.detail.clone(),
            who_can_act: self.who.clone().unwrap_or_else(|| who.to_owned()),
            what_next: self.next.clone().unwrap_or_else(|| next.to_owned()),
            status: status.as_u16(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        if status.is_server_error() {
            tracing::warn!(code = self.code.as_str(), detail = %self.detail, "a request failed");
        } else {
            tracing::info!(code = self.code.as_str(), detail = %self.detail, "a request was refused");
        }
        // A struct of strings always becomes JSON.
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(pause) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<SealedTextError> for Problem {
    fn from(error: SealedTextError) -> Self {
        Code::Malformed.because(error)
    }
}

impl From<crate::protocol::charter::ChainError> for Problem {
    fn from(error: crate::protocol::charter::ChainError) -> Self {
        use crate::protocol::charter::ChainError;
        match error {
            ChainError::Older { .. } => Code::Older.because(error),
            ChainError::Gap { .. } | ChainError::Fork { .. } => Code::Conflict.because(error),
            other => Code::Refused.because(other),
        }
    }
}

impl From<crate::hardware::TpmError> for Problem {
    fn from(error: crate::hardware::TpmError) -> Self {
        use crate::hardware::{Remedy, TpmError};
        match (&error, error.remedy()) {
            (TpmError::Gone { retry_after, .. }, _) => Code::Tpm.because(&error).retry_after(*retry_after),
            (TpmError::Busy { .. } | TpmError::TooManyParked { .. }, _) => Code::Busy.because(error),
            (_, Remedy::Retry) => Code::Tpm.because(error),
            (TpmError::PlatformRefused, _) => Code::Tpm
                .because(error)
                .who("the embassy's operator, and the officials who amend")
                .next("Boot the approved image, or amend the platform register."),
            _ => Code::Tpm.because(error).next("Trying again does not help. Have the machine examined."),
        }
    }
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::{Remedy, StoreError};
        // Where things stand on the embassy's disk is its operator's matter.
        tracing::warn!(%error, "the store refused");
        match (&error, error.remedy()) {
            (StoreError::Conflict { .. }, _) => {
                Code::Busy.because("somebody else changed the same thing at the same moment; nothing was done")
            }
            (_, Remedy::Retry) => Code::Store.because("the store is busy, or has no room").retry_after(SOON),
            _ => Code::Store.because("the store refused; the embassy's log says why"),
        }
    }
}

/// When trying again makes sense where nobody knows better.
const SOON: Duration = Duration::from_secs(1);
