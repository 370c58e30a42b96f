//! How much memory there is: the host's, or less where a cgroup says so.

use std::fs;
use std::path::{Path, PathBuf};

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

pub(super) fn available_bytes() -> u64 {
    let host = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total_of(&text));
    // Without /proc a small host is the careful guess.
    let host = host.unwrap_or(1 << 30);
    cgroup_limit().map_or(host, |limit| limit.min(host))
}

/// `MemTotal:        8045312 kB`
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1_024)
}

/// The lowest `memory.max` from this process's cgroup up to the root: each of them binds.
fn cgroup_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let root = Path::new(CGROUP_ROOT);
    let group = root.join(group_of(&groups)?);
    lowest_limit(root, &group)
}

/// The path of the version 2 line, `0::/system.slice/tidegate.service`, relative to the root.
fn group_of(groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

fn lowest_limit(root: &Path, group: &Path) -> Option<u64> {
    let up_to_root = group
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    up_to_root
        .filter_map(|folder| fs::read_to_string(folder.join("memory.max")).ok())
        // "max" means no limit here and is no number.
        .filter_map(|text| text.trim().parse().ok())
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_counts_in_kib() {
        assert_eq!(
            total_of("MemTotal:        8045312 kB\nMemFree: 1 kB\n"),
            Some(8_045_312 << 10)
        );
        assert_eq!(total_of("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn only_the_version_2_group_counts() {
        let groups = "4:memory:/old\n0::/system.slice/tidegate.service\n";
        assert_eq!(
            group_of(groups),
            Some(PathBuf::from("system.slice/tidegate.service"))
        );
        assert_eq!(group_of("4:memory:/old\n"), None);
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_binds() {
        let root = std::env::temp_dir().join(format!("tidegate-cgroup-{}", std::process::id()));
        let leaf = root.join("slice/service");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(leaf.join("memory.max"), "max\n").unwrap();
        fs::write(root.join("slice/memory.max"), "1073741824\n").unwrap();
        assert_eq!(lowest_limit(&root, &leaf), Some(1 << 30));
        assert_eq!(lowest_limit(&root, &root), None);
        fs::remove_dir_all(root).unwrap();
    }
}
