//! Who is at the other end of a connection, and whether that still holds: asked for each connection and each request.
//!
//! The TLS library checked path, time and revocation once, at a full handshake. It knows no roles, and does not ask again
//! when a session is resumed; so the whole judgement is made here, by `protocol::certificate` alone, and a refusal names the
//! rule.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    protocol::{
        certificate::{CertificateError, Certified, Role, UnixTime},
        ids::{AgentName, NameError, OfficialName, OwnerName, SubjectName, WitnessName},
        roll::Who,
    },
    service::{
        App,
        problem::{Code, Problem},
        trust::{InForce, Trust},
    },
};

/// How the keys of a connection were exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// X25519MLKEM768: a quantum computer of later years does not open what was recorded.
    Hybrid,
    /// An elliptic curve alone.
    Classical,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No certificate, which the handshake excludes.
    #[error("this connection came without a certificate")]
    NoCertificate,
    /// A rule of certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// One key, two uses.
    #[error("the certificate's key is {used_as}; keys that approve are never keys of connections")]
    KeyInUse {
        /// The charter's use of it.
        used_as: String,
    },
    /// The charter does not know it.
    #[error("home certified the {role} {name}, but charter version {version} does not name it")]
    NotInCharter {
        /// The role.
        role: Role,
        /// The name.
        name: SubjectName,
        /// The charter in force.
        version: u32,
    },
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::NoCertificate => Code::NoCertificate,
            Refusal::Certificate(_) => Code::CertificateRefused,
            Refusal::KeyInUse { .. } => Code::ApprovalKeyAsTlsKey,
            Refusal::NotInCharter { .. } => Code::NotInCharter,
        };
        code.because(refusal).closing()
    }
}

/// Somebody whom home certified, at the end of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    certified: Certified,
    exchange: Exchange,
}

impl Peer {
    /// Judges the certificates that a peer presented, its own first (DER).
    ///
    /// # Errors
    /// [`Refusal`] with the rule.
    pub fn admit(path: &[&[u8]], exchange: Exchange, trust: &Trust, now: UnixTime) -> Result<Self, Refusal> {
        if path.is_empty() {
            return Err(Refusal::NoCertificate);
        }
        let certified = trust.home().certify(path, trust.revocations(), now)?;
        let peer = Self { certified, exchange };
        peer.check_charter(trust)?;
        Ok(peer)
    }

    /// Asks again, by what is in force now.
    ///
    /// # Errors
    /// [`Refusal`] with the rule.
    pub fn still_stands(&self, trust: &Trust, now: UnixTime) -> Result<(), Refusal> {
        self.certified.still_stands(trust.revocations(), now)?;
        self.check_charter(trust)
    }

    fn check_charter(&self, trust: &Trust) -> Result<(), Refusal> {
        if let Some(used_as) = trust.use_of(self.certified.key()) {
            return Err(Refusal::KeyInUse { used_as: used_as.to_owned() });
        }
        let (role, name) = (self.role(), self.name());
        if !trust.names(role, name) {
            let version = trust.charter().charter().parts().version;
            return Err(Refusal::NotInCharter { role, name: name.clone(), version });
        }
        Ok(())
    }

    /// The role that home certified.
    pub const fn role(&self) -> Role {
        self.certified.identity().role
    }

    /// The name that home certified.
    pub const fn name(&self) -> &SubjectName {
        &self.certified.identity().name
    }

    /// All that was certified.
    pub const fn certified(&self) -> &Certified {
        &self.certified
    }

    /// How this connection's keys were exchanged.
    pub const fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// Lets only some roles pass.
    ///
    /// # Errors
    /// [`Code::Role`], with the role that is needed.
    pub fn in_role(&self, roles: &[Role]) -> Result<&Self, Problem> {
        if roles.contains(&self.role()) {
            return Ok(self);
        }
        let needed = roles.iter().map(Role::to_string).collect::<Vec<_>>().join(" or ");
        let role = self.role();
        Err(Code::Role.because(format!("the role of your certificate is {role}; {needed} is needed here")))
    }

    /// As the roll names it.
    ///
    /// # Errors
    /// [`Code::Role`] for roles that connect to nobody.
    pub fn who(&self) -> Result<Who, Problem> {
        let name = self.name().as_str();
        let known = match self.role() {
            Role::Official => OfficialName::new(name).map(Who::Official),
            Role::Agent => AgentName::new(name).map(Who::Agent),
            Role::DataOwner => OwnerName::new(name).map(Who::Owner),
            Role::Witness => WitnessName::new(name).map(Who::Witness),
            Role::Auditor => Ok(Who::Auditor(self.name().clone())),
            Role::Home | Role::Embassy | Role::EmbassyAuthority => Err(NameError),
        };
        known.map_err(|_| Code::Role.because(format!("a {} asks nothing of an embassy", self.role())))
    }

    /// Asks for a hybrid exchange, without which no unwrapped key travels.
    ///
    /// # Errors
    /// [`Code::HybridRequired`].
    pub fn over_hybrid(&self) -> Result<&Self, Problem> {
        match self.exchange {
            Exchange::Hybrid => Ok(self),
            Exchange::Classical => {
                Err(Code::HybridRequired.because("this connection's keys were exchanged without ML-KEM").closing())
            }
        }
    }
}

/// What the listener knows of a connection, laid beside each of its requests. A test lays it there by hand.
#[derive(Clone, Debug)]
pub struct Connection(pub Arc<Result<Peer, Refusal>>);

impl Connection {
    /// A connection of somebody who was let in.
    pub fn of(peer: Peer) -> Self {
        Self(Arc::new(Ok(peer)))
    }
}

/// What the door goes by: a service in whatever mode it is.
pub trait Door: Clone + Send + Sync + 'static {
    /// Charter, home's certificate and list.
    fn trust(&self) -> &Arc<InForce>;

    /// The wall clock.
    fn now(&self) -> UnixTime;
}

impl Door for App {
    fn trust(&self) -> &Arc<InForce> {
        Self::trust(self)
    }

    fn now(&self) -> UnixTime {
        Self::now(self)
    }
}

/// Stands before every route: without a certified peer who still stands, nothing is reached.
pub(crate) async fn gate<D: Door>(State(door): State<D>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Connection>().cloned();
    let judged = match connection.as_ref().map(|connection| connection.0.as_ref()) {
        None => Err(Refusal::NoCertificate),
        Some(Err(refusal)) => Err(refusal.clone()),
        Some(Ok(peer)) => peer.still_stands(&door.trust().get(), door.now()).map(|()| peer.clone()),
    };
    match judged {
        Ok(peer) => {
            request.extensions_mut().insert(Caller(peer));
            next.run(request).await
        }
        Err(refusal) => Problem::from(refusal).into_response(),
    }
}

/// The peer of a request, judged for this very request.
#[derive(Clone, Debug)]
pub struct Caller(pub Peer);

impl std::ops::Deref for Caller {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // The gate put it there, and nobody else can.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Refusal::NoCertificate.into())
    }
}
