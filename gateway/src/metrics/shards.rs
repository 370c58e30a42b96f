//! What the shards count: names, meanings and labels, one block a family.

use std::collections::BTreeMap;

use tidegate::shard::snapshot::{LatencyHistogram, ShardSnapshot};
use tidegate_shard_router::DropReason;

use super::page::{Labels, Page};

/// A sample of one shard: its value, or one of a pair of labels.
type Pairs = [(&'static str, &'static str, u64)];

/// Adds every family; `shards` in order.
pub(super) fn add(page: &mut Page, shards: &[ShardSnapshot]) {
    add_connections(page, shards);
    add_messages(page, shards);
    add_sessions(page, shards);
    add_mailboxes(page, shards);
    add_shard_times(page, shards);
}

fn add_connections(page: &mut Page, shards: &[ShardSnapshot]) {
    let open = shards.iter().flat_map(|shard| {
        shard
            .connections
            .iter()
            .map(|(protocol, transport, count)| {
                let labels = vec![
                    ("shard", shard.shard.to_string()),
                    ("protocol", (*protocol).to_owned()),
                    ("transport", (*transport).to_owned()),
                ];
                (labels, *count as f64)
            })
    });
    page.gauge("connections", "Open connections.", open);
    page.counter(
        "connects_total",
        "Connection attempts that were answered, by result: accepted, or why not.",
        summed(shards, ["protocol", "result"], |shard| {
            &shard.connects_total
        }),
    );
    page.counter(
        "disconnects_total",
        "Connections that ended, by reason.",
        summed(shards, ["protocol", "reason"], |shard| {
            &shard.disconnects_total
        }),
    );
    page.counter(
        "auth_failures_total",
        "Clients that were not let in, by kind of authentication and reason.",
        summed(shards, ["kind", "reason"], |shard| {
            &shard.auth_failures_total
        }),
    );
    page.counter(
        "accept_pauses_total",
        "Times a shard stopped accepting because no descriptor or no slot was left.",
        total(shards, |shard| shard.accept_pauses_total),
    );
    page.counter(
        "hand_overs_total",
        "Connections that moved from the shard that accepted them to their client's home shard.",
        total(shards, |shard| shard.hand_overs_total),
    );
    page.counter(
        "hand_overs_refused_total",
        "Connections that were refused because the lane to their home shard was full.",
        total(shards, |shard| shard.hand_overs_refused_total),
    );
    page.gauge(
        "connection_memory_bytes",
        "User memory for connections: their slots, bytes read and bytes to be sent, and the shards' receive buffers; \
         without sessions and without kernel memory.",
        total(shards, |shard| shard.connection_memory_bytes),
    );
    page.gauge(
        "parked_connections",
        "Connections whose reading waits for credits, a full ack ring or an owner's answer.",
        total(shards, |shard| shard.router.parked_connections),
    );
    page.counter(
        "connections_parked_total",
        "Times the reading of a connection began to wait.",
        total(shards, |shard| shard.router.parked_total),
    );
}

fn add_messages(page: &mut Page, shards: &[ShardSnapshot]) {
    page.counter(
        "messages_received_total",
        "PUBLISH packets from clients, by QoS.",
        by_qos(shards, |shard| &shard.messages_received_total),
    );
    page.counter(
        "messages_delivered_total",
        "PUBLISH packets written to clients, by QoS of the delivery.",
        by_qos(shards, |shard| &shard.messages_delivered_total),
    );
    page.counter(
        "messages_dropped_total",
        "Messages that did not reach someone they were meant for, by reason.",
        DropReason::ALL.map(|reason| {
            let count = sum(shards, |shard| shard.router.dropped[reason as usize]);
            (vec![("reason", reason.name().to_owned())], count)
        }),
    );
    page.counter(
        "bytes_received_total",
        "Bytes read from clients.",
        total(shards, |shard| shard.bytes_received_total),
    );
    page.counter(
        "bytes_sent_total",
        "Bytes written to clients.",
        total(shards, |shard| shard.bytes_sent_total),
    );
    page.histogram(
        "delivery_seconds",
        "From a PUBLISH being read to its delivery being handed to the kernel; time spent in a session's queue or as \
         a retained message counts.",
        &merged(shards, |shard| &shard.delivery_seconds),
    );
}

