//! Keys on a PKCS#11 token: smart card, USB key, network HSM. The private half is born there and never leaves.
//!
//! Trusts the module (a library that the person chose) no further than it must: each signature is verified before it is
//! given out. Slot numbers change, so tokens are found by label or serial number and keys by label.

use std::path::{Path, PathBuf};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error as Pkcs11Error, RvError},
    mechanism::{
        Mechanism,
        elliptic_curve::{EcKdf, Ecdh1DeriveParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use p256::ecdsa::Signature;
use zeroize::Zeroize;

use crate::{
    keys::{IdentitySigner, KeyAgreement, KeyError, checked},
    protocol::{
        group::Point,
        hash::Hash,
        secret::{Secret, SecretVec},
    },
};

/// The object identifier of P-256 in DER (SEC 2; RFC 5480 §2.1.1.1).
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Why a token does not do what it was asked. Each says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The module does not load.
    #[error("{module} is not a PKCS#11 module that loads: {reason}. Give the library that came with the token", module = module.display())]
    Module {
        /// The library.
        module: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// No such token.
    #[error("no token has the {wanted}. Plug it in and try again. The module shows: {present}")]
    NoToken {
        /// Label or serial number.
        wanted: TokenChoice,
        /// The tokens there are.
        present: String,
    },
    /// More than one such token.
    #[error("{count} tokens have the {wanted}. Unplug the others, or choose by serial number")]
    ManyTokens {
        /// Label or serial number.
        wanted: TokenChoice,
        /// How many.
        count: usize,
    },
    /// The PIN is wrong.
    #[error("the PIN is wrong. {left}")]
    WrongPin {
        /// What the token says about further tries.
        left: TriesLeft,
    },
    /// The PIN is locked.
    #[error(
        "the PIN is locked: it was wrong too often. Whoever holds the token's security officer PIN (PUK) can set a new one; the keys are still there"
    )]
    Locked,
    /// The PIN must be set or changed first.
    #[error("the token has no usable PIN ({reason}). Set one with the tool that came with the token")]
    PinUnusable {
        /// What the token says.
        reason: RvError,
    },
    /// The token is gone.
    #[error("the token was pulled, or its session ended. Plug it in and start the command again; nothing was signed")]
    Pulled,
    /// No such key on the token.
    #[error("token {token} has no P-256 signing key with the label {key:?}. It has: {present}")]
    NoKey {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
        /// The keys there are.
        present: String,
    },
    /// Several keys of one label.
    #[error(
        "token {token} has {count} keys with the label {key:?}, and which one is meant cannot be told. Rename the others"
    )]
    ManyKeys {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
        /// How many.
        count: usize,
    },
    /// A key of that label is there already.
    #[error(
        "token {token} has a key with the label {key:?} already. Choose another label; keys are never replaced here"
    )]
    KeyExists {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
    },
    /// The key's public half is not a point of P-256.
    #[error("the public key of {key:?} is not a P-256 key as PKCS#11 writes it; this key cannot be used")]
    NotP256 {
        /// The key's label.
        key: String,
    },
    /// Anything else that the module reports.
    #[error("the token refused to {doing}: {reason}. Try again; if it stays so, ask who administers the token")]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// What the module says.
        reason: String,
    },
}

/// What a token says about further tries of its PIN. PKCS#11 gives no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriesLeft {
    /// No warning.
    Some,
    /// At least one wrong try was counted.
    Low,
    /// The next wrong one locks it.
    Last,
}

impl std::fmt::Display for TriesLeft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Some => "Try again",
            Self::Low => "Try again; the token counts wrong tries and locks after some",
            Self::Last => "ONE TRY IS LEFT before the token locks. Stop unless you are sure",
        })
    }
}

/// Which token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChoice {
    /// By label.
    Label(String),
    /// By serial number.
    Serial(String),
}

