//! What one key alone cannot say: defaults that follow other keys, and values that must fit together.

use super::place::{Place, Problem};
use super::value::show_bytes;
use super::{keys, scheme, Config, Loaded, GIB};
use crate::host::{cpu_list, Host};

/// Moves the defaults that follow another key, so that setting one value does not force a second.
pub(super) fn derive(loaded: &mut Loaded) {
    if !loaded.is_set("node.shards") {
        loaded.config.shards = loaded.config.cpus.len() as u64;
    }
    if !loaded.is_set("auth.allow_anonymous") {
        loaded.config.allow_anonymous = loaded.config.only_loopback();
    }
    let high_water_set = loaded.is_set("limits.write_queue_high_water");
    let pre_auth_set = loaded.is_set("limits.pre_auth_bytes_max");
    let budget_set = loaded.is_set("limits.pre_auth_budget_bytes");
    let limits = &mut loaded.config.limits;
    if !high_water_set {
        limits.write_queue_high_water = limits.write_queue_bytes_max / 4;
    }
    if !pre_auth_set {
        limits.pre_auth_bytes_max = limits.connect_bytes_max.clamp(1 << 18, GIB);
    }
    if !budget_set {
        limits.pre_auth_budget_bytes = limits.pre_auth_budget_bytes.max(limits.pre_auth_bytes_max);
    }
}

/// Values that fit their own range and still do not fit together.
pub(super) fn check(loaded: &Loaded, host: &Host, problems: &mut Vec<Problem>) {
    check_cpus(loaded, host, problems);
    check_anonymous(loaded, problems);
    for (smaller, larger) in [
        // A packet that exceeds what may wait could never be delivered.
        ("limits.packet_bytes_max", "limits.write_queue_bytes_max"),
        ("limits.packet_bytes_max", "limits.queue_bytes_max"),
        (
            "limits.write_queue_high_water",
            "limits.write_queue_bytes_max",
        ),
        ("limits.connect_bytes_max", "limits.pre_auth_bytes_max"),
        ("limits.pre_auth_bytes_max", "limits.pre_auth_budget_bytes"),
    ] {
        check_at_most(loaded, smaller, larger, problems);
    }
}

fn check_cpus(loaded: &Loaded, host: &Host, problems: &mut Vec<Problem>) {
    let mut complain = |text: String| {
        problems.push(Problem::new(
            loaded.place("node.cpus").clone(),
            "node.cpus",
            text,
        ));
    };
    if loaded.config.cpus.is_empty() {
        complain("an empty list leaves no CPU to run on; a list such as \"0-3,8\" is right".into());
    }
    if let Some(cpu) = loaded
        .config
        .cpus
        .iter()
        .find(|cpu| !host.cpus.contains(cpu))
    {
        let allowed = cpu_list::show(&host.cpus);
        complain(format!(
            "CPU {cpu} is not for this process; of {allowed} is right"
        ));
    }
}

fn check_anonymous(loaded: &Loaded, problems: &mut Vec<Problem>) {
    let config = &loaded.config;
    if config.allow_anonymous || config.only_loopback() {
        return;
    }
    let exposed = config
        .listeners
        .iter()
        .find(|listener| !super::is_loopback(&listener.addr));
    let exposed = exposed.expect("not only loopback");
    let url = format!("{}://{}", scheme(exposed.protocol), exposed.addr);
    let place = match loaded.place("auth.allow_anonymous") {
        Place::Default => loaded.place("node.listen"),
        place => place,
    };
    let text = format!(
        "{url} is open to other machines and no authentication is chosen; listen on 127.0.0.1 or [::1], \
         or let everyone in with --allow-anonymous (auth.allow_anonymous = true)"
    );
    problems.push(Problem::new(place.clone(), "auth.allow_anonymous", text));
}

fn check_at_most(loaded: &Loaded, smaller: &str, larger: &str, problems: &mut Vec<Problem>) {
    let (low, high) = (
        bytes(&loaded.config, smaller),
        bytes(&loaded.config, larger),
    );
    if low <= high {
        return;
    }
    // The one somebody set is the one to talk about; of two, the smaller.
    let blamed = if loaded.is_set(smaller) {
        smaller
    } else {
        larger
    };
    let text = format!(
        "{smaller} ({}) may be at most {larger} ({}); lower the one or raise the other",
        show_bytes(low),
        show_bytes(high)
    );
    problems.push(Problem::new(loaded.place(blamed).clone(), blamed, text));
}

fn bytes(config: &Config, name: &str) -> u64 {
    let key = keys::index(name).map(|index| &keys::KEYS[index]);
    key.and_then(|key| key.bytes(config))
        .expect("only sizes are compared")
}
