//! The model on a terminal of any size.

mod help;
mod layout;
mod phones;
mod recent;
mod slots;
mod sparks;
#[cfg(test)]
mod tests;
mod theme;

pub(super) use layout::rows;
pub(super) use theme::Theme;

use super::figures::{LABEL, figures};
use super::model::{Link, Model, Screen};
use super::units::age;
use layout::Areas;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, theme: &Theme) {
    let areas = Areas::of(frame.area());
    frame.render_widget(head(model, theme), areas.head);
    draw_figures(frame, areas.figures, model, theme);
    sparks::draw(frame, areas.sparks, model, theme);
    match &model.screen {
        Screen::Slots => slots::draw(frame, areas.table, model, theme),
        Screen::Slot(opened) => phones::draw(frame, areas.table, opened, theme),
    }
    recent::draw(frame, areas.recent, model, theme);
    frame.render_widget(foot(model, theme), areas.foot);
    if model.help {
        help::draw(frame, theme);
    }
}

fn head(model: &Model, theme: &Theme) -> Line<'static> {
    let summary = &model.summary;
    let name = Span::styled(format!("pyrycode-relay {}", summary.version), theme.strong);
    let state = match &model.link {
        Link::Reconnecting(why) => Span::styled(format!("reconnecting: {why}"), theme.alarm),
        Link::Connecting => Span::styled("connecting", theme.dim),
        Link::Live if summary.phase.as_str() == "ready" => Span::styled("ready", theme.good),
        Link::Live => Span::styled(summary.phase.to_string(), theme.alarm),
    };
    let rest = format!("   up {}   {}", age(summary.uptime_seconds), model.source);
    Line::from(vec![
        name,
        Span::raw("   "),
        state,
        Span::styled(rest, theme.dim),
    ])
}

fn draw_figures(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: &Theme) {
    let figures = figures(&model.summary).into_iter().map(|figure| {
        let style = if figure.alarming {
            theme.alarm
        } else {
            theme.plain
        };
        let label = Span::styled(format!("{:LABEL$}  ", figure.label), theme.dim);
        Line::from(vec![label, Span::styled(figure.text, style)])
    });
    let lines: Vec<_> = figures.take(area.height.into()).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn foot(model: &Model, theme: &Theme) -> Line<'static> {
    if let Some(search) = &model.search {
        return Line::from(vec![
            Span::styled("/", theme.strong),
            Span::raw(search.clone()),
            Span::styled(" ", theme.marked),
            Span::styled(
                "  start of a slot, or a whole server-id; Enter, Esc",
                theme.dim,
            ),
        ]);
    }
    if let (Some(why), Link::Live) = (&model.unanswered, &model.link) {
        return Line::styled(format!("no answer: {why}"), theme.alarm);
    }
    let keys = match model.screen {
        Screen::Slots => "q quit  ? help  s sort  f filter  / search  Enter phones  ↑↓ PgUp PgDn",
        Screen::Slot(_) => "q quit  ? help  Backspace back  ↑↓ PgUp PgDn",
    };
    Line::styled(keys, theme.dim)
}
