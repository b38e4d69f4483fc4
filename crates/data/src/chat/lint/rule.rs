//! What is looked for.

use serde::{Serialize, Serializer};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training works, perhaps not as meant.
    Warning,
    /// Training fails, or what it gives is of no use.
    Error,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// A rule that conversations may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The template refuses the conversation, or fails.
    TemplateFails,
    /// Where the messages lie in the template's text cannot be said exactly.
    MessagesNotLocated,
    /// The tokenizer lacks a character.
    NotEncodable,
    /// A conversation that measures the model is trained on.
    ValidationInTraining,
    /// Padding is the token that ends turns, and that token is not trained: a model that learns it nowhere, and is told
    /// to overlook it everywhere.
    PadEndsTurns,
    /// No token that ends a turn is trained.
    EndOfTurnNeverTrained,
    /// Nothing of a conversation is trained.
    NothingTrained,
    /// A conversation is left out because it does not fit.
    TooLong,
    /// A trained message lies wholly behind the place where a conversation is cut.
    AnswerCutAway,
    /// The template does not write a message.
    MessageLeftOut,
    /// A message has no text.
    EmptyTurn,
    /// Roles follow each other as they do in no dialogue.
    RoleOrder,
    /// A message holds the text of a special token, which becomes that token, as in `transformers`.
    SpecialTokenInContent,
    /// The template's text depends on the day.
    TemplateWritesDate,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 14] = [
        Self::TemplateFails,
        Self::MessagesNotLocated,
        Self::NotEncodable,
        Self::ValidationInTraining,
        Self::PadEndsTurns,
        Self::EndOfTurnNeverTrained,
        Self::NothingTrained,
        Self::TooLong,
        Self::AnswerCutAway,
        Self::MessageLeftOut,
        Self::EmptyTurn,
        Self::RoleOrder,
        Self::SpecialTokenInContent,
        Self::TemplateWritesDate,
    ];

    /// How bad it is to break the rule.
    pub fn severity(self) -> Severity {
        match self {
            Self::TooLong | Self::MessageLeftOut | Self::SpecialTokenInContent | Self::TemplateWritesDate => {
                Severity::Warning
            }
            _ => Severity::Error,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::TemplateFails => "template_fails",
            Self::MessagesNotLocated => "messages_not_located",
            Self::NotEncodable => "not_encodable",
            Self::ValidationInTraining => "validation_in_training",
            Self::PadEndsTurns => "pad_ends_turns",
            Self::EndOfTurnNeverTrained => "end_of_turn_never_trained",
            Self::NothingTrained => "nothing_trained",
            Self::TooLong => "too_long",
            Self::AnswerCutAway => "answer_cut_away",
            Self::MessageLeftOut => "message_left_out",
            Self::EmptyTurn => "empty_turn",
            Self::RoleOrder => "role_order",
            Self::SpecialTokenInContent => "special_token_in_content",
            Self::TemplateWritesDate => "template_writes_date",
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