fn add_sessions(page: &mut Page, shards: &[ShardSnapshot]) {
    page.gauge(
        "subscriptions",
        "Subscriptions of the sessions that live on the shard.",
        by_shard(shards, |shard| shard.router.subscriptions),
    );
    let sessions = shards.iter().flat_map(|shard| {
        let states = [
            ("online", shard.router.sessions_online),
            ("offline", shard.router.sessions_offline),
        ];
        states.map(|(state, count)| {
            let labels = vec![
                ("shard", shard.shard.to_string()),
                ("state", state.to_owned()),
            ];
            (labels, count as f64)
        })
    });
    page.gauge(
        "sessions",
        "Sessions, with a connection (online) or waiting for it.",
        sessions,
    );
    page.gauge(
        "retained_messages",
        "Retained messages.",
        total(shards, |shard| shard.router.retained_messages),
    );
    page.gauge(
        "retained_bytes",
        "Bytes of retained messages.",
        total(shards, |shard| shard.router.retained_bytes),
    );
    page.gauge(
        "queued_messages",
        "Messages waiting in sessions.",
        total(shards, |shard| shard.router.queued_messages),
    );
    page.gauge(
        "queued_bytes",
        "Bytes of messages waiting in sessions.",
        total(shards, |shard| shard.router.queued_bytes),
    );
    page.counter(
        "takeovers_total",
        "Sessions that a new connection took from an old one.",
        total(shards, |shard| shard.router.takeovers_total),
    );
    page.counter(
        "sessions_expired_total",
        "Sessions that ended because their client did not come back in time.",
        total(shards, |shard| shard.router.sessions_expired_total),
    );
    page.counter(
        "wills_published_total",
        "Wills published.",
        total(shards, |shard| shard.router.wills_published_total),
    );
    page.counter(
        "shared_redistributed_total",
        "Messages of shared subscriptions that went on to another member.",
        total(shards, |shard| shard.router.shared_redistributed_total),
    );
}

fn add_mailboxes(page: &mut Page, shards: &[ShardSnapshot]) {
    let posted = shards.iter().flat_map(|shard| {
        let posted = shard.router.posted.iter().enumerate();
        // A shard posts nothing to itself.
        let others = posted.filter(move |(to, _)| *to != usize::from(shard.shard));
        others.map(move |(to, count)| {
            (
                vec![("from", shard.shard.to_string()), ("to", to.to_string())],
                *count as f64,
            )
        })
    });
    page.counter(
        "mailbox_messages_total",
        "Envelopes posted from shard to shard.",
        posted,
    );
    page.gauge(
        "mailbox_depth",
        "Envelopes waiting in the shard's mailbox.",
        by_shard(shards, |shard| shard.mailbox_depth),
    );
    page.gauge(
        "mailbox_overflow",
        "Envelopes of the shard that wait in front of other shards' full mailboxes.",
        by_shard(shards, |shard| shard.router.overflow),
    );
}

fn add_shard_times(page: &mut Page, shards: &[ShardSnapshot]) {
    let busy = shards
        .iter()
        .map(|shard| (shard_label(shard), shard.busy_us_total as f64 / 1e6));
    page.counter(
        "shard_busy_seconds_total",
        "Time the shard's loop was not waiting.",
        busy,
    );
    page.counter(
        "shard_turns_total",
        "Turns of the shard's loop.",
        by_shard(shards, |shard| shard.turns_total),
    );
    page.histogram(
        "shard_turn_seconds",
        "How long a turn of a shard's loop took, waiting apart; a long one stalls every client of its shard.",
        &merged(shards, |shard| &shard.turn_seconds),
    );
    let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
    for (kind, count) in shards.iter().flat_map(|shard| &shard.driver_calls_total) {
        *calls.entry(kind).or_default() += count;
    }
    page.counter(
        "driver_calls_total",
        "System calls and ring operations of the socket drivers, by kind.",
        calls
            .into_iter()
            .map(|(kind, count)| (vec![("kind", kind.to_owned())], count as f64)),
    );
}

fn sum(shards: &[ShardSnapshot], value: impl Fn(&ShardSnapshot) -> u64) -> f64 {
    shards.iter().map(value).sum::<u64>() as f64
}

/// One sample without labels.
fn total(shards: &[ShardSnapshot], value: impl Fn(&ShardSnapshot) -> u64) -> Option<(Labels, f64)> {
    Some((vec![], sum(shards, value)))
}

