//! Framing: a stream gives the same packets, output and violation, whole or in whatever pieces it comes.
//!
//! Fed: settings (bits 0 and 1 the version, bit 2 a server that has not seen CONNECT, bits 4 to 7 the maximum packet
//! size), a seed for the pieces, then the stream.

use tidegate_codec::mqtt::client::{ClientConnection, ConnectOptions};
use tidegate_codec::mqtt::connection::{Accepted, Event, Limits, ServerConnection};
use tidegate_codec::mqtt::frame::{frame_len, FrameLen};
use tidegate_codec::mqtt::ProtocolVersion;
use tidegate_codec::{Millis, Violation};

use super::show;

const NOW: Millis = Millis(1_000);

pub fn run(data: &[u8]) {
    let [settings, seed, stream @ ..] = data else {
        return;
    };
    let feed = Feed {
        version: ProtocolVersion::ALL[usize::from(settings & 0b11) % 3],
        fresh: settings & 0b100 != 0,
        packet_bytes_max: 1 << (4 + (settings >> 4)),
    };
    foretell(stream, feed.packet_bytes_max);
    let pieces = cut(stream, *seed);
    assert_eq!(feed.serve(&[stream]), feed.serve(&pieces), "server");
    assert_eq!(feed.listen(&[stream]), feed.listen(&pieces), "client");
}

/// What [`frame_len`] foretells of every prefix comes true.
fn foretell(stream: &[u8], max: u32) {
    let whole = frame_len(stream, max);
    let mut need = 0;
    for len in 0..stream.len().min(64) {
        match frame_len(&stream[..len], max) {
            FrameLen::Need(missing) => {
                assert!(missing > 0);
                need = len + missing;
            }
            FrameLen::Complete(total) => {
                assert!(total <= len && len >= need && total <= max as usize);
                return assert_eq!(whole, FrameLen::Complete(total));
            }
            violation => return assert_eq!(whole, violation),
        }
    }
    match whole {
        FrameLen::Complete(total) => assert!(need <= total && total <= max as usize),
        FrameLen::Need(missing) => assert!(stream.len() + missing <= max as usize || max < 5),
        FrameLen::Violation(_) => {}
    }
}

/// Seed 0 makes pieces of one byte.
fn cut(mut stream: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut state = u32::from(seed);
    let mut pieces = Vec::new();
    while !stream.is_empty() {
        state = state
            .wrapping_add(u32::from(seed))
            .wrapping_mul(0x9E37_79B1);
        let len = 1 + (state >> 27) as usize;
        let (piece, rest) = stream.split_at(len.min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

/// What came of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<String>,
    written: Vec<u8>,
    violation: Option<Violation>,
    /// Bytes no packet was made of.
    left: Vec<u8>,
}

struct Feed {
    version: ProtocolVersion,
    fresh: bool,
    packet_bytes_max: u32,
}

impl Feed {
    fn limits(&self) -> Limits {
        Limits {
            packet_bytes_max: self.packet_bytes_max,
            connect_bytes_max: self.packet_bytes_max,
            ..Limits::DEFAULT
        }
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions {
            version: self.version,
            client_id: "c".into(),
            maximum_packet_size: Some(self.packet_bytes_max),
            topic_alias_maximum: 4,
            ..ConnectOptions::default()
        }
    }

    /// Every CONNECT is accepted, and nothing else answered.
    fn serve(&self, pieces: &[&[u8]]) -> Outcome {
        let limits = self.limits();
        let mut server = ServerConnection::new(NOW);
        let mut written = Vec::new();
        if !self.fresh {
            let options = ConnectOptions {
                maximum_packet_size: None,
                ..self.options()
            };
            server.accept(NOW, &options, &Accepted::default(), &limits, &mut written);
        }
        drive(pieces, |input, events| {
            let event = server.handle_bytes(NOW, input, &limits, &mut written)?;
            if let Some(Event::Connect(connect)) = &event {
                server.accept(NOW, connect, &Accepted::default(), &limits, &mut written);
            }
            events.extend(event.as_ref().map(show::event));
            Ok(event.is_some())
        })
        .with(written)
    }

    /// A client that asked for everything it could be answered.
    fn listen(&self, pieces: &[&[u8]]) -> Outcome {
        let mut client = ClientConnection::new(self.version);
        let mut written = Vec::new();
        client.connect(&self.options(), &mut written);
        drive(pieces, |input, events| {
            let event = client.handle_bytes(input)?;
            events.extend(event.as_ref().map(show::client_event));
            Ok(event.is_some())
        })
        .with(written)
    }
}

impl Outcome {
    fn with(self, written: Vec<u8>) -> Outcome {
        Outcome { written, ..self }
    }
}

/// Hands piece after piece to `read`, which takes a packet or says that it needs more.
fn drive(
    pieces: &[&[u8]],
    mut read: impl FnMut(&mut &[u8], &mut Vec<String>) -> Result<bool, Violation>,
) -> Outcome {
    let mut events = Vec::new();
    let mut buffer = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        buffer.extend_from_slice(piece);
        let mut input = &buffer[..];
        loop {
            let before = input.len();
            match read(&mut input, &mut events) {
                Ok(true) => assert!(input.len() < before, "an event without a packet"),
                Ok(false) => {
                    assert_eq!(input.len(), before, "bytes taken without an event");
                    break;
                }
                Err(violation) => {
                    let mut left = input.to_vec();
                    left.extend(pieces[index + 1..].concat());
                    return Outcome {
                        events,
                        written: Vec::new(),
                        violation: Some(violation),
                        left,
                    };
                }
            }
        }
        buffer = input.to_vec();
    }
    Outcome {
        events,
        written: Vec::new(),
        violation: None,
        left: buffer,
    }
}
