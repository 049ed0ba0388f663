//! What each app does when its connection ends: pure tables, no clock and no socket.

/// Which of the real programs a link behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum App {
    /// The `pyry` daemon, on the binary leg.
    Daemon,
    /// The mobile app (OkHttp).
    Mobile,
    /// The desktop app (Node `ws`).
    Desktop,
}

/// What the end of a connection means to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// An ordinary interruption: dial again.
    Retry,
    /// The relay is fine but the daemon is not there (4404). Dial again; apps show this state
    /// apart from "offline".
    DaemonAbsent,
    /// Somebody else holds the server-id (4409). A daemon dials again, but not for ever.
    Conflict,
    /// Dialling again can't help: the user must pair again, update, or retry by hand.
    Stop,
}

/// What `app` makes of a connection that ended with `code` (`None`: without a close frame).
#[must_use]
pub fn verdict(app: App, code: Option<u16>) -> Verdict {
    match (app, code) {
        (App::Daemon, Some(4409)) => Verdict::Conflict,
        (App::Daemon, _) => Verdict::Retry,
        (App::Mobile | App::Desktop, Some(4404)) => Verdict::DaemonAbsent,
        (App::Mobile | App::Desktop, Some(4401 | 4412 | 4426)) => Verdict::Stop,
        // Mobile tries a protocol mismatch again with a fresh handshake; desktop gives up.
        (App::Desktop, Some(4421)) => Verdict::Stop,
        _ => Verdict::Retry,
    }
}

/// How often a daemon may be told 4409 in a row before it gives up, as the real one has it:
/// with the default ladder that is more than a minute of trying.
pub const CONFLICT_LIMIT: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// One row per code that has a meaning to somebody, as the apps' own sources have it.
    #[test]
    fn the_table_of_the_real_apps() {
        use Verdict::{Conflict, DaemonAbsent, Retry, Stop};
        for (code, daemon, mobile, desktop) in [
            (None, Retry, Retry, Retry),
            (Some(1000), Retry, Retry, Retry),
            (Some(1001), Retry, Retry, Retry),
            (Some(1009), Retry, Retry, Retry),
            (Some(1011), Retry, Retry, Retry),
            (Some(4401), Retry, Stop, Stop),
            (Some(4404), Retry, DaemonAbsent, DaemonAbsent),
            (Some(4408), Retry, Retry, Retry),
            (Some(4409), Conflict, Retry, Retry),
            (Some(4410), Retry, Retry, Retry),
            (Some(4412), Retry, Stop, Stop),
            (Some(4413), Retry, Retry, Retry),
            (Some(4421), Retry, Retry, Stop),
            (Some(4426), Retry, Stop, Stop),
            (Some(4429), Retry, Retry, Retry),
        ] {
            assert_eq!(verdict(App::Daemon, code), daemon, "daemon {code:?}");
            assert_eq!(verdict(App::Mobile, code), mobile, "mobile {code:?}");
            assert_eq!(verdict(App::Desktop, code), desktop, "desktop {code:?}");
        }
    }
}
