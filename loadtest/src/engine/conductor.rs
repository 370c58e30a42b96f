//! The main thread of a run: leads the workers through the phases, measures, and gives the verdict.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread::{sleep, JoinHandle};
use std::time::Duration;

use hdrhistogram::Histogram;
use tidegate_codec::mqtt::ProtocolVersion;

use super::plan::Plan;
use super::shared::{Counter, Phase, Shared, Tally};
use super::{Finished, Setting};
use crate::clock::nanoseconds;
use crate::failure::Failure;
use crate::outcome::{
    nanosecond_histogram, Checks, Connect, FlooderUse, Load, Outcome, Percentiles, Pings,
    TargetUse, Traffic,
};
use crate::procstat::{own_usage, Processes, Usage};
use crate::progress::Progress;
use crate::sampler::{Reading, Sampler};

/// How often counters are looked at while waiting for something.
const BEAT: Duration = Duration::from_millis(10);
/// Quiet time before traffic, in which the broker finishes what connecting left it.
const SETTLE: Duration = Duration::from_millis(300);
/// However slowly they trickle, stragglers are waited for at most this many times the grace.
const GRACES: u32 = 12;

type Workers = Vec<JoinHandle<Result<Finished, Failure>>>;

/// One run, seen from above.
pub(crate) struct Conductor<'a> {
    setting: &'a Setting,
    shared: &'a Shared,
    plan: &'a Plan,
    processes: Processes,
    sampler: Sampler,
    latency: Histogram<u64>,
    progress: Progress,
    workers: Workers,
    /// Before the first connection.
    before: Point,
}

/// The state of things at one moment.
#[derive(Debug, Clone, Copy)]
struct Point {
    now_ns: u64,
    tally: Tally,
    target: Usage,
    own: Usage,
}

impl Point {
    fn seconds_since(&self, earlier: &Point) -> f64 {
        (self.now_ns - earlier.now_ns) as f64 / 1e9
    }

    fn count_since(&self, earlier: &Point, counter: Counter) -> u64 {
        self.tally.get(counter) - earlier.tally.get(counter)
    }
}

/// The moments between which things are measured.
struct Course {
    connected: Point,
    start: Point,
    end: Point,
    /// All stragglers are in, nobody has said goodbye.
    drained: Point,
}

impl<'a> Conductor<'a> {
    pub(crate) fn new(
        setting: &'a Arc<Setting>,
        shared: &'a Arc<Shared>,
        plan: &'a Plan,
        processes: Processes,
        workers: Workers,
    ) -> Self {
        let before = Point {
            now_ns: setting.clock.now_ns(),
            tally: Tally::default(),
            target: processes.usage(),
            own: own_usage(),
        };
        let load = &setting.load;
        let planned = if plan.publishers.is_empty() {
            load.duration
        } else {
            load.warmup + load.duration
        };
        Conductor {
            sampler: Sampler::new(planned),
            latency: nanosecond_histogram(),
            progress: Progress::new(plan.scenario, plan.clients.len() as u64, load.quiet),
            setting,
            shared,
            plan,
            processes,
            workers,
            before,
        }
    }

