//! The table of slots.

use super::layout::ABOVE_ROWS;
use super::theme::Theme;
use crate::top::api::Slot;
use crate::top::model::Model;
use crate::top::query::State;
use crate::top::units::{age, bytes, count};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table, TableState};

/// A column of a table of `T`.
pub(super) struct Column<T> {
    pub(super) name: &'static str,
    pub(super) width: Constraint,
    pub(super) number: bool,
    /// The screen's least width at which it is shown.
    pub(super) from: u16,
    pub(super) cell: fn(&T) -> String,
}

impl<T> Column<T> {
    pub(super) fn text(
        name: &'static str,
        width: Constraint,
        from: u16,
        cell: fn(&T) -> String,
    ) -> Self {
        Self {
            name,
            width,
            number: false,
            from,
            cell,
        }
    }

    pub(super) fn number(
        name: &'static str,
        width: u16,
        from: u16,
        cell: fn(&T) -> String,
    ) -> Self {
        Self {
            number: true,
            ..Self::text(name, Constraint::Length(width), from, cell)
        }
    }
}

/// Draws `rows` with those `columns` for which there is room, the row `selected` marked.
pub(super) fn table<T>(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: Vec<Column<T>>,
    rows: &[T],
    selected: usize,
    theme: &Theme,
) {
    let columns: Vec<_> = columns
        .into_iter()
        .filter(|column| column.from <= area.width)
        .collect();
    let aligned = |column: &Column<T>, text: String| {
        let side = if column.number {
            Alignment::Right
        } else {
            Alignment::Left
        };
        Cell::from(Text::from(text).alignment(side))
    };
    let header = columns
        .iter()
        .map(|column| aligned(column, column.name.to_owned()));
    let header = Row::new(header.collect::<Vec<_>>()).style(theme.dim);
    let rows = rows.iter().map(|row| {
        let cells = columns
            .iter()
            .map(|column| aligned(column, (column.cell)(row)));
        Row::new(cells.collect::<Vec<_>>())
    });
    let table = Table::new(rows, columns.iter().map(|column| column.width))
        .column_spacing(2)
        .header(header)
        .row_highlight_style(theme.marked);
    let mut state = TableState::new().with_selected(Some(selected));
    frame.render_stateful_widget(table, area, &mut state);
}

/// What does not depend on the slot's name: the width of a hash, which a server-id exceeds.
const HASH: u16 = 12;

fn columns(name: u16) -> Vec<Column<Slot>> {
    let wide = name.saturating_sub(HASH);
    vec![
        Column::text("SLOT", Constraint::Length(name), 0, |slot| {
            slot.name().to_string()
        }),
        Column::text("STATE", Constraint::Length(7), 0, |slot| {
            slot.state.to_string()
        }),
        Column::number("PHONES", 6, 0, |slot| count(slot.phones as f64)),
        Column::number("AGE", 7, wide + 39, |slot| age(slot.since_seconds)),
        Column::number("QUEUED", 8, wide + 49, |slot| bytes(slot.queue_bytes)),
        Column::number("WAITING", 7, wide + 58, |slot| count(slot.parked as f64)),
        Column::text("REMOTE", Constraint::Min(15), wide + 75, |slot| {
            known(&slot.remote)
        }),
        Column::text("VERSION", Constraint::Max(20), wide + 90, |slot| {
            known(&slot.version)
        }),
    ]
}

/// What a peer did not say is a dash.
pub(super) fn known(text: &Option<crate::top::api::Text>) -> String {
    text.as_ref().map_or("–".to_owned(), ToString::to_string)
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: &Theme) {
    if area.height < ABOVE_ROWS {
        return;
    }
    let (title, rest) = (Rect { height: 1, ..area }, below(area, 1));
    frame.render_widget(Line::styled(title_of(model), theme.strong), title);
    let slots = &model.page.slots;
    let longest = slots
        .iter()
        .map(|slot| slot.name().as_str().chars().count());
    let name = longest
        .max()
        .and_then(|n| u16::try_from(n).ok())
        .unwrap_or(HASH);
    table(
        frame,
        rest,
        columns(name.clamp(HASH, 36)),
        slots,
        model.selected,
        theme,
    );
}

fn title_of(model: &Model) -> String {
    let (page, query) = (&model.page, &model.query);
    let range = match page.slots.len() {
        0 => "none".to_owned(),
        n => format!("{}–{}", page.offset + 1, page.offset + n),
    };
    let order = if query.descending { '↓' } else { '↑' };
    let search = match query.search.as_str() {
        "" => String::new(),
        search => format!("   search: {search}"),
    };
    format!(
        "slots {range} of {}   sort: {} {order}   state: {}{search}",
        count(page.matching as f64),
        query.sort.word(),
        query.state.map_or("all", State::word)
    )
}

/// The area without its first `rows`.
pub(super) fn below(area: Rect, rows: u16) -> Rect {
    let rows = rows.min(area.height);
    Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    }
}
