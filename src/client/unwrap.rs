//! `POST /v1/leases/{id}/unwrap`: stanzas of age files go to the embassy, file keys come back, over a hybrid exchange only.
//!
//! A file key opens one file and nothing else. It travels as text in JSON; here it is a [`Secret`] again at once, and the
//! text is wiped.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use rand_core::{OsRng, RngCore};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroize;

use crate::{
    client::{Client, ClientError, Repeat},
    protocol::{
        dataset::{FileKey, StanzaError, TaggedStanza},
        ids::{CeremonyId, DatasetName},
        secret::Secret,
    },
};

/// What an agent asks for under a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UnwrapRequest {
    /// The dataset whose key is meant.
    pub dataset: String,
    /// The stanzas, each of one file.
    pub stanzas: Vec<StanzaText>,
}

/// A stanza as it stands in an age file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StanzaText {
    /// What stands behind `->`: `mlkem768p256tag`, the tag, the encapsulated key.
    pub arguments: Vec<String>,
    /// The wrapped file key, in base64 without padding.
    pub body: String,
}

impl StanzaText {
    /// Writes a stanza.
    pub fn of(stanza: &TaggedStanza) -> Self {
        Self { arguments: stanza.arguments().to_vec(), body: BASE64_STANDARD_NO_PAD.encode(stanza.body()) }
    }

    /// Reads it; `None` for a stanza of another kind.
    ///
    /// # Errors
    /// [`StanzaError`].
    pub fn read(&self) -> Result<Option<TaggedStanza>, StanzaError> {
        let body = BASE64_STANDARD_NO_PAD.decode(&self.body).map_err(|_| StanzaError::Body { found: 0 })?;
        TaggedStanza::parse(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>(), &body)
    }
}

/// The answer, in the order of the stanzas.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct Unwrapped {
    /// One for each stanza.
    pub keys: Vec<UnwrappedKey>,
}

/// What became of one stanza. Both are absent where it is for another recipient.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "service", derive(utoipa::ToSchema))]
pub struct UnwrappedKey {
    /// The file's key, 16 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "service", schema(value_type = Option<String>))]
    pub file_key: Option<FileKeyText>,
    /// Why the stanza was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A file key on its way.
#[derive(Debug, PartialEq, Eq)]
pub struct FileKeyText(pub FileKey);

impl Serialize for FileKeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = BASE64_STANDARD.encode(self.0.expose());
        let written = serializer.serialize_str(&text);
        text.zeroize();
        written
    }
}

impl<'de> Deserialize<'de> for FileKeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let mut key = Secret::<16>::zeroed();
        // Room for what 24 characters could at most decode to.
        let mut bytes = [0; 18];
        let read = BASE64_STANDARD.decode_slice(&text, &mut bytes);
        text.zeroize();
        let whole = matches!(read, Ok(16));
        key.expose_mut().iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        bytes.zeroize();
        if whole { Ok(Self(FileKey::new(key))) } else { Err(D::Error::custom("a file key is 16 bytes in base64")) }
    }
}

/// Has one stanza unwrapped under a lease; `None` where it is for another recipient.
///
/// # Errors
/// [`ClientError`]; [`ClientError::Unreadable`] where the answer is none to this question.
pub async fn unwrap(
    client: &Client,
    lease: &CeremonyId,
    dataset: &DatasetName,
    stanza: &TaggedStanza,
) -> Result<Result<Option<FileKey>, String>, ClientError> {
    let request = UnwrapRequest { dataset: dataset.to_string(), stanzas: vec![StanzaText::of(stanza)] };
    // Should the answer be lost, the same is asked again under the same key, and costs the lease's budget nothing more.
    let mut key = [0; 16];
    OsRng.fill_bytes(&mut key);
    let once = Repeat::Keyed(key.iter().map(|byte| format!("{byte:02x}")).collect());
    let mut answer: Unwrapped = client.post(&format!("/v1/leases/{lease}/unwrap"), &request, &once).await?;
    let unreadable =
        |reason: &str| ClientError::Unreadable { embassy: client.embassy().clone(), reason: reason.to_owned() };
    match (answer.keys.pop(), answer.keys.is_empty()) {
        (Some(UnwrappedKey { file_key: Some(FileKeyText(key)), refused: None }), true) => Ok(Ok(Some(key))),
        (Some(UnwrappedKey { file_key: None, refused: Some(why) }), true) => Ok(Err(why)),
        (Some(UnwrappedKey { file_key: None, refused: None }), true) => Ok(Ok(None)),
        _ => Err(unreadable("it does not give one answer for one stanza")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    #[test]
    fn a_file_key_is_sixteen_bytes_or_nothing() {
        let key = || FileKey::new(Secret::from_slice(&[7; 16]).unwrap());
        let answer = Unwrapped { keys: vec![UnwrappedKey { file_key: Some(FileKeyText(key())), refused: None }] };
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(text, "{\"keys\":[{\"file_key\":\"BwcHBwcHBwcHBwcHBwcHBw==\"}]}");
        assert_eq!(serde_json::from_str::<Unwrapped>(&text).unwrap(), answer);
        assert!(!format!("{answer:?}").contains('7'));
        for wrong in ["", "BwcHBwcHBwcHBwcHBwcH", "BwcHBwcHBwcHBwcHBwcHBwc=", "BwcHBwcHBwcHBwcHBwcHBwcH", "!"] {
            let text = format!("{{\"keys\":[{{\"file_key\":\"{wrong}\"}}]}}");
            assert!(serde_json::from_str::<Unwrapped>(&text).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stanza_travels_as_it_stands_in_the_file() {
        let key = crate::protocol::dataset::DatasetSeed::random(&mut OsRng).key();
        let recipient: age::tagpq::Recipient = key.recipient().to_string().parse().unwrap();
        let mut file = Vec::new();
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).unwrap();
        encryptor.wrap_output(&mut file).unwrap().finish().unwrap();
        let head = String::from_utf8_lossy(&file).lines().take(3).map(str::to_owned).collect::<Vec<_>>();
        let sent = StanzaText {
            arguments: head[1].strip_prefix("-> ").unwrap().split(' ').map(str::to_owned).collect(),
            body: head[2].clone(),
        };
        let stanza = sent.read().unwrap().unwrap();
        assert_eq!(StanzaText::of(&stanza), sent);
        assert!(key.unwrap(&stanza).unwrap().is_some());
        let other = StanzaText { arguments: vec!["X25519".to_owned()], ..sent.clone() };
        assert_eq!(other.read(), Ok(None));
        assert!(StanzaText { body: "?".to_owned(), ..sent }.read().is_err());
    }
}
