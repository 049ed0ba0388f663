//! Without a screen: snapshots or JSON on standard output, once or again and again.

use super::Args;
use super::client::{Client, Failure};
use super::query::Query;
use super::text::snapshot;
use std::io::{self, Write as _};

/// Slots in a snapshot.
const BUSIEST: usize = 10;

/// Prints until nobody reads any more; with `--once` a single time.
///
/// # Errors
/// When there is no first answer; later the relay may come and go.
pub(super) async fn run(client: &Client, args: &Args) -> Result<(), String> {
    let mut printed = false;
    let mut complaining = false;
    loop {
        match document(client, args.json).await {
            Ok(mut text) => {
                if printed && !args.json {
                    text.insert(0, '\n');
                }
                match print(&text) {
                    // The reader has what it wanted: `top | head`.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) => return Err(format!("cannot write to standard output: {error}")),
                    Ok(()) => {}
                }
                (printed, complaining) = (true, false);
            }
            Err(failure) if !printed => return Err(failure.to_string()),
            Err(failure) => {
                if !std::mem::replace(&mut complaining, true) {
                    eprintln!("pyrycode-relay: reconnecting: {}", failure.short());
                }
            }
        }
        if args.once {
            return Ok(());
        }
        tokio::time::sleep(args.interval).await;
    }
}

async fn document(client: &Client, json: bool) -> Result<String, Failure> {
    let (summary, bytes) = client.summary().await?;
    if json {
        let text = String::from_utf8_lossy(&bytes);
        return Ok(on_one_line(&text));
    }
    let query = Query {
        limit: BUSIEST,
        ..Query::default()
    };
    let page = client.slots(&query).await?;
    Ok(snapshot(&client.source.to_string(), &summary, &page))
}

/// In JSON, line ends are only between the tokens.
fn on_one_line(json: &str) -> String {
    json.trim().replace(['\r', '\n'], " ") + "\n"
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
