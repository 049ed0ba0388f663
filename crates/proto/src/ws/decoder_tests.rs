use super::*;
use crate::ws::MAX_HEADER_BYTES;
use crate::ws::client::{masked_close, masked_control, masked_frame, masked_text};
use crate::ws::encoder::Control;
use crate::ws::opcode::{BINARY, CONTINUATION, PING, TEXT};

const KEY: [u8; 4] = [0x12, 0xfe, 0x00, 0x9a];
const LIMIT: usize = 262_144;

fn limits(utf8: Utf8) -> Limits {
    Limits {
        message_bytes: LIMIT,
        utf8,
    }
}

fn server() -> Decoder {
    Decoder::new(Role::Server, limits(Utf8::Every))
}

/// What happened, in words.
fn word(event: Event<'_>) -> String {
    match event {
        Event::Message { payload, .. } => String::from_utf8_lossy(&payload).into_owned(),
        Event::Ping(payload) => format!("ping {}", payload.escape_ascii()),
        Event::Pong(payload) => format!("pong {}", payload.escape_ascii()),
        Event::Close(None) => "close".into(),
        Event::Close(Some(close)) => format!("close {} {}", close.code, close.reason()),
    }
}

/// Everything that comes out of `wire`, handed over in pieces of `piece` bytes.
fn decode(decoder: &mut Decoder, wire: &[u8], piece: usize) -> Result<Vec<String>, Error> {
    let mut events = Vec::new();
    for chunk in wire.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let mut input = &mut chunk[..];
        while let Some(event) = decoder.decode(&mut input)? {
            events.push(word(event));
        }
        assert!(input.is_empty());
    }
    Ok(events)
}

fn frame(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    masked_frame(opcode, fin, payload, KEY, &mut wire);
    wire
}

/// The error of a server that receives `wire`, however that is cut.
fn error(wire: &[u8]) -> Error {
    let whole = decode(&mut server(), wire, wire.len()).unwrap_err();
    assert_eq!(decode(&mut server(), wire, 1).unwrap_err(), whole);
    whole
}

#[test]
fn fits_its_share_of_an_idle_connection() {
    assert!(size_of::<Decoder>() <= 96, "{} bytes", size_of::<Decoder>());
}

#[test]
fn control_frames_come_out_between_fragments() {
    let mut wire = frame(TEXT, false, b"one ");
    masked_control(Control::Ping, b"p", KEY, &mut wire);
    wire.extend(frame(CONTINUATION, false, b""));
    masked_control(Control::Pong, b"", KEY, &mut wire);
    wire.extend(frame(CONTINUATION, true, b"two"));
    masked_text(b"", KEY, &mut wire);
    masked_close(1001, "bye", KEY, &mut wire);
    wire.extend(frame(8, true, b""));
    let expected = ["ping p", "pong ", "one two", "", "close 1001 bye", "close"];
    for piece in 1..wire.len() {
        let mut decoder = server();
        assert_eq!(
            decode(&mut decoder, &wire, piece).unwrap(),
            expected,
            "pieces of {piece}"
        );
        assert_eq!(decoder.held_bytes(), 0);
    }
}

#[test]
fn a_message_complete_in_the_input_is_borrowed_from_it() {
    let mut wire = frame(BINARY, true, b"here");
    let mut input = &mut wire[..];
    let event = server().decode(&mut input).unwrap();
    let payload = Payload::Borrowed(b"here");
    assert_eq!(
        event,
        Some(Event::Message {
            opcode: Opcode::Binary,
            payload
        })
    );
}