impl std::fmt::Display for TokenChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label(label) => write!(f, "label {label:?}"),
            Self::Serial(serial) => write!(f, "serial number {serial:?}"),
        }
    }
}

/// Loads a module; one that this process has loaded before stays as it is.
fn load(module: &Path) -> Result<Pkcs11, TokenError> {
    let refused = |error: Pkcs11Error| TokenError::Module { module: module.to_owned(), reason: error.to_string() };
    let context = Pkcs11::new(module).map_err(refused)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(context),
        Err(error) => Err(refused(error)),
    }
}

/// A token that was found; nobody is logged in.
#[derive(Debug)]
pub struct Token {
    context: Pkcs11,
    slot: Slot,
    label: String,
}

impl Token {
    /// Loads a module and finds a token.
    ///
    /// # Errors
    /// [`TokenError::Module`], [`TokenError::NoToken`], [`TokenError::ManyTokens`].
    pub fn find(module: &Path, wanted: &TokenChoice) -> Result<Self, TokenError> {
        let mut context = load(module)?;
        let slots = match context.get_slots_with_initialized_token() {
            // A token that was pulled and plugged in again can leave a module confused for as long as it is loaded (SoftHSM
            // over OpenSSL 3 is). A fresh start mends it; who still holds the old token is told that it was pulled.
            Err(Pkcs11Error::Pkcs11(RvError::GeneralError, _)) => {
                let _ = context.finalize();
                context = load(module)?;
                context.get_slots_with_initialized_token()
            }
            listed => listed,
        };
        let (mut found, mut present) = (Vec::new(), Vec::new());
        for slot in slots.map_err(|error| translate("list tokens", error))? {
            // A token may be pulled between the two calls; then it is not there.
            let Ok(about) = context.get_token_info(slot) else { continue };
            let is_it = match wanted {
                TokenChoice::Label(label) => about.label() == label,
                TokenChoice::Serial(serial) => about.serial_number() == serial,
            };
            present.push(format!("{:?} (serial number {:?})", about.label(), about.serial_number()));
            if is_it {
                found.push((slot, about.label().to_owned()));
            }
        }
        let count = found.len();
        match found.pop() {
            Some((slot, label)) if count == 1 => Ok(Self { context, slot, label }),
            Some(_) => Err(TokenError::ManyTokens { wanted: wanted.clone(), count }),
            None => Err(TokenError::NoToken { wanted: wanted.clone(), present: list(&present) }),
        }
    }

    /// Its label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`TokenError::WrongPin`], [`TokenError::Locked`], [`TokenError::PinUnusable`], [`TokenError::Pulled`].
    pub fn login(self, pin: &SecretVec) -> Result<OpenToken, TokenError> {
        let wrong = || TokenError::WrongPin { left: TriesLeft::Some };
        let text = std::str::from_utf8(pin.expose()).map_err(|_| wrong())?;
        let session = self.context.open_rw_session(self.slot).map_err(|error| translate("open a session", error))?;
        match session.login(UserType::User, Some(&AuthPin::from(text))) {
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => {
                let left = self.context.get_token_info(self.slot).map_or(TriesLeft::Some, |about| {
                    if about.user_pin_final_try() {
                        TriesLeft::Last
                    } else if about.user_pin_count_low() {
                        TriesLeft::Low
                    } else {
                        TriesLeft::Some
                    }
                });
                return Err(match translate("log in", error) {
                    TokenError::WrongPin { .. } => TokenError::WrongPin { left },
                    other => other,
                });
            }
        }
        Ok(OpenToken { session, label: self.label })
    }
}

/// A token with its user logged in, until dropped.
#[derive(Debug)]
pub struct OpenToken {
    session: Session,
    label: String,
}

impl OpenToken {
    /// Finds a P-256 signing key.
    ///
    /// # Errors
    /// [`TokenError::NoKey`], [`TokenError::ManyKeys`], [`TokenError::NotP256`], [`TokenError::Pulled`].
    pub fn key(self, key: &str) -> Result<TokenSigner, TokenError> {
        let (private, public) = self.find(key)?;
        Ok(TokenSigner { session: self.session, private, public })
    }

