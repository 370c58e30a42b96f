//! Input to exact words: what an operator reads when a line, a variable or a flag is wrong.

use super::*;
use crate::config::node_settings;

fn host() -> Host {
    Host {
        cpus: vec![0, 1, 2, 3],
        memory_bytes: 10 << 30,
        open_files: 20_000,
        locked_bytes: 8 << 20,
    }
}

/// Loads `toml` as `t.toml`, with environment and flags.
fn load_all(
    toml: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<Loaded, Vec<String>> {
    let environment = environment.iter();
    let flags = flags.iter().map(|(key, flag, text)| {
        let given = Given {
            raw: Raw::Text((*text).to_owned()),
            place: Place::Flag(flag),
        };
        (*key, given)
    });
    let sources = Sources {
        file: None,
        environment: environment
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        flags: flags.collect(),
    };
    load_text("t.toml", toml, &sources, &host())
        .map_err(|problems| problems.iter().map(Problem::to_string).collect())
}

fn load_file(toml: &str) -> Result<Loaded, Vec<String>> {
    load_all(toml, &[], &[])
}

fn config(toml: &str) -> Config {
    load_file(toml).unwrap().config
}

/// The one problem of `toml`.
#[track_caller]
fn check(toml: &str, expected: &str) {
    assert_eq!(load_file(toml).expect_err(toml), [expected]);
}

#[test]
fn an_empty_file_is_the_development_defaults() {
    let config = config("");
    assert_eq!(config.listeners[0].addr.to_string(), "127.0.0.1:1883");
    assert_eq!(config.admin.to_string(), "127.0.0.1:18083");
    assert_eq!((config.shards, config.cpus), (4, vec![0, 1, 2, 3]));
    assert!(config.allow_anonymous);
    assert_eq!(config.limits.memory_bytes_max, 8 << 30);
    assert_eq!(config.limits.connections_max, 20_000 - 128 - 4 * 16);
}

#[test]
fn what_a_node_is_started_with_follows_the_configuration() {
    let config = config(
        "[node]\nshards = 2\ncpus = \"1-2\"\n\
         [limits]\nkeep_alive_max = \"2h\"\nreceive_maximum = 7\nconnect_timeout = 3\n\
         packet_bytes_max = \"64 KiB\"\n\
         [topics]\ndeny = [\"test/nosubscribe\", \"secret/#\"]\n",
    );
    let settings = node_settings(&config, IoDriver::Epoll, 9);
    assert_eq!((settings.shards, settings.cpus), (2, vec![1, 2]));
    assert_eq!(settings.mqtt.keep_alive_max, 7_200);
    assert_eq!(
        (
            settings.mqtt.receive_maximum,
            settings.shard.receive_maximum
        ),
        (7, 7)
    );
    assert_eq!(settings.mqtt.connect_timeout_ms, 3_000);
    assert_eq!(settings.mqtt.packet_bytes_max, 65_536);
    assert_eq!(settings.shard.memory_bytes_max, 4 << 30);
    assert_eq!(settings.shard.denied[1].text(), "secret/#");
    assert!(settings.allow_anonymous);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "[node]\nshards = 2\n";
    let variable = ("TIDEGATE__NODE__SHARDS", "3");
    let flag = ("node.shards", "--shards", "4");
    for (environment, flags, shards, place) in [
        (&[][..], &[][..], 2, "t.toml:2:10"),
        (&[variable][..], &[][..], 3, "TIDEGATE__NODE__SHARDS"),
        (&[variable][..], &[flag][..], 4, "--shards"),
    ] {
        let loaded = load_all(file, environment, flags).unwrap();
        assert_eq!(loaded.config.shards, shards);
        assert_eq!(loaded.place("node.shards").to_string(), place);
    }
}

#[test]
fn a_flag_heals_a_wrong_line() {
    let flag = ("node.shards", "--shards", "4");
    assert_eq!(
        load_all("[node]\nshards = 0\n", &[], &[flag])
            .unwrap()
            .config
            .shards,
        4
    );
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    check(
        "[limits]\npaket_bytes_max = 1\n",
        "t.toml:2:1: limits.paket_bytes_max: no such key; did you mean limits.packet_bytes_max?",
    );
    check(
        "[node]\nkeep_alive_max = \"1h\"\n",
        "t.toml:2:1: node.keep_alive_max: no such key; did you mean limits.keep_alive_max?",
    );
    check(
        "shards = 4\n",
        "t.toml:1:1: shards: no such key; did you mean node.shards?",
    );
    check(
        "[limit]\n",
        "t.toml:1:2: limit: no such section; did you mean [limits]?",
    );
    check(
        "[galaxy]\n",
        "t.toml:1:2: galaxy: no such section; \
         sections are node, admin, auth, log, output, topics, limits",
    );
    check(
        "[log]\nfruit_of_the_day = 1\n",
        "t.toml:2:1: log.fruit_of_the_day: no such key; [log] knows format, level",
    );
    check(
        "limits = 3\n",
        "t.toml:1:1: limits: a section is right here: a line [limits]",
    );
}

#[test]
fn wrong_types_and_ranges_say_what_is_right() {
    check(
        "[node]\nshards = \"four\"\n",
        "t.toml:2:10: node.shards: \"four\" is a string, not a whole number; \
         a whole number from 1 to 1024 is right",
    );
    check(
        "[node]\n  shards = 0\n",
        "t.toml:2:12: node.shards: 0 is out of range; a whole number from 1 to 1024 is right",
    );
    check(
        "[node]\nshards = 1.5\n",
        "t.toml:2:10: node.shards: a number with a fraction is not a whole number; \
         a whole number from 1 to 1024 is right",
    );
    check(
        "[limits]\npacket_bytes_max = \"1 MeB\"\n",
        "t.toml:2:20: limits.packet_bytes_max: \"1 MeB\" is a string, not a size; \
         a size from 1 KiB to 268435460 B, such as \"1 MiB\", is right",
    );
    check(
        "[limits]\nkeep_alive_max = \"1 day\"\n",
        "t.toml:2:18: limits.keep_alive_max: \"1 day\" is out of range; \
         a time from 1s to 18h 12m 15s, such as \"90s\", is right",
    );
    check(
        "[limits]\nkeep_alive_max = \"1500ms\"\n",
        "t.toml:2:18: limits.keep_alive_max: \"1500ms\" is finer than 1s; \
         a time from 1s to 18h 12m 15s, such as \"90s\", is right",
    );
    check(
        "[auth]\nallow_anonymous = \"yes\"\n",
        "t.toml:2:19: auth.allow_anonymous: \"yes\" is a string, not true or false; \
         true or false is right",
    );
    check(
        "[log]\nlevel = \"inof\"\n",
        "t.toml:2:9: log.level: \"inof\" is not a choice; \
         one of error, warn, info, debug, trace is right (did you mean \"info\"?)",
    );
}

#[test]
fn addresses_and_schemes_are_explained() {
    check(
        "[node]\nlisten = [\"mqtt://127.0.0.1:1883\", \"127.0.0.1:1884\"]\n",
        "t.toml:2:36: node.listen: \"127.0.0.1:1884\" has no scheme; \
         mqtt://127.0.0.1:1884 would be right",
    );
    check(
        "[node]\nlisten = [\"mqtt://localhost:1883\"]\n",
        "t.toml:2:11: node.listen: \"mqtt://localhost:1883\": \"localhost:1883\" is not an address \
         and port; mqtt://127.0.0.1:1883 or mqtt://[::1]:1883 would be right",
    );
    check(
        "[node]\nlisten = [\"wss://127.0.0.1:8084\"]\n",
        "t.toml:2:11: node.listen: \"wss://127.0.0.1:8084\": listeners of wss:// are not built yet; \
         built so far: mqtt://",
    );
    check(
        "[node]\nlisten = [\"mqt://127.0.0.1:1\"]\n",
        "t.toml:2:11: node.listen: \"mqt://127.0.0.1:1\": no such scheme; did you mean mqtt://?",
    );
    check(
        "[node]\nlisten = [\"mqtt://127.0.0.1:1\", \"mqtt://127.0.0.1:1\"]\n",
        "t.toml:2:33: node.listen: \"mqtt://127.0.0.1:1\" is there twice; once is right",
    );
    check(
        "[node]\nlisten = []\n",
        "t.toml:2:10: node.listen: an empty list serves nobody; \
         a list of URLs such as [\"mqtt://127.0.0.1:1883\"] is right",
    );
    check(
        "[admin]\nlisten = 18083\n",
        "t.toml:2:10: admin.listen: 18083 is wrong; \
         an address and port such as \"127.0.0.1:18083\" or \"[::1]:18083\" is right",
    );
    let config = config("[node]\nlisten = [\"mqtt://[::1]:0\", \"mqtt://[::1]:0\"]\n");
    assert_eq!(config.listeners.len(), 2);
}

#[test]
fn a_listener_beyond_loopback_needs_a_choice() {
    let right = "listen on 127.0.0.1 or [::1], \
                 or let everyone in with --allow-anonymous (auth.allow_anonymous = true)";
    check(
        "[node]\nlisten = [\"mqtt://127.0.0.1:1\", \"mqtt://0.0.0.0:1883\"]\n",
        &format!(
            "t.toml:2:10: auth.allow_anonymous: mqtt://0.0.0.0:1883 is open to other machines and \
             no authentication is chosen; {right}"
        ),
    );
    check(
        "[node]\nlisten = [\"mqtt://[::]:1883\"]\n[auth]\nallow_anonymous = false\n",
        &format!(
            "t.toml:4:19: auth.allow_anonymous: mqtt://[::]:1883 is open to other machines and \
             no authentication is chosen; {right}"
        ),
    );
    let open = "[node]\nlisten = [\"mqtt://0.0.0.0:1883\"]\n[auth]\nallow_anonymous = true\n";
    assert!(config(open).allow_anonymous);
    let mapped = "[node]\nlisten = [\"mqtt://[::ffff:127.0.0.1]:1883\"]\n";
    assert!(config(mapped).allow_anonymous);
    assert!(!config("[auth]\nallow_anonymous = false\n").allow_anonymous);
}

#[test]
fn cpus_must_be_ones_this_process_may_use() {
    assert_eq!(config("[node]\ncpus = [3, 1]\n").cpus, [3, 1]);
    assert_eq!(config("[node]\ncpus = \"0-1\"\n").shards, 2);
    check(
        "[node]\ncpus = \"2-5\"\n",
        "t.toml:2:8: node.cpus: CPU 4 is not for this process; of 0-3 is right",
    );
    check(
        "[node]\ncpus = \"3-1\"\n",
        "t.toml:2:8: node.cpus: \"3-1\": 3-1 runs backwards; a list such as \"0-3,8\" is right",
    );
    check(
        "[node]\ncpus = []\n",
        "t.toml:2:8: node.cpus: an empty list leaves no CPU to run on; \
         a list such as \"0-3,8\" is right",
    );
}

#[test]
fn values_that_do_not_fit_together_are_told_at_the_one_that_was_set() {
    check(
        "[limits]\npacket_bytes_max = \"8 MiB\"\n",
        "t.toml:2:20: limits.packet_bytes_max: limits.packet_bytes_max (8 MiB) may be at most \
         limits.write_queue_bytes_max (4 MiB); lower the one or raise the other",
    );
    check(
        "[limits]\nqueue_bytes_max = \"512 KiB\"\n",
        "t.toml:2:19: limits.queue_bytes_max: limits.packet_bytes_max (1 MiB) may be at most \
         limits.queue_bytes_max (512 KiB); lower the one or raise the other",
    );
}

#[test]
fn defaults_follow_the_key_they_depend_on() {
    let limits = config("[limits]\nwrite_queue_bytes_max = \"2 MiB\"\n").limits;
    assert_eq!(limits.write_queue_high_water, 512 << 10);
    let limits = config("[limits]\nconnect_bytes_max = \"1 MiB\"\n").limits;
    assert_eq!(limits.pre_auth_bytes_max, 1 << 20);
}

#[test]
fn denied_topics_are_filters() {
    check(
        "[topics]\ndeny = [\"a/#\", \"a/#/b\"]\n",
        "t.toml:2:16: topics.deny: \"a/#/b\" is no topic filter (MisplacedWildcard); \
         a list of topic filters such as [\"secret/#\"] is right",
    );
    check(
        "[topics]\ndeny = [\"$share/g/a\"]\n",
        "t.toml:2:9: topics.deny: \"$share/g/a\": deny \"a\", without the share",
    );
}

#[test]
fn text_that_is_not_toml_is_told_with_its_place() {
    let problems = load_file("[node]\nshards = = 3\n").unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("t.toml:2:10: this is not TOML: "),
        "{problems:?}"
    );
    let problems = load_file("[node]\nshards = 3\nshards = 4\n").unwrap_err();
    assert!(
        problems[0].starts_with("t.toml:3:1: this is not TOML: duplicate key"),
        "{problems:?}"
    );
}

