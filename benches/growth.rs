//! How the cost of training grows: with rows, time steps, features a step, modalities and threads.
//!
//! ```sh
//! cargo bench -p modalign-benches --bench growth -- docs/growth.svg
//! ```
//!
//! draws the curves and prints them with the exponents of `cost = a · size ^ exponent`, fitted by least
//! squares of the logarithms. The model is that of the peer scripts; what is not varied stays at 1,024
//! rows, 100 steps of audio and vision, 20 features each.

use std::error::Error;
use std::ops::Range;

use modalign_benches::{Corpus, Threads, Unit, peer_config, time_training};
use modalign_data::Dataset;
use modalign_encoders::Modality;
use plotters::coord::Shift;
use plotters::prelude::*;

const THREADS: [usize; 2] = [1, 2];

/// The curves' colours, of Okabe and Ito's set.
const COLORS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// Runs of which the fastest counts: others are disturbed.
const RUNS: usize = 3;

/// One thing that is varied.
struct Curve {
    name: &'static str,
    unit: Unit,
    sizes: &'static [usize],
    /// Changes the data or the number of modalities.
    set: fn(&mut Corpus, &mut usize, usize),
}

const CURVES: [Curve; 4] = [
    Curve {
        name: "training rows",
        unit: Unit::Epoch,
        sizes: &[256, 512, 1024, 2048, 4096],
        set: |corpus, _, size| corpus.rows = size,
    },
    Curve {
        name: "time steps",
        unit: Unit::Step,
        sizes: &[50, 100, 200, 400, 800],
        set: |corpus, _, size| (corpus.audio[0], corpus.vision[0]) = (size, size),
    },
    Curve {
        name: "features a step",
        unit: Unit::Step,
        sizes: &[8, 16, 32, 64, 128],
        set: |corpus, _, size| (corpus.audio[1], corpus.vision[1]) = (size, size),
    },
    Curve {
        name: "modalities",
        unit: Unit::Step,
        sizes: &[1, 2, 3],
        set: |_, modalities, size| *modalities = size,
    },
];

impl Curve {
    fn unit(&self) -> &'static str {
        match self.unit {
            Unit::Step => "ms a step",
            Unit::Epoch => "ms an epoch",
        }
    }

    /// Milliseconds for each size.
    fn costs(&self, threads: &Threads) -> Vec<f64> {
        let cost = |&size: &usize| {
            let mut corpus = Corpus {
                name: "growth",
                rows: 1024,
                audio: [100, 20],
                vision: [100, 20],
            };
            let mut modalities = Modality::ALL.len();
            (self.set)(&mut corpus, &mut modalities, size);
            let mut config = peer_config();
            config.data.modalities.truncate(modalities);
            if modalities < 2 {
                config.objective.shared_information_weight = 0.0;
            }
            let dataset = Dataset {
                valid: corpus.split(corpus.rows / 8),
                ..corpus.dataset()
            };
            let count = match self.unit {
                Unit::Step => 96,
                Unit::Epoch => 2,
            };
            let time = || {
                let taken = threads.install(|| time_training(&config, &dataset, self.unit, count));
                taken.as_secs_f64() * 1e3 / count as f64
            };
            (0..RUNS).map(|_| time()).fold(f64::INFINITY, f64::min)
        };
        self.sizes.iter().map(cost).collect()
    }

    /// The slope of the logarithms' line of best fit.
    fn exponent(&self, costs: &[f64]) -> f64 {
        let logarithms = |numbers: Vec<f64>| numbers.into_iter().map(f64::ln).collect::<Vec<_>>();
        let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len() as f64;
        let x = logarithms(self.sizes.iter().map(|&size| size as f64).collect());
        let y = logarithms(costs.to_vec());
        let (centre_x, centre_y) = (mean(&x), mean(&y));
        let moment = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
            pairs.map(|(left, right)| left * right).sum::<f64>()
        };
        let deviations = x.iter().map(|x| x - centre_x);
        moment(&mut deviations.clone().zip(y.iter().map(|y| y - centre_y)))
            / moment(&mut deviations.clone().zip(deviations))
    }
}

/// Room around numbers on a logarithmic axis.
fn extent(numbers: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let low = numbers.clone().fold(f64::INFINITY, f64::min);
    low / 1.3..numbers.fold(0.0, f64::max) * 1.3
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    curve: &Curve,
    costs: &[Vec<f64>],
) -> Result<(), Box<dyn Error>> {
    let sizes = || curve.sizes.iter().map(|&size| size as f64);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .caption(
            format!("{}, {}", curve.name, curve.unit()),
            ("sans-serif", 16),
        )
        .x_label_area_size(28)
        .y_label_area_size(56)
        .build_cartesian_2d(
            extent(sizes())
                .log_scale()
                .with_key_points(sizes().collect()),
            extent(costs.iter().flatten().copied()).log_scale(),
        )?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_label_formatter(&|size| format!("{size:.0}"))
        .y_label_formatter(&|cost| format!("{cost}"))
        .draw()?;
    for ((costs, threads), color) in costs.iter().zip(THREADS).zip(COLORS) {
        let points = || sizes().zip(costs.iter().copied());
        let line = LineSeries::new(points(), color.stroke_width(2));
        let plural = if threads > 1 { "s" } else { "" };
        chart
            .draw_series(line)?
            .label(format!("{threads} thread{plural}"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        chart.draw_series(points().map(|point| Circle::new(point, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let mut image = String::new();
    let canvas = SVGBackend::with_string(&mut image, (840, 620)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let pools = THREADS.map(Threads::new);
    for (curve, area) in CURVES.iter().zip(canvas.split_evenly((2, 2))) {
        println!(
            "| {}, {} | {} | exponent |",
            curve.name,
            curve.unit(),
            row(curve.sizes)
        );
        println!("| --- |{}", " --- |".repeat(curve.sizes.len() + 1));
        let mut costs = Vec::new();
        for (threads, pool) in THREADS.iter().zip(&pools) {
            let found = curve.costs(pool);
            let cells: Vec<_> = found.iter().map(|cost| format!("{cost:.3}")).collect();
            let exponent = curve.exponent(&found);
            println!("| threads {threads} | {} | {exponent:.2} |", row(&cells));
            costs.push(found);
        }
        println!();
        draw(&area, curve, &costs)?;
    }
    canvas.present()?;
    drop(canvas);
    if let Some(path) = path {
        // Cargo runs benchmarks in the folder of their package.
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../").to_owned() + &path,
            image,
        )?;
    }
    Ok(())
}

fn row<T: ToString>(cells: &[T]) -> String {
    cells
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(" | ")
}
