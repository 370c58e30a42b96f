//! What the driver does, at any time: answers, deliveries, and the clock.

use arbitrary::{Result, Unstructured};
use tidegate_codec::conversation::{Delivered, Delivery};
use tidegate_codec::mqtt::connection::{Accepted, ServerConnection};
use tidegate_codec::{Message, Millis, Qos};

use super::{client, packets, Conversation};

impl Conversation {
    /// The driver answers CONNECT, on this shard or on another one.
    pub(super) fn decide(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let [how, present]: [u8; 2] = input.arbitrary()?;
        let Some(connect) = self.waiting.take() else {
            return Ok(());
        };
        // No method of authentication is offered [MQTT-4.12.0-1].
        if how & 2 != 0 || connect.authentication_method.is_some() {
            self.server
                .refuse(packets::error(input)?, &mut self.written);
            self.said_farewell();
            return Ok(());
        }
        if how & 1 != 0 {
            self.server = ServerConnection::new(self.now);
        }
        let assigned = connect.client_id.is_empty().then(|| "assigned".to_owned());
        let accepted = Accepted {
            session_present: present & 1 != 0 && !connect.clean_start,
            assigned_client_id: assigned,
            session_expiry_interval: connect.session_expiry_interval,
        };
        self.server.accept(
            self.now,
            &connect,
            &accepted,
            &self.limits,
            &mut self.written,
        );
        self.last_seen = self.now;
        if !self.server.is_connected() {
            self.said_farewell();
        }
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let [which, reason]: [u8; 2] = input.arbitrary()?;
        let connected = self.server.is_connected();
        let (server, out, received) = (&mut self.server, &mut self.written, &mut self.received);
        self.client.answer(which, reason, |ack| {
            server.acknowledge(ack, out);
            if connected && client::ends_exchange(ack) {
                *received = received.saturating_sub(1);
            }
        });
        Ok(())
    }

    pub(super) fn deliver(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let [what, how, len]: [u8; 3] = input.arbitrary()?;
        let topic = packets::TOPICS[usize::from(what) % packets::TOPICS.len()];
        let properties = packets::PROPERTIES[usize::from(how >> 4) % packets::PROPERTIES.len()];
        let payload = vec![what; usize::from(len)];
        let qos = Qos::from_u8(how & 0b11).unwrap_or_default();
        let Some(packet_id) = self.client.packet_id(qos) else {
            return Ok(());
        };
        let message = Message::new(topic, properties, &payload, qos, false);
        let delivery = Delivery {
            message: &message,
            qos,
            retain: how & 0b100 != 0,
            dup: how & 0b1000 != 0 && self.client.session_present(),
            packet_id,
            subscription_ids: &[1, 268_435_455][..usize::from(how >> 6).min(2)],
            expiry_seconds: (len & 1 != 0).then_some(u32::from(len)),
        };
        let before = self.written.len();
        let delivered = self.server.deliver(&delivery, &mut self.written);
        match delivered {
            Delivered::TooLarge => assert_eq!(self.written.len(), before),
            Delivered::Written if self.server.is_connected() => self.client.sent(packet_id, qos),
            Delivered::Written => {}
        }
        Ok(())
    }

    pub(super) fn pass_time(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let ms = u64::from(input.arbitrary::<u8>()?);
        self.now = self.now + ms * ms * 10;
        let deadline = self.server.poll_timeout();
        match self.server.handle_timeout(self.now) {
            Ok(()) => assert!(self.now < deadline || deadline == Millis::NEVER),
            Err(violation) => {
                assert!(self.now >= deadline);
                self.break_off(violation);
            }
        }
        Ok(())
    }
}
