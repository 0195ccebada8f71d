//! Times modalign as `compare.py` asks on standard input, in the manner of `worker.py`: a request is
//! `operation formulation type seconds extent...`, the answer the seconds a call of every sample.

mod covariance;
mod text_encoder;

use std::collections::HashMap;
use std::io::{BufRead, Write, stdin, stdout};

use modalign_benches::Sampled;

use self::text_encoder::{Work, text_encoder};

fn prepare(
    operation: &str,
    formulation: &str,
    kind: &str,
    extents: &[usize],
) -> Option<Sampled<'static>> {
    match (operation, kind) {
        ("covariance", "f32") => covariance::covariance_f32(formulation, extents),
        ("covariance", "f64") => covariance::covariance_f64(formulation, extents),
        ("loss", "f32") => covariance::loss::<f32>(formulation, extents, false),
        ("loss_gradient", "f32") => covariance::loss::<f32>(formulation, extents, true),
        ("text_encoder", "f32") => text_encoder(formulation, extents, Work::Forward),
        ("text_gradient", "f32") => text_encoder(formulation, extents, Work::Both(0.0)),
        ("text_gradient_dropout", "f32") => text_encoder(formulation, extents, Work::Both(0.1)),
        ("text_step", "f32") => text_encoder(formulation, extents, Work::Step),
        _ => None,
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut case = String::new();
    let mut prepared = HashMap::new();
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let [operation, formulation, kind, seconds, extents @ ..] = words.as_slice() else {
            return Err(format!("not a request: {line}").into());
        };
        let this_case = format!("{operation} {kind} {extents:?}");
        if this_case != case {
            prepared.clear();
            case = this_case;
        }
        if !prepared.contains_key(*formulation) {
            let extents: Vec<usize> = extents
                .iter()
                .map(|extent| extent.parse())
                .collect::<Result<_, _>>()?;
            let sampled = prepare(operation, formulation, kind, &extents);
            prepared.insert((*formulation).to_owned(), sampled);
        }
        let mut out = stdout().lock();
        match prepared.get_mut(*formulation) {
            Some(Some(sampled)) => {
                for sample in sampled.samples(seconds.parse()?) {
                    write!(out, "{sample:e} ")?;
                }
                writeln!(out)?;
            }
            _ => writeln!(out, "-")?,
        }
        out.flush()?;
    }
    Ok(())
}
