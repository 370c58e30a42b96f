//! Keep-alive and PINGREQ (MQTT 5 sections 3.1.2.10 and 3.12, 3.1.1 sections 3.1.2.10 and 3.12).

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::*;

fn alive(version: ProtocolVersion, client_id: &str, keep_alive: u16) -> ConnectOptions {
    ConnectOptions {
        keep_alive,
        ..options(version, client_id)
    }
}

/// [MQTT-3.12.4-1], [3.1.1 MQTT-3.12.4-1]
#[test]
fn mqtt5_3_12_4_1_every_pingreq_is_answered() {
    for_every_layout(|gateway| {
        for version in [V3_1_1, V5] {
            let mut raw = Raw::connected(gateway, version, "pings");
            raw.send(PINGREQ);
            raw.expect(PINGRESP);
            raw.send(PINGREQ.repeat(50));
            for _ in 0..50 {
                raw.expect(PINGRESP);
            }
            raw.expect_silence();
        }
    });
}

/// [MQTT-3.1.2-22], [3.1.1 MQTT-3.1.2-24], [MQTT-3.1.2-8], [3.1.1 MQTT-3.1.2-8]: closed as if the network had
/// failed, so with its will; not before one and a half keep-alives, and not long after.
#[test]
fn mqtt5_3_1_2_22_silence_of_one_and_a_half_keep_alives_closes() {
    at_once_in_every_layout(|gateway| {
        let mut witness = gateway.client("witness");
        witness.subscribe("will/+", AtLeastOnce);
        let silent = [(V3_1_1, "old"), (V5, "new")].map(|(version, id)| {
            let will = will(&format!("will/{id}"), id, AtLeastOnce, false);
            gateway.connect(ConnectOptions {
                will,
                ..alive(version, id, 1)
            })
        });
        let started = Instant::now();
        // Who keeps none may be silent.
        let mut free = gateway.connect(alive(V3_1_1, "free", 0));
        let mut half = gateway.connect(alive(V5, "half", 1));
        let [mut old, mut new] = silent;
        // Half a packet is none.
        half.send_raw(&[0xc0]);
        new.expect_disconnect(ReasonCode::KeepAliveTimeout);
        old.expect_closed();
        half.expect_disconnect(ReasonCode::KeepAliveTimeout);
        let lasted = started.elapsed();
        assert!(
            lasted >= Duration::from_millis(1_450),
            "closed after {lasted:?}"
        );
        assert!(
            lasted < Duration::from_millis(4_000),
            "closed after {lasted:?}"
        );
        let mut wills = witness.expect_texts(2);
        wills.sort();
        assert_eq!(wills, ["new", "old"]);
        free.expect_silence();
    });
}

/// [MQTT-3.1.2-20], [MQTT-3.1.2-22], [3.1.1 MQTT-3.1.2-23], [3.1.1 MQTT-3.1.2-24]: every packet counts, not PINGREQ alone; what the server sends does not.
#[test]
fn mqtt5_3_1_2_20_any_packet_keeps_a_connection_alive() {
    at_once_in_every_layout(|gateway| {
        let mut publishes = gateway.connect(alive(V5, "publishes", 1));
        let mut subscribes = gateway.connect(alive(V3_1_1, "subscribes", 1));
        let mut pings = gateway.connect(alive(V3_1_1, "pings", 1));
        let mut hears = gateway.connect(alive(V5, "hears", 1));
        hears.subscribe("news", AtMostOnce);
        let ended = loop {
            publishes.publish("news", "x", AtMostOnce);
            subscribes.unsubscribe(&["nothing"]);
            pings.ping();
            match hears.try_next(Duration::from_millis(250)) {
                Some(Packet::Publish(_)) | None => {}
                Some(other) => break other,
            }
        };
        assert_eq!(
            ended,
            Packet::Disconnect {
                reason: ReasonCode::KeepAliveTimeout
            }
        );
        publishes.expect_silence();
        subscribes.expect_silence();
        pings.expect_silence();
    });
}

/// [MQTT-3.2.2-21], [MQTT-3.2.2-22], [MQTT-3.1.2-21]
#[test]
fn mqtt5_3_2_2_21_a_capped_keep_alive_is_announced_and_holds() {
    let short = |settings: &mut NodeSettings| {
        Arc::make_mut(&mut settings.mqtt).keep_alive_max = 1;
    };
    at_once_in_every_layout_with(short, |gateway| {
        for (asked, announced) in [(1, None), (2, Some(1)), (60, Some(1)), (0, Some(1))] {
            let client = gateway.connect(alive(V5, &format!("{asked}"), asked));
            assert_eq!(client.connack().server_keep_alive, announced);
        }
        // 3.1.1 has no word for it, so its clients keep theirs.
        let mut old = gateway.connect(alive(V3_1_1, "old", 60));
        let mut new = gateway.connect(alive(V5, "new", 60));
        new.expect_disconnect(ReasonCode::KeepAliveTimeout);
        old.expect_silence();
    });
}
