//! The live view: a terminal, the keys, and two conversations with the relay.

use super::client::Client;
use super::keys::Key;
use super::model::{Model, Question, Update};
use super::view::{self, Theme};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Between a lost stream and the next attempt.
const PAUSE: Duration = Duration::from_secs(1);

/// News that may wait for the screen to be drawn.
const QUEUE: usize = 64;

/// Shows the relay until a key or a signal ends it.
///
/// # Errors
/// When the first answer does not come, or the terminal is of no use.
pub(super) async fn run(client: Client, interval: Duration) -> Result<(), String> {
    let (summary, _) = client
        .summary()
        .await
        .map_err(|failure| failure.to_string())?;
    let model = Model::new(client.source.to_string(), summary);
    let signals = Signals::new().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let terminal = take().map_err(|error| format!("cannot use this terminal: {error}"))?;
    let shown = show(terminal, signals, model, client, interval).await;
    ratatui::restore();
    shown.map_err(|error| format!("the terminal is gone: {error}"))
}

/// Takes the terminal, or leaves it as it was.
fn take() -> io::Result<DefaultTerminal> {
    // This also sets a hook that puts the terminal back before a panic is reported.
    ratatui::try_init().inspect_err(|_| {
        // Its first steps may have worked. What cannot be put back either is told by the error there is already.
        let _ = ratatui::try_restore();
    })
}

async fn show(
    mut terminal: DefaultTerminal,
    mut signals: Signals,
    mut model: Model,
    client: Client,
    interval: Duration,
) -> io::Result<()> {
    let theme = Theme::from_environment();
    let size = terminal.size()?;
    model.update(Update::Rows(view::rows(Rect::from(((0, 0).into(), size)))));
    let (news, mut heard) = mpsc::channel(QUEUE);
    let (asked, question) = watch::channel(model.question());
    // They end with the runtime.
    tokio::spawn(follow(client.clone(), news.clone()));
    tokio::spawn(ask(client, question, interval, news));
    let mut keys = keys();
    while !model.quit {
        terminal.draw(|frame| view::draw(frame, &model, &theme))?;
        tokio::select! {
            Some(update) = heard.recv() => model.update(update),
            event = keys.recv() => match event {
                Some(Ok(event)) => model.heed(&event),
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            () = signals.any() => return Ok(()),
        }
        asked.send_if_modified(|question| {
            let new = model.question();
            let modified = *question != new;
            *question = new;
            modified
        });
    }
    Ok(())
}

impl Model {
    fn heed(&mut self, event: &Event) {
        match event {
            Event::Key(pressed) if pressed.kind != KeyEventKind::Release => {
                if let Some(key) = key(pressed) {
                    self.update(Update::Key(key));
                }
            }
            Event::Resize(width, height) => {
                self.update(Update::Rows(view::rows(Rect::new(0, 0, *width, *height))));
            }
            _ => {}
        }
    }
}

fn key(pressed: &KeyEvent) -> Option<Key> {
    let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    Some(match pressed.code {
        KeyCode::Char('c' | 'd') if control => Key::Interrupt,
        // What some terminals send for Backspace.
        KeyCode::Char('h') if control => Key::Backspace,
        KeyCode::Char(c) if !control && !pressed.modifiers.contains(KeyModifiers::ALT) => {
            Key::Char(c)
        }
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    })
}

/// Reads the terminal on a thread of its own, which ends with the process.
fn keys() -> mpsc::Receiver<io::Result<Event>> {
    let (events, keys) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let last = event.is_err();
            if events.blocking_send(event).is_err() || last {
                return;
            }
        }
    });
    keys
}

/// Follows the relay's stream, also after it broke, until nobody listens.
async fn follow(client: Client, news: mpsc::Sender<Update>) {
    while let Some(failure) = client.follow(&news).await {
        if news.send(Update::Lost(failure.short())).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks the question as soon as it changes, and again each `interval`.
async fn ask(
    client: Client,
    mut question: watch::Receiver<Question>,
    interval: Duration,
    news: mpsc::Sender<Update>,
) {
    loop {
        let asked = question.borrow_and_update().clone();
        let answered = async {
            let update = match client.ask(&asked).await {
                Ok(answer) => Update::Answer(asked.clone(), answer),
                Err(failure) => Update::Unanswered(asked.clone(), failure.short()),
            };
            // Nobody listens: the view has ended, and the question changes no more.
            let _ = news.send(update).await;
            tokio::time::sleep(interval).await;
        };
        tokio::select! {
            () = answered => {}
            changed = question.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// What ends the view from outside: a polite kill, or the end of the terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        ]))
    }

    /// Waits for any of them. Cancel-safe.
    async fn any(&mut self) {
        let [terminate, hang_up, interrupt] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_terminals_send_them() {
        let pressed = |code, modifiers| key(&KeyEvent::new(code, modifiers));
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        assert_eq!(pressed(KeyCode::Char('c'), control), Some(Key::Interrupt));
        assert_eq!(pressed(KeyCode::Char('c'), none), Some(Key::Char('c')));
        assert_eq!(pressed(KeyCode::Char('h'), control), Some(Key::Backspace));
        assert_eq!(pressed(KeyCode::Char('x'), control), None);
        assert_eq!(pressed(KeyCode::F(1), none), None);
        assert_eq!(pressed(KeyCode::Esc, none), Some(Key::Escape));
    }
}
