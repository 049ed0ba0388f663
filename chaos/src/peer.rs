//! A daemon or a phone, seen from the program that started it.

use crate::book::{Book, Broken, Result};
use crate::launch::{self, Launch};
use crate::report::{Event, Order};
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin};

/// A process. It is killed when this is dropped.
pub(crate) struct Peer {
    /// Its number, under which the book has it.
    pub(crate) process: u64,
    child: Child,
    pid: Pid,
    orders: ChildStdin,
    book: Book,
}

impl Peer {
    /// Starts this program once more, with these arguments.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(
        book: &Book,
        process: u64,
        name: String,
        launch: &Launch,
        args: &[String],
    ) -> Result<Self> {
        book.enter(process, name);
        let mut command = launch::program(launch, launch::MYSELF, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = launch::pid(&child)?;
        let (Some(orders), Some(events)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Broken("a process without pipes".into()));
        };
        let told = book.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(events).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(event) => told.note(process, event),
                    // One that is killed may end in the middle of a line.
                    Err(error) if error.is_eof() => {}
                    Err(error) => told.note(process, Event::Wrong(format!("said {line}: {error}"))),
                }
            }
        });
        Ok(Self {
            process,
            child,
            pid,
            orders,
            book: book.clone(),
        })
    }

    /// Tells it what to do.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) async fn tell(&mut self, order: Order) -> Result<()> {
        let line = serde_json::to_string(&order)? + "\n";
        Ok(self.orders.write_all(line.as_bytes()).await?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// SIGKILL; returns when it is gone.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await?;
        self.book.killed(self.process);
        Ok(())
    }

    /// Tells it to close and end; returns when it is gone.
    ///
    /// # Errors
    /// If it has ended before, or doesn't.
    pub(crate) async fn quit(mut self) -> Result<()> {
        self.tell(Order::Quit).await?;
        let ended = tokio::time::timeout(launch::PATIENCE, self.child.wait()).await;
        ended.map_err(|_| Broken("a peer that was told to end goes on".into()))??;
        self.book.killed(self.process);
        Ok(())
    }
}