#[test]
fn a_message_in_pieces_is_handed_over_with_exact_memory() {
    let text = vec![b'x'; 100_000];
    let mut wire = frame(TEXT, true, &text);
    let mut decoder = server();
    let (front, back) = wire.split_at_mut(40_001);
    assert_eq!(decoder.decode(&mut &mut front[..]), Ok(None));
    assert!(decoder.mid_message());
    assert_eq!(decoder.held_bytes(), 40_001 - MAX_HEADER_BYTES);
    let mut input = &mut back[..];
    let Ok(Some(Event::Message {
        payload: Payload::Owned(message),
        ..
    })) = decoder.decode(&mut input)
    else {
        panic!("no owned message");
    };
    assert_eq!(message, text);
    assert_eq!(message.capacity(), message.len());
    assert!(!decoder.mid_message());
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn fragments_are_handed_over_with_exact_memory() {
    let mut wire = [
        frame(TEXT, false, &[b'x'; 100]),
        frame(CONTINUATION, false, b"y"),
        frame(CONTINUATION, true, b""),
    ]
    .concat();
    let mut input = &mut wire[..];
    let event = server().decode(&mut input);
    let Ok(Some(Event::Message { payload, .. })) = event else {
        panic!("{event:?}")
    };
    let message = payload.into_vec();
    assert_eq!((message.len(), message.capacity()), (101, 101));
}

#[test]
fn memory_follows_the_bytes_not_the_header() {
    let mut decoder = server();
    let wire = frame(TEXT, true, &vec![b'x'; LIMIT]);
    assert_eq!(decode(&mut decoder, &wire[..14], 14), Ok(vec![]));
    assert_eq!(decoder.held_bytes(), 0);
    assert!(decoder.mid_message());
    for sent in [15, 16, 20, 100, 1000] {
        let mut decoder = server();
        assert_eq!(decode(&mut decoder, &wire[..sent], 1), Ok(vec![]));
        assert!(
            decoder.held_bytes() <= 2 * sent,
            "{} for {sent}",
            decoder.held_bytes()
        );
    }
}

/// Decodes `wire` and reads ahead no further than the decoder wants.
fn read_up_to_room(decoder: &mut Decoder, wire: &mut &[u8]) {
    while decoder.room(usize::MAX).is_none() {
        let (part, rest) = wire.split_at(wire.len().min(decoder.read_ahead_bytes()).min(65_536));
        *wire = rest;
        decode(decoder, part, part.len()).unwrap();
    }
}

#[test]
fn after_a_large_message_the_next_one_is_read_to_its_place() {
    let stream = frame(TEXT, true, &vec![b'x'; 70_000]).repeat(3);
    let (mut wire, mut decoder) = (&stream[..], server());
    read_up_to_room(&mut decoder, &mut wire);
    // Two messages and a header: from here on nothing of a payload comes any other way.
    assert_eq!(wire.len(), 70_000);
    let (message, room) = decoder.room(usize::MAX).unwrap();
    assert_eq!(
        (message.len(), message.capacity(), room),
        (0, 70_014, 70_014)
    );
    message.extend_from_slice(&wire[..20_000]);
    assert_eq!(decoder.filled(20_000), Ok(Filled::default()));
    assert!(decoder.held_bytes() <= 40_000, "{}", decoder.held_bytes());
    assert!(
        decoder
            .room(usize::MAX)
            .is_some_and(|(_, room)| room == 50_014)
    );
    // Nothing came: no more is kept than before, and the next look is no further ahead.
    assert_eq!(decoder.filled(0), Ok(Filled::default()));
    assert!(decoder.held_bytes() <= 40_000, "{}", decoder.held_bytes());
    let (message, room) = decoder.room(usize::MAX).unwrap();
    assert_eq!(room, 20_000);
    message.extend_from_slice(&wire[20_000..40_000]);
    assert_eq!(decoder.filled(20_000), Ok(Filled::default()));
    let (message, room) = decoder.room(usize::MAX).unwrap();
    assert_eq!(room, 30_014);
    message.extend_from_slice(&wire[40_000..]);
    // The next header comes with it.
    message.extend_from_slice(&stream[..MAX_HEADER_BYTES]);
    let Ok(Filled { event, mut beyond }) = decoder.filled(30_014) else {
        panic!("an error")
    };
    let Some(Event::Message { payload, .. }) = event else {
        panic!("no message")
    };
    let message = payload.into_vec();
    assert_eq!(message, vec![b'x'; 70_000]);
    assert!(message.capacity() <= 70_014);
    assert_eq!(beyond.as_mut_slice(), &stream[..MAX_HEADER_BYTES]);
    assert_eq!(decoder.decode(&mut beyond.as_mut_slice()), Ok(None));
    assert!(
        decoder
            .room(usize::MAX)
            .is_some_and(|(_, room)| room == 70_014)
    );
}

/// Each change of its capacity may move all that has arrived.
#[test]
fn a_large_message_that_comes_byte_by_byte_is_seldom_moved() {
    let wire = frame(TEXT, true, &[b'x'; LIMIT]);
    for (most_bytes, others) in [(usize::MAX, 0), (usize::MAX, 1), (LARGE_BYTES, 1)] {
        let (mut decoder, mut changes, mut last) = (server(), 0, 0);
        let before = wire.repeat(others);
        decode(&mut decoder, &before, wire.len()).unwrap();
        // Before each byte there is a read for nothing.
        for byte in wire.chunks(1).flat_map(|byte| [&[][..], byte]) {
            let mut capacity = last;
            if let Some((message, _)) = decoder.room(most_bytes) {
                capacity = message.capacity();
                message.extend_from_slice(byte);
                decoder.filled(byte.len()).unwrap();
            } else {
                decode(&mut decoder, byte, 1).unwrap();
            }
            let held = decoder.held_bytes();
            changes += usize::from(capacity != last) + usize::from(held != capacity);
            last = held;
        }
        assert!(
            changes < 64,
            "{changes} with {most_bytes} at most, {others} before"
        );
    }
}

#[test]
fn small_messages_are_read_many_at_once() {
    let mut decoder = server();
    let large = frame(TEXT, true, &[b'x'; 20_000]);
    let small = [frame(TEXT, true, b"x"), frame(PING, true, b"")];
    for small in small {
        decode(&mut decoder, &large, large.len()).unwrap();
        assert_eq!(decoder.read_ahead_bytes(), MAX_HEADER_BYTES);
        decode(&mut decoder, &small, small.len()).unwrap();
        assert_eq!(decoder.read_ahead_bytes(), usize::MAX);
    }
    // Neither when nothing is kept any more: what is skipped comes in as few reads as possible.
    decode(&mut decoder, &large, large.len()).unwrap();
    decoder.discard_messages();
    assert_eq!(decoder.read_ahead_bytes(), usize::MAX);
    let mut decoder = server();
    // Fragments, whose length says nothing of the next ones.
    let parts = [
        frame(TEXT, false, &[b'x'; 20_000]),
        frame(CONTINUATION, true, &[b'x'; 20_000]),
    ]
    .concat();
    decode(&mut decoder, &parts, parts.len()).unwrap();
    assert_eq!(decoder.read_ahead_bytes(), usize::MAX);
}

#[test]
fn a_promise_alone_gets_no_room() {
    let mut decoder = server();
    let wire = frame(TEXT, true, &vec![b'x'; LIMIT]);
    for at in 0..LARGE_BYTES + MAX_HEADER_BYTES {
        assert!(decoder.room(usize::MAX).is_none(), "after {at} bytes");
        decode(&mut decoder, &wire[at..=at], 1).unwrap();
    }
    let (message, room) = decoder.room(usize::MAX).unwrap();
    assert!(room <= message.len() && message.capacity() <= 2 * message.len());
    assert!(
        decoder
            .room(LARGE_BYTES)
            .is_some_and(|(_, room)| room == LARGE_BYTES)
    );
    // Not while messages are skipped.
    decoder.discard_messages();
    assert!(decoder.room(usize::MAX).is_none());
}

#[test]
fn one_byte_fragments_cost_linear_time() {
    // 2 MiB on the wire. Quadratic copying would move 32 GiB.
    let mut wire = frame(TEXT, false, b"x");
    for _ in 0..LIMIT - 2 {
        masked_frame(CONTINUATION, false, b"x", KEY, &mut wire);
    }
    masked_frame(CONTINUATION, true, b"x", KEY, &mut wire);
    let events = decode(&mut server(), &wire, 4096).unwrap();
    assert_eq!(events, ["x".repeat(LIMIT)]);
}

#[test]
fn the_limit_counts_all_fragments_and_speaks_at_the_header() {
    let limit = Limits {
        message_bytes: 10,
        utf8: Utf8::Every,
    };
    let too_big = Err(Error::TooBig { limit: 10 });
    let run = |wires: &[Vec<u8>]| {
        decode(
            &mut Decoder::new(Role::Server, limit),
            &wires.concat(),
            usize::MAX,
        )
    };
    assert_eq!(run(&[frame(TEXT, true, &[b'x'; 10])]).unwrap().len(), 1);
    assert_eq!(
        run(&[frame(TEXT, true, &[b'x'; 11])[..6].to_vec()]),
        too_big
    );
    let ten = [
        frame(TEXT, false, b"12345"),
        frame(CONTINUATION, true, b"67890"),
    ];
    assert_eq!(run(&ten).unwrap(), ["1234567890"]);
    let eleven = [
        frame(TEXT, false, b"12345"),
        frame(CONTINUATION, true, b"678901")[..6].to_vec(),
    ];
    assert_eq!(run(&eleven), too_big);
    let huge = vec![
        0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    ];
    assert_eq!(run(&[huge]), too_big);
}

#[test]
fn violations_are_refused() {
    let of = |first: u8, second: u8| error(&[first, second, 0, 0, 0, 0]);
    let reserved = Error::Protocol("reserved bits set");
    assert_eq!(
        [
            of(0xc1, 0x80),
            of(0xa1, 0x80),
            of(0x91, 0x80),
            of(0xca, 0x80)
        ],
        [reserved; 4]
    );
    for opcode in (3..8).chain(11..16) {
        assert_eq!(of(0x80 | opcode, 0x80), Error::Protocol("unknown opcode"));
    }
    assert_eq!(
        of(0x81, 0x00),
        Error::Protocol("unmasked frame from a client")
    );
    assert_eq!(of(0x09, 0x80), Error::Protocol("fragmented control frame"));
    assert_eq!(of(0x89, 0xfe), Error::Protocol("control frame too long"));
    assert_eq!(of(0x88, 0xff), Error::Protocol("control frame too long"));
    assert_eq!(
        of(0x80, 0x80),
        Error::Protocol("continuation of no message")
    );
    let twice = [frame(TEXT, false, b"a"), frame(BINARY, true, b"b")].concat();
    assert_eq!(
        error(&twice),
        Error::Protocol("new message inside a fragmented one")
    );
    let not_minimal = Error::Protocol("payload length not in its shortest form");
    assert_eq!(error(&[0x81, 0xfe, 0, 125, 0, 0, 0, 0]), not_minimal);
    assert_eq!(
        error(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]),
        not_minimal
    );
    let high_bit = [0x81, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        error(&high_bit),
        Error::Protocol("payload length over 63 bits")
    );
}

