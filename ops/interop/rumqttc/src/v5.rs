//! The event loop of rumqttc's MQTT 5 client, driven by a task until the connection ends.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, SubscribeReasonCode};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::Outgoing;
use tokio::sync::mpsc::unbounded_channel;

use crate::link::{Client, Message, Open, Signal, Sink, Started};

pub fn qos(level: u8) -> QoS {
    match level {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

pub fn start(open: Open) -> Started {
    let mut options = MqttOptions::new(open.id, open.host, open.port);
    options.set_keep_alive(Duration::from_secs(30));
    options.set_clean_start(!open.keep_session);
    if open.keep_session {
        options.set_session_expiry_interval(Some(60));
    }
    if let Some((topic, payload)) = open.will {
        options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, false, None));
    }
    let (client, eventloop) = AsyncClient::new(options, 16);
    let (message_sender, messages) = unbounded_channel();
    let (signal_sender, signals) = unbounded_channel();
    let sink = Sink {
        messages: message_sender,
        signals: signal_sender,
    };
    Started {
        client: Client::V5(client),
        driver: tokio::spawn(drive(eventloop, sink)),
        messages,
        signals,
    }
}

/// The queues' other ends may be gone already at the end of a check, so a failed send is no error.
async fn drive(mut eventloop: EventLoop, sink: Sink) {
    loop {
        let signal = match eventloop.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let _ = sink.messages.send(Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: String::from_utf8_lossy(&publish.payload).into_owned(),
                    qos: publish.qos as u8,
                    retain: publish.retain,
                });
                continue;
            }
            Ok(Event::Incoming(Packet::ConnAck(ack))) => Signal::Connected {
                session_present: ack.session_present,
            },
            Ok(Event::Incoming(Packet::SubAck(ack))) => Signal::Subscribed {
                granted: ack.return_codes.iter().map(granted).collect(),
            },
            Ok(Event::Outgoing(Outgoing::Publish(0))) => Signal::Published { qos: 0 },
            Ok(Event::Incoming(Packet::PubAck(_))) => Signal::Published { qos: 1 },
            Ok(Event::Incoming(Packet::PubComp(_))) => Signal::Published { qos: 2 },
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => {
                let _ = sink.signals.send(Signal::Ended(error.to_string()));
                return;
            }
        };
        let _ = sink.signals.send(signal);
    }
}

fn granted(code: &SubscribeReasonCode) -> Option<u8> {
    match code {
        SubscribeReasonCode::Success(qos) => Some(*qos as u8),
        _ => None,
    }
}
