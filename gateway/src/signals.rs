//! What the operator's signals do: SIGTERM and SIGINT drain, SIGHUP is heard.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tidegate::node::NodeControl;

use crate::admin::State;
use crate::{fail, notify, EXIT_FAILURE};

/// The node closes by force at its drain timeout; only beyond this much more is it overdue.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// A SIGINT this long after the first signal is a person who will not wait. Sooner it is an echo: `timeout` and
/// terminals signal the process and then its whole group.
const IMPATIENCE: Duration = Duration::from_secs(1);

/// Signals are held from now on; nothing is done about them before [`Held::obey`].
///
/// To be called before anything is started: until then a SIGHUP would end the process.
#[derive(Debug)]
pub(crate) struct Held(Signals);

pub(crate) fn hold() -> io::Result<Held> {
    Ok(Held(Signals::new([SIGTERM, SIGINT, SIGHUP])?))
}

impl Held {
    /// Does what the signals say, on a thread of its own.
    pub(crate) fn obey(
        mut self,
        control: NodeControl,
        state: Arc<State>,
        drain_timeout: Duration,
    ) -> io::Result<()> {
        let work = move || {
            let mut drain_began: Option<Instant> = None;
            for signal in self.0.forever() {
                match (signal, drain_began) {
                    (SIGHUP, _) => tracing::info!("SIGHUP: nothing to reload"),
                    (_, None) => {
                        drain_began = Some(Instant::now());
                        drain(&control, &state, drain_timeout);
                    }
                    (SIGINT, Some(began)) if began.elapsed() >= IMPATIENCE => {
                        end("interrupted before the drain was over")
                    }
                    _ => tracing::info!("already draining"),
                }
            }
        };
        thread::Builder::new()
            .name("tidegate-signal".to_owned())
            .spawn(work)?;
        Ok(())
    }
}

fn drain(control: &NodeControl, state: &State, timeout: Duration) {
    tracing::info!(timeout_ms = timeout.as_millis() as u64, "draining");
    state.draining();
    notify(&[sd_notify::NotifyState::Stopping]);
    let watch = move || {
        thread::sleep(timeout + DRAIN_GRACE);
        let shown = humantime::format_duration(timeout);
        end(&format!(
            "the drain took longer than {shown} (node.drain_timeout)"
        ));
    };
    // Started first, so that a drain that hangs is watched too.
    if let Err(error) = thread::Builder::new()
        .name("tidegate-drain".to_owned())
        .spawn(watch)
    {
        tracing::warn!(%error, "the drain timeout is not watched");
    }
    control.drain();
}

/// Ends the process at once. The main thread waits for shards that may never end.
fn end(why: &str) -> ! {
    fail(why);
    std::process::exit(i32::from(EXIT_FAILURE))
}
