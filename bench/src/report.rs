//! The table for people, and the same as JSON.

use serde_json::{Value, json};

use crate::case::{Bar, Figure};
use crate::peer::Kind;
use crate::run::{Outcome, Sample};

/// A ratio per round: its median and the smallest and largest.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ratio {
    median: f64,
    low: f64,
    high: f64,
}

/// How many bars were cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bars {
    pub(crate) met: usize,
    pub(crate) missed: usize,
    /// We or the peer could not be measured.
    pub(crate) unknown: usize,
}

impl Bars {
    pub(crate) fn add(&mut self, other: Self) {
        self.met += other.met;
        self.missed += other.missed;
        self.unknown += other.unknown;
    }
}

/// What came of one comparison.
#[derive(Clone, Debug)]
struct Verdict {
    text: String,
    /// `None` if there is no bar.
    met: Option<bool>,
}

/// Prints one case; says what came of its bars.
pub(crate) fn print(outcome: &Outcome) -> Bars {
    let case = outcome.case;
    println!("\n{}  ({})", case.title, case.name);
    println!(
        "  {:<16}{:>14}{:>14}{:>7}{:>10}{:>10}",
        "",
        unit(case.figure),
        rate(case.figure),
        "busy",
        "p50 us",
        "p99 us"
    );
    for series in &outcome.series {
        match &series.samples {
            Err(why) => println!(
                "  {:<16}not measured: {}",
                series.kind.name(),
                why.lines().next().unwrap_or("")
            ),
            Ok(samples) if samples.is_empty() => {
                println!("  {:<16}not measured", series.kind.name())
            }
            Ok(samples) => println!("  {:<16}{}", series.kind.name(), line(case.figure, samples)),
        }
    }
    let mut bars = Bars::default();
    for verdict in verdicts(outcome) {
        let mark = if verdict.met == Some(false) {
            "  MISSED"
        } else {
            ""
        };
        println!("  {}{mark}", verdict.text);
        bars.met += usize::from(verdict.met == Some(true));
        bars.missed += usize::from(verdict.met == Some(false));
    }
    bars.unknown = case.bars.len() - bars.met - bars.missed;
    bars
}

fn line(figure: Figure, samples: &[Sample]) -> String {
    let of = |f: fn(&Sample) -> f64| median(samples.iter().map(f));
    let value = scaled(figure, of(|s| s.figure));
    if figure == Figure::Memory {
        return format!("{value:>14.2}");
    }
    let failed: u64 = samples.iter().map(|s| s.failed).sum();
    let failed = if failed > 0 {
        format!("  {failed} FAILED")
    } else {
        String::new()
    };
    let rate = of(|s| s.per_second);
    let rate = if figure == Figure::CpuPerGigabyte {
        format!("{rate:.2}")
    } else {
        format!("{rate:.0}")
    };
    let latency = |f: fn(&Sample) -> f64| {
        let value = of(f);
        if value.is_nan() {
            "-".to_owned()
        } else {
            format!("{:.1}", value / 1e3)
        }
    };
    format!(
        "{value:>14.2}{rate:>14}{:>6.0}%{:>10}{:>10}{failed}",
        of(|s| s.busy) * 100.0,
        latency(|s| s.p50),
        latency(|s| s.p99)
    )
}

/// In the unit of [`unit`].
fn scaled(figure: Figure, value: f64) -> f64 {
    match figure {
        Figure::CpuPerRequest | Figure::Latency => value / 1e3,
        Figure::CpuPerGigabyte => value / 1e6,
        Figure::Memory => value / 1024.0,
    }
}

fn unit(figure: Figure) -> &'static str {
    match figure {
        Figure::CpuPerRequest => "CPU us/req",
        Figure::CpuPerGigabyte => "CPU ms/GB",
        Figure::Latency => "p50 us",
        Figure::Memory => "KiB each",
    }
}

fn rate(figure: Figure) -> &'static str {
    match figure {
        Figure::CpuPerGigabyte => "GB/s",
        Figure::Memory => "",
        _ => "req/s",
    }
}

