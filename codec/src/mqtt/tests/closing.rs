//! Everything that ends a connection: silence, wrong packets, goodbyes.

use super::{broken, options, Pair, LIMITS};
use crate::conversation::{Ack, Delivered, Millis};
use crate::message::{Message, Qos};
use crate::mqtt::client::{ClientEvent, ConnectOptions};
use crate::mqtt::connection::{Event, ServerConnection};
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::ProtocolVersion;
use crate::mqtt::ProtocolVersion::{V3_1, V3_1_1, V5};

#[test]
fn mqtt5_3_1_0_2_second_connect_is_a_protocol_error() {
    for version in ProtocolVersion::ALL {
        let mut bytes = Vec::new();
        options("c").encode(version, &mut bytes);
        broken(version, &bytes, ReasonCode::ProtocolError);
    }
}

#[test]
fn connect_must_come_in_time() {
    let mut server = ServerConnection::with_connect_timeout(Millis(500), 10_000);
    assert_eq!(server.poll_timeout(), Millis(10_500));
    assert!(server.handle_timeout(Millis(10_499)).is_ok());
    let violation = server.handle_timeout(Millis(10_500)).unwrap_err();
    let mut out = Vec::new();
    server.fail(&violation, &mut out);
    assert!(out.is_empty() && server.is_closing());
}

#[test]
fn mqtt5_3_1_2_22_silence_of_one_and_a_half_keep_alives_closes() {
    for (version, farewell) in [(V3_1_1, &[][..]), (V5, &[0xE0, 1, 0x8D])] {
        let mut pair = Pair::connected_with(version, |options| options.keep_alive = 10);
        pair.advance(14_000);
        assert!(matches!(
            pair.tell_server(&[0xC0, 0]),
            Ok(Some(Event::Ping))
        ));
        pair.advance(14_999);
        // Half a packet is no packet.
        assert!(matches!(pair.tell_server(&[0xC0]), Ok(None)));
        assert!(pair.server.handle_timeout(pair.now).is_ok());
        pair.advance(1);
        assert_eq!(pair.server.poll_timeout(), pair.now);
        let violation = pair.server.handle_timeout(pair.now).unwrap_err();
        let mut out = Vec::new();
        pair.server.fail(&violation, &mut out);
        assert_eq!(out, farewell);
    }
}

#[test]
fn keep_alive_0_is_for_ever_before_mqtt_5_and_capped_there() {
    assert_eq!(Pair::connected(V3_1_1).server.poll_timeout(), Millis::NEVER);
    let pair = Pair::connected(V5);
    assert_eq!(pair.server.poll_timeout(), pair.now + 3_600 * 1_500);
    let pair = Pair::connected_with(V3_1_1, |options| options.keep_alive = 7_200);
    assert_eq!(pair.server.poll_timeout(), pair.now + 7_200 * 1_500);
}

#[test]
fn a_driver_that_stopped_reading_starts_the_keep_alive_anew() {
    let mut pair = Pair::connected_with(V5, |options| options.keep_alive = 10);
    pair.advance(60_000);
    pair.server.restart_keep_alive(pair.now);
    assert!(pair.server.handle_timeout(pair.now).is_ok());
    assert_eq!(pair.server.last_seen(), Some(pair.now));
}

#[test]
fn mqtt5_2_1_3_1_reserved_flags_close() {
    let malformed = ReasonCode::MalformedPacket;
    for version in [V3_1_1, V5] {
        broken(version, &[0x00], malformed);
        broken(version, &[0xC1], malformed);
        broken(version, b"\x80\x06\0\x01\0\x01a\0", malformed); // [MQTT-3.8.1-1]
        broken(version, b"\xA0\x05\0\x01\0\x01a", malformed); // [MQTT-3.10.1-1]
        broken(version, &[0x60, 2, 0, 1], malformed); // [MQTT-3.6.1-1]
        broken(version, &[0xE1, 0], malformed); // [MQTT-3.14.1-1]
        broken(version, b"\x36\x05\0\x01a\0\x01", malformed); // [MQTT-3.3.1-4]
        broken(version, b"\x38\x03\0\x01a", malformed); // [MQTT-3.3.1-2]
    }
    // MQTT 3.1 sends SUBSCRIBE again with DUP.
    let mut pair = Pair::connected(V3_1);
    assert!(matches!(
        pair.tell_server(b"\x8A\x06\0\x01\0\x01a\0"),
        Ok(Some(Event::Subscribe(_)))
    ));
}