    /// Finds an official's two keys: the one that signs, and the one that agrees and so unlocks files.
    ///
    /// # Errors
    /// As [`OpenToken::key`].
    pub fn official(self, key: &str) -> Result<TokenKeys, TokenError> {
        let (private, public) = self.find(key)?;
        let (agreeing, agreeing_public) = self.find(&unlocking(key))?;
        let signer = TokenSigner { session: self.session, private, public };
        Ok(TokenKeys { signer, agreeing, agreeing_public })
    }

    /// Makes a P-256 signing key on the token, never to be read from it.
    ///
    /// # Errors
    /// [`TokenError::KeyExists`], [`TokenError::Refused`], [`TokenError::Pulled`].
    pub fn generate(self, key: &str) -> Result<TokenSigner, TokenError> {
        self.is_free(key)?;
        let (private, public) = self.make(key, Use::Sign)?;
        Ok(TokenSigner { session: self.session, private, public })
    }

    /// Makes an official's two keys on the token; the second has the first's label with `-unlock` behind it.
    ///
    /// # Errors
    /// As [`OpenToken::generate`].
    pub fn generate_official(self, key: &str) -> Result<TokenKeys, TokenError> {
        // Both asked first, so that no half is made.
        self.is_free(key)?;
        self.is_free(&unlocking(key))?;
        let (private, public) = self.make(key, Use::Sign)?;
        let (agreeing, agreeing_public) = self.make(&unlocking(key), Use::Agree)?;
        let signer = TokenSigner { session: self.session, private, public };
        Ok(TokenKeys { signer, agreeing, agreeing_public })
    }

    fn find(&self, key: &str) -> Result<(ObjectHandle, Point), TokenError> {
        let (token, key) = (self.label.clone(), key.to_owned());
        let private = self.objects(ObjectClass::PRIVATE_KEY, Some(&key))?;
        let private = match private.as_slice() {
            [one] => *one,
            [] => {
                let mut labels = Vec::new();
                for handle in self.objects(ObjectClass::PRIVATE_KEY, None)? {
                    labels.extend(self.label_of(handle)?.map(|label| format!("{label:?}")));
                }
                return Err(TokenError::NoKey { token, key, present: list(&labels) });
            }
            several => return Err(TokenError::ManyKeys { token, key, count: several.len() }),
        };
        let public = self.objects(ObjectClass::PUBLIC_KEY, Some(&key))?;
        match public.as_slice() {
            [one] => Ok((private, self.point(*one, &key)?)),
            [] => Err(TokenError::NotP256 { key }),
            several => Err(TokenError::ManyKeys { token, key, count: several.len() }),
        }
    }

    fn is_free(&self, key: &str) -> Result<(), TokenError> {
        if self.objects(ObjectClass::PRIVATE_KEY, Some(key))?.is_empty()
            && self.objects(ObjectClass::PUBLIC_KEY, Some(key))?.is_empty()
        {
            return Ok(());
        }
        Err(TokenError::KeyExists { token: self.label.clone(), key: key.to_owned() })
    }

    fn make(&self, key: &str, usage: Use) -> Result<(ObjectHandle, Point), TokenError> {
        let label = key.as_bytes().to_vec();
        let mut public = vec![
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(P256_OID.to_vec()),
            Attribute::Label(label.clone()),
            Attribute::Id(label.clone()),
        ];
        let mut private = vec![
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Label(label.clone()),
            Attribute::Id(label),
        ];
        // One key, one use: what signs does not agree, and what agrees does not sign.
        match usage {
            Use::Sign => {
                public.extend([Attribute::Verify(true), Attribute::Derive(false)]);
                private.extend([Attribute::Sign(true), Attribute::Derive(false)]);
            }
            Use::Agree => {
                public.extend([Attribute::Verify(false), Attribute::Derive(true)]);
                private.extend([Attribute::Sign(false), Attribute::Derive(true)]);
            }
        }
        let (public, private) = self
            .session
            .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
            .map_err(|error| translate("make a key", error))?;
        Ok((private, self.point(public, key)?))
    }

