//! Seeds that are no requests: steps of `apply`, edits of a log, frames, configurations.

use super::piece;

type Seed = (&'static str, Vec<u8>);

/// A step of `apply` on a key.
const fn on(key: u8, what: u8) -> u8 {
    key << 5 | what
}

pub fn all() -> Vec<Seed> {
    let put = |key, bytes| vec![on(key, 0), 0, bytes];
    let delete = |key, kind| vec![on(key, 8), kind];
    let (flush, crash, reload, remove, check) = (vec![21], vec![22], vec![23], vec![24, 7], vec![27]);
    let compact = |back| vec![17, back];
    vec![
        (
            "puts-and-deletes",
            [put(0, 3), put(1, 200), delete(0, 2), put(0, 1), delete(1, 0), check.clone()].concat(),
        ),
        (
            "compaction-and-removal",
            [
                put(0, 1),
                put(0, 2),
                delete(0, 0),
                put(3, 1),
                compact(1),
                remove.clone(),
                check,
                compact(1),
                remove,
            ]
            .concat(),
        ),
        ("crash", [put(0, 1), flush, put(0, 2), compact(1), put(5, 1), crash, reload, put(0, 3)].concat()),
        (
            "leases",
            [
                vec![19, 1, 19, 2],
                vec![on(2, 0), 1, 5],
                vec![on(3, 0), 1, 5],
                vec![20, 1],
                vec![on(3, 28), 1, 3],
            ]
            .concat(),
        ),
        (
            "transactions",
            [put(0, 1), vec![on(0, 12), 1, 0, 3], vec![on(0, 12), 9, 1, 1], vec![on(6, 12), 0, 7, 6]]
                .concat(),
        ),
        ("compaction-to-nothing", vec![17, 1, 17, 1, 17, 2]),
    ]
}

/// Edits of the sound log that the target begins with. The first byte has bit 0 for that, bit 1 for new checksums.
pub fn segments() -> Vec<Seed> {
    let edit = |what: u8, file: u8, offset: u16| [&[file << 4 | what][..], &offset.to_le_bytes()].concat();
    // Odd offsets count from behind the first page.
    let in_frames = |at: u16| at << 1 | 1;
    let sealed = 9 << 2 | 3;
    vec![
        ("untouched", vec![9 << 2 | 1]),
        ("flipped", [vec![9 << 2 | 1], edit(15, 1, in_frames(40)), vec![4]].concat()),
        ("cut", [vec![9 << 2 | 1], edit(2, 2, in_frames(100))].concat()),
        ("removed", [vec![9 << 2 | 1], edit(3, 1, 0)].concat()),
        ("renamed", [vec![9 << 2 | 1], edit(4, 0, 0), vec![200]].concat()),
        ("foreign", [vec![9 << 2 | 1], edit(8, 0, 0), piece(b"00000000000000000009.preparing")].concat()),
        ("number", [vec![sealed], edit(9, 0, in_frames(16)), vec![255; 8]].concat()),
        ("position", [vec![sealed], edit(9, 0, in_frames(32 + 12)), vec![255; 8]].concat()),
        ("copied", [vec![sealed], edit(7, 2, in_frames(1000)), vec![0, 0x10, 0, 4]].concat()),
        ("nothing", vec![0, 1]),
        ("header-and-zeros", [vec![4, 1], vec![0; 16]].concat()),
    ]
}

/// Records and frames, see the target for the numbers.
pub fn frames() -> Vec<Seed> {
    let entry = |data: &[u8]| [vec![0], piece(data)].concat();
    let (state, end_frame, end_segment) = (vec![0x15], vec![12], vec![15]);
    vec![
        ("one", [vec![1, 0], entry(b"x"), state.clone(), end_frame.clone()].concat()),
        (
            "two-segments",
            [vec![1, 0], entry(b"x"), end_frame.clone(), end_segment, entry(b"y"), state, end_frame.clone()]
                .concat(),
        ),
        ("replaced", [vec![1, 0], entry(b"x"), entry(b"y"), vec![0x13, 1, b'z'], end_frame.clone()].concat()),
        ("restart", [vec![1, 0, 6, 0x28, 12], entry(b"y"), end_frame.clone()].concat()),
        ("torn", [vec![1, 0], entry(b"x"), vec![13, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]].concat()),
        ("unknown-kind", [vec![1, 0, 6, 0x7a, 0], piece(b"abc"), end_frame].concat()),
    ]
}

/// Configurations that people have.
pub const CONFIGURATIONS: &[(&str, &str)] = &[
    (
        "static-pod",
        "--advertise-client-urls=https://10.0.0.2:2379
--cert-file=/pki/server.crt
--client-cert-auth=true
--data-dir=/var/lib/etcd
--initial-advertise-peer-urls=https://10.0.0.2:2380
--initial-cluster=control-plane=https://10.0.0.2:2380
--key-file=/pki/server.key
--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.2:2379
--listen-metrics-urls=http://127.0.0.1:2381
--listen-peer-urls=https://10.0.0.2:2380
--name=control-plane
--peer-client-cert-auth=true
--snapshot-count=10000
--trusted-ca-file=/pki/ca.crt
--watch-progress-notify-interval=5s",
    ),
    (
        "unix",
        "--listen-client-urls\nunix:///run/holdfast.sock\n--advertise-client-urls\nunix:///run/holdfast.sock",
    ),
    ("conflict", "--name=a\n%%\nETCD_NAME=b"),
    ("help", "-h"),
    (
        "sections-of-a-file",
        "\n%%\n\n%%\nname: a
listen-client-urls: [http://127.0.0.1:1, http://127.0.0.1:2]
advertise-client-urls: http://127.0.0.1:1
client-transport-security:
  cert-file: a
  key-file: b
peer-transport-security: {auto-tls: true}
auto-compaction-mode: revision
auto-compaction-retention: \"1000\"
grpc-keepalive-interval: 7200000000000
",
    ),
    ("anchors", "\n%%\n\n%%\na: &a [1, 2]\nb: [*a, *a]\nname: *a\ncors: !x y\n"),
];