#[test]
fn packets_only_servers_send_are_protocol_errors() {
    for version in ProtocolVersion::ALL {
        for packet in [
            &b"\x20\x02\0\0"[..],
            b"\x90\x03\0\x01\0",
            b"\xB0\x02\0\x01",
            b"\xD0\0",
        ] {
            broken(version, packet, ReasonCode::ProtocolError);
        }
    }
}

#[test]
fn mqtt5_4_12_0_7_auth_without_a_method_is_a_protocol_error() {
    broken(
        V5,
        b"\xF0\x06\x19\x04\x15\0\x01m",
        ReasonCode::ProtocolError,
    );
    broken(V3_1_1, b"\xF0\0", ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_12_4_1_pingreq_is_answered() {
    for version in ProtocolVersion::ALL {
        let mut pair = Pair::connected(version);
        pair.client.ping(&mut pair.to_server);
        assert!(matches!(pair.server_event(), Event::Ping));
        pair.client_hears(|event| assert!(matches!(event, ClientEvent::Pong)));
        broken(version, &[0xC0, 1, 0], ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt5_3_2_2_15_packets_above_the_limit_are_refused_at_their_header() {
    for version in ProtocolVersion::ALL {
        broken(version, b"\x30\x81\x80\x40", ReasonCode::PacketTooLarge);
    }
    broken(V5, b"\x30\xFF\xFF\xFF\xFF\x01", ReasonCode::MalformedPacket);
}

#[test]
fn mqtt5_3_14_disconnect_ends_the_conversation() {
    for version in ProtocolVersion::ALL {
        let mut pair = Pair::connected(version);
        let with_will = ReasonCode::DisconnectWithWill;
        pair.client.disconnect(with_will, None, &mut pair.to_server);
        let expected = if version.is_v5() {
            with_will
        } else {
            ReasonCode::Success
        };
        assert!(
            matches!(pair.server_event(), Event::Disconnect { reason, .. } if reason == expected)
        );
        // [MQTT-3.14.4-1], and nothing is answered either.
        assert!(matches!(pair.tell_server(&[0xC0, 0]), Ok(None)));
        pair.server
            .disconnect(ReasonCode::SessionTakenOver, &mut pair.to_client);
        assert!(pair.to_client.is_empty());
        assert_eq!(pair.server.poll_timeout(), Millis::NEVER);
    }
}

#[test]
fn mqtt5_3_14_2_2_2_session_expiry_cannot_begin_with_disconnect() {
    broken(
        V5,
        b"\xE0\x07\0\x05\x11\0\0\0\x01",
        ReasonCode::ProtocolError,
    );
    let mut pair = Pair::connected(V5);
    let event = pair.tell_server(b"\xE0\x07\0\x05\x11\0\0\0\0").unwrap();
    assert!(matches!(
        event,
        Some(Event::Disconnect {
            session_expiry_interval: Some(0),
            ..
        })
    ));
    // Where it began with CONNECT it can be changed, up to our cap.
    let mut pair = Pair::connected_with(V5, |options| options.session_expiry_interval = 1);
    pair.client
        .disconnect(ReasonCode::Success, Some(u32::MAX), &mut pair.to_server);
    let Event::Disconnect {
        session_expiry_interval,
        ..
    } = pair.server_event()
    else {
        panic!()
    };
    assert_eq!(session_expiry_interval, Some(LIMITS.session_expiry_max));
}

#[test]
fn a_server_says_goodbye_in_mqtt_5_only() {
    for (version, expected) in [(V3_1_1, &[][..]), (V5, &[0xE0, 1, 0x8E])] {
        let mut pair = Pair::connected(version);
        pair.server
            .disconnect(ReasonCode::SessionTakenOver, &mut pair.to_client);
        assert_eq!(pair.to_client, expected);
        assert!(pair.server.is_closing());
    }
    // Reasons DISCONNECT does not carry become one it does.
    let mut pair = Pair::connected(V5);
    pair.server
        .disconnect(ReasonCode::Banned, &mut pair.to_client);
    assert_eq!(pair.to_client, [0xE0, 1, 0x87]);
    // Before the CONNACK there is only the CONNACK [MQTT-3.14.0-1].
    let mut pair = Pair::new(V5);
    pair.connect(&options("c")).unwrap();
    pair.server
        .disconnect(ReasonCode::ServerShuttingDown, &mut pair.to_client);
    assert_eq!(pair.to_client, [0x20, 3, 0, 0x88, 0]);
}

#[test]
fn mqtt5_1_5_5_1_longer_lengths_than_needed_are_malformed_in_mqtt_5() {
    broken(V5, &[0xC0, 0x80, 0], ReasonCode::MalformedPacket);
    let mut pair = Pair::connected(V3_1_1);
    assert!(matches!(
        pair.tell_server(&[0xC0, 0x80, 0]),
        Ok(Some(Event::Ping))
    ));
}

/// Found by `mqtt_server_connection`: a refusal was written into whatever Maximum Packet Size.
#[test]
fn mqtt5_3_1_2_24_a_refusal_that_does_not_fit_is_not_written() {
    for (size, written) in [(4, &[][..]), (5, &[0x20, 3, 0, 0x87, 0])] {
        let mut pair = Pair::new(V5);
        let asked = ConnectOptions {
            maximum_packet_size: Some(size),
            ..options("c")
        };
        pair.connect(&asked).expect("a good CONNECT");
        let reason = ReasonCode::NotAuthorized;
        pair.server.refuse(reason, &mut pair.to_client);
        assert_eq!(pair.to_client, written, "{size} bytes");
        assert!(pair.server.is_closing());
    }
}

/// [MQTT-3.4.2-2], [MQTT-3.4.2-3], [MQTT-3.5.2-2], [MQTT-3.5.2-3], [MQTT-3.6.2-2], [MQTT-3.6.2-3], [MQTT-3.7.2-2],
/// [MQTT-3.7.2-3], [MQTT-3.9.2-1], [MQTT-3.9.2-2], [MQTT-3.11.2-1], [MQTT-3.11.2-2], [MQTT-3.14.2-3],
/// [MQTT-3.14.2-4]: what does not fit is not sent, and what fits is.
#[test]
fn mqtt5_3_1_2_24_no_answer_exceeds_the_clients_maximum_packet_size() {
    let (packet_id, reason) = (7, ReasonCode::PacketIdentifierNotFound);
    let reasons = [ReasonCode::GrantedQos1; 20];
    let unsubscribed = [ReasonCode::Success; 20];
    let refused = ReasonCode::QuotaExceeded;
    let answers = [
        (
            5,
            Ack::PubAck {
                packet_id,
                reason: refused,
            },
        ),
        (
            5,
            Ack::PubRec {
                packet_id,
                reason: refused,
                again: false,
            },
        ),
        (5, Ack::PubRel { packet_id, reason }),
        (5, Ack::PubComp { packet_id, reason }),
        (
            25,
            Ack::SubAck {
                packet_id,
                reasons: &reasons,
            },
        ),
        (
            25,
            Ack::UnsubAck {
                packet_id,
                reasons: &unsubscribed,
            },
        ),
    ];
    // A CONNACK has five bytes, so whoever is connected takes that many.
    for size in 5..=30 {
        let connected = || {
            Pair::connected_with(V5, |options| {
                options.maximum_packet_size = Some(size);
                options.keep_alive = 60; // so that none has to be announced
            })
        };
        let mut pair = connected();
        for (len, answer) in &answers {
            pair.server_acknowledges(answer);
            let fits = *len <= size as usize;
            assert_eq!(
                pair.to_client.len(),
                if fits { *len } else { 0 },
                "{size}: {answer:?}"
            );
            pair.to_client.clear();
        }
        let message = Message::new("a/b", &[], &[0; 9], Qos::AtMostOnce, false);
        let delivered = pair.deliver(&message, Qos::AtLeastOnce, 1);
        let expected = match size >= 19 {
            true => (Delivered::Written, 19),
            false => (Delivered::TooLarge, 0),
        };
        assert_eq!((delivered, pair.to_client.len()), expected, "{size}");
        let mut pair = connected();
        pair.server
            .disconnect(ReasonCode::SessionTakenOver, &mut pair.to_client);
        assert_eq!(pair.to_client, [0xE0, 1, 0x8E]);
    }
}
