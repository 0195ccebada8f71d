//! Who pulled the fused score where, in a sentence.

use modalign::encoders::Modality;
use modalign::train::ExperimentConfig;

/// A pull smaller than this part of the label range counts as agreement.
const AGREEMENT: f32 = 0.05;

/// Explains the predictions of one model.
#[derive(Debug, Clone, Copy)]
pub struct Explainer {
    /// Whether the unimodal heads were trained at all.
    unimodal: bool,
    /// The pull from which on a modality disagrees.
    threshold: f32,
}

impl Explainer {
    pub fn new(config: &ExperimentConfig) -> Self {
        let range = 2.0 * config.label_generator.label_limit as f32;
        Self {
            unimodal: config.uses_label_generator(),
            threshold: AGREEMENT * range,
        }
    }

    /// Such as `+0.81: text pulls up by 0.32, audio pulls down by 1.10, vision agrees`.
    pub fn explain(self, fused: f32, pull: &[(Modality, f32)]) -> String {
        if !self.unimodal {
            return format!(
                "{:+.2}: the single scores mean nothing, for the model had no unimodal tasks",
                fused
            );
        }
        let part = |&(modality, pull): &(Modality, f32)| {
            if pull.abs() < self.threshold {
                return format!("{modality} agrees");
            }
            let direction = if pull > 0.0 { "up" } else { "down" };
            format!("{modality} pulls {direction} by {:.2}", pull.abs())
        };
        let parts: Vec<_> = pull.iter().map(part).collect();
        format!("{fused:+.2}: {}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modalign::metrics::Convention;
    use modalign::train::Recipe;

    #[test]
    fn a_small_pull_is_agreement_and_the_scale_says_what_is_small() {
        let pull = [(Modality::Text, -0.2), (Modality::Audio, 0.75)];
        let explain = |config: &ExperimentConfig| Explainer::new(config).explain(-0.5, &pull);
        let mosi = ExperimentConfig::default();
        assert_eq!(explain(&mosi), "-0.50: text agrees, audio pulls up by 0.75");
        let mut sims = ExperimentConfig::recipe(Recipe::Modalign, Convention::Sims);
        assert_eq!(
            explain(&sims),
            "-0.50: text pulls down by 0.20, audio pulls up by 0.75"
        );
        sims.objective.unimodal_weight = 0.0;
        assert!(explain(&sims).starts_with("-0.50: the single scores mean nothing"));
    }
}