fn shard_label(shard: &ShardSnapshot) -> Labels {
    vec![("shard", shard.shard.to_string())]
}

fn by_shard<'a>(
    shards: &'a [ShardSnapshot],
    value: impl Fn(&ShardSnapshot) -> u64 + 'a,
) -> impl Iterator<Item = (Labels, f64)> + 'a {
    shards
        .iter()
        .map(move |shard| (shard_label(shard), value(shard) as f64))
}

fn by_qos(
    shards: &[ShardSnapshot],
    counts: impl Fn(&ShardSnapshot) -> &[u64; 3],
) -> [(Labels, f64); 3] {
    [0, 1, 2].map(|qos: usize| {
        // MQTT is the only protocol that is built.
        let labels = vec![("protocol", "mqtt".to_owned()), ("qos", qos.to_string())];
        (labels, sum(shards, |shard| counts(shard)[qos]))
    })
}

/// All shards' samples of a family with two labels, added up by label values.
fn summed(
    shards: &[ShardSnapshot],
    names: [&'static str; 2],
    samples: impl Fn(&ShardSnapshot) -> &Pairs,
) -> Vec<(Labels, f64)> {
    let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for (first, second, count) in shards.iter().flat_map(samples) {
        *sums.entry((first, second)).or_default() += count;
    }
    let labelled = sums.into_iter().map(|((first, second), count)| {
        (
            vec![(names[0], first.to_owned()), (names[1], second.to_owned())],
            count as f64,
        )
    });
    labelled.collect()
}

fn merged(
    shards: &[ShardSnapshot],
    of: impl Fn(&ShardSnapshot) -> &LatencyHistogram,
) -> LatencyHistogram {
    let mut merged = LatencyHistogram::default();
    for histogram in shards.iter().map(of) {
        merged.sum_us += histogram.sum_us;
        for (sum, count) in merged.counts.iter_mut().zip(histogram.counts) {
            *sum += count;
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(shard: u16) -> ShardSnapshot {
        let mut snapshot = ShardSnapshot {
            shard,
            connections: vec![("mqtt", "tcp", 3)],
            connects_total: vec![("mqtt", "accepted", 5)],
            messages_received_total: [1, 2, 3],
            bytes_sent_total: 100,
            busy_us_total: 1_500_000,
            ..ShardSnapshot::default()
        };
        snapshot.router.sessions_offline = 4;
        snapshot.router.subscriptions = 7;
        snapshot.router.posted = vec![11, 22];
        snapshot.router.drop_one(DropReason::QueueFull);
        snapshot
    }

    #[test]
    fn shards_are_labelled_where_they_matter_and_added_up_elsewhere() {
        let mut page = Page::new();
        add(&mut page, &[shard(0), shard(1)]);
        let text = page.text();
        for line in [
            "tidegate_connections{shard=\"1\",protocol=\"mqtt\",transport=\"tcp\"} 3",
            "tidegate_connects_total{protocol=\"mqtt\",result=\"accepted\"} 10",
            "tidegate_messages_received_total{protocol=\"mqtt\",qos=\"2\"} 6",
            "tidegate_messages_delivered_total{protocol=\"mqtt\",qos=\"0\"} 0",
            "tidegate_messages_dropped_total{reason=\"queue_full\"} 2",
            "tidegate_messages_dropped_total{reason=\"expired\"} 0",
            "tidegate_bytes_sent_total 200",
            "tidegate_subscriptions{shard=\"0\"} 7",
            "tidegate_sessions{shard=\"0\",state=\"offline\"} 4",
            "tidegate_mailbox_messages_total{from=\"0\",to=\"1\"} 22",
            "tidegate_mailbox_messages_total{from=\"1\",to=\"0\"} 11",
            "tidegate_shard_busy_seconds_total{shard=\"1\"} 1.5",
            "tidegate_delivery_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("from=\"0\",to=\"0\""));
    }

    #[test]
    fn counters_end_in_total_and_every_family_has_help() {
        let mut page = Page::new();
        add(&mut page, &[shard(0)]);
        for line in page
            .text()
            .lines()
            .filter(|line| line.starts_with("# TYPE"))
        {
            let (name, kind) = line["# TYPE ".len()..].split_once(' ').unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(page.text().contains(&format!("# HELP {name} ")), "{line}");
        }
    }
}
