//! Events as text that tells every byte of them, so that two ways to the same event can be compared.

use tidegate_codec::mqtt::client::ClientEvent;
use tidegate_codec::mqtt::connection::Event;
use tidegate_codec::Message;

/// All of a message; its own `Debug` keeps payloads to itself.
pub fn message(message: &Message) -> String {
    format!(
        "{message:?} expires {:?} properties {:02x?} payload {:02x?}",
        message.expires_at(),
        message.properties_bytes(),
        message.payload(),
    )
}

pub fn event(event: &Event) -> String {
    let text = format!("{event:?}");
    match event {
        Event::Publish(publish) => text + &message(&publish.message),
        Event::Connect(connect) => match &connect.will {
            Some(will) => text + &message(&will.message),
            None => text,
        },
        _ => text,
    }
}

pub fn client_event(event: &ClientEvent<'_>) -> String {
    match event {
        // What a view borrows from is no part of what it says.
        ClientEvent::Publish(view) => format!(
            "{:?} {:?} {} {:?} {} {} {:?} {:?} {:02x?}",
            view.topic,
            view.payload,
            view.packet_id,
            view.qos,
            view.dup,
            view.retain,
            view.topic_alias,
            view.message_expiry_interval,
            view.properties().as_bytes(),
        ),
        other => format!("{other:?}"),
    }
}
