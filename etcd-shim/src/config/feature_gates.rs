//! `--feature-gates`: names and stages of etcd's gates.
//!
//! None of them switches anything in Holdfast: each either describes an accident of etcd's back end or is
//! how Holdfast always behaves. They are checked all the same, because a manifest with a misspelt gate must
//! not start.

/// etcd's gates with their defaults and what the gate means here.
pub const GATES: [(&str, bool, &str); 11] = [
    ("AllAlpha", false, "no gate of Holdfast is alpha"),
    ("AllBeta", false, "no gate of Holdfast is beta"),
    ("CompactHashCheck", false, "takes effect with several members"),
    ("FastLeaseKeepAlive", true, "always on"),
    ("InitialCorruptCheck", false, "takes effect with several members"),
    ("LeaseCheckpoint", false, "deadlines always survive a restart"),
    ("LeaseCheckpointPersist", false, "deadlines always survive a restart"),
    ("PriorityRequest", false, "there is no overload queue to jump"),
    ("SetMemberLocalAddr", false, "takes effect with several members"),
    ("StopGRPCServiceOnDefrag", false, "defragmentation never stops the service"),
    ("TxnModeWriteWithSharedBuffer", true, "reads never copy a write buffer"),
];

/// One gate as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureGate {
    /// Its name, one of [`GATES`].
    pub name: &'static str,
    /// Whether it was switched on.
    pub enabled: bool,
}

/// Parses `Name=true,Other=false`.
pub fn parse(text: &str) -> Result<Vec<FeatureGate>, String> {
    let mut gates = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!("missing bool value for feature gate {part}"));
        };
        let (name, value) = (name.trim(), value.trim());
        let Some((name, ..)) = GATES.iter().find(|(known, ..)| *known == name) else {
            return Err(format!("unrecognized feature gate: {name}"));
        };
        let enabled = super::values::parse_boolean(value)
            .map_err(|_| format!("invalid value of {name}={value}, it must be true or false"))?;
        gates.push(FeatureGate { name, enabled });
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_gate_that_is_wrong() {
        assert_eq!(
            parse("InitialCorruptCheck=true, AllAlpha=false"),
            Ok(vec![
                FeatureGate { name: "InitialCorruptCheck", enabled: true },
                FeatureGate { name: "AllAlpha", enabled: false },
            ])
        );
        assert_eq!(parse("Nope=true"), Err("unrecognized feature gate: Nope".to_owned()));
        assert_eq!(parse("AllBeta"), Err("missing bool value for feature gate AllBeta".to_owned()));
        assert_eq!(
            parse("AllBeta=maybe"),
            Err("invalid value of AllBeta=maybe, it must be true or false".to_owned())
        );
    }
}