#[test]
fn all_problems_are_told_from_top_to_bottom() {
    let problems = load_file("[topics]\nx = 1\ndeny = 1\n[log]\nlevel = 1\ny = 1\n").unwrap_err();
    let places: Vec<_> = problems
        .iter()
        .map(|problem| problem.split(": ").next())
        .collect();
    assert_eq!(
        places,
        ["2:1", "3:8", "5:9", "6:1"]
            .map(|at| Some(format!("t.toml:{at}")))
            .each_ref()
            .map(Option::as_deref)
    );
}

#[test]
fn columns_count_characters() {
    check(
        "topics = { deny = [\"é\", 5] }\n",
        "t.toml:1:25: topics.deny: 5 is wrong; a topic filter in quotes is right",
    );
}

#[test]
fn environment_names_are_keys() {
    let loaded = load_all(
        "",
        &[(
            "TIDEGATE__NODE__LISTEN",
            "mqtt://127.0.0.1:1, mqtt://[::1]:2",
        )],
        &[],
    );
    assert_eq!(loaded.unwrap().config.listeners.len(), 2);
    for (name, value, expected) in [
        (
            "TIDEGATE__LIMITS__KEEPALIVE_MAX",
            "1h",
            "TIDEGATE__LIMITS__KEEPALIVE_MAX: limits.keepalive_max: no such key; \
             did you mean TIDEGATE__LIMITS__KEEP_ALIVE_MAX?",
        ),
        (
            "TIDEGATE__NODE__SHARDS",
            "many",
            "TIDEGATE__NODE__SHARDS: node.shards: \"many\" is not a whole number; \
             a whole number from 1 to 1024 is right",
        ),
    ] {
        assert_eq!(load_all("", &[(name, value)], &[]).unwrap_err(), [expected]);
    }
    assert!(load_all("", &[("TIDEGATE_HOME", "x"), ("PATH", "y")], &[]).is_ok());
}

