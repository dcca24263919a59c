//! Alarms and hashes.

use crate::proto::etcdserverpb::{AlarmMember, AlarmType};
use kvstore::Revision;
use kvstore::command::{Alarm, AlarmKind};

/// The wire form of an alarm.
pub fn alarm_member(alarm: &Alarm) -> AlarmMember {
    AlarmMember { member_id: alarm.member, alarm: alarm.kind as i32 }
}

/// The kind that a wire number names; `None` for "all of them" and for numbers without a meaning.
pub fn alarm_kind(number: i32) -> Option<AlarmKind> {
    match AlarmType::try_from(number) {
        Ok(AlarmType::Nospace) => Some(AlarmKind::NoSpace),
        Ok(AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
        Ok(AlarmType::None) | Err(_) => None,
    }
}

/// An alarm among the errors of a status, as etcd prints it.
pub fn alarm_text(alarm: &Alarm) -> String {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    };
    format!("memberID:{} alarm:{kind}", alarm.member)
}

/// A compaction floor: etcd says −1 when there never was one.
pub fn compact_revision(floor: Option<Revision>) -> i64 {
    floor.map_or(-1, Revision::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_in_etcds_numbers_and_words() {
        let alarm = Alarm { member: 7, kind: AlarmKind::Corrupt };
        assert_eq!(alarm_text(&alarm), "memberID:7 alarm:CORRUPT");
        assert_eq!(alarm_member(&alarm).alarm, AlarmType::Corrupt as i32);
        for number in [0, 3, -1] {
            assert_eq!(alarm_kind(number), None);
        }
        assert_eq!(alarm_kind(1), Some(AlarmKind::NoSpace));
    }
}
