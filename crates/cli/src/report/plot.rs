//! The plots of the report, each one SVG that takes its colours from the page.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

/// What a mark stands for. The page gives each a colour for light and one for dark screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// The fused prediction and everything that concerns no single modality.
    Fused,
    /// Text.
    Text,
    /// Audio.
    Audio,
    /// Vision.
    Vision,
    /// The shared-information loss.
    Shared,
}

impl Ink {
    pub const ALL: [Self; 5] = [
        Self::Fused,
        Self::Text,
        Self::Audio,
        Self::Vision,
        Self::Shared,
    ];

    /// The colour in the SVG: that of a light page, which the style sheet overrides on a dark one.
    /// Apart from the first they are of Okabe and Ito's set, which all kinds of colour vision keep
    /// apart.
    pub fn light(self) -> &'static str {
        match self {
            Self::Fused => "#3B4252",
            Self::Text => "#0072B2",
            Self::Audio => "#D55E00",
            Self::Vision => "#009E73",
            Self::Shared => "#B0568C",
        }
    }

    /// The same on a dark page.
    pub fn dark(self) -> &'static str {
        match self {
            Self::Fused => "#D8DEE9",
            Self::Text => "#56B4E9",
            Self::Audio => "#F28E4B",
            Self::Vision => "#2FC79A",
            Self::Shared => "#E29CC4",
        }
    }

    fn color(self) -> RGBColor {
        rgb(self.light())
    }
}

/// Colour of words, ticks and axes in the SVG, on a light and on a dark page.
pub const WORDS: (&str, &str) = ("#4C566A", "#AEB6C4");
/// Colour of grid lines.
pub const GRID: (&str, &str) = ("#E5E9F0", "#2E3440");

fn rgb(hex: &str) -> RGBColor {
    let channel = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap_or(0);
    RGBColor(channel(1), channel(3), channel(5))
}

/// Why a plot could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("drawing {what}: {reason}")]
pub struct PlotError {
    what: String,
    reason: String,
}

/// Coordinates in an SVG by this library are whole numbers: this many of them to a pixel keep
/// curves smooth.
const SCALE: u32 = 8;
const WIDTH: u32 = 400;
const HEIGHT: u32 = 270;
const FONT: &str = "sans-serif";

/// What is on the axes.
#[derive(Debug, Clone, Copy)]
pub struct Axes<'a> {
    /// Name of the plot for screen readers.
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
}

/// A curve.
#[derive(Debug, Clone)]
pub struct Curve {
    pub points: Vec<(f64, f64)>,
    pub ink: Ink,
    /// Several thin curves go with one thick one, their mean.
    pub thick: bool,
}

/// Curves over epochs. One of a single point is a dot.
pub fn curves(axes: Axes<'_>, curves: &[Curve]) -> Result<String, PlotError> {
    let all = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let x = epochs(all().map(|point| point.0));
    let y = extent(all().map(|point| point.1));
    draw(axes, x, y, |chart| {
        for thick in [false, true] {
            for curve in curves.iter().filter(|curve| curve.thick == thick) {
                let (alpha, width) = if thick { (1.0, 2.4) } else { (0.45, 0.9) };
                let style = curve.ink.color().mix(alpha).stroke_width(pixels(width));
                if let [point] = curve.points[..] {
                    chart.draw_series([Circle::new(point, pixels(2.5), style.filled())])?;
                } else {
                    let line = LineSeries::new(finite(&curve.points), style);
                    chart.draw_series(line)?;
                }
            }
        }
        Ok(())
    })
}

/// Five quantiles over epochs: a light band between the outer two, a darker one between the inner
/// two, and the median as a line.
pub fn bands(axes: Axes<'_>, quantiles: &[(f64, [f64; 5])], ink: Ink) -> Result<String, PlotError> {
    let x = epochs(quantiles.iter().map(|row| row.0));
    let y = extent(quantiles.iter().flat_map(|row| row.1).chain([0.0]));
    let edge = |index: usize| quantiles.iter().map(move |row| (row.0, row.1[index]));
    draw(axes, x.clone(), y, |chart| {
        chart.draw_series(LineSeries::new(
            [(x.start, 0.0), (x.end, 0.0)],
            rgb(WORDS.0).stroke_width(pixels(0.8)),
        ))?;
        for (low, high, alpha) in [(0, 4, 0.18), (1, 3, 0.35)] {
            let outline: Vec<_> = edge(low).chain(edge(high).rev()).collect();
            chart.draw_series([Polygon::new(outline, ink.color().mix(alpha).filled())])?;
        }
        chart.draw_series(LineSeries::new(
            edge(2),
            ink.color().stroke_width(pixels(2.0)),
        ))?;
        Ok(())
    })
}

