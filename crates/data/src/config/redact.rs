//! The part of a config that says which personal data is replaced.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Personal data that is replaced by placeholders such as `[EMAIL]`. Nothing is unless it is named here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedactConfig {
    /// The kinds that are replaced: `email`, `phone`, `card`, `iban`, `ip`, `chinese_id`, `chinese_mobile`.
    pub kinds: Vec<RedactKind>,
    /// Patterns of one's own, which go before the kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<RedactPattern>,
}

impl RedactConfig {
    /// Every kind, and no pattern.
    pub fn all() -> Self {
        Self { kinds: RedactKind::ALL.to_vec(), patterns: Vec::new() }
    }
}

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedactKind {
    /// E-mail addresses.
    Email,
    /// Telephone numbers: international with `+` or `00`, and the national forms of North America, of the countries that
    /// dial a 0 first, of Russia, Brazil, and China's landline and service numbers.
    Phone,
    /// Payment card numbers of a known issuer whose check digit is right.
    Card,
    /// International bank account numbers whose check digits are right.
    Iban,
    /// IPv4 and IPv6 addresses, without those that name no machine of their own, such as 127.0.0.1.
    Ip,
    /// Chinese identity card numbers of 18 digits whose date and check digit are right.
    ChineseId,
    /// Chinese mobile numbers.
    ChineseMobile,
}

impl RedactKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Email, Self::Phone, Self::Card, Self::Iban, Self::Ip, Self::ChineseId, Self::ChineseMobile];

    /// Its name in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Ip => "ip",
            Self::ChineseId => "chinese_id",
            Self::ChineseMobile => "chinese_mobile",
        }
    }
}

/// What is replaced by a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactPattern {
    /// Its name, of letters, digits and `_`: `ticket` becomes `[TICKET]`.
    #[schemars(length(min = 1))]
    pub name: String,
    /// A regular expression, in the syntax of Rust's `regex`; what it matches is replaced.
    #[schemars(length(min = 1))]
    pub regex: String,
}
