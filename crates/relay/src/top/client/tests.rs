use super::*;
use crate::top::fixture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A server that answers every request with what `answer` makes of its target, and closes.
async fn server(answer: fn(&str) -> String) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(listener.local_addr().unwrap().into());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            let request = String::from_utf8(request).unwrap();
            let target = request.split(' ').nth(1).unwrap_or_default();
            // A client that has had enough closes first.
            let _ = socket.write_all(answer(target).as_bytes()).await;
        }
    });
    client
}

fn reply(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn relay(target: &str) -> String {
    let slots = r#"{"total":9,"matching":1,"offset":0,"slots":[{"slot":"ab"}]}"#;
    match target {
        "/admin/summary" => reply("200 OK", fixture::SUMMARY),
        "/admin/slots?sort=phones&order=desc&offset=0&limit=20" => reply("200 OK", slots),
        "/admin/slots/ab" => reply(
            "200 OK",
            r#"{"state":"live","phones":[{"phone":"1"}],"binary":null}"#,
        ),
        "/admin/events" => {
            let summary = fixture::SUMMARY.replace('\n', "");
            let events = format!(
                "retry: 2000\n\nevent: hello\ndata: {summary}\n\nevent: sample\ndata: {summary}\n\n\
                 event: novelty\ndata: ?\n\nevent: recent\ndata: [{{\"skipped\":1}}]\n\n"
            );
            reply("200 OK", &events)
        }
        _ => reply("404 Not Found", r#"{"error":"no such slot"}"#),
    }
}

async fn said(answer: fn(&str) -> String) -> String {
    server(answer)
        .await
        .summary()
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn answers_are_read() {
    let client = server(relay).await;
    let (summary, bytes) = client.summary().await.unwrap();
    assert_eq!((summary.phones, &*bytes), (12, fixture::SUMMARY.as_bytes()));
    let question = Question::Slots(Query::default());
    assert!(matches!(client.ask(&question).await, Ok(Answer::Slots(page)) if page.total == 9));
    let asked = |slot: &str| Question::Slot(slot.to_owned());
    assert!(
        matches!(client.ask(&asked("ab")).await, Ok(Answer::Slot(Some(detail))) if detail.phones.len() == 1)
    );
    assert!(matches!(
        client.ask(&asked("cd")).await,
        Ok(Answer::Slot(None))
    ));
}

#[tokio::test]
async fn a_stream_is_told_until_it_ends() {
    let (news, mut heard) = mpsc::channel(9);
    let failure = server(relay).await.follow(&news).await.unwrap();
    assert!(
        failure.to_string().contains("it ended the connection"),
        "{failure}"
    );
    assert!(matches!(heard.recv().await, Some(Update::Hello(summary)) if summary.phones == 12));
    assert!(matches!(heard.recv().await, Some(Update::Sample(_))));
    assert!(matches!(heard.recv().await, Some(Update::Recent(recent)) if recent.len() == 1));
}

#[tokio::test]
async fn nobody_there_names_the_fix() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = Source::from(listener.local_addr().unwrap());
    drop(listener);
    let failure = Client::new(source.clone())
        .summary()
        .await
        .unwrap_err()
        .to_string();
    let start = format!("nothing answers at {source}: Connection refused");
    assert!(
        failure.starts_with(&start) && failure.contains("--metrics-listen"),
        "{failure}"
    );
}

#[tokio::test]
async fn what_is_no_relay_or_an_old_one_is_told_apart() {
    let old = said(|_| reply("404 Not Found", "404 page not found\n")).await;
    assert!(old.contains("has no admin page (404)"), "{old}");
    let page = said(|_| reply("200 OK", "<!doctype html>")).await;
    assert!(
        page.contains("is no relay (its answer cannot be read"),
        "{page}"
    );
    let json = said(|_| reply("200 OK", "{}")).await;
    assert!(json.contains("names no version"), "{json}");
    let failing = said(|_| reply("502 Bad Gateway", "oops")).await;
    assert!(
        failing.contains("HTTP 502 Bad Gateway for /admin/summary"),
        "{failing}"
    );
    let ssh = said(|_| "SSH-2.0-OpenSSH_9.2\r\n".to_owned()).await;
    assert!(ssh.contains("is no relay"), "{ssh}");
}

#[tokio::test]
async fn a_refusal_is_passed_on_without_what_could_harm_a_terminal() {
    let refused = said(|_| {
        reply(
            "403 Forbidden",
            r#"{"error":"use a loopback \u001b[31mname"}"#,
        )
    })
    .await;
    assert!(
        refused.ends_with("refuses: use a loopback [31mname"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let endless = said(|_| reply("200 OK", &" ".repeat(MOST + 1))).await;
    assert!(endless.contains("is no relay (length limit"), "{endless}");
}

#[test]
fn an_address_is_a_host_and_a_port() {
    for text in [
        "127.0.0.1:9090",
        "http://127.0.0.1:9090/",
        "HTTP://127.0.0.1:9090/metrics?x#y",
    ] {
        assert_eq!(
            Source::parse(text).unwrap().to_string(),
            "http://127.0.0.1:9090",
            "{text}"
        );
    }
    assert_eq!(
        Source::parse("http://[::1]:9090").unwrap().to_string(),
        "http://[::1]:9090"
    );
    assert!(Source::parse("localhost:9090").is_ok());
    for text in ["https://h:1", "ws://h:1"] {
        assert_eq!(Source::parse(text), Err(SourceError::Scheme), "{text}");
    }
    for text in [
        "", "h", "http://", "http://h", ":9090", "h:0", "h:99999", "h:x", "a@h:1", "a b:1", "/x",
    ] {
        assert_eq!(Source::parse(text), Err(SourceError::Address), "{text:?}");
    }
}
