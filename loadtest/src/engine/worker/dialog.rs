//! What a worker does with what the broker says: one packet, one event, one answer.

use rustix::event::epoll;
use tidegate_codec::mqtt::client::ClientEvent;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::{Ack, Qos, ReasonCode};

use super::{take_buffer, Worker, SUBSCRIBE_ID};
use crate::engine::client::{Ending, Read, Stage};
use crate::engine::shared::Counter;

impl Worker {
    pub(super) fn handle_event(&mut self, index: u32, flags: epoll::EventFlags) {
        if flags.contains(epoll::EventFlags::OUT) {
            self.mark_dirty(index);
        }
        if flags == epoll::EventFlags::OUT {
            return;
        }
        // Errors and hang-ups show in the result of the read, behind the last bytes.
        let mut buffer = std::mem::take(&mut self.read_buffer);
        if let Err(ending) = self.read(index, &mut buffer) {
            self.end(index, ending);
        }
        self.read_buffer = buffer;
    }

    fn read(&mut self, index: u32, buffer: &mut [u8]) -> Result<(), Ending> {
        let Read::Bytes(len) = self.clients[index as usize].read(buffer)? else {
            return Ok(());
        };
        let now = self.setting.clock.now_ns();
        let mut input = &buffer[..len];
        while self.handle_packet(index, &mut input, now)? {}
        if !input.is_empty() {
            self.clients[index as usize].keep(input);
        }
        Ok(())
    }

    /// Handles one packet of the input; false where none is complete.
    fn handle_packet(&mut self, index: u32, input: &mut &[u8], now: u64) -> Result<bool, Ending> {
        let client = &mut self.clients[index as usize];
        if client.stage == Stage::Leaving {
            *input = &[]; // Whatever crossed our DISCONNECT.
            return Ok(false);
        }
        let Some(event) = client.conversation.handle_bytes(input)? else {
            return Ok(false);
        };
        let ack = match event {
            ClientEvent::Publish(publish) => {
                let (packet_id, reason) = (publish.packet_id, ReasonCode::Success);
                let qos = publish.qos;
                self.traffic
                    .deliver(&self.shared, index, packet_id, publish.payload, now);
                match qos {
                    Qos::AtMostOnce => return Ok(true),
                    Qos::AtLeastOnce => Ack::PubAck { packet_id, reason },
                    Qos::ExactlyOnce => {
                        self.traffic.tally.add(Counter::Recorded, 1);
                        Ack::PubRec {
                            packet_id,
                            reason,
                            again: false,
                        }
                    }
                }
            }
            ClientEvent::PubAck { packet_id, reason }
            | ClientEvent::PubComp { packet_id, reason } => {
                self.handle_ack(index, packet_id, reason)?;
                return Ok(true);
            }
            ClientEvent::PubRec { reason, .. } if reason.is_error() => {
                return Err(Ending::PublishRefused(reason));
            }
            ClientEvent::PubRec { packet_id, .. } => Ack::PubRel {
                packet_id,
                reason: ReasonCode::Success,
            },
            ClientEvent::PubRel { packet_id, .. } => {
                self.traffic.released(&self.shared, index, packet_id);
                Ack::PubComp {
                    packet_id,
                    reason: ReasonCode::Success,
                }
            }
            ClientEvent::ConnAck(connack) => {
                self.handle_connack(index, connack.reason, connack.receive_maximum)?;
                return Ok(true);
            }
            ClientEvent::SubAck { reasons, .. } => {
                self.handle_suback(index, &reasons)?;
                return Ok(true);
            }
            ClientEvent::Pong => {
                self.handle_pong(index, now);
                return Ok(true);
            }
            ClientEvent::Disconnect { reason } => return Err(Ending::Disconnected(reason)),
            ClientEvent::UnsubAck { .. } | ClientEvent::Auth(_) => return Ok(true), // Never asked for.
        };
        let client = &mut self.clients[index as usize];
        take_buffer(&mut self.spare, &mut client.out);
        client.conversation.acknowledge(&ack, &mut client.out);
        self.mark_dirty(index);
        Ok(true)
    }

    fn handle_ack(&mut self, index: u32, packet_id: u16, reason: ReasonCode) -> Result<(), Ending> {
        if reason.is_error() {
            return Err(Ending::PublishRefused(reason));
        }
        if let Some(publisher) = self.clients[index as usize].publisher {
            self.traffic
                .acknowledged(&self.shared, publisher, packet_id);
        }
        Ok(())
    }

    fn handle_pong(&mut self, index: u32, now: u64) {
        let client = &mut self.clients[index as usize];
        self.ping_latency
            .saturating_record(now.saturating_sub(client.since_ns));
        client.since_ns = 0;
        self.traffic.tally.add(Counter::PingsAnswered, 1);
    }

    fn handle_connack(
        &mut self,
        index: u32,
        reason: ReasonCode,
        receive_maximum: u16,
    ) -> Result<(), Ending> {
        if reason != ReasonCode::Success {
            return Err(Ending::Refused(reason));
        }
        let client = &mut self.clients[index as usize];
        if let Some(publisher) = client.publisher {
            let publisher = &mut self.traffic.publishers[publisher as usize];
            if self.setting.load.qos != Qos::AtMostOnce {
                publisher.limit = publisher.limit.min(u32::from(receive_maximum));
                // [MQTT-3.3.4-7]
            }
        }
        let filters = &self.setting.clients[client.number as usize].filters;
        if filters.is_empty() {
            self.ready(index);
            return Ok(());
        }
        let options = SubscriptionOptions::qos(self.setting.load.qos);
        let subscriptions: Vec<_> = filters
            .iter()
            .map(|filter| (filter.as_str(), options))
            .collect();
        take_buffer(&mut self.spare, &mut client.out);
        client
            .conversation
            .subscribe(SUBSCRIBE_ID, &subscriptions, None, &mut client.out);
        client.stage = Stage::AwaitSubAck;
        self.mark_dirty(index);
        Ok(())
    }

    fn handle_suback(&mut self, index: u32, reasons: &[ReasonCode]) -> Result<(), Ending> {
        // A smaller QoS than asked for would make the run measure something else.
        match reasons
            .iter()
            .find(|reason| **reason as u8 != self.setting.load.qos as u8)
        {
            Some(reason) => return Err(Ending::SubscriptionRefused(*reason)),
            None => self.ready(index),
        }
        Ok(())
    }

    fn ready(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        client.stage = Stage::Ready;
        self.connect_latency
            .saturating_record(self.setting.clock.now_ns().saturating_sub(client.since_ns));
        client.since_ns = 0;
        self.opening -= 1;
        self.traffic.tally.add(Counter::Ready, 1);
    }
}
