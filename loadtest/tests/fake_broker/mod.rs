//! A tiny broker on a thread, made of the codec's server side, that can be told to misbehave.
//!
//! It exists so that each check of the flooder is seen to fail: a check that cannot fail is a
//! defect.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use tidegate_codec::mqtt::connection::{Accepted, Event, Limits, Publish, ServerConnection};
use tidegate_codec::mqtt::subscribe::Subscribe;
use tidegate_codec::topic::TopicLimits;
use tidegate_codec::{Ack, Delivery, Message, Millis, Qos, ReasonCode, TopicFilter};

const LIMITS: Limits = Limits {
    packet_bytes_max: 1 << 20,
    connect_bytes_max: 1 << 16,
    client_id_bytes_max: 256,
    topic: TopicLimits {
        bytes_max: 1_024,
        levels_max: 32,
    },
    receive_maximum: 32,
    topic_alias_maximum: 0,
    keep_alive_max: 3_600,
    session_expiry_max: 0,
    connect_timeout_ms: 10_000,
};

/// What goes wrong; `n` counts deliveries (or publishes, for acknowledgements) over all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Every n-th delivery does not happen.
    Drop(u64),
    /// Every n-th delivery happens twice.
    Duplicate(u64),
    /// Every n-th delivery comes after the next one to the same client.
    Swap(u64),
    /// Every n-th delivery has a changed payload.
    Damage(u64),
    /// Every n-th delivery also goes to its publisher, who did not subscribe.
    Misdeliver(u64),
    /// The subscriber of the n-th delivery is cut off.
    Cut(u64),
    /// Every n-th publish is never acknowledged.
    Unacknowledged(u64),
    /// Every n-th PUBREC of a subscriber is never answered.
    Unreleased(u64),
    /// CONNECT is refused.
    Refuse,
    /// PINGREQ is never answered: the bytes are swallowed.
    NoPong,
}

/// A running broker; stops when dropped.
pub(crate) struct FakeBroker {
    pub(crate) addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeBroker {
    pub(crate) fn start(fault: Fault) -> FakeBroker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let broker = Broker {
            fault,
            clients: Vec::new(),
            deliveries: 0,
            publishes: 0,
            recorded: 0,
        };
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || broker.run(&listener, &stop)
        });
        FakeBroker {
            addr,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().unwrap();
        // A second panic while the test already fails would hide the first.
        if thread.join().is_err() && !thread::panicking() {
            panic!("the fake broker panicked");
        }
    }
}

struct Broker {
    fault: Fault,
    clients: Vec<Client>,
    deliveries: u64,
    publishes: u64,
    recorded: u64,
}

struct Client {
    socket: TcpStream,
    connection: ServerConnection,
    filters: Vec<(TopicFilter, Qos)>,
    input: Vec<u8>,
    out: Vec<u8>,
    next_packet_id: u16,
    held: Option<(Message, Qos)>,
    is_gone: bool,
}

