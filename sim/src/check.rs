//! What must hold of a history as a whole, whatever the faults were.

use crate::book::{Book, Conn, Daemon, How, Inner, Phone, Spoken};
use crate::message::Session;
use crate::net::Dialled;
use relay_client::ConnectError;
use relay_proto::close::{Cause, Legs};

/// Longer than anything takes on a path that nothing was done to.
pub(crate) const MARGIN_MS: u64 = 5_000;

/// Checks why a dial failed.
pub(crate) fn refusal(
    book: &Book,
    who: &str,
    dialled: &Dialled,
    error: &ConnectError,
    is_daemon: bool,
) {
    let connected = dialled.link.is_some();
    let hurt = dialled.hurt();
    let fine = match error {
        ConnectError::Refused {
            status: 503,
            retry_after,
            ..
        } => retry_after.is_some(),
        // Quarrelling daemons are slowed down before their upgrade.
        ConnectError::Refused {
            status: 429,
            retry_after,
            ..
        } => is_daemon && retry_after.is_some(),
        ConnectError::Io(_) | ConnectError::Timeout { .. } => {
            !connected || dialled.cut || hurt.is_some()
        }
        _ => false,
    };
    if !fine {
        book.history.violation(
            who,
            format!("must not fail to connect: {error} (hurt: {hurt:?})"),
        );
    }
}

/// Checks every connection that ended, and every notice.
pub(crate) fn whole(book: &Book) {
    let inner = book.open();
    let mut wrong = Vec::new();
    for (number, phone) in inner.phones.iter().enumerate() {
        for (n, conn) in phone.conns.all.iter().enumerate() {
            let session = (number, n as u64 + 1);
            if let Err(what) = phone_end(&inner, phone, session, conn) {
                wrong.push((
                    format!("phone {number}"),
                    format!("session {}: {what}", n + 1),
                ));
            }
        }
    }
    for (process, daemon) in &inner.daemons {
        let name = format!("daemon {}/{process}", daemon.server);
        for conn in &daemon.conns.all {
            if let Err(what) = daemon_end(&inner, *process, daemon, conn) {
                wrong.push((name.clone(), what));
            }
        }
        for (session, spoken) in &daemon.sessions {
            if let Err(what) = notice(&inner, *session, spoken) {
                wrong.push((name.clone(), format!("{session:?}: {what}")));
            }
        }
    }
    drop(inner);
    for (who, what) in wrong {
        book.history.violation(&who, what);
    }
}

/// Whether the table of ends has this one.
fn in_table(legs: Legs, code: u16, reason: &str) -> Option<Cause> {
    let mut causes = Cause::ALL.into_iter().filter(|cause| {
        let close = cause.close();
        let same = close.is_some_and(|close| close.code == code && close.reason == reason);
        same && (cause.legs() == legs || cause.legs() == Legs::Both)
    });
    causes.find(|cause| !matches!(cause, Cause::Directive(_) | Cause::DirectiveOverflow(_)))
}

/// Whether a connection ended as it may: with a Close that somebody `asked` for, or that the relay `may` send now.
fn end(
    inner: &Inner,
    legs: Legs,
    conn: &Conn,
    asked: impl FnOnce(u16, &str) -> bool,
    may: impl FnOnce(Cause, u64) -> bool,
) -> Result<(), String> {
    let Some(end) = &conn.end else { return Ok(()) };
    let excuse = conn.excuse();
    let (code, reason) = match &end.how {
        How::Quit | How::Killed => return Ok(()),
        How::Broken(_) if excuse.is_some() => return Ok(()),
        How::Broken(what) => return Err(format!("ended without a Close: {what}")),
        How::Close(code, reason) => (*code, reason.as_str()),
    };
    if asked(code, reason) {
        return Ok(());
    }
    let fine = match in_table(legs, code, reason) {
        None => {
            return Err(format!(
                "nobody asked for {code} {reason:?}, and no relay may"
            ));
        }
        Some(Cause::ShuttingDown) => shutting_down(inner, conn, end.at_ms),
        Some(Cause::HeartbeatTimeout | Cause::MessageTooSlow) => excuse.is_some(),
        Some(cause) => may(cause, end.at_ms),
    };
    match fine {
        true => Ok(()),
        false => Err(format!(
            "must not end with {code} {reason:?} (excuse: {excuse:?})"
        )),
    }
}

