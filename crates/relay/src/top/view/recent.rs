//! What happened, the newest at the bottom.

use super::theme::Theme;
use crate::top::api::Happening;
use crate::top::model::{Line as Happened, Model};
use crate::top::units::clock;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: &Theme) {
    let Some(height) = usize::from(area.height).checked_sub(1) else {
        return;
    };
    let older = model.recent.len().saturating_sub(height);
    let shown = model
        .recent
        .iter()
        .skip(older)
        .map(|happened| match happened {
            Happened::Skipped(n) => Line::styled(format!("          and {n} more"), theme.dim),
            Happened::Happening(happening) => line(happening, theme),
        });
    let title = Line::styled("recent (UTC)", theme.strong);
    let lines: Vec<_> = std::iter::once(title).chain(shown).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn line(happening: &Happening, theme: &Theme) -> Line<'static> {
    let style = match happening.level.as_str() {
        "warn" | "error" => theme.alarm,
        _ => theme.plain,
    };
    let slot = happening.server_id.as_ref().or(happening.slot.as_ref());
    let about = slot
        .into_iter()
        .chain(&happening.phone)
        .map(|id| format!("  {id}"));
    Line::from(vec![
        Span::styled(format!("{}  ", clock(happening.t)), theme.dim),
        Span::styled(happening.event.to_string(), style),
        Span::raw(about.collect::<String>()),
        Span::styled(format!("  {}", happening.detail), theme.dim),
    ])
}
