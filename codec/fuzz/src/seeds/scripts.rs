//! Seeds of the targets that are fed operations, as scripts: numbers are bytes, words are stretches of them. And of
//! the one that is fed text.

use super::Seed;

/// The bytes of a script. `v+4` stands for the version with bit 2 set, for targets that have a clean start there.
fn bytes(script: &str, version: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in script.split_whitespace() {
        let byte = |text: &str| text.parse::<u8>().expect("a word or a byte");
        match word {
            "arrive" => bytes.extend([5, 255]),
            "accept" => bytes.extend([8, 0, 0]),
            "acknowledge" => bytes.extend([9, 0, 0]),
            "hello" => bytes.extend([1, version | 4, 0, 60, 5, 255, 8, 0, 0]),
            "connack" => bytes.extend([1, 0, 0, 5, 255]),
            _ => match word.strip_prefix("v+") {
                Some(bits) => bytes.push(version | byte(bits)),
                None => bytes.push(byte(word)),
            },
        }
    }
    bytes
}

/// As `mqtt_server_connection` reads them: limits, then operations.
const SERVER: [(&str, &str); 12] = [
    (
        "publish",
        "0 hello 2 1 1 1 2 1 2 2 arrive acknowledge acknowledge 3 2 2 0 arrive acknowledge",
    ),
    ("receive_maximum", "1 hello 2 1 1 1 2 1 1 2 2 1 1 3 arrive"),
    (
        "deliver",
        "0 1 v+36 16 60 8 arrive accept 11 1 1 5 11 2 2 70 11 2 0 200 3 0 1 0 3 1 2 0 arrive \
         acknowledge 3 3 2 0 arrive",
    ),
    (
        "subscribe",
        "2 hello 3 4 9 3 1 0 1 4 44 6 arrive acknowledge 3 5 9 2 0 1 arrive acknowledge \
         3 6 0 arrive 3 7 0 0 arrive",
    ),
    (
        "keep_alive",
        "1 1 v+4 0 2 5 3 5 9 arrive accept 13 10 14 13 50 13 255",
    ),
    ("aliases", "3 hello 2 1 32 1 2 1 96 1 2 15 32 1 arrive"),
    (
        "handed_over",
        "0 1 v+4 0 60 arrive 8 1 1 2 1 1 3 arrive 15 10",
    ),
    ("refused", "0 1 v+132 0 5 1 145 arrive 8 2 0 7"),
    ("refused_in_four_bytes", "0 1 v+68 0 60 1 arrive 8 2 0 7"),
    ("connack_in_sixteen_bytes", "0 1 v+68 0 60 3 arrive accept"),
    ("damaged", "0 hello 2 1 1 1 4 9 64 arrive"),
    ("raw", "0 hello 0 6 48 4 0 1 97 0 arrive"),
];

/// As `mqtt_client_connection` reads them: settings, then operations.
const CLIENT: [(&str, &str); 8] = [
    ("resumed", "v+0 1 128 0 arrive 2 9 1 0 3 2 9 arrive"),
    (
        "receives",
        "v+4 connack 2 1 1 0 2 2 2 1 2 32 0 2 2 32 0 3 arrive 10 0 1 10 1 2 3 2 2 arrive 10 3 2",
    ),
    (
        "publishes",
        "v+4 connack 7 1 1 5 7 2 2 5 3 0 1 3 1 2 arrive 10 2 2 3 3 2 arrive",
    ),
    (
        "subscribes",
        "v+4 connack 8 1 2 9 2 1 3 4 1 2 0 3 5 2 1 0 arrive",
    ),
    ("pings", "v+4 connack 11 1 3 6 0 arrive 3 6 0 arrive"),
    ("refused", "v+4 1 3 0 20 arrive"),
    (
        "limits",
        "v+4 1 12 9 arrive 7 1 1 50 2 1 1 0 2 1 2 0 2 1 3 0 2 1 4 0 arrive",
    ),
    (
        "authenticates",
        "v+12 0 12 240 10 24 8 21 0 1 109 22 0 1 100 arrive 1 16 0 arrive",
    ),
];

pub(super) fn conversations(version: u8, name: &str, seeds: &mut Vec<Seed>) {
    let targets = [
        ("mqtt_server_connection", &SERVER[..]),
        ("mqtt_client_connection", &CLIENT),
    ];
    for (target, scripts) in targets {
        for (what, script) in scripts {
            let name = format!("{what}_{name}");
            seeds.push((target, name, bytes(script, version)));
        }
    }
}

/// As `topic_filter` reads them: filter and name, behind the usual limits.
const TEXTS: [(&str, &str); 17] = [
    ("same", "a/b\na/b"),
    ("rest", "sport/tennis/player1/#\nsport/tennis/player1"),
    ("one_level", "sport/+\nsport/"),
    ("too_short", "sport/+\nsport"),
    ("hidden", "#\n$SYS/x"),
    ("hidden_first_level", "+/x\n$SYS/x"),
    ("hidden_asked_for", "$SYS/#\n$SYS/x"),
    ("shared", "$share/group/a/+\na/b"),
    ("shared_empty_levels", "$share/g//\n/"),
    ("shared_nothing", "$share/g/\na"),
    ("shared_without_name", "$share//a\na"),
    ("shared_wildcard_name", "$share/+/a\na"),
    ("misplaced_rest", "a/#/b\na/x/b"),
    ("misplaced_level", "a+/b\na/b"),
    ("wildcard_in_name", "a/b\na/+"),
    ("levels", "+/+/+/+\n///"),
    ("null", "a\0b\na\0b"),
];

pub(super) fn topic_filters(seeds: &mut Vec<Seed>) {
    let mut seed = |name: &str, limits: [u8; 2], text: &str| {
        let input = [&limits, text.as_bytes()].concat();
        seeds.push(("topic_filter", name.to_owned(), input));
    };
    for (name, text) in TEXTS {
        seed(name, [64, 8], text);
    }
    seed("too_long", [1, 8], "abcde\nabcde");
    seed("too_many_levels", [64, 2], "a/b/c\na/b/c");
}
