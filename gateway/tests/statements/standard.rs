//! The statements of one standard, as its list beside this file has them.

use std::fmt;

/// The versions that number their statements. MQTT 3.1 does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V5,
    V3_1_1,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Version::V5 => "MQTT 5",
            Version::V3_1_1 => "MQTT 3.1.1",
        }
    }
}

/// Written as sources cite it: the bare form is MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) version: Version,
    /// `3.1.2-24`
    pub(crate) number: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::V5 => write!(f, "[MQTT-{}]", self.number),
            Version::V3_1_1 => write!(f, "[3.1.1 MQTT-{}]", self.number),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) id: Id,
    /// `server`, `client` or `both`.
    pub(crate) binds: String,
    pub(crate) what: String,
    pub(crate) why_untested: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Standard {
    pub(crate) version: Version,
    pub(crate) statements: Vec<Statement>,
}

impl Standard {
    /// Reads a list, whose mistakes are mistakes of this repository and end the test.
    pub(crate) fn read(version: Version, list: &str) -> Self {
        let mut statements: Vec<Statement> = Vec::new();
        for line in list.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<_> = line.split('\t').collect();
            let [number, binds, what, why_untested] = columns[..] else {
                panic!("four columns, not {line:?}");
            };
            assert!(
                ["server", "client", "both"].contains(&binds),
                "{line:?} binds nobody"
            );
            assert!(
                !what.is_empty() && !what.contains('|'),
                "{line:?} would break the table"
            );
            assert!(
                statements.iter().all(|before| before.id.number != number),
                "{number} stands there twice"
            );
            statements.push(Statement {
                id: Id {
                    version,
                    number: number.into(),
                },
                binds: binds.into(),
                what: what.into(),
                why_untested: (!why_untested.is_empty()).then(|| why_untested.into()),
            });
        }
        Standard {
            version,
            statements,
        }
    }
}

/// The standards themselves do not change, so a list that lost or won a line is wrong.
#[test]
fn the_lists_are_complete() {
    for (standard, length) in super::standards().iter().zip([251, 141]) {
        assert_eq!(
            standard.statements.len(),
            length,
            "{}",
            standard.version.name()
        );
    }
}
