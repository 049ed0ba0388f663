//! What keys do to the model.

use super::model::{Model, Opened, Screen};
use super::query::{Query, State};

/// Characters of a search: as many as a server-id has bytes at the most.
const SEARCH: usize = relay_proto::headers::NAME_BYTES;

/// A key, as far as it means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Interrupt,
}

impl Model {
    /// Takes a key in.
    pub(super) fn key(&mut self, key: Key) {
        match key {
            Key::Interrupt => self.quit = true,
            _ if self.help => self.help = false,
            _ if self.search.is_some() => self.edit(key),
            Key::Char('?') => self.help = true,
            Key::Char('q') | Key::Escape => self.quit = true,
            _ => match self.screen {
                Screen::Slots => self.key_in_slots(key),
                Screen::Slot(_) => self.key_in_slot(key),
            },
        }
    }

    /// While a search is typed.
    fn edit(&mut self, key: Key) {
        let Some(text) = &mut self.search else {
            return;
        };
        match key {
            Key::Escape => self.search = None,
            Key::Enter => {
                let text = self.search.take().unwrap_or_default();
                self.look_for(|query| query.search = text.trim().to_owned());
            }
            Key::Backspace => drop(text.pop()),
            Key::Char(c) if text.chars().count() < SEARCH => text.push(c),
            _ => {}
        }
    }

    fn key_in_slots(&mut self, key: Key) {
        match key {
            Key::Char('s') => self.look_for(|query| query.sort = query.sort.next()),
            Key::Char('r') => self.look_for(|query| query.descending = !query.descending),
            Key::Char('f') => self.look_for(|query| query.state = State::after(query.state)),
            Key::Char('/') => self.search = Some(self.query.search.clone()),
            Key::Backspace => self.look_for(|query| query.search.clear()),
            Key::Enter => self.open(),
            Key::Up | Key::Char('k') => self.up(),
            Key::Down | Key::Char('j') => self.down(),
            Key::PageUp => self.page_up(),
            Key::PageDown => self.page_down(),
            Key::Home => {
                self.query.offset = 0;
                self.selected = 0;
            }
            Key::End => {
                self.query.offset = self.last_page();
                self.selected = self.page.matching.saturating_sub(1) - self.query.offset;
            }
            _ => {}
        }
    }

    /// Changes what is looked for: from the first page on.
    fn look_for(&mut self, change: impl FnOnce(&mut Query)) {
        change(&mut self.query);
        self.query.offset = 0;
        self.selected = 0;
    }

    fn up(&mut self) {
        if self.selected > 0 {
            self.selected -= 1;
        } else if self.turn_back() {
            self.selected = self.query.limit - 1;
        }
    }

    fn down(&mut self) {
        if self.selected + 1 < self.page.slots.len() {
            self.selected += 1;
        } else if self.turn_forward() {
            self.selected = 0;
        }
    }

    fn page_up(&mut self) {
        if !self.turn_back() {
            self.selected = 0;
        }
    }

    fn page_down(&mut self) {
        if !self.turn_forward() {
            self.selected = self.page.slots.len().saturating_sub(1);
        }
    }

    /// To the page before, if there is one.
    fn turn_back(&mut self) -> bool {
        let possible = self.query.offset > 0;
        self.query.offset = self.query.offset.saturating_sub(self.query.limit);
        possible
    }

    /// To the next page, if there is one.
    fn turn_forward(&mut self) -> bool {
        let next = self.query.offset + self.query.limit;
        let possible = next < self.page.matching;
        if possible {
            self.query.offset = next;
        }
        possible
    }

    fn open(&mut self) {
        if let Some(slot) = self.page.slots.get(self.selected) {
            self.screen = Screen::Slot(Opened {
                slot: slot.slot.as_str().to_owned(),
                name: slot.name().clone(),
                detail: None,
                ended: false,
                selected: 0,
            });
        }
    }

