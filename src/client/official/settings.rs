//! An official's settings, `official.toml`: who it is, which token it uses, and where embassies are. Nothing here is trusted:
//! a wrong address leads to a machine that cannot show the embassy's certificate.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    keys::token::TokenChoice,
    protocol::ids::{EmbassyName, OfficialName},
};

/// What `official.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The official's name, as the charter has it.
    #[serde(with = "as_text")]
    pub name: OfficialName,
    /// The token that has the identity key; none where it is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSettings>,
    /// Where the embassies are.
    #[serde(default, rename = "embassy", skip_serializing_if = "Vec::is_empty")]
    pub embassies: Vec<EmbassySettings>,
}

/// Which token, and which key on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The token's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The token's serial number, where labels are not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The identity key's label.
    pub key: String,
}

impl TokenSettings {
    /// How to find the token.
    pub fn choice(&self) -> TokenChoice {
        match (&self.serial, &self.label) {
            (Some(serial), _) => TokenChoice::Serial(serial.clone()),
            (None, label) => TokenChoice::Label(label.clone().unwrap_or_default()),
        }
    }
}

/// Where an embassy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbassySettings {
    /// Its name, as the charter has it.
    #[serde(with = "as_text")]
    pub name: EmbassyName,
    /// Its address: `https://host:port`.
    pub url: String,
}

/// Names as text.
mod as_text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(name: &T, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(name)
    }

    pub(super) fn deserialize<'de, T, D>(input: D) -> Result<T, D::Error>
    where
        T: FromStr,
        T::Err: Display,
        D: Deserializer<'de>,
    {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}
