//! One connection, the same for both protocol versions: a task drives rumqttc's event loop and sorts what comes.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a message may take.
const WAIT: Duration = Duration::from_secs(10);
/// Silence that counts as "nothing was sent".
const QUIET: Duration = Duration::from_secs(1);

pub type Failure = String;

/// What a connection is opened with.
pub struct Open {
    pub host: String,
    pub port: u16,
    pub id: String,
    pub keep_session: bool,
    pub will: Option<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub retain: bool,
}

/// What the event loop reports besides messages.
#[derive(Debug, PartialEq, Eq)]
pub enum Signal {
    Connected {
        session_present: bool,
    },
    Subscribed {
        granted: Vec<Option<u8>>,
    },
    /// A publication is done: written out at QoS 0, acknowledged at QoS 1, completed at QoS 2.
    Published {
        qos: u8,
    },
    Ended(String),
}

pub enum Client {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

/// Where a driver task puts what it receives. Two queues: messages of a kept session come unasked, between signals.
#[derive(Clone)]
pub struct Sink {
    pub messages: UnboundedSender<Message>,
    pub signals: UnboundedSender<Signal>,
}

pub struct Started {
    pub client: Client,
    pub driver: JoinHandle<()>,
    pub messages: UnboundedReceiver<Message>,
    pub signals: UnboundedReceiver<Signal>,
}

pub struct Link {
    started: Started,
    session_present: bool,
}

impl Link {
    pub async fn establish(started: Started) -> Result<Link, Failure> {
        let mut link = Link {
            started,
            session_present: false,
        };
        match link.signal().await? {
            Signal::Connected { session_present } => link.session_present = session_present,
            other => return Err(format!("no CONNACK but {other:?}")),
        }
        Ok(link)
    }

    pub fn expect_session(&self, present: bool) -> Result<(), Failure> {
        if self.session_present == present {
            return Ok(());
        }
        Err(format!(
            "session present is {}, not {present}",
            self.session_present
        ))
    }

    pub async fn subscribe(&mut self, topic: &str, qos: u8) -> Result<(), Failure> {
        match &self.started.client {
            Client::V4(client) => client
                .subscribe(topic, crate::v4::qos(qos))
                .await
                .map_err(text)?,
            Client::V5(client) => client
                .subscribe(topic, crate::v5::qos(qos))
                .await
                .map_err(text)?,
        }
        self.expect_signal(Signal::Subscribed {
            granted: vec![Some(qos)],
        })
        .await
    }

    pub async fn publish(
        &mut self,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
    ) -> Result<(), Failure> {
        let payload = payload.to_owned();
        match &self.started.client {
            Client::V4(client) => client
                .publish(topic, crate::v4::qos(qos), retain, payload)
                .await
                .map_err(text)?,
            Client::V5(client) => client
                .publish(topic, crate::v5::qos(qos), retain, payload)
                .await
                .map_err(text)?,
        }
        self.expect_signal(Signal::Published { qos }).await
    }

    pub async fn expect(
        &mut self,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
    ) -> Result<(), Failure> {
        let wanted = Message {
            topic: topic.to_owned(),
            payload: payload.to_owned(),
            qos,
            retain,
        };
        match timeout(WAIT, self.started.messages.recv()).await {
            Ok(Some(got)) if got == wanted => Ok(()),
            Ok(Some(got)) => Err(format!("received {got:?}, not {wanted:?}")),
            Ok(None) => Err(format!("connection ended before {wanted:?}")),
            Err(_) => Err(format!("not received: {wanted:?}")),
        }
    }

    pub async fn expect_nothing(&mut self) -> Result<(), Failure> {
        match timeout(QUIET, self.started.messages.recv()).await {
            Ok(Some(got)) => Err(format!("received {got:?}, not nothing")),
            Ok(None) => Err("connection ended".to_owned()),
            Err(_) => Ok(()),
        }
    }

    /// Ends the connection with DISCONNECT.
    pub async fn close(self) -> Result<(), Failure> {
        match &self.started.client {
            Client::V4(client) => client.disconnect().await.map_err(text)?,
            Client::V5(client) => client.disconnect().await.map_err(text)?,
        }
        timeout(WAIT, self.started.driver)
            .await
            .map_err(text)?
            .map_err(text)
    }

    /// Ends the connection without DISCONNECT: the socket goes with the task that owns it.
    pub async fn break_off(self) {
        self.started.driver.abort();
        let _ = self.started.driver.await;
    }

    async fn expect_signal(&mut self, wanted: Signal) -> Result<(), Failure> {
        let got = self.signal().await?;
        if got == wanted {
            return Ok(());
        }
        Err(format!("{got:?}, not {wanted:?}"))
    }

    async fn signal(&mut self) -> Result<Signal, Failure> {
        match timeout(WAIT, self.started.signals.recv()).await {
            Ok(Some(signal)) => Ok(signal),
            Ok(None) => Err("connection ended".to_owned()),
            Err(_) => Err("no answer from the broker".to_owned()),
        }
    }
}

fn text(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}
