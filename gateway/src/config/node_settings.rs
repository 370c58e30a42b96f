//! From what was configured to what a node is started with.

use std::sync::Arc;

use crate::node::{ConnectionLimits, IoDriver, NodeSettings};
use tidegate_codec::mqtt::connection::Limits as MqttLimits;
use tidegate_codec::topic::TopicLimits;
use tidegate_shard_router::ShardConfig;

use super::Config;

/// `io` is the choice after the kernel was asked.
pub fn node_settings(config: &Config, io: IoDriver, placement_seed: u64) -> NodeSettings {
    let limits = &config.limits;
    NodeSettings {
        shards: narrow(config.shards),
        cpus: config.cpus.clone(),
        io,
        listeners: config.listeners.clone(),
        mqtt: Arc::new(mqtt_limits(config)),
        shard: shard_config(config),
        connection: ConnectionLimits {
            write_queue_bytes_max: narrow(limits.write_queue_bytes_max),
            write_queue_high_water: narrow(limits.write_queue_high_water),
            pre_auth_bytes_max: narrow(limits.pre_auth_bytes_max),
            pre_auth_budget_bytes: narrow(limits.pre_auth_budget_bytes),
            connections_max: narrow(limits.connections_max),
            send_timeout: limits.send_timeout,
        },
        allow_anonymous: config.allow_anonymous,
        drain_timeout: config.drain_timeout,
        placement_seed,
    }
}

fn mqtt_limits(config: &Config) -> MqttLimits {
    let limits = &config.limits;
    MqttLimits {
        packet_bytes_max: narrow(limits.packet_bytes_max),
        connect_bytes_max: narrow(limits.connect_bytes_max.min(limits.packet_bytes_max)),
        client_id_bytes_max: narrow(limits.client_id_bytes_max),
        topic: TopicLimits {
            bytes_max: narrow(limits.topic_bytes_max),
            levels_max: narrow(limits.topic_levels_max),
        },
        receive_maximum: narrow(limits.receive_maximum),
        topic_alias_maximum: narrow(limits.topic_alias_maximum),
        keep_alive_max: narrow(limits.keep_alive_max.as_secs()),
        session_expiry_max: narrow(limits.session_expiry_max.as_secs()),
        connect_timeout_ms: narrow(limits.connect_timeout.as_millis() as u64),
    }
}

fn shard_config(config: &Config) -> ShardConfig {
    let limits = &config.limits;
    ShardConfig {
        receive_maximum: narrow(limits.receive_maximum),
        inflight_max: narrow(limits.inflight_max),
        queue_messages_max: narrow(limits.queue_messages_max),
        queue_bytes_max: limits.queue_bytes_max,
        subscriptions_max: narrow(limits.subscriptions_max),
        replicated_filters_max: narrow(limits.replicated_filters_max),
        session_expiry_max: narrow(limits.session_expiry_max.as_secs()),
        publish_credits: narrow(limits.publish_credits),
        retained_messages_max: limits.retained_messages_max,
        retained_bytes_max: limits.retained_bytes_max,
        memory_bytes_max: limits.memory_bytes_max / config.shards,
        denied: config.denied_topics.clone(),
    }
}

/// The ranges in `KEYS` are those of the fields the values go to.
fn narrow<T: TryFrom<u64>>(value: u64) -> T {
    T::try_from(value)
        .ok()
        .expect("the key's range is within the field's")
}
