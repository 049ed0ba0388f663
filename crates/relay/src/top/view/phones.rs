//! One slot: its daemon, and its phones.

use super::layout::ABOVE_ROWS;
use super::slots::{Column, below, known, table};
use super::theme::Theme;
use crate::top::api::{Binary, Phone};
use crate::top::model::Opened;
use crate::top::units::{age, bytes, counted, short};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::text::Line;

/// The least height at which the daemon and the sizes of the marked phone's last frames are shown, too.
const ROOMY: u16 = 8;

fn columns() -> Vec<Column<Phone>> {
    vec![
        Column::text("PHONE", Constraint::Length(8), 0, |phone| {
            phone.phone.to_string()
        }),
        Column::text("DEVICE", Constraint::Min(8), 0, |phone| {
            known(&phone.device_name)
        }),
        Column::text("STATE", Constraint::Length(7), 0, |phone| {
            phone.state.to_string()
        }),
        Column::number("SINCE", 7, 36, |phone| age(phone.connected_seconds)),
        Column::number("QUEUED", 8, 46, |phone| bytes(phone.queue_bytes)),
        Column::number("UP", 6, 54, |phone| short(phone.frames_up)),
        Column::number("DOWN", 6, 62, |phone| short(phone.frames_down)),
        Column::text("REMOTE", Constraint::Length(15), 79, |phone| {
            known(&phone.remote)
        }),
    ]
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, opened: &Opened, theme: &Theme) {
    if area.height < ABOVE_ROWS {
        return;
    }
    let title = Rect { height: 1, ..area };
    frame.render_widget(Line::styled(title_of(opened), theme.strong), title);
    let Some(detail) = &opened.detail else {
        return;
    };
    let phones = &detail.phones;
    let mut rest = below(area, 1);
    if area.height >= ROOMY {
        let daemon = detail
            .binary
            .as_ref()
            .map_or("no daemon".to_owned(), daemon);
        frame.render_widget(Line::styled(daemon, theme.dim), Rect { height: 1, ..rest });
        rest = below(rest, 1);
    }
    let marked = phones.get(opened.selected).filter(|_| area.height >= ROOMY);
    if let Some(phone) = marked {
        rest.height -= 2;
        let lines = [
            ("last up:  ", &phone.last_up_bytes),
            ("last down:", &phone.last_down_bytes),
        ];
        for (y, (label, sizes)) in (rest.bottom()..).zip(lines) {
            let line = Line::styled(format!("{label} {}", listed(sizes)), theme.dim);
            frame.render_widget(
                line,
                Rect {
                    y,
                    height: 1,
                    ..area
                },
            );
        }
    }
    table(frame, rest, columns(), phones, opened.selected, theme);
}

fn title_of(opened: &Opened) -> String {
    let name = &opened.name;
    match &opened.detail {
        None if opened.ended => format!("slot {name}   has ended"),
        None => format!("slot {name}   …"),
        Some(detail) => {
            let state = match opened.ended {
                true => "has ended".to_owned(),
                false => format!("{} {}", detail.state, age(detail.since_seconds)),
            };
            let phones = counted(detail.phones.len() as u64, "phone");
            format!("slot {name}   {state}   {phones}")
        }
    }
}

fn daemon(binary: &Binary) -> String {
    let resumable = if binary.resumable { ", resumable" } else { "" };
    format!(
        "daemon {:.20} from {}, up {}, {} queued{resumable}",
        known(&binary.version),
        known(&binary.remote),
        age(binary.connected_seconds),
        bytes(binary.queue_bytes)
    )
}

fn listed(sizes: &[f64]) -> String {
    match sizes {
        [] => "–".to_owned(),
        sizes => sizes
            .iter()
            .map(|&size| bytes(size))
            .collect::<Vec<_>>()
            .join(", "),
    }
}
