//! What the live view knows: figures, the page of slots that is looked at, and what to ask the relay next. Pure:
//! keys and answers in, questions out.

use super::api::{Detail, Happening, Page, Recent, Sample, Summary, Text};
use super::keys::Key;
use super::query::Query;
use std::collections::VecDeque;

/// Samples that are kept: a quarter of an hour, as the relay does.
const SAMPLES: usize = 900;

/// Happenings that are kept. No terminal shows more.
const HAPPENINGS: usize = 200;

/// News for the model.
#[derive(Debug)]
pub(super) enum Update {
    /// A stream of events begins.
    Hello(Box<Summary>),
    /// A second is over.
    Sample(Box<Summary>),
    /// Something happened.
    Recent(Vec<Recent>),
    /// An answer.
    Answer(Question, Answer),
    /// No answer; why.
    Unanswered(Question, String),
    /// The stream of events broke; why.
    Lost(String),
    /// A key was pressed.
    Key(Key),
    /// So many rows of a table fit on the screen.
    Rows(usize),
}

/// What is to be asked, once and then at intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// A page of slots.
    Slots(Query),
    /// One slot and its phones.
    Slot(String),
}

/// What the relay answered.
#[derive(Debug)]
pub(super) enum Answer {
    Slots(Page),
    /// `None`: the slot has ended.
    Slot(Option<Detail>),
}

/// Whether figures arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    Live,
    /// With the reason.
    Reconnecting(String),
}

/// What the lower part of the screen shows.
#[derive(Debug)]
pub(super) enum Screen {
    Slots,
    Slot(Opened),
}

/// A slot whose phones are looked at.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) slot: String,
    pub(super) name: Text,
    pub(super) detail: Option<Detail>,
    /// It has ended; `detail` is what was last known.
    pub(super) ended: bool,
    pub(super) selected: usize,
}

/// A line of what happened.
#[derive(Debug)]
pub(super) enum Line {
    Happening(Happening),
    Skipped(u64),
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) source: String,
    pub(super) link: Link,
    pub(super) summary: Summary,
    pub(super) samples: VecDeque<Sample>,
    /// Newest last.
    pub(super) recent: VecDeque<Line>,
    pub(super) screen: Screen,
    pub(super) query: Query,
    pub(super) page: Page,
    /// What `page` is the answer to.
    shown: Query,
    /// The row of the page that is marked.
    pub(super) selected: usize,
    /// Why the last question has no answer.
    pub(super) unanswered: Option<String>,
    /// What is typed after `/`.
    pub(super) search: Option<String>,
    pub(super) help: bool,
    pub(super) quit: bool,
}

impl Model {
    pub(super) fn new(source: String, summary: Summary) -> Self {
        Self {
            source,
            link: Link::Connecting,
            summary,
            samples: VecDeque::new(),
            recent: VecDeque::new(),
            screen: Screen::Slots,
            query: Query::default(),
            page: Page::default(),
            shown: Query::default(),
            selected: 0,
            unanswered: None,
            search: None,
            help: false,
            quit: false,
        }
    }

    /// What the relay is to be asked now.
    pub(super) fn question(&self) -> Question {
        match &self.screen {
            Screen::Slots => Question::Slots(self.query.clone()),
            Screen::Slot(opened) => Question::Slot(opened.slot.clone()),
        }
    }

    /// Takes news in.
    pub(super) fn update(&mut self, update: Update) {
        match update {
            Update::Hello(mut summary) => {
                let history = summary.history.take().unwrap_or_default();
                self.samples = history.samples().collect();
                self.recent.clear();
                self.happened(std::mem::take(&mut summary.recent));
                self.link = Link::Live;
                self.summary = *summary;
                self.bound();
            }
            Update::Sample(summary) => {
                self.link = Link::Live;
                self.samples.push_back(summary.sample.clone());
                self.summary = *summary;
                self.bound();
            }
            Update::Recent(recent) => {
                self.happened(recent);
                self.bound();
            }
            // What was asked before a key changed the question is of no interest.
            Update::Answer(question, answer) if question == self.question() => self.answer(answer),
            Update::Unanswered(question, why) if question == self.question() => {
                self.unanswered = Some(why);
            }
            Update::Answer(..) | Update::Unanswered(..) => {}
            Update::Lost(why) => self.link = Link::Reconnecting(why),
            Update::Key(key) => self.key(key),
            Update::Rows(rows) => self.query.limit = rows.clamp(1, Query::MOST),
        }
    }

    fn happened(&mut self, recent: Vec<Recent>) {
        self.recent
            .extend(recent.into_iter().map(|recent| match recent {
                Recent::Skipped { skipped } => Line::Skipped(skipped),
                Recent::Happening(happening) => Line::Happening(happening),
            }));
    }

    fn bound(&mut self) {
        let surplus = self.samples.len().saturating_sub(SAMPLES);
        self.samples.drain(..surplus);
        let surplus = self.recent.len().saturating_sub(HAPPENINGS);
        self.recent.drain(..surplus);
    }