impl Broker {
    fn run(mut self, listener: &TcpListener, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.wait(listener);
            while let Ok((socket, _)) = listener.accept() {
                self.clients.push(Client::new(socket));
            }
            for index in 0..self.clients.len() {
                self.clients[index].read();
                self.handle_input(index);
            }
            self.clients.iter_mut().for_each(Client::write);
            self.clients.retain(|client| !client.is_gone);
        }
    }

    fn wait(&self, listener: &TcpListener) {
        let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
        for client in &self.clients {
            let wants = if client.out.is_empty() {
                PollFlags::IN
            } else {
                PollFlags::IN | PollFlags::OUT
            };
            fds.push(PollFd::new(&client.socket, wants));
        }
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            }),
        )
        .unwrap();
    }

    fn handle_input(&mut self, index: usize) {
        loop {
            let client = &mut self.clients[index];
            let mut rest = client.input.as_slice();
            if self.fault == Fault::NoPong && rest.starts_with(&[0xC0, 0]) {
                client.input.drain(..2);
                continue;
            }
            let event =
                client
                    .connection
                    .handle_bytes(Millis(0), &mut rest, &LIMITS, &mut client.out);
            let taken = client.input.len() - rest.len();
            client.input.drain(..taken);
            match event {
                Ok(Some(event)) => self.handle_event(index, event),
                Ok(None) => return,
                Err(violation) => panic!("the flooder broke a rule: {violation}"),
            }
        }
    }

    fn handle_event(&mut self, index: usize, event: Event) {
        let client = &mut self.clients[index];
        let reason = ReasonCode::Success;
        match event {
            Event::Connect(_) if self.fault == Fault::Refuse => {
                client
                    .connection
                    .refuse(ReasonCode::NotAuthorized, &mut client.out);
                client.write();
                client.is_gone = true;
            }
            Event::Connect(connect) => {
                client.connection.accept(
                    Millis(0),
                    &connect,
                    &Accepted::default(),
                    &LIMITS,
                    &mut client.out,
                );
            }
            Event::Subscribe(subscribe) => client.subscribe(&subscribe),
            Event::Publish(publish) => self.route(index, &publish),
            Event::PubRel { packet_id, .. } => {
                client.acknowledge(Ack::PubComp { packet_id, reason })
            }
            Event::PubRec { packet_id, .. } => {
                self.recorded += 1;
                if !matches!(self.fault, Fault::Unreleased(n) if self.recorded.is_multiple_of(n)) {
                    client.acknowledge(Ack::PubRel { packet_id, reason });
                }
            }
            Event::Disconnect { .. } => client.is_gone = true,
            Event::PubAck { .. } | Event::PubComp { .. } | Event::Unsubscribe(_) | Event::Ping => {}
        }
    }

    fn route(&mut self, from: usize, publish: &Publish) {
        self.publishes += 1;
        let (packet_id, reason) = (publish.packet_id, ReasonCode::Success);
        let ack = match publish.message.qos() {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(Ack::PubAck { packet_id, reason }),
            Qos::ExactlyOnce => Some(Ack::PubRec {
                packet_id,
                reason,
                again: false,
            }),
        };
        let is_kept_back =
            matches!(self.fault, Fault::Unacknowledged(n) if self.publishes.is_multiple_of(n));
        if let Some(ack) = ack.filter(|_| !is_kept_back) {
            self.clients[from].acknowledge(ack);
        }
        for index in 0..self.clients.len() {
            let matching =
                |(filter, _): &&(TopicFilter, Qos)| filter.matches(publish.message.topic());
            if let Some((_, qos)) = self.clients[index].filters.iter().find(matching) {
                let qos = publish.message.qos().min(*qos);
                self.deliver(from, index, &publish.message, qos);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: &Message, qos: Qos) {
        self.deliveries += 1;
        let is_turn = |n: u64| self.deliveries.is_multiple_of(n);
        let client = &mut self.clients[to];
        match self.fault {
            Fault::Drop(n) if is_turn(n) => return,
            Fault::Duplicate(n) if is_turn(n) => client.deliver(message, qos),
            Fault::Damage(n) if is_turn(n) => {
                let mut payload = message.payload().to_vec();
                *payload.last_mut().unwrap() ^= 1;
                return client.deliver(
                    &Message::new(message.topic(), &[], &payload, qos, false),
                    qos,
                );
            }
            Fault::Swap(n) if is_turn(n) && client.held.is_none() => {
                client.held = Some((message.clone(), qos));
                return;
            }
            Fault::Cut(n) if self.deliveries == n => client.is_gone = true,
            Fault::Misdeliver(n) if is_turn(n) => self.clients[from].deliver(message, qos),
            _ => {}
        }
        let client = &mut self.clients[to];
        client.deliver(message, qos);
        if let Some((message, qos)) = client.held.take() {
            client.deliver(&message, qos);
        }
    }
}

impl Client {
    fn new(socket: TcpStream) -> Client {
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        Client {
            socket,
            connection: ServerConnection::new(Millis(0)),
            filters: Vec::new(),
            input: Vec::new(),
            out: Vec::new(),
            next_packet_id: 0,
            held: None,
            is_gone: false,
        }
    }

    fn read(&mut self) {
        let mut buffer = [0; 65_536];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return self.is_gone = true,
                Ok(len) => self.input.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.is_gone = true,
            }
        }
    }

    fn write(&mut self) {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(len) => drop(self.out.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.is_gone = true,
            }
        }
    }

    fn subscribe(&mut self, subscribe: &Subscribe) {
        let mut reasons = Vec::new();
        for subscription in &subscribe.subscriptions {
            let qos = subscription.options.maximum_qos;
            self.filters.push((
                subscription
                    .filter
                    .clone()
                    .expect("the flooder writes good filters"),
                qos,
            ));
            reasons.push(match qos {
                Qos::AtMostOnce => ReasonCode::Success,
                Qos::AtLeastOnce => ReasonCode::GrantedQos1,
                Qos::ExactlyOnce => ReasonCode::GrantedQos2,
            });
        }
        self.acknowledge(Ack::SubAck {
            packet_id: subscribe.packet_id,
            reasons: &reasons,
        });
    }

    fn acknowledge(&mut self, ack: Ack<'_>) {
        self.connection.acknowledge(&ack, &mut self.out);
    }

    fn deliver(&mut self, message: &Message, qos: Qos) {
        self.next_packet_id = self.next_packet_id % u16::MAX + 1;
        let packet_id = if qos == Qos::AtMostOnce {
            0
        } else {
            self.next_packet_id
        };
        let delivery = Delivery {
            message,
            qos,
            retain: false,
            dup: false,
            packet_id,
            subscription_ids: &[],
            expiry_seconds: None,
        };
        self.connection.deliver(&delivery, &mut self.out);
    }
}