    fn objects(&self, class: ObjectClass, label: Option<&str>) -> Result<Vec<ObjectHandle>, TokenError> {
        let mut template = vec![Attribute::Class(class), Attribute::KeyType(KeyType::EC)];
        template.extend(label.map(|label| Attribute::Label(label.as_bytes().to_vec())));
        self.session.find_objects(&template).map_err(|error| translate("look for keys", error))
    }

    fn label_of(&self, handle: ObjectHandle) -> Result<Option<String>, TokenError> {
        let found = self.session.get_attributes(handle, &[AttributeType::Label]);
        let found = found.map_err(|error| translate("look for keys", error))?;
        Ok(found.into_iter().find_map(|attribute| match attribute {
            Attribute::Label(label) => Some(String::from_utf8_lossy(&label).into_owned()),
            _ => None,
        }))
    }

    fn point(&self, handle: ObjectHandle, key: &str) -> Result<Point, TokenError> {
        let found = self.session.get_attributes(handle, &[AttributeType::EcParams, AttributeType::EcPoint]);
        let (mut on_p256, mut point) = (false, None);
        for attribute in found.map_err(|error| translate("read the public key", error))? {
            match attribute {
                Attribute::EcParams(parameters) => on_p256 = parameters == P256_OID,
                Attribute::EcPoint(bytes) => point = read_point(&bytes),
                _ => {}
            }
        }
        point.filter(|_| on_p256).ok_or_else(|| TokenError::NotP256 { key: key.to_owned() })
    }
}

/// CKA_EC_POINT: the uncompressed point inside a DER OCTET STRING (PKCS #11 §6.3.3); some modules leave the wrapping away.
fn read_point(bytes: &[u8]) -> Option<Point> {
    let bare = match bytes {
        [0x04, 0x41, bare @ ..] if bare.len() == 65 => bare,
        bare => bare,
    };
    let (tag, xy) = bare.split_first()?;
    let (x, y) = xy.split_first_chunk::<32>()?;
    if *tag == 4 { Point::from_xy(x, y.try_into().ok()?).ok() } else { None }
}

/// A signing key on a token.
#[derive(Debug)]
pub struct TokenSigner {
    session: Session,
    private: ObjectHandle,
    public: Point,
}

impl IdentitySigner for TokenSigner {
    fn public(&self) -> &Point {
        &self.public
    }
    fn sign(&self, digest: &Hash) -> Result<Signature, KeyError> {
        // CKM_ECDSA takes the digest as it is and gives r ‖ s.
        let bytes = self.session.sign(&Mechanism::Ecdsa, self.private, digest.as_bytes());
        let bytes = bytes.map_err(|error| translate("sign", error))?;
        let signature = Signature::from_slice(&bytes).map_err(|_| KeyError::Signature)?;
        checked(&self.public, digest, signature)
    }
}

#[derive(Clone, Copy)]
enum Use {
    Sign,
    Agree,
}

/// The label of the key that unlocks files, beside the identity key of this label.
fn unlocking(key: &str) -> String {
    format!("{key}-unlock")
}

/// An official's two keys on a token, in one session: the identity key, and the key that unlocks the official's files.
#[derive(Debug)]
pub struct TokenKeys {
    signer: TokenSigner,
    agreeing: ObjectHandle,
    agreeing_public: Point,
}

impl IdentitySigner for TokenKeys {
    fn public(&self) -> &Point {
        self.signer.public()
    }
    fn sign(&self, digest: &Hash) -> Result<Signature, KeyError> {
        self.signer.sign(digest)
    }
}