#[test]
fn clients_take_unmasked_frames_only() {
    let client = || Decoder::new(Role::Client, limits(Utf8::TextOnly));
    assert_eq!(
        decode(&mut client(), b"\x81\x02hi\x8a\x00", 1).unwrap(),
        ["hi", "pong "]
    );
    let masked = decode(&mut client(), &frame(TEXT, true, b"hi"), 1);
    assert_eq!(masked, Err(Error::Protocol("masked frame from a server")));
}

#[test]
fn close_payloads_are_checked() {
    let of = |payload: &[u8]| decode(&mut server(), &frame(8, true, payload), 1);
    assert_eq!(
        of(b"\x03"),
        Err(Error::Protocol("close payload of one byte"))
    );
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535u16] {
        let refused = Err(Error::Protocol("close code not allowed on the wire"));
        assert_eq!(of(&code.to_be_bytes()), refused, "{code}");
    }
    for code in [1000, 1001, 1003, 1007, 1014, 3000, 4999u16] {
        assert_eq!(of(&code.to_be_bytes()), Ok(vec![format!("close {code} ")]));
    }
    assert_eq!(of(b"\x03\xe8\xce\xba\xe1"), Err(Error::InvalidUtf8));
    let longest = [b"\x03\xe8", &[b'r'; 123][..]].concat();
    assert_eq!(
        of(&longest),
        Ok(vec![format!("close 1000 {}", "r".repeat(123))])
    );
}

