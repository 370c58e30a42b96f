//! `tidegate check`: whether a configuration can be run, and what would run.

use serde_json::{json, Value};

use crate::cli::CheckFlags;
use crate::config::{self, Loaded, Place, Sources, KEYS};
use crate::host::{cpu_list, Host};
use crate::{say, Failure};

pub(crate) fn check(flags: &CheckFlags) -> Result<(), Failure> {
    let host = Host::prepare();
    let sources = Sources {
        file: Some(&flags.config),
        environment: std::env::vars_os().collect(),
        flags: flags.given(),
    };
    let loaded = config::load(&sources, &host).map_err(Failure::Usage)?;
    if loaded.config.json {
        say(&as_json(&loaded).to_string());
    } else {
        say(&for_people(&loaded, &flags.config.display().to_string()));
    }
    Ok(())
}

fn for_people(loaded: &Loaded, file: &str) -> String {
    let config = &loaded.config;
    let mut lines = vec![format!("{file} can be run. It would start:")];
    for listener in &config.listeners {
        lines.push(format!(
            "  {}://{}",
            config::scheme(listener.protocol),
            listener.addr
        ));
    }
    let cpus = cpu_list::show(&config.cpus);
    lines.push(format!("  {} shards on CPUs {cpus}", config.shards));
    lines.push(format!("  metrics and health on http://{}", config.admin));
    let anonymous = if config.allow_anonymous {
        "let in"
    } else {
        "refused"
    };
    lines.push(format!("  clients without credentials are {anonymous}"));

    lines.push(String::new());
    lines.push("Settings in force, and who set them:".to_owned());
    let mut section = "";
    for (key, place) in KEYS.iter().zip(&loaded.places) {
        let (its_section, name) = key.name.split_once('.').expect("keys are section.name");
        if its_section != section {
            section = its_section;
            lines.push(format!("[{section}]"));
        }
        let setting = format!("{name} = {}", key.show(config));
        let flag = key.flag.map_or(String::new(), |flag| format!("; {flag}"));
        let set_by = match place {
            Place::Default => String::new(),
            place => format!("; set by {place}"),
        };
        lines.push(format!("{setting:<36} # {}{flag}{set_by}", key.about));
    }
    lines.join("\n")
}

fn as_json(loaded: &Loaded) -> Value {
    let config = &loaded.config;
    let listeners = config.listeners.iter().map(|listener| {
        json!({
            "protocol": config::scheme(listener.protocol),
            "addr": listener.addr.to_string(),
        })
    });
    let settings = KEYS.iter().zip(&loaded.places).map(|(key, place)| {
        let setting = json!({ "value": key.show(config), "from": place.to_string() });
        (key.name.to_owned(), setting)
    });
    json!({
        "event": "checked",
        "listeners": listeners.collect::<Vec<_>>(),
        "admin": config.admin.to_string(),
        "shards": config.shards,
        "cpus": config.cpus,
        "allow_anonymous": config.allow_anonymous,
        "settings": settings.collect::<serde_json::Map<_, _>>(),
    })
}
