//! Every packet that decodes comes back from its own encoding, and encodes the same the second time.
//!
//! Fed: settings (bits 0 and 1 the version, bit 2 the sender: 0 a client), then one packet.

use std::fmt::Debug;

use tidegate_codec::conversation::{Delivered, Delivery};
use tidegate_codec::cursor::{variable_integer, VariableInteger};
use tidegate_codec::mqtt::auth::Auth;
use tidegate_codec::mqtt::connack::ConnAck;
use tidegate_codec::mqtt::connect::Connect;
use tidegate_codec::mqtt::connection::{Accepted, Limits, ServerConnection};
use tidegate_codec::mqtt::disconnect::Disconnect;
use tidegate_codec::mqtt::frame::{frame_len, FrameLen, PacketType};
use tidegate_codec::mqtt::publish::{PublishParts, PublishView};
use tidegate_codec::mqtt::reason_code::Side;
use tidegate_codec::mqtt::suback::{self, SubAck};
use tidegate_codec::mqtt::subscribe::{self, Subscribe, Unsubscribe};
use tidegate_codec::mqtt::unsuback::{self, UnsubAck};
use tidegate_codec::mqtt::{acks, ping, unsubscribe, ProtocolVersion};
use tidegate_codec::{Millis, Qos, Violation};

use super::show;

const LIMITS: Limits = Limits::DEFAULT;
const ALL: u32 = u32::MAX;

pub fn run(data: &[u8]) {
    let [settings, packet @ ..] = data else {
        return;
    };
    let version = ProtocolVersion::ALL[usize::from(settings & 0b11) % 3];
    let side = match settings & 0b100 {
        0 => Side::Client,
        _ => Side::Server,
    };
    let FrameLen::Complete(len) = frame_len(packet, ALL) else {
        return;
    };
    let packet_type = PacketType::from_first_byte(packet[0]).expect("the frame has a type");
    let (flags, body) = (packet[0] & 0x0F, body(&packet[..len]));
    match packet_type {
        PacketType::Publish => publish(flags, body, version),
        PacketType::Connect => connect(body),
        PacketType::ConnAck => back(
            body,
            |body| ConnAck::decode(body, version),
            |connack, out| assert_eq!(connack.encode(version, ALL, out), Delivered::Written),
        ),
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => back(
            body,
            |body| acks::decode(packet_type, body, version, side),
            |&(id, reason), out| acks::encode(packet_type, id, reason, version, ALL, out),
        ),
        PacketType::Subscribe => subscribe(body, version),
        PacketType::Unsubscribe => unsubscribe(body, version),
        PacketType::SubAck => back(
            body,
            |body| SubAck::decode(body, version),
            |ack, out| suback::encode(ack.packet_id, &ack.reasons, version, ALL, out),
        ),
        PacketType::UnsubAck => back(
            body,
            |body| UnsubAck::decode(body, version),
            |ack, out| unsuback::encode(ack.packet_id, &ack.reasons, version, ALL, out),
        ),
        PacketType::PingReq => back(body, ping::decode, |_, out| ping::encode_request(out)),
        PacketType::PingResp => back(body, ping::decode, |_, out| ping::encode_response(out)),
        PacketType::Disconnect => back(
            body,
            |body| Disconnect::decode(body, version, side),
            |disconnect, out| disconnect.encode(version, ALL, out),
        ),
        PacketType::Auth => back(
            body,
            |body| Auth::decode(body, side),
            |auth, out| auth.encode(out),
        ),
    }
}

fn body(packet: &[u8]) -> &[u8] {
    match variable_integer(&packet[1..]) {
        VariableInteger::Value { value, len, .. } => {
            assert_eq!(packet.len(), 1 + len + value as usize, "remaining length");
            &packet[1 + len..]
        }
        other => panic!("{other:?} in a whole packet"),
    }
}

/// Decodes, encodes, decodes and encodes again.
fn back<T: Debug>(
    first: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, Violation>,
    encode: impl Fn(&T, &mut Vec<u8>),
) {
    let Ok(decoded) = decode(first) else {
        return;
    };
    let mut second = Vec::new();
    encode(&decoded, &mut second);
    let again = decode(body(&second)).expect("our own encoding decodes");
    assert_eq!(format!("{decoded:?}"), format!("{again:?}"));
    let mut third = Vec::new();
    encode(&again, &mut third);
    assert_eq!(second, third);
}

