//! Tutorial 1: the shared-information loss and its gradient, in ten lines.
//!
//! Text and audio features of the same utterances need not mean the same column by column to share
//! information; what is compared is how their columns vary together. Here plain gradient descent on
//! the audio features brings their covariance to that of the text features.

use std::error::Error;

use modalign::core::{Stream, rng};
use modalign::covariance::{coral, covariance};
use ndarray::Array2;
use rand::RngExt;
use rand_distr::StandardNormal;

fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = rng(7, Stream::Generation);
    let mut noise = |rows, columns| {
        Array2::from_shape_simple_fn((rows, columns), || rng.sample::<f64, _>(StandardNormal))
    };
    // Text features vary together; audio features do not yet.
    let text = noise(200, 4).dot(&noise(4, 4));
    let mut audio = noise(200, 4);

    // The ten lines.
    for step in 0..=600 {
        let (loss, _d_text, d_audio) = coral(text.view(), audio.view())?;
        if step % 100 == 0 {
            println!("step {step:3}: loss {loss:.6}");
        }
        audio.scaled_add(-50.0, &d_audio);
    }

    let [of_text, of_audio] = [covariance(text.view(), 1)?, covariance(audio.view(), 1)?];
    println!("covariance of text:\n{of_text:.2}");
    println!("covariance of audio:\n{of_audio:.2}");
    let apart = (&of_text - &of_audio)
        .mapv(f64::abs)
        .fold(0.0, |worst, &x| f64::max(worst, x));
    println!("largest difference between them: {apart:.4}");

    // The means were never compared: audio still has its own.
    let means = |x: &Array2<f64>| x.mean_axis(ndarray::Axis(0)).unwrap_or_default();
    println!(
        "means of text {:.2}, of audio {:.2}",
        means(&text),
        means(&audio)
    );
    Ok(())
}