    fn answer(&mut self, answer: Answer) {
        self.unanswered = None;
        match (answer, &mut self.screen) {
            (Answer::Slots(page), Screen::Slots) => self.show(page),
            (Answer::Slot(detail), Screen::Slot(opened)) => match detail {
                Some(detail) => {
                    opened.selected = opened.selected.min(detail.phones.len().saturating_sub(1));
                    opened.detail = Some(detail);
                    opened.ended = false;
                }
                None => opened.ended = true,
            },
            _ => {}
        }
    }

    /// The mark stays on its slot as long as the same slots are looked for and it is among them.
    fn show(&mut self, page: Page) {
        let marked = self.page.slots.get(self.selected).map(|slot| &slot.slot);
        let again = page
            .slots
            .iter()
            .position(|slot| Some(&slot.slot) == marked);
        if let (true, Some(again)) = (self.shown == self.query, again) {
            self.selected = again;
        }
        self.selected = self.selected.min(page.slots.len().saturating_sub(1));
        self.shown = self.query.clone();
        self.page = page;
        // Slots went away, and the page with them: the last one that is left.
        if self.page.slots.is_empty() && self.query.offset > 0 {
            self.query.offset = self.last_page();
        }
    }

    /// Where the last page starts.
    pub(super) fn last_page(&self) -> usize {
        self.page.matching.saturating_sub(1) / self.query.limit * self.query.limit
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::query::Sort;
    use super::*;

    fn model() -> Model {
        Model::new("http://h:1".to_owned(), fixture::summary())
    }

    fn show(model: &mut Model, page: Page) {
        let question = model.question();
        model.update(Update::Answer(question, Answer::Slots(page)));
    }

    #[test]
    fn a_stream_replaces_the_past_and_samples_continue_it() {
        let mut model = model();
        let hello = r#"{"version":"1","phase":"ready","history":{"t":[1,2],"phones":[1,2]},
            "recent":[{"t":1,"event":"server_claimed"},{"skipped":3}]}"#;
        for _ in 0..2 {
            model.update(Update::Hello(Box::new(
                serde_json::from_str(hello).unwrap(),
            )));
            assert_eq!((model.samples.len(), model.recent.len()), (2, 2));
        }
        model.update(Update::Lost("gone".to_owned()));
        assert_eq!(model.link, Link::Reconnecting("gone".to_owned()));
        model.update(Update::Sample(Box::new(fixture::summary())));
        assert_eq!((model.link.clone(), model.samples.len()), (Link::Live, 3));
        assert_eq!(model.summary.phones, 12);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut model = model();
        for _ in 0..SAMPLES + 5 {
            model.update(Update::Sample(Box::new(fixture::summary())));
        }
        let many = (0..500)
            .map(|skipped| Recent::Skipped { skipped })
            .collect();
        model.update(Update::Recent(many));
        assert_eq!(
            (model.samples.len(), model.recent.len()),
            (SAMPLES, HAPPENINGS)
        );
        assert!(matches!(model.recent.back(), Some(Line::Skipped(499))));
    }

    #[test]
    fn the_mark_follows_its_slot_until_something_else_is_looked_for() {
        let mut model = model();
        show(&mut model, fixture::page(0, 20, 45));
        model.selected = 3;
        // Two slots ahead of it have gone.
        show(&mut model, fixture::page(2, 20, 43));
        assert_eq!(model.selected, 1);
        // It has gone.
        show(&mut model, fixture::page(10, 1, 1));
        assert_eq!(model.selected, 0);
        model.query.sort = Sort::Age;
        model.selected = 0;
        show(&mut model, fixture::page(5, 20, 45));
        assert_eq!(model.selected, 0);
    }

    #[test]
    fn a_page_beyond_the_end_leads_to_the_last_one() {
        let mut model = model();
        model.query.offset = 40;
        show(&mut model, fixture::page(40, 0, 25));
        assert_eq!(model.query.offset, 20);
        show(&mut model, fixture::page(20, 0, 0));
        assert_eq!(model.query.offset, 0);
    }

    #[test]
    fn an_answer_to_an_older_question_is_ignored() {
        let mut model = model();
        let old = model.question();
        model.query.sort = Sort::Age;
        model.update(Update::Answer(old, Answer::Slots(fixture::page(0, 5, 5))));
        assert!(model.page.slots.is_empty());
    }

    #[test]
    fn a_question_without_answer_is_told_until_there_is_one() {
        let mut model = model();
        let question = model.question();
        model.update(Update::Unanswered(question, "busy".to_owned()));
        assert_eq!(model.unanswered.as_deref(), Some("busy"));
        show(&mut model, fixture::page(0, 5, 5));
        assert_eq!(model.unanswered, None);
    }

    #[test]
    fn a_slot_that_ended_keeps_what_was_known() {
        let mut model = model();
        show(&mut model, fixture::page(0, 5, 5));
        model.update(Update::Key(Key::Enter));
        let question = model.question();
        model.update(Update::Answer(
            question.clone(),
            Answer::Slot(Some(fixture::detail(3))),
        ));
        model.update(Update::Answer(question, Answer::Slot(None)));
        let Screen::Slot(opened) = &model.screen else {
            panic!("no slot is open")
        };
        assert!(opened.ended && opened.detail.as_ref().is_some_and(|d| d.phones.len() == 3));
    }
}
