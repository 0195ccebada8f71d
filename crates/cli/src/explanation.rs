//! Who pulled the fused score where, in a sentence.

use modalign::train::Prediction;

/// A pull smaller than this part of the label range counts as agreement.
const AGREEMENT: f32 = 0.05;

/// Such as `+0.81: text pulls up by 0.32, audio pulls down by 1.10, vision agrees`.
///
/// `range` is the length of the label scale: 6 for labels from −3 to 3.
pub fn explain(prediction: &Prediction, range: f32) -> String {
    let parts: Vec<_> = prediction
        .pull
        .iter()
        .map(|&(modality, pull)| {
            if pull.abs() < AGREEMENT * range {
                format!("{modality} agrees")
            } else {
                let direction = if pull > 0.0 { "up" } else { "down" };
                format!("{modality} pulls {direction} by {:.2}", pull.abs())
            }
        })
        .collect();
    format!("{:+.2}: {}", prediction.fused, parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use modalign::encoders::Modality;

    #[test]
    fn small_pulls_are_agreement_whatever_the_scale() {
        let prediction = Prediction {
            id: "a".to_owned(),
            label: 1.0,
            fused: -0.5,
            unimodal: vec![(Modality::Text, -0.7), (Modality::Audio, 0.25)],
            pull: vec![(Modality::Text, -0.2), (Modality::Audio, 0.75)],
        };
        assert_eq!(
            explain(&prediction, 6.0),
            "-0.50: text agrees, audio pulls up by 0.75"
        );
        assert_eq!(
            explain(&prediction, 2.0),
            "-0.50: text pulls down by 0.20, audio pulls up by 0.75"
        );
    }
}
