use super::super::fixture;
use super::super::keys::Key;
use super::super::model::{Answer, Question, Update};
use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

fn model() -> Model {
    let mut model = Model::new("http://127.0.0.1:9090".to_owned(), fixture::summary());
    let mut hello = fixture::summary();
    hello.recent = serde_json::from_str(
        r#"[{"t":1790309998000,"event":"server_claimed","level":"info","slot":"00000000000a","detail":"remote=192.0.2.1"},
            {"t":1790309999000,"event":"rate_limited","level":"warn","detail":"remote=203.0.113.9"}]"#,
    )
    .unwrap();
    model.update(Update::Hello(Box::new(hello)));
    for i in 0..40_u32 {
        let mut next = fixture::summary();
        next.sample.t += u64::from(i) * 1000;
        next.sample.frames_up = f64::from(i * i);
        model.update(Update::Sample(Box::new(next)));
    }
    model
}

/// The model as a relay with 200 slots leaves it on a screen of this size.
fn on(mut model: Model, width: u16, height: u16) -> Model {
    model.update(Update::Rows(rows(Rect::new(0, 0, width, height))));
    let question = model.question();
    let answer = match &question {
        Question::Slots(query) => Answer::Slots(fixture::page(query.offset, query.limit, 200)),
        Question::Slot(_) => Answer::Slot(Some(fixture::detail(3))),
    };
    model.update(Update::Answer(question, answer));
    model
}

fn drawn(model: &Model, width: u16, height: u16, colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, model, &Theme::new(colours)))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let buffer = drawn(model, width, height, true);
    let lines = buffer.content().chunks(width.into()).map(|row| {
        let row: String = row.iter().map(|cell| cell.symbol()).collect();
        row.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn press(model: &mut Model, key: Key) {
    model.update(Update::Key(key));
}

#[test]
fn a_usual_terminal_has_a_place_for_everything() {
    let model = on(model(), 80, 24);
    let text = screen(&model, 80, 24);
    for expected in [
        "pyrycode-relay 0.1.0   ready   up 2h 3m   http://127.0.0.1:9090",
        "peers        3 daemons, 12 phones",
        "latency p99",
        "slots 1–9 of 200   sort: phones ↓   state: all",
        "SLOT          STATE    PHONES",
        "000000000007",
        "192.0.2.7",
        "rate_limited",
        "q quit",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
    }
    assert!(text.contains('█'), "no bars:\n{text}");
    assert_eq!(model.query.limit, 9);
}

#[test]
fn every_size_is_drawn_and_the_smallest_still_say_who_is_connected() {
    let mut opened = on(model(), 80, 24);
    press(&mut opened, Key::Enter);
    let mut helped = model();
    press(&mut helped, Key::Char('?'));
    // Around the sizes at which something changes.
    for width in [1, 20, 40, 80, 140] {
        for height in [1, 3, 4, 7, 8, 13, 14, 23, 24, 31, 32, 43, 44] {
            for model in [&on(model(), width, height), &opened, &helped] {
                let text = screen(model, width, height);
                if width >= 40 && height >= 3 && !model.help {
                    assert!(text.contains("12 phones"), "{width}x{height}:\n{text}");
                }
            }
        }
    }
    for (width, height) in [(0, 0), (0, 24), (80, 0)] {
        drawn(&on(model(), width, height), width, height, true);
    }
}

#[test]
fn a_wide_terminal_shows_more_columns_and_a_narrow_one_fewer() {
    let wide = screen(&on(model(), 130, 45), 130, 45);
    assert!(
        wide.contains("VERSION") && wide.contains("certificate") && wide.contains("process"),
        "{wide}"
    );
    let narrow = screen(&on(model(), 40, 20), 40, 20);
    assert!(
        narrow.contains("PHONES") && narrow.contains('█') && !narrow.contains("VERSION"),
        "{narrow}"
    );
}

#[test]
fn a_lost_relay_is_said_and_its_last_figures_stay() {
    let mut model = on(model(), 80, 24);
    model.update(Update::Lost("Connection refused (os error 111)".to_owned()));
    let text = screen(&model, 80, 24);
    assert!(
        text.contains("reconnecting: Connection refused") && text.contains("12 phones"),
        "{text}"
    );
    assert!(screen(&model, 40, 24).contains("reconnecting"));
}

#[test]
fn a_question_that_is_not_answered_is_said() {
    let mut model = on(model(), 80, 24);
    let question = model.question();
    model.update(Update::Unanswered(question, "HTTP 500".to_owned()));
    assert!(screen(&model, 80, 24).ends_with("no answer: HTTP 500\n"));
}

#[test]
fn phones_are_shown_and_their_names_cannot_harm() {
    let mut model = on(model(), 80, 24);
    press(&mut model, Key::Enter);
    let model = on(model, 80, 24);
    let text = screen(&model, 80, 24);
    for expected in [
        "slot 000000000000   live 1m 15s   3 phones",
        "daemon 1.2.3 from 192.0.2.0, up 1m 15s, 0 B queued, resumable",
        "00000002  Pixel 8",
        "198.51.100.2",
        "Evil[2J",
        "last up:   64 B, 128 B",
        "last down: –",
        "Backspace back",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing:\n{text}");
    }
    assert!(!text.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn searching_and_help_show_themselves() {
    let mut model = on(model(), 80, 24);
    for key in [Key::Char('/'), Key::Char('0'), Key::Char('a')] {
        press(&mut model, key);
    }
    assert!(
        screen(&model, 80, 24)
            .lines()
            .last()
            .unwrap()
            .starts_with("/0a")
    );
    press(&mut model, Key::Enter);
    assert!(screen(&model, 80, 24).contains("search: 0a"));
    press(&mut model, Key::Char('?'));
    let text = screen(&model, 80, 24);
    assert!(
        text.contains("sort slots by") && text.contains("as Ctrl-C does"),
        "{text}"
    );
}

#[test]
fn without_colours_there_are_none_and_the_mark_is_still_seen() {
    let model = on(model(), 80, 24);
    let colourful = |buffer: &Buffer| {
        buffer
            .content()
            .iter()
            .any(|c| c.fg != Color::Reset || c.bg != Color::Reset)
    };
    assert!(colourful(&drawn(&model, 80, 24, true)));
    let plain = drawn(&model, 80, 24, false);
    assert!(!colourful(&plain));
    let reversed =
        |cell: &ratatui::buffer::Cell| cell.modifier.contains(ratatui::style::Modifier::REVERSED);
    assert!(plain.content().iter().any(reversed));
}
