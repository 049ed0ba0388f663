//! The keys.

use super::theme::Theme;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

const KEYS: [(&str, &str); 10] = [
    ("s, r", "sort slots by phones, queue, age, slot; reverse"),
    ("f", "only live, in grace, waiting; all"),
    ("/", "search: the start of a slot, or a server-id"),
    ("Backspace", "end the search; back to the slots"),
    ("Enter", "the phones of the marked slot"),
    ("↑ ↓, j k", "mark another row"),
    ("PgUp PgDn", "the page before, the next page"),
    ("Home End", "the first, the last"),
    ("?", "this help; any key leaves it"),
    ("q, Esc", "quit, as Ctrl-C does"),
];

pub(super) fn draw(frame: &mut Frame<'_>, theme: &Theme) {
    let lines: Vec<_> = KEYS
        .iter()
        .map(|(key, text)| {
            Line::from(vec![
                Span::styled(format!("{key:10} "), theme.strong),
                Span::raw(*text),
            ])
        })
        .collect();
    let (width, height) = (62, KEYS.len() as u16 + 2);
    let area: Rect = frame
        .area()
        .centered(Constraint::Length(width), Constraint::Length(height));
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(" keys ").border_style(theme.dim);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}