impl KeyAgreement for TokenKeys {
    fn public(&self) -> &Point {
        &self.agreeing_public
    }
    fn agree(&self, with: &Point) -> Result<Secret<32>, KeyError> {
        // CKD_NULL gives x itself; the derivation is ours (protocol.md §13). The result is a session object, and goes with it.
        let point = with.encode_uncompressed();
        let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point));
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
            Attribute::ValueLen(32.into()),
        ];
        let session = &self.signer.session;
        let agreed = session
            .derive_key(&mechanism, self.agreeing, &template)
            .map_err(|error| translate("agree on a key", error))?;
        let found = session.get_attributes(agreed, &[AttributeType::Value]);
        let destroyed = session.destroy_object(agreed);
        let found = found.map_err(|error| translate("give what was agreed on", error))?;
        destroyed.map_err(|error| translate("forget what was agreed on", error))?;
        let mut secret = None;
        for attribute in found {
            if let Attribute::Value(mut bytes) = attribute {
                secret = Secret::from_slice(&bytes);
                bytes.zeroize();
            }
        }
        secret.ok_or(KeyError::Damaged)
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// One table from what modules report to what a person can do about it.
fn translate(doing: &'static str, error: Pkcs11Error) -> TokenError {
    let Pkcs11Error::Pkcs11(code, _) = error else {
        return TokenError::Refused { doing, reason: error.to_string() };
    };
    match code {
        // A PIN that is too short or has a wrong character is a wrong one for whoever types it.
        RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange => {
            TokenError::WrongPin { left: TriesLeft::Some }
        }
        RvError::PinLocked => TokenError::Locked,
        RvError::PinExpired | RvError::UserPinNotInitialized => TokenError::PinUnusable { reason: code },
        // Modules differ in what they report of a token that is gone; SoftHSM says ObjectHandleInvalid.
        RvError::DeviceRemoved
        | RvError::DeviceError
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SessionClosed
        | RvError::SessionHandleInvalid
        | RvError::ObjectHandleInvalid
        | RvError::KeyHandleInvalid
        | RvError::UserNotLoggedIn
        | RvError::CryptokiNotInitialized => TokenError::Pulled,
        other => TokenError::Refused { doing, reason: format!("{other:?}") },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    /// SoftHSM never locks a PIN; the code that a token which does would give stands in for it.
    #[test]
    fn every_report_of_a_module_says_what_to_do() {
        let said = |code| translate("sign", Pkcs11Error::Pkcs11(code, Function::Login)).to_string();
        assert!(said(RvError::PinLocked).contains("security officer"));
        assert!(said(RvError::PinIncorrect).starts_with("the PIN is wrong. Try again"));
        assert!(said(RvError::UserPinNotInitialized).contains("Set one"));
        for gone in [RvError::DeviceRemoved, RvError::TokenNotPresent, RvError::ObjectHandleInvalid] {
            assert!(said(gone).contains("Plug it in"), "{gone:?}");
        }
        assert!(said(RvError::GeneralError).contains("refused to sign: GeneralError"));
        let last = TokenError::WrongPin { left: TriesLeft::Last }.to_string();
        assert!(last.contains("ONE TRY IS LEFT"));
    }

    #[test]
    fn a_point_is_read_wrapped_and_bare_and_nothing_else_is() {
        let bare = Point::GENERATOR.encode_uncompressed();
        let wrapped = [&[0x04, 0x41][..], &bare].concat();
        assert_eq!(read_point(&bare), Some(Point::GENERATOR));
        assert_eq!(read_point(&wrapped), Some(Point::GENERATOR));
        for wrong in [&[][..], &wrapped[..66], &[&wrapped[..], &[0]].concat(), &Point::GENERATOR.encode(), &[4; 65]] {
            assert_eq!(read_point(wrong), None, "{wrong:?}");
        }
    }
}
