//! Every scenario holds in every order; and would not, were the synchronisation weaker.

use relay_loom::{Weakness, admission, budget, check, directive, outbox, resume, window};

#[test]
fn the_budget_is_never_overdrawn() {
    check(Weakness::None, budget);
}

#[test]
fn a_phone_with_a_full_window_is_woken() {
    check(Weakness::None, window);
}

#[test]
fn an_idle_connection_is_woken_by_what_is_queued() {
    check(Weakness::None, outbox);
}

#[test]
fn orders_reach_their_connection() {
    check(Weakness::None, admission);
}

#[test]
fn a_directive_is_the_last_item() {
    check(Weakness::None, directive);
}

#[test]
fn a_frame_on_its_way_is_not_taken_for_arrived() {
    check(Weakness::None, resume);
}

#[test]
#[should_panic(expected = "there may be drawn")]
fn a_torn_draw_is_noticed() {
    check(Weakness::Torn, budget);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_torn_window_is_noticed() {
    check(Weakness::Torn, window);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_window_that_wakes_nobody_is_noticed() {
    check(Weakness::Silent, window);
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_outbox_that_wakes_nobody_is_noticed() {
    check(Weakness::Silent, outbox);
}

#[test]
#[should_panic(expected = "deadlock")]
fn orders_of_which_nobody_hears_are_noticed() {
    check(Weakness::Silent, admission);
}

#[test]
#[should_panic(expected = "on its way")]
fn a_number_that_comes_late_is_noticed() {
    check(Weakness::Relaxed, resume);
}