/// Points around the line on which both coordinates are equal; `range` is that of both axes.
pub fn scatter(
    axes: Axes<'_>,
    range: Range<f64>,
    points: &[(f64, f64)],
    ink: Ink,
) -> Result<String, PlotError> {
    let alpha = (60.0 / points.len() as f64).sqrt().clamp(0.25, 0.8);
    draw(axes, range.clone(), range.clone(), |chart| {
        let (low, high) = (range.start, range.end);
        chart.draw_series(LineSeries::new(
            [(low, low), (high, high)],
            rgb(WORDS.0).stroke_width(pixels(1.0)),
        ))?;
        let style = ink.color().mix(alpha).filled();
        let dots = finite(points).map(|point| Circle::new(point, pixels(2.0), style));
        chart.draw_series(dots)?;
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw(
    axes: Axes<'_>,
    x: Range<f64>,
    y: Range<f64>,
    content: impl FnOnce(&mut Chart<'_, '_>) -> Drawn,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    let root =
        SVGBackend::with_string(&mut svg, (WIDTH * SCALE, HEIGHT * SCALE)).into_drawing_area();
    frame(&root, axes, x, y, content).map_err(|error| PlotError {
        what: axes.title.to_owned(),
        reason: error.to_string(),
    })?;
    drop(root);
    Ok(label(&svg, axes.title))
}

fn frame(
    root: &Area<'_>,
    axes: Axes<'_>,
    x: Range<f64>,
    y: Range<f64>,
    content: impl FnOnce(&mut Chart<'_, '_>) -> Drawn,
) -> Drawn {
    let (ticks_x, ticks_y) = (ticks(&x), ticks(&y));
    let mut chart = ChartBuilder::on(root)
        .margin_top(pixels(10.0))
        .margin_right(pixels(14.0))
        .margin_bottom(pixels(4.0))
        .margin_left(pixels(4.0))
        .x_label_area_size(pixels(42.0))
        .y_label_area_size(pixels(54.0))
        .build_cartesian_2d(x, y)?;
    let words = rgb(WORDS.0);
    chart
        .configure_mesh()
        .x_labels(6)
        .y_labels(6)
        .max_light_lines(1)
        .bold_line_style(rgb(GRID.0).stroke_width(pixels(1.0)))
        .light_line_style(TRANSPARENT)
        .axis_style(words.stroke_width(pixels(1.0)))
        .set_all_tick_mark_size(pixels(4.0))
        .label_style((FONT, pixels(13.5)).into_font().color(&words))
        .axis_desc_style((FONT, pixels(14.5)).into_font().color(&words))
        .x_desc(format!("{}{}", axes.x, ticks_x.unit()))
        .y_desc(format!("{}{}", axes.y, ticks_y.unit()))
        .x_label_formatter(&|value| ticks_x.label(*value))
        .y_label_formatter(&|value| ticks_y.label(*value))
        .draw()?;
    content(&mut chart)?;
    root.present()
}

/// Gives the SVG a name and leaves its size to the page.
fn label(svg: &str, title: &str) -> String {
    let size = format!("width=\"{}\" height=\"{}\"", WIDTH * SCALE, HEIGHT * SCALE);
    svg.replacen(&size, &format!("role=\"img\" aria-label=\"{title}\""), 1)
}

fn pixels(size: f64) -> u32 {
    (size * f64::from(SCALE)).round() as u32
}

fn finite(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    points
        .iter()
        .copied()
        .filter(|point| point.0.is_finite() && point.1.is_finite())
}

/// From the first epoch to the last, never empty.
fn epochs(values: impl Iterator<Item = f64>) -> Range<f64> {
    let last = values.fold(1.0, f64::max);
    1.0..last.max(2.0)
}

/// The values with a little room on both sides, never empty.
pub fn extent(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return 0.0..1.0;
    }
    let room = 0.05 * (high - low);
    let room = if room > 0.0 {
        room
    } else {
        0.05 * low.abs().max(1.0)
    };
    low - room..high + room
}

/// How the numbers of an axis are written.
struct Ticks {
    /// They are written in units of ten to this power.
    exponent: i32,
    decimals: usize,
}

fn ticks(range: &Range<f64>) -> Ticks {
    let largest = range.start.abs().max(range.end.abs());
    let magnitude = largest.log10().floor() as i32;
    // Between a hundredth and a hundred thousand, numbers are best written out.
    let exponent = if (-2..5).contains(&magnitude) {
        0
    } else {
        magnitude
    };
    let step = (range.end - range.start) / 6.0 / 10_f64.powi(exponent);
    // One digit more than the size of a step, for steps such as 0.25.
    let decimals = (1.0 - step.log10().floor()).clamp(0.0, 12.0) as usize;
    Ticks { exponent, decimals }
}

impl Ticks {
    /// With as many digits as tell neighbours apart, zeros at the end dropped.
    fn label(&self, value: f64) -> String {
        let scaled = value / 10_f64.powi(self.exponent);
        let text = format!("{scaled:.*}", self.decimals);
        let text = match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.'),
            false => &text,
        };
        match text {
            "-0" => "0".to_owned(),
            text => text.replace('-', "−"),
        }
    }

    /// What follows the name of the axis.
    fn unit(&self) -> String {
        if self.exponent == 0 {
            return String::new();
        }
        let superscript = |digit| match digit {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
        };
        let power: String = self.exponent.to_string().chars().map(superscript).collect();
        format!(" (× 10{power})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXES: Axes<'static> = Axes {
        title: "a title",
        x: "epoch",
        y: "loss",
    };

    #[test]
    fn ticks_are_as_short_as_they_can_be() {
        let wide = ticks(&(0.0..120.0));
        assert_eq!(wide.label(40.0), "40");
        let narrow = ticks(&(0.0..0.3));
        assert_eq!(narrow.label(0.1 + 0.2), "0.3");
        assert_eq!(narrow.label(-0.05), "−0.05");
        assert_eq!(narrow.label(-0.0), "0");
        assert_eq!(narrow.unit(), "");
        let tiny = ticks(&(0.0..3e-6));
        assert_eq!(
            (tiny.label(1.5e-6).as_str(), tiny.unit().as_str()),
            ("1.5", " (× 10⁻⁶)")
        );
        let huge = ticks(&(0.0..2.5e14));
        assert_eq!(
            (huge.label(1e14).as_str(), huge.unit().as_str()),
            ("1", " (× 10¹⁴)")
        );
        assert_eq!(ticks(&(0.0..1e-20)).unit(), " (× 10⁻²⁰)");
    }

    #[test]
    fn each_plot_has_its_axes_its_marks_and_no_fixed_size() -> Result<(), PlotError> {
        let thin = Curve {
            points: vec![(1.0, 0.9), (2.0, 0.5)],
            ink: Ink::Audio,
            thick: false,
        };
        let thick = Curve {
            points: vec![(1.0, 0.8)],
            ink: Ink::Audio,
            thick: true,
        };
        let lines = curves(AXES, &[thin, thick])?;
        assert_eq!(series(&lines, Ink::Audio), 1);
        assert_eq!(lines.matches("<circle").count(), 1);
        let rows = [
            (1.0, [-0.4, -0.2, 0.0, 0.1, 0.3]),
            (2.0, [-0.6, -0.3, 0.0, 0.2, 0.5]),
        ];
        let movement = bands(AXES, &rows, Ink::Vision)?;
        assert_eq!(movement.matches("<polygon").count(), 2);
        let dots = scatter(
            AXES,
            0.0..1.0,
            &[(0.0, 0.1), (1.0, 0.9), (f64::NAN, 0.0)],
            Ink::Text,
        )?;
        assert_eq!(dots.matches("<circle").count(), 2);
        for svg in [&lines, &movement, &dots] {
            assert!(svg.contains("epoch") && svg.contains("loss") && svg.contains("viewBox"));
            assert!(svg.contains("aria-label=\"a title\"") && !svg.contains("width=\"3200\""));
        }
        Ok(())
    }

    /// The curves of one ink.
    fn series(svg: &str, ink: Ink) -> usize {
        let stroke = format!("stroke=\"{}\"", ink.light());
        svg.lines()
            .filter(|line| line.starts_with("<polyline") && line.contains(&stroke))
            .count()
    }

    #[test]
    fn nothing_to_draw_is_an_empty_frame() -> Result<(), PlotError> {
        for svg in [
            curves(AXES, &[])?,
            bands(AXES, &[], Ink::Text)?,
            scatter(AXES, 0.0..1.0, &[], Ink::Text)?,
        ] {
            assert!(svg.contains("epoch") && !svg.contains("<circle"));
        }
        Ok(())
    }
}
