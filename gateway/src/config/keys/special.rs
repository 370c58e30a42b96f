//! The keys that are neither a number, a size, a time nor a switch.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::node::IoDriver;
use tidegate_codec::topic::TopicLimits;
use tidegate_codec::TopicFilter;

use super::Kind;
use crate::config::nearest::nearest;
use crate::config::place::Problem;
use crate::config::value::{show_list, show_text, Given, Raw};
use crate::config::{listener_url, LogFormat, LogLevel};
use crate::host::cpu_list;

pub(super) const CPUS: Kind = Kind::Special {
    set: |config, given| {
        config.cpus = match &given.raw {
            Raw::List(_) => cpus_of_list(given)?,
            raw => {
                let text = raw
                    .text()
                    .map(str::to_owned)
                    .or(raw.integer().map(|n| n.to_string()));
                let text = text.ok_or_else(|| refuse(given, CPUS_RIGHT))?;
                cpu_list::parse(&text).map_err(|why| {
                    problem(given, format!("{text:?}: {why}; {CPUS_RIGHT} is right"))
                })?
            }
        };
        Ok(())
    },
    show: |config| format!("{:?}", cpu_list::show(&config.cpus)),
};

const CPUS_RIGHT: &str = "a list such as \"0-3,8\"";

fn cpus_of_list(given: &Given) -> Result<Vec<usize>, Problem> {
    let items = given.items().unwrap_or_default();
    let mut cpus = Vec::new();
    for item in &items {
        let number = item
            .raw
            .integer()
            .and_then(|number| usize::try_from(number).ok());
        let right = "a list such as [0, 1] or \"0-3,8\"";
        let cpu = number.ok_or_else(|| refuse(item, right))?;
        if cpus.contains(&cpu) {
            let text = format!("CPU {cpu} is there twice; {right} is right");
            return Err(problem(item, text));
        }
        cpus.push(cpu);
    }
    Ok(cpus)
}

pub(super) const IO: Kind = Kind::Special {
    set: |config, given| {
        let names = ["auto", "ring", "epoll"];
        config.io = [None, Some(IoDriver::Ring), Some(IoDriver::Epoll)][choice(given, &names)?];
        Ok(())
    },
    show: |config| {
        let name = match config.io {
            None => "auto",
            Some(IoDriver::Ring) => "ring",
            Some(IoDriver::Epoll) => "epoll",
        };
        format!("{name:?}")
    },
};

pub(super) const LOG_FORMAT: Kind = Kind::Special {
    set: |config, given| {
        let formats = [LogFormat::Text, LogFormat::Json];
        config.log_format = formats[choice(given, &["text", "json"])?];
        Ok(())
    },
    show: |config| format!("{:?}", format!("{:?}", config.log_format).to_lowercase()),
};

pub(super) const LOG_LEVEL: Kind = Kind::Special {
    set: |config, given| {
        use LogLevel::{Debug, Error, Info, Trace, Warn};
        let names = ["error", "warn", "info", "debug", "trace"];
        config.log_level = [Error, Warn, Info, Debug, Trace][choice(given, &names)?];
        Ok(())
    },
    show: |config| format!("{:?}", format!("{:?}", config.log_level).to_lowercase()),
};

pub(super) const LISTEN: Kind = Kind::Special {
    set: |config, given| {
        let right = "a list of URLs such as [\"mqtt://127.0.0.1:1883\"]";
        let items = given.items().ok_or_else(|| refuse(given, right))?;
        if items.is_empty() {
            return Err(problem(
                given,
                format!("an empty list serves nobody; {right} is right"),
            ));
        }
        config.listeners.clear();
        for item in items {
            let text = item
                .raw
                .text()
                .ok_or_else(|| refuse(&item, "a URL in quotes"))?;
            let listener = listener_url::parse(text).map_err(|why| problem(&item, why))?;
            // Port 0 is a different port each time.
            if listener.addr.port() != 0 && config.listeners.contains(&listener) {
                return Err(problem(
                    &item,
                    format!("{text:?} is there twice; once is right"),
                ));
            }
            config.listeners.push(listener);
        }
        Ok(())
    },
    show: |config| {
        let urls = config.listeners.iter().map(|listener| {
            format!(
                "{}://{}",
                listener_url::scheme(listener.protocol),
                listener.addr
            )
        });
        show_list(urls)
    },
};

pub(super) const ADMIN: Kind = Kind::Special {
    set: |config, given| {
        let right = "an address and port such as \"127.0.0.1:18083\" or \"[::1]:18083\"";
        let addr = given
            .raw
            .text()
            .and_then(|text| text.parse::<SocketAddr>().ok());
        config.admin = addr.ok_or_else(|| refuse(given, right))?;
        Ok(())
    },
    show: |config| format!("{:?}", config.admin.to_string()),
};

pub(super) const DATA_DIR: Kind = Kind::Special {
    set: |config, given| {
        let text = given.raw.text().filter(|text| !text.is_empty());
        let path = PathBuf::from(text.ok_or_else(|| refuse(given, "a directory's path"))?);
        if path.exists() && !path.is_dir() {
            let text = format!(
                "{} is not a directory; a directory is right",
                path.display()
            );
            return Err(problem(given, text));
        }
        config.data_dir = path;
        Ok(())
    },
    show: |config| show_text(&config.data_dir.display().to_string()),
};

pub(super) const DENIED_TOPICS: Kind = Kind::Special {
    set: |config, given| {
        let right = "a list of topic filters such as [\"secret/#\"]";
        // An operator's filter is bound by the protocol alone, not by what clients may use.
        let limits = TopicLimits {
            bytes_max: u16::MAX,
            levels_max: u16::MAX,
        };
        config.denied_topics.clear();
        for item in given.items().ok_or_else(|| refuse(given, right))? {
            let text = item
                .raw
                .text()
                .ok_or_else(|| refuse(&item, "a topic filter in quotes"))?;
            let filter = TopicFilter::parse(text, limits).map_err(|why| {
                problem(
                    &item,
                    format!("{text:?} is no topic filter ({why:?}); {right} is right"),
                )
            })?;
            if filter.is_shared() {
                let text = format!("{text:?}: deny {:?}, without the share", filter.filter());
                return Err(problem(&item, text));
            }
            config.denied_topics.push(filter);
        }
        Ok(())
    },
    show: |config| show_list(config.denied_topics.iter().map(|f| f.text().to_owned())),
};

/// The place of the value in `names`.
fn choice(given: &Given, names: &[&str]) -> Result<usize, Problem> {
    let text = given.raw.text().unwrap_or_default();
    names.iter().position(|name| *name == text).ok_or_else(|| {
        let near = nearest(text, names.iter().copied());
        let hint = near.map_or(String::new(), |near| format!(" (did you mean {near:?}?)"));
        let shown = given.raw.shown();
        problem(
            given,
            format!(
                "{shown} is not a choice; one of {} is right{hint}",
                names.join(", ")
            ),
        )
    })
}

fn refuse(given: &Given, right: &str) -> Problem {
    problem(
        given,
        format!("{} is wrong; {right} is right", given.raw.shown()),
    )
}

/// The caller adds the key.
fn problem(given: &Given, text: String) -> Problem {
    Problem::new(given.place.clone(), "", text)
}