fn connect(first: &[u8]) {
    let decode = |body: &[u8]| {
        let mut form = ProtocolVersion::default();
        Connect::decode(body, &LIMITS, &mut form).inspect(|connect| {
            assert_eq!(form, connect.version);
        })
    };
    let will = |connect: &Connect| {
        connect
            .will
            .as_ref()
            .map(|will| show::message(&will.message))
    };
    back(
        first,
        |body| decode(body).map(|connect| (will(&connect), connect)),
        |(_, connect), out| connect.encode(connect.version, out),
    );
}

fn subscribe(first: &[u8], version: ProtocolVersion) {
    let decode = |body: &[u8]| Subscribe::decode(body, version, LIMITS.topic);
    // The text of a filter that is none is not kept, so nothing can write it again.
    let bad = |subscribe: &Subscribe| subscribe.subscriptions.iter().any(|s| s.filter.is_err());
    if decode(first).is_ok_and(|subscribe| bad(&subscribe)) {
        return;
    }
    back(first, decode, |subscribe, out| {
        let subscriptions: Vec<_> = subscribe
            .subscriptions
            .iter()
            .flat_map(|s| s.filter.iter().map(|filter| (filter.text(), s.options)))
            .collect();
        let (id, of) = (subscribe.packet_id, subscribe.subscription_id);
        subscribe::encode(id, &subscriptions, of, version, out);
    });
}

fn unsubscribe(first: &[u8], version: ProtocolVersion) {
    let decode = |body: &[u8]| Unsubscribe::decode(body, version, LIMITS.topic);
    if decode(first).is_ok_and(|unsubscribe| unsubscribe.filters.iter().any(Result::is_err)) {
        return;
    }
    back(first, decode, |unsubscribe, out| {
        let filters: Vec<_> = unsubscribe
            .filters
            .iter()
            .flatten()
            .map(|f| f.text())
            .collect();
        unsubscribe::encode(unsubscribe.packet_id, &filters, version, out);
    });
}

fn publish(flags: u8, first: &[u8], version: ProtocolVersion) {
    let Ok(view) = PublishView::decode(flags, first, version) else {
        return;
    };
    let parts = PublishParts {
        topic: view.topic,
        payload: view.payload,
        qos: view.qos,
        retain: view.retain,
        dup: view.dup,
        packet_id: view.packet_id,
        properties: view.properties().as_bytes(),
    };
    let mut second = Vec::new();
    assert_eq!(parts.encode(version, ALL, &mut second), Delivered::Written);
    assert_eq!(body(&second), first, "as a client writes it");
    // DUP on QoS 0 is refused before the packet is decoded, and never written [MQTT-3.3.1-2].
    let dup = view.dup && view.qos != Qos::AtMostOnce;
    assert_eq!(second[0] & 0x0F, flags & 0b0111 | u8::from(dup) << 3);
    delivered(&view, version);
}

/// The message inside, as a server passes it on.
fn delivered(view: &PublishView<'_>, version: ProtocolVersion) {
    let now = Millis(0);
    let message = view.to_message(now);
    assert_eq!(
        (message.topic(), message.payload()),
        (view.topic, view.payload)
    );
    let subscription_ids: Vec<_> = view.subscription_ids().collect();
    let mut server = ServerConnection::new(now);
    let connect = Connect {
        version,
        ..Connect::default()
    };
    server.accept(
        now,
        &connect,
        &Accepted::default(),
        &LIMITS,
        &mut Vec::new(),
    );
    let delivery = Delivery {
        message: &message,
        qos: view.qos,
        retain: view.retain,
        dup: view.dup,
        packet_id: view.packet_id,
        subscription_ids: &subscription_ids,
        expiry_seconds: view.message_expiry_interval,
    };
    let mut second = Vec::new();
    assert_eq!(server.deliver(&delivery, &mut second), Delivered::Written);
    let again = PublishView::decode(second[0] & 0x0F, body(&second), version)
        .expect("our own encoding decodes");
    assert_eq!(
        show::message(&message),
        show::message(&again.to_message(now))
    );
    assert!(again.subscription_ids().eq(subscription_ids));
    assert_eq!((view.packet_id, view.qos), (again.packet_id, again.qos));
}
