//! What gets how much of the screen.

use ratatui::layout::{Constraint, Layout, Rect};

/// Above the rows of a table: its title and its header.
pub(super) const ABOVE_ROWS: u16 = 2;

/// The parts of the screen, from top to bottom. A small screen leaves some of them out: they have no height.
#[derive(Debug)]
pub(super) struct Areas {
    pub(super) head: Rect,
    pub(super) figures: Rect,
    pub(super) sparks: Rect,
    pub(super) table: Rect,
    pub(super) recent: Rect,
    pub(super) foot: Rect,
}

impl Areas {
    pub(super) fn of(screen: Rect) -> Self {
        let [figures, sparks, recent, foot] = match screen.height {
            0..=3 => [2, 0, 0, 0],
            4..=7 => [1, 0, 0, 1],
            8..=13 => [3, 0, 0, 1],
            14..=23 => [4, 2, 0, 1],
            24..=31 => [5, 2, 4, 1],
            32..=43 => [11, 2, 6, 1],
            _ => [11, 4, 10, 1],
        };
        let parts = [
            Constraint::Length(1),
            Constraint::Length(figures),
            Constraint::Length(sparks),
            Constraint::Fill(1),
            Constraint::Length(recent),
            Constraint::Length(foot),
        ];
        let [head, figures, sparks, table, recent, foot] = Layout::vertical(parts).areas(screen);
        Self {
            head,
            figures,
            sparks,
            table,
            recent,
            foot,
        }
    }
}

/// How many rows of a table fit on a screen of this size.
pub(in super::super) fn rows(screen: Rect) -> usize {
    Areas::of(screen)
        .table
        .height
        .saturating_sub(ABOVE_ROWS)
        .into()
}
