//! The program in a real terminal: tmux, which draws what it prints, and tells what is on the screen.

use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use crate::launch::{forget_settings, program};
use crate::{eventually, soon};

/// What runs in the terminal: the program, then a line about its end and the terminal's modes. `stty -g` gives
/// all modes of the line; before and after they must be the same.
const SCRIPT: &str = r#"before=$(stty -g); echo "started by a shell"; "$@"; code=$?
[ "$before" = "$(stty -g)" ] && modes=kept || modes=changed
echo "exit $code, modes $modes"; exec sleep 1000"#;

/// A terminal in which the program runs. Everything in it is killed when this is dropped.
pub struct Terminal {
    /// Its socket.
    folder: TempDir,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.folder.path().join("tmux");
        // Without a server there is nothing to kill.
        let _ = std::process::Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .arg("kill-server")
            .stderr(Stdio::null())
            .status();
    }
}

impl Terminal {
    /// Starts the program with `args` in a terminal of this size.
    ///
    /// # Errors
    /// There is no tmux.
    pub async fn start(width: u16, height: u16, args: &[&str]) -> Result<Self, String> {
        Self::start_through(&[], width, height, args).await
    }

    /// As [`Terminal::start`], started by `wrapper`, a program and its arguments, which executes what it is given.
    ///
    /// # Errors
    /// There is no tmux.
    pub async fn start_through(
        wrapper: &[&str],
        width: u16,
        height: u16,
        args: &[&str],
    ) -> Result<Self, String> {
        let terminal = Self {
            folder: TempDir::new().expect("a folder"),
        };
        if terminal.tmux(&["-V"]).await.is_err() {
            return Err("tmux is not installed".to_owned());
        }
        let program = program();
        let program = program.to_str().expect("a path in UTF-8");
        let [width, height] = [width, height].map(|n| n.to_string());
        let size = ["-x", &width, "-y", &height];
        let shell = ["sh", "-c", SCRIPT, "sh"];
        let words = [
            &["new-session", "-d"][..],
            &size,
            &shell,
            wrapper,
            &[program],
            args,
        ];
        terminal.run(&words.concat()).await;
        Ok(terminal)
    }

    /// Presses keys, as tmux names them: `q`, `Enter`, `PageDown`.
    pub async fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat()).await;
    }

    /// Changes its size.
    pub async fn resize(&self, width: u16, height: u16) {
        let [width, height] = [width, height].map(|n| n.to_string());
        self.run(&["resize-window", "-x", &width, "-y", &height])
            .await;
    }

    /// What is on the screen, without the spaces at the ends of lines.
    pub async fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"]).await
    }

    /// As [`Terminal::screen`], with the escape sequences of colours.
    pub async fn coloured_screen(&self) -> String {
        self.run(&["capture-pane", "-p", "-e"]).await
    }

    /// Waits until the screen shows all of `texts`; returns it.
    ///
    /// # Panics
    /// When it never does.
    pub async fn expect(&self, texts: &[&str]) -> String {
        let mut last = String::new();
        let shown = tokio::time::timeout(crate::PATIENCE, async {
            loop {
                last = self.screen().await;
                if texts.iter().all(|text| last.contains(text)) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        });
        match shown.await {
            Ok(()) => last,
            Err(_) => panic!("waited in vain for {texts:?} on the screen:\n{last}"),
        }
    }

    /// Waits until the program has ended with `code`, and checks that the terminal is as it was before.
    ///
    /// # Panics
    /// When it isn't.
    pub async fn expect_end(&self, code: i32) {
        let end = format!("exit {code}, modes kept");
        // What was on the screen before is there again.
        self.expect(&["started by a shell", &end]).await;
        let state = self
            .run(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])
            .await;
        assert_eq!(
            state.trim(),
            "0 1",
            "the alternate screen, and whether the cursor shows"
        );
    }

    /// The process in the foreground of the terminal, once its name is `name`.
    pub async fn process(&self, name: &str) -> rustix::process::Pid {
        let shell = self.run(&["display-message", "-p", "#{pane_pid}"]).await;
        let children = format!("/proc/{0}/task/{0}/children", shell.trim());
        eventually("the program in the terminal", || async {
            let children = std::fs::read_to_string(&children).ok()?;
            let child: i32 = children.split_whitespace().next()?.parse().ok()?;
            let called = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            // The kernel keeps fifteen characters.
            let pid = rustix::process::Pid::from_raw(child);
            pid.filter(|_| name.starts_with(called.trim()))
        })
        .await
    }

    async fn run(&self, args: &[&str]) -> String {
        let output = self.tmux(args).await.expect("tmux is there");
        assert!(output.status.success(), "tmux {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn tmux(&self, args: &[&str]) -> std::io::Result<Output> {
        let mut command = Command::new("tmux");
        forget_settings(&mut command);
        command.arg("-S").arg(self.folder.path().join("tmux"));
        command.args(["-u", "-f", "/dev/null"]).args(args);
        command
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("NO_COLOR");
        soon("tmux to answer", command.stdin(Stdio::null()).output()).await
    }
}
