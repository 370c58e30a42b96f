//! Interop checks with rumqttc: `rumqttc HOST PORT 3.1.1|5`. Prints `ok` or `FAIL` for each check.

mod link;
mod v4;
mod v5;

use std::future::Future;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use link::{Failure, Link, Open};

/// What all checks share: the broker, the protocol version, and a tag for fresh topics and client ids, so that a
/// broker with old state does no harm.
struct Broker {
    host: String,
    port: u16,
    version: String,
    run: String,
}

impl Broker {
    fn topic(&self, check: &str) -> String {
        format!("interop/{}/{check}", self.run)
    }

    async fn open(&self, id: &str) -> Result<Link, Failure> {
        self.open_with(id, false, None).await
    }

    async fn open_with(
        &self,
        id: &str,
        keep_session: bool,
        will: Option<(&str, &str)>,
    ) -> Result<Link, Failure> {
        let open = Open {
            host: self.host.clone(),
            port: self.port,
            id: format!("{}-{id}", self.run),
            keep_session,
            will: will.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())),
        };
        Link::establish(match self.version.as_str() {
            "5" => v5::start(open),
            _ => v4::start(open),
        })
        .await
    }
}

async fn round_trip(broker: &Broker, qos: u8) -> Result<(), Failure> {
    let topic = broker.topic(&format!("qos{qos}"));
    let mut subscriber = broker.open("sub").await?;
    let mut publisher = broker.open("pub").await?;
    subscriber.subscribe(&topic, qos).await?;
    for n in 0..5 {
        publisher
            .publish(&topic, &format!("round trip {n}"), qos, false)
            .await?;
    }
    for n in 0..5 {
        subscriber
            .expect(&topic, &format!("round trip {n}"), qos, false)
            .await?;
    }
    subscriber.expect_nothing().await?;
    subscriber.close().await?;
    publisher.close().await
}

async fn retained(broker: &Broker) -> Result<(), Failure> {
    let topic = broker.topic("retained");
    let mut publisher = broker.open("pub").await?;
    publisher.publish(&topic, "kept", 1, true).await?;
    let mut later = broker.open("later").await?;
    later.subscribe(&topic, 1).await?;
    later.expect(&topic, "kept", 1, true).await?;
    later.close().await?;
    publisher.publish(&topic, "", 1, true).await?;
    let mut last = broker.open("last").await?;
    last.subscribe(&topic, 1).await?;
    last.expect_nothing().await?;
    last.close().await?;
    publisher.close().await
}

async fn will(broker: &Broker) -> Result<(), Failure> {
    let topic = broker.topic("will");
    let mut watcher = broker.open("watcher").await?;
    watcher.subscribe(&topic, 1).await?;
    let polite = broker.open_with("polite", false, Some((&topic, "not to be sent")));
    polite.await?.close().await?;
    watcher.expect_nothing().await?;
    let doomed = broker.open_with("doomed", false, Some((&topic, "gone")));
    doomed.await?.break_off().await;
    watcher.expect(&topic, "gone", 1, false).await?;
    watcher.close().await
}

async fn session(broker: &Broker) -> Result<(), Failure> {
    let topic = broker.topic("session");
    let mut sleeper = broker.open_with("sleeper", true, None).await?;
    sleeper.expect_session(false)?;
    sleeper.subscribe(&topic, 2).await?;
    sleeper.close().await?;
    let mut publisher = broker.open("pub").await?;
    for qos in [1, 2] {
        publisher.publish(&topic, "while away", qos, false).await?;
    }
    let mut sleeper = broker.open_with("sleeper", true, None).await?;
    sleeper.expect_session(true)?;
    for qos in [1, 2] {
        sleeper.expect(&topic, "while away", qos, false).await?;
    }
    // The subscription itself was kept, too.
    publisher.publish(&topic, "after return", 1, false).await?;
    sleeper.expect(&topic, "after return", 1, false).await?;
    sleeper.close().await?;
    publisher.close().await?;
    let clean = broker.open("sleeper").await?;
    clean.expect_session(false)?;
    clean.close().await
}

/// Reports one check; true when it passed.
async fn check(
    broker: &Broker,
    name: &str,
    body: impl Future<Output = Result<(), Failure>>,
) -> bool {
    let client = format!("rumqttc/{}", broker.version);
    let result = body.await;
    match &result {
        Ok(()) => println!("ok {client} {name}"),
        Err(why) => println!("FAIL {client} {name}: {why}"),
    }
    result.is_ok()
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, version] = args.as_slice() else {
        eprintln!("usage: rumqttc HOST PORT 3.1.1|5");
        return ExitCode::from(2);
    };
    let Ok(port) = port.parse() else {
        eprintln!("not a port: {port}");
        return ExitCode::from(2);
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let broker = Broker {
        host: host.clone(),
        port,
        version: version.clone(),
        run: format!("{:x}", now.as_nanos()),
    };
    let mut passed = true;
    for qos in 0..3 {
        passed &= check(&broker, &format!("qos{qos}"), round_trip(&broker, qos)).await;
    }
    passed &= check(&broker, "retained", retained(&broker)).await;
    passed &= check(&broker, "will", will(&broker)).await;
    passed &= check(&broker, "session", session(&broker)).await;
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
