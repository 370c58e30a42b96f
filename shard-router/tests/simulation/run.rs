//! Runs seeds, on all cores, and says how to see a failure again.

use std::cell::{Cell, RefCell};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Once};

use crate::coverage::Coverage;
use crate::plan::Plan;
use crate::world::World;

pub(crate) const STEPS: usize = 2_000;
/// A thing a run must meet, in so many of 100 seeds.
const COVERED_PERCENT: usize = 20;
/// Fewer seeds than this say nothing about coverage.
const SEEDS_THAT_COUNT: u64 = 100;

#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) steps: usize,
    pub(crate) step: usize,
    pub(crate) what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure {
            seed,
            steps,
            step,
            what,
        } = self;
        writeln!(f, "seed {seed}, step {step}: {what}")?;
        write!(f, "again: make simulate SEED={seed} STEPS={steps}")
    }
}

thread_local! {
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static STEP: Cell<usize> = const { Cell::new(0) };
    static WHERE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// One run, from an empty process to an empty process.
pub(crate) fn one(seed: u64, steps: usize, verbose: bool) -> Result<Coverage, Failure> {
    keep_panics_quiet();
    RUNNING.set(true);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(Plan::of(seed), verbose);
        if verbose {
            println!("{:#?}", world.plan);
        }
        for step in 1..=steps {
            STEP.set(step);
            world.step();
        }
        world.finish();
        world.into_coverage()
    }));
    RUNNING.set(false);
    ran.map_err(|_| Failure {
        seed,
        steps,
        step: STEP.get(),
        what: WHERE.take(),
    })
}

/// Panics of a run are its verdict; only their text is kept.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if RUNNING.get() {
                WHERE.set(info.to_string());
            } else {
                before(info);
            }
        }));
    });
}

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

pub(crate) fn steps() -> usize {
    number("STEPS", STEPS as u64) as usize
}

/// What the environment asks for.
pub(crate) fn many() {
    if std::env::var("SEED").is_ok_and(|seed| !seed.is_empty()) {
        let seed = number("SEED", 0);
        let ran = one(seed, steps(), true);
        println!("{:?}", ran.as_ref().map(|coverage| coverage.rows()));
        if let Err(failure) = ran {
            panic!("{failure}");
        }
        return;
    }
    let seeds = number("SEEDS", 200);
    let (failures, covered) = on_all_cores(seeds, steps());
    report(seeds, &covered);
    if let Some(first) = failures.first() {
        for failure in failures.iter().skip(1).take(20) {
            println!("also: {failure}\n");
        }
        panic!("{} of {seeds} seeds failed; {first}", failures.len());
    }
    if seeds >= SEEDS_THAT_COUNT && steps() >= STEPS {
        for (name, in_seeds) in covered {
            let enough = in_seeds * 100 >= seeds as usize * COVERED_PERCENT;
            assert!(
                enough,
                "{name}: met in {in_seeds} of {seeds} seeds only; the run does not count"
            );
        }
    }
}

/// Names, and in how many seeds each was met.
type Covered = Vec<(&'static str, usize)>;

fn on_all_cores(seeds: u64, steps: usize) -> (Vec<Failure>, Covered) {
    let next = AtomicU64::new(0);
    let (sender, results) = mpsc::channel();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failures = Vec::new();
    let mut covered: Covered = Coverage::default()
        .rows()
        .map(|(name, _)| (name, 0))
        .to_vec();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds || sender.send(one(seed, steps, false)).is_err() {
                    return;
                }
            });
        }
        drop(sender);
        for ran in results {
            match ran {
                Err(failure) => failures.push(failure),
                Ok(coverage) => {
                    for (entry, (_, times)) in covered.iter_mut().zip(coverage.rows()) {
                        entry.1 += usize::from(times > 0);
                    }
                }
            }
        }
    });
    failures.sort_by_key(|failure| (failure.steps, failure.seed));
    (failures, covered)
}

fn report(seeds: u64, covered: &Covered) {
    println!(
        "{seeds} seeds of {} steps; met in so many of them:",
        steps()
    );
    for (name, in_seeds) in covered {
        println!(
            "  {name:20} {in_seeds:6}  {:3} %",
            in_seeds * 100 / (seeds as usize).max(1)
        );
    }
}