#[test]
fn flags_are_named_in_their_errors() {
    let flag = ("node.io", "--io", "rnig");
    assert_eq!(
        load_all("", &[], &[flag]).unwrap_err(),
        [
            "--io: node.io: \"rnig\" is not a choice; one of auto, ring, epoll is right \
          (did you mean \"ring\"?)"
        ]
    );
}

#[test]
fn a_missing_file_is_named() {
    let sources = Sources {
        file: Some(Path::new("/nonexistent/t.toml")),
        ..Sources::default()
    };
    let problems = load(&sources, &host()).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "/nonexistent/t.toml: the configuration file cannot be read: \
         No such file or directory (os error 2)"
    );
}

/// What `tidegate check` prints can be put in a file: it is the same configuration again.
#[test]
fn what_is_shown_can_be_set() {
    let Loaded { config, .. } = load_file("").unwrap();
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        if keys::section(key.name) != section {
            section = keys::section(key.name);
            text += &format!("[{section}]\n");
        }
        text += &format!("{} = {}\n", keys::last_word(key.name), key.show(&config));
    }
    let again = load_file(&text).expect(&text);
    for key in KEYS {
        assert_eq!(key.show(&again.config), key.show(&config), "{}", key.name);
    }
    assert!(again.places.iter().all(|place| *place != Place::Default));
}

