//! CPU lists as the kernel writes them: `0-3,8`.

/// Reads a list; the CPUs come in the order they are named.
pub fn parse(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("{part} runs backwards"));
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is there twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

fn number(text: &str) -> Result<usize, String> {
    // The bound keeps a slip such as 0-40000000 from becoming a list of that length.
    text.parse()
        .ok()
        .filter(|cpu| *cpu < 4_096)
        .ok_or_else(|| format!("{text:?} is no CPU number"))
}

/// Writes a list with neighbours joined.
pub fn show(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => parts.push((*cpu, *cpu)),
        }
    }
    let shown = parts.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_like_the_kernels() {
        for (text, cpus) in [
            ("0", vec![0]),
            ("0-3,8", vec![0, 1, 2, 3, 8]),
            ("8,1-2", vec![8, 1, 2]),
        ] {
            assert_eq!(parse(text), Ok(cpus.clone()));
            assert_eq!(show(&cpus), text);
        }
        assert_eq!(parse(" 1, 2 "), Ok(vec![1, 2]));
    }

    #[test]
    fn slips_are_named() {
        for (text, error) in [
            ("", "\"\" is no CPU number"),
            ("a", "\"a\" is no CPU number"),
            ("3-1", "3-1 runs backwards"),
            ("0-2,1", "CPU 1 is there twice"),
            ("0-99999999", "\"99999999\" is no CPU number"),
        ] {
            assert_eq!(parse(text), Err(error.to_owned()));
        }
    }
}