    fn key_in_slot(&mut self, key: Key) {
        let Screen::Slot(opened) = &mut self.screen else {
            return;
        };
        let phones = opened
            .detail
            .as_ref()
            .map_or(0, |detail| detail.phones.len());
        let (last, page) = (phones.saturating_sub(1), self.query.limit);
        let selected = match key {
            Key::Backspace => {
                self.screen = Screen::Slots;
                return;
            }
            Key::Up | Key::Char('k') => opened.selected.saturating_sub(1),
            Key::Down | Key::Char('j') => opened.selected + 1,
            Key::PageUp => opened.selected.saturating_sub(page),
            Key::PageDown => opened.selected + page,
            Key::Home => 0,
            Key::End => last,
            _ => opened.selected,
        };
        opened.selected = selected.min(last);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::model::{Answer, Question, Update};
    use super::super::query::Sort;
    use super::*;

    /// A model with 45 slots on pages of 20.
    fn model() -> Model {
        let mut model = Model::new("http://h:1".to_owned(), fixture::summary());
        model.update(Update::Rows(20));
        answer(&mut model);
        model
    }

    /// The relay's answer to what the model asks.
    fn answer(model: &mut Model) {
        let question = model.question();
        let answer = match &question {
            Question::Slots(query) => {
                let n = query.limit.min(45_usize.saturating_sub(query.offset));
                Answer::Slots(fixture::page(query.offset, n, 45))
            }
            Question::Slot(_) => Answer::Slot(Some(fixture::detail(3))),
        };
        model.update(Update::Answer(question, answer));
    }

    fn press(model: &mut Model, keys: &[Key]) {
        for &key in keys {
            let before = model.question();
            model.update(Update::Key(key));
            if model.question() != before {
                answer(model);
            }
        }
    }

    fn marked(model: &Model) -> usize {
        model.page.offset + model.selected
    }

    #[test]
    fn arrows_go_through_all_pages_and_back() {
        let mut model = model();
        press(&mut model, &[Key::Down; 44]);
        assert_eq!((marked(&model), model.query.offset), (44, 40));
        press(&mut model, &[Key::Down; 3]);
        assert_eq!(marked(&model), 44);
        press(&mut model, &[Key::Up; 44]);
        assert_eq!((marked(&model), model.query.offset), (0, 0));
        press(
            &mut model,
            &[Key::Up, Key::Char('j'), Key::Char('j'), Key::Char('k')],
        );
        assert_eq!(marked(&model), 1);
    }

    #[test]
    fn pages_turn_up_to_the_ends() {
        let mut model = model();
        press(&mut model, &[Key::PageDown, Key::PageDown]);
        assert_eq!(model.query.offset, 40);
        press(&mut model, &[Key::PageDown]);
        assert_eq!(marked(&model), 44);
        press(&mut model, &[Key::Home]);
        assert_eq!(marked(&model), 0);
        press(&mut model, &[Key::End]);
        assert_eq!((marked(&model), model.page.slots.len()), (44, 5));
        press(&mut model, &[Key::PageUp, Key::PageUp, Key::PageUp]);
        assert_eq!(marked(&model), 0);
    }

    #[test]
    fn sort_filter_and_search_start_at_the_first_page() {
        let mut model = model();
        press(&mut model, &[Key::End, Key::Char('s')]);
        assert_eq!(
            (model.query.sort, model.query.offset, model.selected),
            (Sort::Queue, 0, 0)
        );
        press(&mut model, &[Key::PageDown, Key::Char('f')]);
        assert_eq!(
            (model.query.state, model.query.offset),
            (Some(State::Live), 0)
        );
        press(&mut model, &[Key::Char('r'), Key::Char('/')]);
        assert!(!model.query.descending);
        press(
            &mut model,
            &"qs?x".chars().map(Key::Char).collect::<Vec<_>>(),
        );
        press(&mut model, &[Key::Backspace, Key::Enter]);
        assert_eq!((model.query.search.as_str(), &model.search), ("qs?", &None));
        press(&mut model, &[Key::Char('/'), Key::Char('y'), Key::Escape]);
        assert_eq!(model.query.search, "qs?");
        press(&mut model, &[Key::Backspace]);
        assert_eq!(model.query.search, "");
        assert!(!model.quit);
    }

    #[test]
    fn the_longest_server_id_can_be_searched_for() {
        let mut model = model();
        press(&mut model, &[Key::Char('/')]);
        press(&mut model, &[Key::Char('x'); 1_000]);
        press(&mut model, &[Key::Enter]);
        assert_eq!(model.query.search, "x".repeat(256));
    }

    #[test]
    fn a_slot_opens_and_closes_where_it_was() {
        let mut model = model();
        press(&mut model, &[Key::PageDown, Key::Down, Key::Enter]);
        assert_eq!(model.question(), Question::Slot(format!("{:012x}", 21)));
        press(&mut model, &[Key::Down; 9]);
        let Screen::Slot(opened) = &model.screen else {
            panic!("no slot is open")
        };
        assert_eq!(opened.selected, 2);
        press(&mut model, &[Key::Backspace]);
        assert_eq!(marked(&model), 21);
    }

    #[test]
    fn the_keys_of_the_slots_go_through_the_phones_of_one_too() {
        let mut model = model();
        press(&mut model, &[Key::Enter]);
        for (key, selected) in [
            (Key::Down, 1),
            (Key::Char('j'), 2),
            (Key::Up, 1),
            (Key::Char('k'), 0),
            (Key::Up, 0),
            (Key::PageDown, 2),
            (Key::PageUp, 0),
            (Key::End, 2),
            (Key::Char('s'), 2),
            (Key::Home, 0),
        ] {
            press(&mut model, &[key]);
            let Screen::Slot(opened) = &model.screen else {
                panic!("{key:?} left the slot")
            };
            assert_eq!(opened.selected, selected, "after {key:?}");
        }
    }

    #[test]
    fn quitting_is_always_one_key_away_but_for_help_and_search() {
        for keys in [
            &[Key::Char('q')][..],
            &[Key::Escape],
            &[Key::Enter, Key::Escape],
            &[Key::Char('/'), Key::Interrupt],
        ] {
            let mut model = model();
            press(&mut model, keys);
            assert!(model.quit, "{keys:?}");
        }
        let mut model = model();
        press(
            &mut model,
            &[
                Key::Char('?'),
                Key::Escape,
                Key::Char('/'),
                Key::Char('q'),
                Key::Escape,
            ],
        );
        assert!(!model.quit && !model.help && model.search.is_none());
    }

    #[test]
    fn no_slots_are_no_trouble() {
        let mut model = Model::new("http://h:1".to_owned(), fixture::summary());
        for key in [
            Key::Up,
            Key::Down,
            Key::PageUp,
            Key::PageDown,
            Key::End,
            Key::Home,
            Key::Enter,
        ] {
            model.update(Update::Key(key));
        }
        assert_eq!((model.selected, model.query.offset), (0, 0));
        assert!(matches!(model.screen, Screen::Slots));
    }
}