fn phone_end(inner: &Inner, phone: &Phone, session: Session, conn: &Conn) -> Result<(), String> {
    let asked = |code, reason: &str| {
        let of_directive = ["", "phone backlog full"].contains(&reason);
        of_directive && inner.directives.contains(&(session, code))
    };
    let may = |cause, at_ms| match cause {
        Cause::BacklogFull => true,
        Cause::NoServer
        | Cause::BinaryReclaimed
        | Cause::BinaryDidNotReturn
        | Cause::BinaryAway => !daemon_was_there(inner, phone.server, conn.dialled.at_ms, at_ms),
        _ => false,
    };
    end(inner, Legs::Phone, conn, asked, may)
}

/// Whether one connection of a daemon of this server-id, to which nothing was done, outlasted all of this time.
fn daemon_was_there(inner: &Inner, server: usize, from_ms: u64, to_ms: u64) -> bool {
    let daemons = inner
        .daemons
        .values()
        .filter(|daemon| daemon.server == server);
    daemons.flat_map(|daemon| &daemon.conns.all).any(|conn| {
        let until = conn.end.as_ref().map_or(u64::MAX, |end| end.at_ms);
        let proven = conn.proven_ms.is_some_and(|at| at <= from_ms);
        conn.excuse().is_none() && proven && until > to_ms + MARGIN_MS
    })
}

fn shutting_down(inner: &Inner, conn: &Conn, end_ms: u64) -> bool {
    let after_dial = |at: &&u64| **at + MARGIN_MS >= conn.dialled.at_ms && **at <= end_ms;
    inner.shutdowns_ms.iter().any(|at| after_dial(&at))
}

fn daemon_end(inner: &Inner, process: u64, daemon: &Daemon, conn: &Conn) -> Result<(), String> {
    let may = |cause, at_ms| match cause {
        Cause::AlreadyClaimed => rival_was_there(inner, process, daemon.server, conn, at_ms),
        Cause::Displaced => conn.excuse().is_some(),
        _ => false,
    };
    end(inner, Legs::Binary, conn, |_, _| false, may)
}

/// Whether another process was connected when this one was told so: nobody else can have answered the probe.
fn rival_was_there(inner: &Inner, process: u64, server: usize, conn: &Conn, end_ms: u64) -> bool {
    let others = inner
        .daemons
        .iter()
        .filter(|(number, _)| **number != process);
    let others = others.filter(|(_, other)| other.server == server);
    others.flat_map(|(_, other)| &other.conns.all).any(|other| {
        let until = other.end.as_ref().map_or(u64::MAX, |end| end.at_ms);
        other.dialled.at_ms <= end_ms && until >= conn.dialled.at_ms
    })
}

/// A close notice tells how the phone ended.
fn notice(inner: &Inner, session: Session, spoken: &Spoken) -> Result<(), String> {
    let Some(code) = spoken.notice else {
        return Ok(());
    };
    let conn = &inner.phones[session.0].conns.all[session.1 as usize - 1];
    let Some(end) = &conn.end else {
        return match conn.excuse() {
            Some(_) => Ok(()),
            None => Err(format!("notice {code}, but the phone is connected")),
        };
    };
    // A Close of its own came behind everything else, and no connection of its daemon broke meanwhile.
    let whole = code == 1000 && matches!(end.how, How::Quit) && spoken.noticed_on == spoken.began;
    if whole && spoken.next != conn.said {
        let (said, next) = (conn.said, spoken.next);
        return Err(format!("it quit after {said} frames, and {next} arrived"));
    }
    if conn.excuse().is_some() {
        return Ok(());
    }
    let true_code = match &end.how {
        How::Quit => 1000,
        How::Killed | How::Broken(_) => 1001,
        How::Close(code, _) => *code,
    };
    if spoken.directed == Some(true_code) && !matches!(end.how, How::Quit) {
        return Err(format!("notice {code} of an end that it asked for"));
    }
    // The relay may have closed it in the moment in which it quit.
    let crossed = matches!(end.how, How::Quit | How::Killed) && code != true_code;
    if code == true_code || crossed && in_any_table(code) {
        return Ok(());
    }
    Err(format!(
        "notice {code}, but the phone ended with {true_code}"
    ))
}

fn in_any_table(code: u16) -> bool {
    let codes = Cause::ALL.iter().filter_map(|cause| cause.close());
    codes.map(|close| close.code).any(|known| known == code)
}
