//! Pictures: SVG, drawn by `plotters` without fonts of its own.

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 300);

/// More points than this of one line are more than a screen has.
const POINTS: usize = 2_000;

/// Colours that people who see few of them tell apart, too (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(150, 140, 40),
];

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Line,
    Dots,
    /// Short strokes at the foot: moments.
    Marks,
}

/// Points of one colour.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) points: Vec<(f64, f64)>,
}

/// One picture.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What its file is called, without the ending.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// Each step of the y axis is ten times the one before.
    pub(crate) is_log: bool,
    pub(crate) series: Vec<Series>,
}

/// What plotters says of a picture that it cannot draw.
type Failure = Box<dyn std::error::Error + Send + Sync>;

// === impl Chart ===

impl Chart {
    /// The picture, or why there is none.
    pub(crate) fn svg(&self) -> String {
        let mut text = String::new();
        match self.draw(&mut text) {
            Ok(()) => text,
            Err(error) => format!("<p>no picture: {error}</p>"),
        }
    }

    fn draw(&self, text: &mut String) -> Result<(), Failure> {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let top = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(1.0, f64::max);
        let (width, height) = (top(|point| point.0) * 1.02, top(|point| point.1) * 1.1);
        if self.is_log {
            self.plot(text, 0.0..width, (0.1..height.max(1.0)).log_scale())
        } else {
            self.plot(text, 0.0..width, 0.0..height)
        }
    }

    fn plot<Y>(&self, text: &mut String, width: std::ops::Range<f64>, height: Y) -> Result<(), Failure>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64> + Ranged<ValueType = f64>,
    {
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(told)?;
        let mut builder = ChartBuilder::on(&area);
        builder.caption(self.title, ("sans-serif", 16)).margin(8);
        builder.x_label_area_size(36).y_label_area_size(64);
        let mut chart = builder.build_cartesian_2d(width, height).map_err(told)?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(self.x).y_desc(self.y).light_line_style(WHITE).label_style(("sans-serif", 11));
        mesh.draw().map_err(told)?;
        for (number, series) in self.series.iter().enumerate() {
            self.add(&mut chart, series, COLOURS[number % COLOURS.len()])?;
        }
        if self.series.len() > 1 {
            let mut labels = chart.configure_series_labels();
            labels
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.2))
                .label_font(("sans-serif", 11));
            labels.position(SeriesLabelPosition::UpperLeft).draw().map_err(told)?;
        }
        area.present().map_err(told)
    }

    fn add<'a, Y: Ranged<ValueType = f64>>(
        &self,
        chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, Y>>,
        series: &Series,
        colour: RGBColor,
    ) -> Result<(), Failure> {
        let points = thinned(&series.points);
        let foot = if self.is_log { 0.1 } else { 0.0 };
        let drawn = match series.shape {
            Shape::Line => chart.draw_series(LineSeries::new(points, colour)).map_err(told)?,
            Shape::Dots => {
                let dots = points.into_iter().map(|point| Circle::new(point, 2, colour.mix(0.6).filled()));
                chart.draw_series(dots).map_err(told)?
            }
            Shape::Marks => {
                let marks = points
                    .into_iter()
                    .map(|(x, y)| PathElement::new(vec![(x, foot), (x, y)], colour.mix(0.35)));
                chart.draw_series(marks).map_err(told)?
            }
        };
        drawn
            .label(series.name.clone())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], colour.stroke_width(2)));
        Ok(())
    }
}

/// Every so manieth point.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().step_by(points.len() / POINTS + 1).copied().collect()
}

fn told(error: impl std::fmt::Display) -> Failure {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_drawn_on_both_scales() {
        let series =
            |shape| Series { name: format!("{shape:?}"), shape, points: vec![(0.0, 1.0), (5.0, 30.0)] };
        for is_log in [false, true] {
            let series = [Shape::Line, Shape::Dots, Shape::Marks].map(series).into();
            let svg = Chart { name: "a", title: "a title", x: "s", y: "ms", is_log, series }.svg();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            assert!(svg.contains("a title") && svg.contains("polyline") && svg.contains("circle"), "{svg}");
        }
    }

    #[test]
    fn nothing_is_a_picture_too() {
        let chart =
            Chart { name: "nothing", title: "nothing", x: "s", y: "ms", is_log: false, series: Vec::new() };
        assert!(chart.svg().starts_with("<svg"));
    }
}
