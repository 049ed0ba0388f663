//! The whole life of a server-id in a moment: claimed, talked over, claimed again in vain, and left in one way or another.
//! What a connection or a slot leaves behind adds up over thousands of these.

use crate::book::{Broken, Result, ensure};
use crate::crowd;
use crate::launch::PATIENCE;
use relay_client::{Received, Socket};
use relay_sim::message::Up;
use relay_sim::rng::Rng;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::timeout;

/// A slot's grace, and as long as anything else may take.
const BEYOND_GRACE: Duration = Duration::from_secs(60);

/// Lives through it; the number is its own. What its connections end with is a matter of chance.
///
/// # Errors
/// If the relay did anything else than it promises.
pub(crate) async fn live(relay: SocketAddr, number: usize) -> Result<()> {
    let mut rng = Rng::new(number as u64);
    let server = format!("household-{number}");
    let claim = || crowd::daemon(relay, server.clone(), PATIENCE);
    let mut daemon = claim().await?;
    let mut phone = crowd::phone(relay, &server).await?;
    let said = Up {
        session: (number, 1),
        number: 0,
        pad: rng.time_ms(1..20_000).as_millis() as usize,
    };
    let said = said.text();
    phone.send_text(said.as_bytes()).await?;
    // An envelope looks the same in both directions.
    let envelope = text(&mut daemon).await?;
    daemon.send_text(&envelope).await?;
    let answer = text(&mut phone).await?;
    ensure(answer == said.as_bytes(), || {
        format!("{server}: another frame came back than went out")
    })?;
    let mut claimant = claim().await?;
    let code = tokio::select! {
        code = closed(&mut claimant, PATIENCE) => code?,
        // Reading answers the probe; nothing else comes.
        other = daemon.recv() => return Err(Broken(format!("{server}: its daemon got {other:?}"))),
    };
    expect(&server, "a second daemon", code, 4409)?;
    leave(daemon, &mut rng).await;
    if rng.percent(50) {
        leave(phone, &mut rng).await;
        return Ok(());
    }
    let code = closed(&mut phone, BEYOND_GRACE).await?;
    expect(&server, "a phone whose daemon stays away", code, 4404)
}

fn expect(server: &str, who: &str, got: Option<u16>, code: u16) -> Result<()> {
    ensure(got == Some(code), || {
        format!("{server}: {who} was closed with {got:?}, not {code}")
    })
}

/// With a Close, or without.
async fn leave(socket: Socket, rng: &mut Rng) {
    if rng.percent(50) {
        socket.close(1000, "").await;
    }
}

async fn text(socket: &mut Socket) -> Result<Vec<u8>> {
    match timeout(PATIENCE, socket.recv()).await?? {
        Received::Text(text) => Ok(text),
        other => Err(Broken(format!("{other:?} in place of a frame"))),
    }
}

/// The code of the Close that comes next.
async fn closed(socket: &mut Socket, bound: Duration) -> Result<Option<u16>> {
    match timeout(bound, socket.recv()).await?? {
        Received::Close { code, .. } => Ok(code),
        other => Err(Broken(format!("{other:?} in place of a Close"))),
    }
}