/// `ops/examples/minimal.toml` promises every key and, where it sets one, its default.
#[test]
fn the_minimal_example_has_every_key_with_its_default() {
    let text = include_str!("../../../ops/examples/minimal.toml");
    let example = config(text);
    let defaults = config("");
    let mut section = "";
    let mut named = Vec::new();
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
        } else if let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ") {
            named.push(format!("{section}.{name}"));
        }
    }
    for key in KEYS {
        assert!(named.iter().any(|name| name == key.name), "{}", key.name);
        assert_eq!(key.show(&example), key.show(&defaults), "{}", key.name);
    }
    assert_eq!(named.len(), KEYS.len(), "{named:?}");
}

/// Found by the fuzz target `configuration`: `cpus = "0,0"` was refused, `[0, 0]` was not.
#[test]
fn a_cpu_is_named_once_in_either_form() {
    check(
        "[node]\ncpus = [0, 0]",
        "t.toml:2:12: node.cpus: CPU 0 is there twice; a list such as [0, 1] or \"0-3,8\" is right",
    );
    check(
        "[node]\ncpus = \"0,0\"",
        "t.toml:2:8: node.cpus: \"0,0\": CPU 0 is there twice; a list such as \"0-3,8\" is right",
    );
}

/// Found by the fuzz target `configuration`: what `tidegate check` printed was not always TOML.
#[test]
fn what_is_shown_of_texts_can_be_read_again() {
    let toml = "[node]\ndata_dir = \"a\\u007Fb\\tc\\\"d\\\\e\"\n[topics]\ndeny = [\"\\u0085/é\"]";
    let config = config(toml);
    let shown = |name| KEYS[keys::index(name).unwrap()].show(&config);
    assert_eq!(shown("node.data_dir"), r#""a\u007Fb\u0009c\"d\\e""#);
    assert_eq!(shown("topics.deny"), r#"["\u0085/é"]"#);
}
