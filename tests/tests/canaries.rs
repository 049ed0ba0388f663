//! Peers put marks wherever a secret can be: frames, tokens, credentials, headers, queries, bodies, pings, close
//! reasons. Whatever they do with them, no mark shows up in the log, the metrics, the admin page or its stream.
//!
//! Each seed is another history of random actions; `RELAY_TESTS_SEED=n` runs one more.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fmt::Write as _;

use relay_tests::{
    ADMIN_TOKEN, Answer, Daemon, Google, HOST, Phone, Relay, Transport, data_envelope, directive,
    exchange, op, soon,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const STEPS: usize = 150;

/// What may be shown, and proves that there was something to look at.
const SHOWN: [&str; 2] = ["test phone", "9.9.9-test"];

/// Random actions, and the marks they used.
struct Mischief {
    state: u64,
    marks: Vec<String>,
}

impl Mischief {
    /// splitmix64
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    /// Sixteen letters that nobody has seen before. The first ten already tell it apart.
    fn mark(&mut self) -> String {
        let letters = (0..16).map(|_| char::from(b'a' + self.below(26) as u8));
        let mark: String = letters.collect();
        self.marks.push(mark.clone());
        mark
    }

    /// JSON, or something that only begins as such.
    fn frame(&mut self) -> String {
        let (key, value) = (self.mark(), self.mark());
        let whole = format!(r#"{{"{key}":["{value}",1e3,"\u00e9"]}}"#);
        match self.below(4) {
            0 => whole[..self.below(whole.len())].to_owned(),
            1 => format!("{whole} {}", self.mark()),
            _ => whole,
        }
    }

    fn envelope(&mut self, conn_id: &str) -> String {
        let (frame, mark) = (self.frame(), self.mark());
        match self.below(9) {
            0 => format!(r#"{{"conn_id":"{conn_id}","frame":{frame},"close_code":"{mark}"}}"#),
            1 => format!(r#"{{"conn_id":7,"frame":{frame}}}"#),
            2 => format!(r#"{{"conn_id":"{conn_id}","{mark}":{frame}}}"#),
            3 => format!(r#"{{"conn_id":"{conn_id}","frame":{frame}}} {mark}"#),
            4 => data_envelope("client-home-00000000", &frame),
            5 => format!(r#"{{"push_wake":{{"platform":"fcm","token":"{mark}"}}}}"#),
            6 => format!(r#"{{"push_wake":{{"platform":"{mark}","token":"{mark}"}}}}"#),
            7 => format!(r#"{{"push_wake":{frame},"{mark}":1}}"#),
            _ => data_envelope(conn_id, &frame),
        }
    }

    /// Headers with marks in all that is private, and perhaps without one of those that must be there.
    fn headers(&mut self, server: &str) -> Vec<(&'static str, String)> {
        let query = self.mark();
        let mut headers = vec![
            ("x-pyrycode-server", server.to_owned()),
            ("x-pyrycode-token", self.mark()),
            ("x-pyrycode-instance", self.mark()),
            ("x-pyrycode-device-name", SHOWN[0].to_owned()),
            ("x-pyrycode-version", SHOWN[1].to_owned()),
            ("user-agent", self.mark()),
            ("authorization", format!("Bearer {}", self.mark())),
            ("cookie", format!("session={}", self.mark())),
            ("referer", format!("https://example.org/?{query}")),
            ("sec-websocket-protocol", self.mark()),
        ];
        if self.below(4) == 0 {
            let without = self.below(headers.len());
            headers.remove(without);
        }
        headers
    }
}

struct Scene {
    relay: Relay,
    daemon: Daemon,
    phone: Phone,
    conn_id: String,
}

impl Scene {
    async fn renew(&mut self, mischief: &mut Mischief) {
        let instance = mischief.mark();
        let headers = [("x-pyrycode-instance", &*instance)];
        // A phone of the tenure before may be gone or not; the new pair starts afresh.
        let home = [("server_id", "home")];
        let before = self.relay.log.count("server_released", &home);
        self.daemon.close(1000, &mischief.mark());
        let log = &self.relay.log;
        log.wait_nth(before + 1, "server_released", &home).await;
        self.daemon = self.relay.daemon_with("home", &headers).await;
        self.phone = self.relay.phone("home").await;
        self.conn_id = self.daemon.hear(&mut self.phone).await;
    }

    async fn act(&mut self, mischief: &mut Mischief) {
        match mischief.below(10) {
            0 | 1 => self.phone.send(&mischief.frame()),
            2 | 3 => self.daemon.send(&mischief.envelope(&self.conn_id)),
            4 => {
                let mark = mischief.mark();
                self.phone.ping(mark.as_bytes());
                self.daemon.ping(mark.as_bytes());
            }
            5 => {
                let frame = mischief.frame();
                let code = [1000, 4401, 4404, 3000][mischief.below(4)];
                let text = directive(&self.conn_id, Some(&frame), code);
                self.daemon.send(&text);
                self.renew(mischief).await;
            }
            6 => {
                self.phone.close(4000, &mischief.mark());
                self.renew(mischief).await;
            }
            7 => self.raw(mischief).await,
            8 => self.knock(mischief).await,
            _ => self.pry(mischief).await,
        }
    }

    /// A phone that breaks the protocol.
    async fn raw(&self, mischief: &mut Mischief) {
        let mut raw = self.relay.raw_phone("home", None).await;
        let mark = mischief.mark();
        match mischief.below(4) {
            0 => {
                raw.frame(op::TEXT, &[mark.as_bytes(), b"\xff"].concat())
                    .await
            }
            1 => raw.frame(0xf1, mark.as_bytes()).await,
            2 => raw.frame(op::TEXT, mark.repeat(200).as_bytes()).await,
            _ => {
                raw.frame(op::CLOSE, &[b"\x03", mark.as_bytes()].concat())
                    .await
            }
        }
        raw.drain().await;
    }

    /// Requests that mostly become no connection.
    async fn knock(&self, mischief: &mut Mischief) {
        let server = ["home", "elsewhere"][mischief.below(2)];
        let headers = mischief.headers(server);
        let path = ["/v1/client", "/v1/server", "/v2/client", "/healthz", "/"][mischief.below(5)];
        let method = ["GET", "POST"][mischief.below(2)];
        let (query, body) = (mischief.mark(), mischief.mark());
        let mut request = format!("{method} {path}?token={query} HTTP/1.1\r\nHost: {HOST}\r\n");
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        if mischief.below(2) == 0 {
            request += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        } else {
            write!(request, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
        let mut stream = self.relay.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        // Whatever it answers; a 101 is given up at once.
        let _ = stream.read(&mut [0; 1024]).await;
    }

    /// Somebody tries out the admin page.
    async fn pry(&self, mischief: &mut Mischief) {
        let (mark, cookie, slot) = (mischief.mark(), mischief.mark(), mischief.mark());
        let ask = match mischief.below(4) {
            0 => format!("GET /admin/slots?q={mark}&sort={slot}"),
            1 => format!("GET /admin/slots/{slot}?{mark}"),
            2 => format!("GET /{slot}?{mark}"),
            _ => format!("GET /admin/summary?{mark}"),
        };
        let extra = format!("Cookie: {cookie}\r\nX-Pyrycode-Admin-Token: {mark}\r\n");
        let _ = self.ask(&ask, &extra).await;
    }

    async fn ask(&self, line: &str, extra: &str) -> String {
        let mut stream = Transport::Plain.connect(self.relay.metrics_addr()).await;
        let request =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n");
        exchange(&mut stream, &request).await.text().to_owned()
    }

    /// What somebody who looks can see.
    async fn seen(&self) -> Vec<String> {
        let open_metrics = "Accept: application/openmetrics-text\r\n";
        let slots = self.ask("GET /admin/slots", "").await;
        let mut seen = vec![
            self.ask("GET /", "").await,
            self.ask("GET /metrics", "").await,
            self.ask("GET /metrics", open_metrics).await,
            self.ask("GET /admin/summary?history=1", "").await,
            self.stream().await,
            self.ask("POST /admin/slots/nobody/close", "").await,
        ];
        for slot in slots.split("\"slot\":\"").skip(1) {
            let path = format!("GET /admin/slots/{}", &slot[..12]);
            seen.push(self.ask(&path, "").await);
        }
        seen.push(slots);
        seen
    }

    /// The beginning of the stream: what it says first, and two samples.
    async fn stream(&self) -> String {
        let mut stream = Transport::Plain.connect(self.relay.metrics_addr()).await;
        let request = "GET /admin/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        soon("two samples", async {
            while String::from_utf8_lossy(&text)
                .matches("event: sample")
                .count()
                < 2
            {
                assert!(stream.read_buf(&mut text).await.unwrap() > 0);
            }
        })
        .await;
        String::from_utf8(text).unwrap()
    }
}

async fn history(seed: u64) {
    let mut mischief = Mischief {
        state: seed,
        marks: Vec::new(),
    };
    let google = Google::start().await;
    let said: Vec<Answer> = (0..STEPS)
        .map(|n| {
            let status = [200, 404, 400, 302][n % 4];
            let name = mischief.mark();
            let body = format!(r#"{{"name":"no {name}","error":{{"message":"{name}"}}}}"#);
            Answer::status(status).body(body)
        })
        .collect();
    google.fcm(said);
    let args = [
        "--redial-burst",
        "0",
        "--connect-burst",
        "0",
        "--grace",
        "0s",
        "--message-limit",
        "2000",
    ];
    let launch = google
        .launch(&args)
        .env("PYRYCODE_RELAY_ADMIN_TOKEN", ADMIN_TOKEN);
    let relay = launch.start().await;
    let (daemon, phone, conn_id) = relay.pair("home").await;
    let mut scene = Scene {
        relay,
        daemon,
        phone,
        conn_id,
    };
    for _ in 0..STEPS {
        scene.act(&mut mischief).await;
    }
    // What was sent before this has been dealt with.
    scene.renew(&mut mischief).await;
    let mut seen = scene.seen().await;
    scene.relay.terminate();
    scene.relay.exited().await;
    let log = scene.relay.log.all_lines().await;
    for shown in SHOWN {
        assert!(seen.concat().contains(shown) && log.concat().contains(shown));
    }
    assert!(log.len() > STEPS / 4 && mischief.marks.len() > STEPS);
    seen.extend(log);
    for text in &seen {
        let leak = mischief
            .marks
            .iter()
            .find(|mark| text.contains(&mark[..10]));
        assert!(leak.is_none(), "seed {seed}: {leak:?} is in {text}");
    }
}

#[tokio::test]
async fn no_mark_comes_out_whatever_peers_do_with_it() {
    let more = std::env::var("RELAY_TESTS_SEED").map(|seed| seed.parse().unwrap());
    for seed in (1..=4).chain(more) {
        history(seed).await;
    }
}
