//! The two text formats that Prometheus reads, and which of them a scraper gets.

use super::histogram::Snapshot;
use std::fmt::{Display, Write};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Classic,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// What an `Accept` header asks for: OpenMetrics if it names it, at no lower quality than plain text.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let ranges = || accept.into_iter().flat_map(|accept| accept.split(','));
        let best = |wanted: fn(&str, &str) -> bool| {
            let qualities = ranges().map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
                let (mut version, mut quality) = (String::new(), 1.0);
                for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                    match &*name.trim().to_ascii_lowercase() {
                        "version" => version = value.trim().trim_matches('"').to_owned(),
                        "q" => quality = value.trim().parse().unwrap_or(0.0),
                        _ => {}
                    }
                }
                let found = wanted(&media_type, &version);
                if found { quality } else { 0.0 }
            });
            qualities.fold(0.0_f32, f32::max)
        };
        let open = best(|media_type, version| {
            media_type == OPEN_METRICS && matches!(version, "" | "1.0.0")
        });
        let plain = best(|media_type, version| {
            media_type == "text/plain" && matches!(version, "" | "0.0.4")
        });
        match open > 0.0 && open >= plain {
            true => Self::OpenMetrics,
            false => Self::Classic,
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The label pairs of a sample. Names and values are ours, and need no escapes.
pub(crate) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A page of metrics in the making.
pub(crate) struct Page {
    format: Format,
    text: String,
}

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            text: String::with_capacity(64 * 1024),
        }
    }

    /// A counter; `name` ends in `_total`.
    pub(crate) fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        // OpenMetrics names the family without the suffix of its samples; 0.0.4 knows no families.
        let family = match self.format {
            Format::OpenMetrics => name.trim_end_matches("_total"),
            Format::Classic => name,
        };
        self.family(name, family, "counter", help)
    }

    pub(crate) fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, name, "gauge", help)
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, name, "histogram", help)
    }

    fn family(&mut self, name: &str, family: &str, kind: &str, help: &str) -> Family<'_> {
        // Writing to a String cannot fail.
        let _ = write!(
            self.text,
            "# HELP {family} {help}\n# TYPE {family} {kind}\n"
        );
        Family {
            name: name.to_owned(),
            text: &mut self.text,
        }
    }

    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// One metric, whose samples come next.
pub(crate) struct Family<'a> {
    name: String,
    text: &'a mut String,
}

impl Family<'_> {
    pub(crate) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, value);
    }

    /// The samples of a histogram.
    pub(super) fn buckets(&mut self, labels: Labels<'_>, snapshot: &Snapshot) {
        let bucket = |bound: &str, below: u64, family: &mut Self| {
            let labels = [labels, &[("le", bound)]].concat();
            family.line("_bucket", &labels, below);
        };
        for (bound, below) in snapshot.cumulative() {
            // With a fraction in both formats, so that they are the same series to a server.
            bucket(&format!("{bound:?}"), below, self);
        }
        bucket("+Inf", snapshot.count(), self);
        self.line("_sum", labels, snapshot.sum());
        self.line("_count", labels, snapshot.count());
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        for (position, (name, value)) in labels.iter().enumerate() {
            let before = if position == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{name}=\"{value}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Format::{Classic, OpenMetrics};

    #[test]
    fn a_scraper_gets_what_it_likes_best() {
        for (accept, expected) in [
            (None, Classic),
            (Some(""), Classic),
            (Some("*/*"), Classic),
            (Some("text/html,*/*;q=0.8"), Classic),
            (Some("application/openmetrics-text"), OpenMetrics),
            (
                Some("Application/OpenMetrics-Text; Version=1.0.0"),
                OpenMetrics,
            ),
            (
                Some("application/openmetrics-text;version=\"1.0.0\""),
                OpenMetrics,
            ),
            (Some("application/openmetrics-text;version=2.0.0"), Classic),
            (Some("application/openmetrics-text;q=0"), Classic),
            (Some("application/openmetrics-text;q=nonsense"), Classic),
            (
                Some("application/openmetrics-text;q=0.5,text/plain;q=0.5"),
                OpenMetrics,
            ),
            (
                Some("application/openmetrics-text;q=0.4,text/plain;q=0.5"),
                Classic,
            ),
            (
                Some("application/openmetrics-text;q=0.4,text/plain;version=1.0.0"),
                OpenMetrics,
            ),
            (Some("application/openmetrics-textual"), Classic),
            // Prometheus 2 and 3.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                OpenMetrics,
            ),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                OpenMetrics,
            ),
        ] {
            assert_eq!(Format::negotiate(accept), expected, "{accept:?}");
        }
    }
}
