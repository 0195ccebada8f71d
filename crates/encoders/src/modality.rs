//! The three modalities.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A source of sentiment.
///
/// ```
/// use modalign_encoders::Modality;
///
/// assert_eq!(Modality::Vision.to_string(), "vision");
/// assert_eq!("audio".parse(), Ok(Modality::Audio));
/// assert!(Modality::Text < Modality::Audio);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// What is said.
    Text,
    /// How it sounds.
    Audio,
    /// How it looks.
    Vision,
}

impl Modality {
    /// Every modality, in the order of models and reports.
    pub const ALL: [Self; 3] = [Self::Text, Self::Audio, Self::Vision];

    /// The name in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Audio => "audio",
            Self::Vision => "vision",
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl std::str::FromStr for Modality {
    type Err = crate::EncoderError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|modality| modality.name() == name)
            .ok_or_else(|| crate::EncoderError::UnknownModality {
                found: name.to_owned(),
            })
    }
}