    /// Leads the workers to the end and makes the outcome of what they leave.
    pub(crate) fn conduct(mut self) -> Result<Outcome, Failure> {
        let course = self.lead();
        self.shared.set_phase(Phase::Close);
        let panicked = |_| Err(Failure::Run("a thread of the flooder panicked".to_owned()));
        let finished = std::mem::take(&mut self.workers)
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(panicked))
            .collect::<Result<Vec<_>, _>>();
        self.progress.finish();
        // A thread that gave up explains more than what followed from it.
        let finished = finished?;
        Ok(self.outcome(&course?, finished))
    }

    fn lead(&mut self) -> Result<Course, Failure> {
        self.connect()?;
        let connected = self.point();
        self.shared.set_phase(Phase::Hold);
        if self.plan.publishers.is_empty() {
            return Ok(self.hold(connected));
        }
        self.wait(SETTLE);
        self.shared.set_phase(Phase::Publish);
        self.wait(self.setting.load.warmup);
        let start = self.point();
        self.shared
            .measure_start_ns
            .store(start.now_ns, Ordering::Relaxed);
        self.wait(self.setting.load.duration);
        let end = self.point();
        self.shared
            .measure_end_ns
            .store(end.now_ns, Ordering::Relaxed);
        let drained = self.drain();
        Ok(Course {
            connected,
            start,
            end,
            drained,
        })
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let clients = self.plan.clients.len() as u64;
        loop {
            self.look("connecting");
            let tally = self.shared.tally();
            let failed = tally.get(Counter::Failed);
            if failed > 0 && !self.plan.tolerates_failed_connects {
                return Err(self.connect_failure(failed, tally.get(Counter::Ready)));
            }
            if tally.get(Counter::Ready) + failed >= clients || self.has_lost_a_worker() {
                return match tally.get(Counter::Ready) {
                    0 => Err(self.connect_failure(failed, 0)),
                    _ => Ok(()),
                };
            }
            sleep(BEAT);
        }
    }

    fn connect_failure(&self, failed: u64, ready: u64) -> Failure {
        let (_, errors) = self.shared.faults();
        Failure::Run(format!(
            "{failed} of {} clients could not connect ({ready} could); the first of them: {}",
            self.plan.clients.len(),
            errors.join("; ")
        ))
    }

    /// Connections only: holding them is what is measured.
    fn hold(&mut self, connected: Point) -> Course {
        self.wait(self.setting.load.duration);
        let end = self.point();
        let drained = self.drain();
        Course {
            connected,
            start: connected,
            end,
            drained,
        }
    }

    /// Stops publishing and waits until everything expected is in, or nothing more comes.
    fn drain(&mut self) -> Point {
        self.shared.set_phase(Phase::Drain);
        let grace = nanoseconds(self.setting.load.grace);
        let begun = self.setting.clock.now_ns();
        let mut last_progress = (0, begun);
        // The counters the workers show are those of their last turn: let all have seen the new
        // phase first.
        sleep(4 * BEAT);
        loop {
            self.look("waiting for stragglers");
            let now = self.setting.clock.now_ns();
            let tally = self.shared.tally();
            let (missing, arrived) = self.missing(&tally);
            if arrived != last_progress.0 {
                last_progress = (arrived, now);
            }
            let is_over = now - last_progress.1 > grace || now - begun > u64::from(GRACES) * grace;
            if missing == 0 || is_over || self.all_gone(&tally) {
                return self.point();
            }
            sleep(BEAT);
        }
    }

    /// What is still to come, and a number that grows with everything that arrives.
    fn missing(&self, tally: &Tally) -> (u64, u64) {
        let pairs = [
            (tally.get(Counter::Expected), tally.get(Counter::Received)),
            (
                self.acknowledgements_expected(tally),
                tally.get(Counter::Acknowledged),
            ),
            (tally.get(Counter::Recorded), tally.get(Counter::Released)),
            (
                tally.get(Counter::PingsSent),
                tally.get(Counter::PingsAnswered),
            ),
        ];
        let missing = pairs
            .iter()
            .map(|(expected, arrived)| expected.saturating_sub(*arrived))
            .sum();
        (missing, pairs.iter().map(|(_, arrived)| arrived).sum())
    }

    fn acknowledgements_expected(&self, tally: &Tally) -> u64 {
        if self.setting.load.qos as u8 > 0 {
            tally.get(Counter::Published)
        } else {
            0
        }
    }

    /// Waits, measuring and showing progress; shorter where no connection is left.
    fn wait(&mut self, duration: Duration) {
        let until = self.setting.clock.now_ns() + nanoseconds(duration);
        let activity = match self.shared.phase() {
            Phase::Publish => "publishing",
            _ => "holding",
        };
        loop {
            self.look(activity);
            let now = self.setting.clock.now_ns();
            if now >= until || self.all_gone(&self.shared.tally()) {
                return;
            }
            sleep(BEAT.min(Duration::from_nanos(until - now)));
        }
    }

    /// Nothing more can come of this run.
    fn all_gone(&self, tally: &Tally) -> bool {
        tally.get(Counter::Closed) >= tally.get(Counter::Ready) || self.has_lost_a_worker()
    }

    fn has_lost_a_worker(&self) -> bool {
        self.workers.iter().any(JoinHandle::is_finished)
    }

    /// One look at the counters: a sample when it is time for one, and the progress line.
    fn look(&mut self, activity: &str) {
        let now_ns = self.setting.clock.now_ns();
        if self.sampler.is_due(now_ns) {
            let tally = self.shared.tally();
            let reading = Reading {
                now_ns,
                connected: tally.get(Counter::Ready) - tally.get(Counter::Closed),
                published: tally.get(Counter::Published),
                delivered: tally.get(Counter::Received),
                target: self.processes.usage(),
                own: own_usage(),
            };
            let interval = self.shared.take_latencies(&mut self.latency);
            self.sampler.take(reading, &interval);
        }
        self.progress.show(now_ns, activity, self.sampler.last());
    }

    fn point(&self) -> Point {
        Point {
            now_ns: self.setting.clock.now_ns(),
            tally: self.shared.tally(),
            target: self.processes.usage(),
            own: own_usage(),
        }
    }

    // The verdict.

    fn outcome(mut self, course: &Course, finished: Vec<Finished>) -> Outcome {
        self.shared.take_latencies(&mut self.latency);
        let mut connect_latency = nanosecond_histogram();
        let mut ping_latency = nanosecond_histogram();
        for worker in &finished {
            connect_latency
                .add(&worker.connect_latency)
                .expect("all histograms have the same bounds");
            ping_latency
                .add(&worker.ping_latency)
                .expect("all histograms have the same bounds");
        }
        let (closed, mut errors) = self.shared.faults();
        let has_traffic = !self.plan.publishers.is_empty();
        let checks = has_traffic.then(|| self.checks(&finished, &mut errors));
        let tally = course.drained.tally;
        let mut outcome = Outcome {
            event: "summary",
            scenario: self.plan.scenario.to_owned(),
            load: self.load(),
            connect: self.connect_outcome(course, &connect_latency),
            traffic: has_traffic.then(|| self.traffic(course)),
            checks,
            pings: Pings {
                sent: tally.get(Counter::PingsSent),
                answered: tally.get(Counter::PingsAnswered),
                latency_us: Percentiles::of(&ping_latency),
            },
            target: (!self.processes.is_empty()).then(|| self.target_use(course)),
            flooder: flooder_use(course),
            ended: tally.get(Counter::Closed),
            closed,
            errors,
            samples: self.sampler.into_samples(),
            ..Outcome::default()
        };
        outcome.judge();
        outcome
    }

    fn load(&self) -> Load {
        let load = &self.setting.load;
        Load {
            targets: load
                .targets
                .iter()
                .map(|target| target.url.clone())
                .collect(),
            mqtt: if load.version == ProtocolVersion::V5 {
                "5"
            } else {
                "3.1.1"
            },
            clients: self.plan.clients.len() as u64,
            publishers: self.plan.publishers.len() as u64,
            qos: load.qos as u8,
            payload_bytes: load.payload as u64,
            rate: load.rate,
            inflight: load.inflight(),
            threads: load.threads,
            source_addresses: self.setting.sources.len().max(1) as u64,
        }
    }

    fn connect_outcome(&self, course: &Course, latency: &Histogram<u64>) -> Connect {
        let tally = course.connected.tally;
        let seconds = course.connected.seconds_since(&self.before);
        let ready = tally.get(Counter::Ready);
        Connect {
            ready,
            failed: tally.get(Counter::Failed),
            seconds,
            per_second: ready as f64 / seconds,
            latency_us: Percentiles::of(latency),
        }
    }

    fn traffic(&self, course: &Course) -> Traffic {
        let seconds = course.end.seconds_since(&course.start);
        let published = course.end.count_since(&course.start, Counter::Published);
        let delivered = course.end.count_since(&course.start, Counter::Received);
        Traffic {
            seconds,
            published,
            delivered,
            published_per_second: published as f64 / seconds,
            delivered_per_second: delivered as f64 / seconds,
            latency_us: Percentiles::of(&self.latency),
        }
    }

    /// Compares every ledger with what its publishers sent.
    fn checks(&self, finished: &[Finished], errors: &mut Vec<String>) -> Checks {
        let mut sent = vec![0_u32; self.plan.publishers.len()];
        for publisher in finished
            .iter()
            .flat_map(|worker| &worker.traffic.publishers)
        {
            sent[publisher.number as usize] = publisher.sequence;
        }
        let mut lost = 0;
        let ledgers = finished.iter().flat_map(|worker| &worker.traffic.ledgers);
        for (client, ledger) in ledgers.enumerate() {
            for publisher in ledger.publishers() {
                let sent = sent[publisher as usize];
                lost += ledger.lost(publisher, sent);
                if let Some(first) = ledger
                    .first_lost(publisher, sent)
                    .filter(|_| errors.len() < 10)
                {
                    errors.push(format!(
                        "client {client} lacks message {first} of publisher {publisher}"
                    ));
                }
            }
        }
        // What came between the last look and the goodbye is in the ledgers, so take the last
        // counters too.
        let tally = self.shared.tally();
        let checks = Checks {
            published: tally.get(Counter::Published),
            acknowledged: tally.get(Counter::Acknowledged),
            expected: tally.get(Counter::Expected),
            received: tally.get(Counter::Received),
            unfinished: tally.get(Counter::Recorded) - tally.get(Counter::Released),
            lost,
            duplicates: tally.get(Counter::Duplicates),
            out_of_order: tally.get(Counter::OutOfOrder),
            corrupt: tally.get(Counter::Corrupt),
            unexpected: tally.get(Counter::Unexpected),
            foreign: tally.get(Counter::Foreign),
            written_off: tally.get(Counter::WrittenOff),
        };
        // Two ways to count the same thing: if they differ, the flooder itself is wrong.
        assert_eq!(
            checks.expected,
            checks.received + checks.lost,
            "counters and ledgers agree"
        );
        checks
    }

    fn target_use(&self, course: &Course) -> TargetUse {
        let (start, end) = (&course.start, &course.end);
        // A process that ended has used nothing: below 0 would be nonsense.
        let cpu = (end.target.cpu_seconds() - start.target.cpu_seconds()).max(0.0);
        let per = |count: u64| (count > 0).then(|| cpu * 1e6 / count as f64);
        let ready = course.connected.tally.get(Counter::Ready);
        let connect_cpu = course.connected.target.cpu_seconds() - self.before.target.cpu_seconds();
        let grown = course
            .connected
            .target
            .rss_bytes
            .saturating_sub(self.before.target.rss_bytes);
        let is_idle = self.plan.publishers.is_empty();
        let pings = end.count_since(start, Counter::PingsAnswered);
        TargetUse {
            pids: self.processes.pids().to_vec(),
            user_seconds: end.target.user_seconds - start.target.user_seconds,
            system_seconds: end.target.system_seconds - start.target.system_seconds,
            cpu_percent: cpu * 100.0 / end.seconds_since(start),
            cpu_us_per_delivery: per(end.count_since(start, Counter::Received)),
            cpu_us_per_publish: per(end.count_since(start, Counter::Published)),
            cpu_us_per_connect: (ready > 0).then(|| connect_cpu * 1e6 / ready as f64),
            // Where messages flow too, the share of the pings cannot be told.
            cpu_us_per_ping: per(pings).filter(|_| is_idle),
            rss_bytes_before: self.before.target.rss_bytes,
            rss_bytes_connected: course.connected.target.rss_bytes,
            rss_bytes_after: course.drained.target.rss_bytes,
            rss_bytes_per_connection: (ready > 0).then(|| grown as f64 / ready as f64),
        }
    }
}

fn flooder_use(course: &Course) -> FlooderUse {
    let (start, end) = (&course.start, &course.end);
    let cpu = end.own.cpu_seconds() - start.own.cpu_seconds();
    let delivered = end.count_since(start, Counter::Received);
    FlooderUse {
        cpu_percent: cpu * 100.0 / end.seconds_since(start),
        cpu_us_per_delivery: (delivered > 0).then(|| cpu * 1e6 / delivered as f64),
        rss_bytes: end.own.rss_bytes,
    }
}