#[test]
fn text_fails_at_its_first_impossible_byte() {
    let bad = frame(TEXT, true, b"ab\xf4\x90\x80\x80 and much more");
    // 6 bytes of header and four of text: enough to tell.
    assert_eq!(decode(&mut server(), &bad[..9], 9), Ok(vec![]));
    assert_eq!(
        decode(&mut server(), &bad[..10], 10),
        Err(Error::InvalidUtf8)
    );
    assert_eq!(error(&bad), Error::InvalidUtf8);
    let split = [
        frame(TEXT, false, b"\xe6\xbc"),
        frame(CONTINUATION, true, b"\xa2"),
    ]
    .concat();
    assert_eq!(decode(&mut server(), &split, 1).unwrap(), ["漢"]);
    assert_eq!(
        error(&[frame(TEXT, false, b"\xe6\xbc"), frame(0, true, b"")].concat()),
        Error::InvalidUtf8
    );
}

#[test]
fn binary_messages_are_text_only_where_that_is_asked_for() {
    let wire = frame(BINARY, true, b"\xff");
    assert_eq!(error(&wire), Error::InvalidUtf8);
    for piece in [1, 100] {
        let mut decoder = Decoder::new(Role::Server, limits(Utf8::TextOnly));
        assert_eq!(decode(&mut decoder, &wire, piece).unwrap(), ["\u{fffd}"]);
        assert_eq!(
            decode(&mut decoder, &frame(TEXT, true, b"\xff"), piece),
            Err(Error::InvalidUtf8)
        );
    }
}

