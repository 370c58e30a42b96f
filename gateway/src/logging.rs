//! Structured logs on standard error, written by a thread of their own.
//!
//! A shard that logs must not wait for whoever reads standard error (a full pipe, a restarting journal): lines
//! go through a bounded channel, and when it is full they are dropped and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;
use std::time::Duration;

use crossbeam_channel::{bounded, Receiver, Sender};
use tracing_subscriber::filter::LevelFilter;

use crate::config::{LogFormat, LogLevel};

/// Lines that may wait; the newest are dropped when full.
const LINES_MAX: usize = 8_192;
/// How long an ending process waits for its last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static LINES: OnceLock<Sender<Order>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum Order {
    Write(Vec<u8>),
    /// Answers when everything before it is written.
    Flush(Sender<()>),
}

/// Starts logging; to be called once, before the first log line.
pub(crate) fn start(format: LogFormat, level: LogLevel) -> io::Result<()> {
    let (sender, receiver) = bounded(LINES_MAX);
    std::thread::Builder::new()
        .name("tidegate-log".to_owned())
        .spawn(move || write_lines(&receiver, io::stderr()))?;
    // A second start keeps the first channel.
    let _ = LINES.set(sender);

    let subscriber = tracing_subscriber::fmt()
        .with_max_level(filter(level))
        .with_ansi(false)
        .with_writer(|| LineWriter);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Waits, though not for ever, until the lines so far are written.
pub(crate) fn flush() {
    let Some(lines) = LINES.get() else { return };
    let (answer, answered) = bounded(1);
    if lines
        .send_timeout(Order::Flush(answer), FLUSH_TIMEOUT)
        .is_ok()
    {
        let _ = answered.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Lines that nobody took in time.
pub(crate) fn dropped_total() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Takes one whole line per write, as the formatter hands them over.
struct LineWriter;

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let taken = LINES
            .get()
            .is_some_and(|lines| lines.try_send(Order::Write(line.into())).is_ok());
        if !taken {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(orders: &Receiver<Order>, mut output: impl Write) {
    for order in orders {
        match order {
            // There is nowhere left to report a broken standard error.
            Order::Write(line) => drop(output.write_all(&line)),
            Order::Flush(answer) => {
                let _ = output.flush();
                let _ = answer.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_answered_after_the_lines_before_it() {
        let (sender, receiver) = bounded(8);
        let (answer, answered) = bounded(1);
        sender.send(Order::Write(b"one\n".to_vec())).unwrap();
        sender.send(Order::Write(b"two\n".to_vec())).unwrap();
        sender.send(Order::Flush(answer)).unwrap();
        drop(sender);
        let mut output = Vec::new();
        write_lines(&receiver, &mut output);
        assert!(answered.try_recv().is_ok());
        assert_eq!(output, b"one\ntwo\n");
    }
}