/// For each peer, and each bar that has none: what came out.
fn verdicts(outcome: &Outcome) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for series in outcome.series.iter().skip(1) {
        let Some(ratio) = ratio(outcome, series.kind) else {
            continue;
        };
        let name = series.kind.name();
        let mut text = format!(
            "to {name:<16}{:.2}  [{:.2} - {:.2}]",
            ratio.median, ratio.low, ratio.high
        );
        let bar = outcome.case.bars.iter().find_map(|bar| match bar {
            Bar::To(kind, most) if *kind == series.kind => Some(*most),
            _ => None,
        });
        if let Some(most) = bar {
            text.push_str(&format!("  bar <= {most:.2}"));
        }
        verdicts.push(Verdict {
            text,
            met: bar.map(|most| ratio.median <= most),
        });
    }
    for bar in outcome.case.bars {
        let Bar::Absolute(most) = bar else { continue };
        let Some(figures) = figures(outcome, subject(outcome)) else {
            continue;
        };
        let figure = median(figures.into_iter());
        let scale = |value| scaled(outcome.case.figure, value);
        let text = format!("{:.2}  bar <= {:.2}", scale(figure), scale(*most));
        verdicts.push(Verdict {
            text,
            met: Some(figure <= *most),
        });
    }
    verdicts
}

fn subject(outcome: &Outcome) -> Kind {
    outcome.case.contenders[0]
}

fn figures(outcome: &Outcome, kind: Kind) -> Option<Vec<f64>> {
    let series = outcome.series.iter().find(|s| s.kind == kind)?;
    let samples = series.samples.as_ref().ok().filter(|s| !s.is_empty())?;
    Some(samples.iter().map(|s| s.figure).collect())
}

/// Ours over the peer's, round by round: what disturbs a round disturbs both.
fn ratio(outcome: &Outcome, peer: Kind) -> Option<Ratio> {
    let ours = figures(outcome, subject(outcome))?;
    let theirs = figures(outcome, peer)?;
    let ratios: Vec<f64> = ours
        .iter()
        .zip(&theirs)
        .filter(|(_, theirs)| **theirs > 0.0)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    if ratios.is_empty() {
        return None;
    }
    Some(Ratio {
        median: median(ratios.iter().copied()),
        low: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        high: ratios.iter().copied().fold(0.0, f64::max),
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// Everything that was measured.
pub(crate) fn json(outcomes: &[Outcome]) -> Value {
    let cases: Vec<Value> = outcomes.iter().map(case_json).collect();
    json!({ "cases": cases })
}

fn case_json(outcome: &Outcome) -> Value {
    let case = outcome.case;
    let contenders: serde_json::Map<String, Value> = outcome
        .series
        .iter()
        .map(|series| {
            let value = match &series.samples {
                Err(why) => json!({ "not_measured": why }),
                Ok(samples) => {
                    json!({ "rounds": samples.iter().map(sample_json).collect::<Vec<_>>() })
                }
            };
            (series.kind.name().to_owned(), value)
        })
        .collect();
    let ratios: serde_json::Map<String, Value> = outcome
        .series
        .iter()
        .skip(1)
        .filter_map(|series| {
            let ratio = ratio(outcome, series.kind)?;
            let value = json!({ "median": ratio.median, "low": ratio.low, "high": ratio.high });
            Some((series.kind.name().to_owned(), value))
        })
        .collect();
    let missed: Vec<String> = verdicts(outcome)
        .into_iter()
        .filter(|v| v.met == Some(false))
        .map(|v| v.text)
        .collect();
    json!({
        "name": case.name,
        "title": case.title,
        "unit": unit(case.figure),
        "contenders": contenders,
        "ratios": ratios,
        "missed": missed,
    })
}

fn sample_json(sample: &Sample) -> Value {
    json!({
        "figure": sample.figure,
        "per_second": sample.per_second,
        "busy": sample.busy,
        "p50_ns": sample.p50,
        "p99_ns": sample.p99,
        "failed": sample.failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::CASES;
    use crate::run::Series;

    fn series(kind: Kind, figures: &[f64]) -> Series {
        let sample = |figure: &f64| Sample {
            figure: *figure,
            per_second: 1.0,
            busy: 0.5,
            p50: 1.0,
            p99: 1.0,
            failed: 0,
        };
        Series {
            kind,
            samples: Ok(figures.iter().map(sample).collect()),
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_its_rounds() {
        let outcome = Outcome {
            case: &CASES[0],
            series: vec![
                series(Kind::Fathom, &[7.0, 8.0, 100.0]),
                series(Kind::Nginx, &[10.0, 10.0, 100.0]),
                series(Kind::Haproxy, &[10.0, 20.0, 200.0]),
            ],
        };
        assert_eq!(
            ratio(&outcome, Kind::Nginx),
            Some(Ratio {
                median: 0.8,
                low: 0.7,
                high: 1.0
            })
        );
        let met: Vec<Option<bool>> = verdicts(&outcome).into_iter().map(|v| v.met).collect();
        assert_eq!(met, [Some(false), Some(true)]);
    }
}