#[test]
fn discarded_messages_leave_control_frames() {
    let mut decoder = server();
    let large = frame(TEXT, false, &vec![b'x'; 1000]);
    assert_eq!(decode(&mut decoder, &large[..500], 500), Ok(vec![]));
    decoder.discard_messages();
    assert_eq!((decoder.held_bytes(), decoder.mid_message()), (0, false));
    let mut wire = large[500..].to_vec();
    masked_control(Control::Ping, b"p", KEY, &mut wire);
    // Neither order, size, nor text matter any more.
    wire.extend(frame(TEXT, true, &vec![0xff; LIMIT + 1]));
    wire.extend(frame(CONTINUATION, true, b"x"));
    masked_close(1000, "", KEY, &mut wire);
    assert_eq!(
        decode(&mut decoder, &wire, 777).unwrap(),
        ["ping p", "close 1000 "]
    );
    assert_eq!((decoder.held_bytes(), decoder.mid_message()), (0, false));
    let bad = decode(&mut decoder, &frame(3, true, b""), 1);
    assert_eq!(bad, Err(Error::Protocol("unknown opcode")));
}

#[test]
fn a_control_frame_in_pieces_holds_memory_only_meanwhile() {
    let mut decoder = server();
    let ping = frame(PING, true, &[b'p'; 125]);
    assert_eq!(decode(&mut decoder, &ping[..6], 1), Ok(vec![]));
    assert_eq!(decoder.held_bytes(), 0);
    assert_eq!(decode(&mut decoder, &ping[6..100], 7), Ok(vec![]));
    assert!((94..=160).contains(&decoder.held_bytes()));
    assert!(!decoder.mid_message());
    assert_eq!(
        decode(&mut decoder, &ping[100..], 7).unwrap(),
        [format!("ping {}", "p".repeat(125))]
    );
    assert_eq!(decoder.held_bytes(), 0);
}

#[test]
fn errors_say_how_to_close() {
    let codes = [
        Error::Protocol("x"),
        Error::InvalidUtf8,
        Error::TooBig { limit: 5 },
    ];
    assert_eq!(codes.map(|e| e.close_code()), [1002, 1007, 1009]);
}
