//! Colours, or none.

use ratatui::style::{Color, Modifier, Style};

/// How things look. Without colours, weight alone tells them apart.
#[derive(Debug)]
pub(in super::super) struct Theme {
    pub(super) plain: Style,
    pub(super) strong: Style,
    pub(super) dim: Style,
    pub(super) good: Style,
    pub(super) alarm: Style,
    pub(super) bar: Style,
    pub(super) marked: Style,
}

impl Theme {
    /// The terminal's own sixteen colours, which fit its background, light or dark.
    pub(in super::super) fn new(colours: bool) -> Self {
        let colour = |colour| match colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        };
        Self {
            plain: Style::new(),
            strong: Style::new().add_modifier(Modifier::BOLD),
            dim: Style::new().add_modifier(Modifier::DIM),
            good: colour(Color::Green),
            alarm: colour(Color::Red).add_modifier(Modifier::BOLD),
            bar: colour(Color::Cyan),
            marked: Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    /// As the environment wants it: `NO_COLOR` with any text but none (<https://no-color.org>) means no colours.
    pub(in super::super) fn from_environment() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self::new(!no_color)
    }
}
