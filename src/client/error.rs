//! Why a request to an embassy did not give what was asked; each says what happened, who can act, and what to do next.

use crate::{
    client::{api::Problem, trust::Distrust},
    protocol::ids::EmbassyName,
};

/// Why an embassy was not reached, not believed, or said no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is none.
    #[error("{url:?} is not an embassy's address: {reason}. It looks like https://embassy.example:8443")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One's own certificate or key cannot be used for TLS.
    #[error(
        "this machine's own certificate cannot be used: {reason}. Ask home for a certificate of the connection key"
    )]
    OwnCertificate {
        /// Why.
        reason: String,
    },
    /// Nobody answers.
    #[error(
        "{embassy} at {url} cannot be reached: {reason}. Check the network; whoever runs the machine can say whether it is up"
    )]
    Connect {
        /// Which embassy.
        embassy: EmbassyName,
        /// Its address.
        url: String,
        /// What the network says.
        reason: String,
    },
    /// Whoever answers is not the embassy.
    #[error(
        "who answers at {url} is not taken for the embassy {embassy}: {reason}. Nothing was sent. Do not work around it; tell home"
    )]
    Distrusted {
        /// Which embassy.
        embassy: EmbassyName,
        /// Its address.
        url: String,
        /// By which rule.
        reason: Distrust,
    },
    /// The embassy does not take this machine's certificate.
    #[error("{embassy} refused this machine's certificate: {rule} ({alert})", rule = rule_of(alert))]
    Unwelcome {
        /// Which embassy.
        embassy: EmbassyName,
        /// The TLS alert's name (RFC 8446 §6.2).
        alert: String,
    },
    /// TLS failed otherwise.
    #[error("no TLS connection to {embassy} at {url}: {reason}. {advice}")]
    Tls {
        /// Which embassy.
        embassy: EmbassyName,
        /// Its address.
        url: String,
        /// What the TLS library says.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// No answer in time.
    #[error(
        "{embassy} did not answer within {seconds} s. It may be busy or cut off; try again, what was sent may have arrived"
    )]
    Timeout {
        /// Which embassy.
        embassy: EmbassyName,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection ended in the middle.
    #[error("the connection to {embassy} was lost: {reason}. Try again; what was sent may have arrived")]
    Lost {
        /// Which embassy.
        embassy: EmbassyName,
        /// What happened.
        reason: String,
    },
    /// The embassy refused, and says why. Its words are shown and not believed.
    #[error("{embassy} refused: {problem}")]
    Problem {
        /// Which embassy.
        embassy: EmbassyName,
        /// What it says.
        problem: Box<Problem>,
    },
    /// The embassy refused without saying why.
    #[error("{embassy} answered with status {status} and no reason. Whoever runs the machine can look into its log")]
    Status {
        /// Which embassy.
        embassy: EmbassyName,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is longer than anything expected.
    #[error(
        "{embassy} answers with more than {bound} bytes where less was expected; the rest was not read. Tell the others"
    )]
    TooLong {
        /// Which embassy.
        embassy: EmbassyName,
        /// Bytes accepted.
        bound: usize,
    },
    /// The answer does not read.
    #[error(
        "what {embassy} answers does not read: {reason}. It may run another version of chancery; ask whoever runs it"
    )]
    Unreadable {
        /// Which embassy.
        embassy: EmbassyName,
        /// Why.
        reason: String,
    },
}

/// The rule that a TLS alert stands for, as `service/tls.rs` gives them, who can act, and what next. Roles are not judged in the
/// handshake: whoever has the wrong one is told so in words, by the embassy.
fn rule_of(alert: &str) -> &'static str {
    match alert {
        "CertificateRevoked" => "home has revoked it. Only home can issue another",
        "CertificateExpired" => {
            "it is out of date, or not in date yet by the embassy's clock. Compare its dates and your clock \
             (`chancery inspect`); home can issue another"
        }
        "UnknownCA" => {
            "it was issued by no home authority that the embassy knows. Ask home for a certificate of this network"
        }
        "DecryptError" => {
            "its signature is not home's, or the key on this machine is not the certificate's. Ask home for a certificate of \
             this machine's connection key"
        }
        "AccessDenied" => {
            "home's revocation list at the embassy is out of date, so nobody is let in. Whoever runs the embassy can put a new \
             home.crl from home into its directory, and have it read (SIGHUP)"
        }
        "UnsupportedCertificate" => {
            "it was issued for another use than connecting to embassies. Ask home for a certificate with the role that you have"
        }
        "CertificateRequired" => {
            "none was shown. Ask home for a certificate of this machine's connection key, and give it to this tool"
        }
        "BadCertificate" | "CertificateUnknown" => {
            "it is damaged, or has something in it that the embassy does not know. Ask home to issue it anew"
        }
        _ => "the embassy's TLS library says no more. Whoever runs the embassy finds the reason in its log",
    }
}

impl ClientError {
    /// The stable code of the embassy's refusal, if it gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem { problem, .. } => Some(&problem.code),
            _ => None,
        }
    }

    /// Whether nothing but trying again may help: nobody refused anything.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Timeout { .. } | Self::Lost { .. })
            || matches!(self, Self::Status { status: 502..=504, .. })
    }
}
