//! What was done to which file, and what the store has to say about it: that file's path, and what to do.

use holdfast_tests::check_advice;
use kvstore::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where the damaged file itself shows nothing: a part of its path, what is named instead, and why.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "state/MANIFEST-",
        "its list of tables, MANIFEST-*, was cut or is of an earlier time",
        "a sound list of earlier tables; only the log, which no longer has what they lack, shows that it is not the newest",
    ),
    (
        ".sst",
        "one of the tables beside it, *.sst, is damaged",
        "RocksDB reads a table's properties before it looks at their checksum, and does not say which table's they were",
    ),
];

/// Something done to a file of a data directory, or nothing at all.
pub struct Done {
    /// Below the data directory; empty if all is as it was.
    file: PathBuf,
    how: String,
}

impl Done {
    pub fn to(file: impl Into<PathBuf>, how: impl Into<String>) -> Done {
        Done { file: file.into(), how: how.into() }
    }

    /// Nothing is wrong, so that nothing may be refused.
    pub fn nothing(how: &str) -> Done {
        Done::to("", how)
    }

    /// The same file, with its good bytes back.
    pub fn undone(&self) -> Done {
        Done::nothing(&format!("{self}, with the good file back"))
    }

    /// A refused start names the file by its whole path, or what there is to name, and says what to do.
    #[track_caller]
    pub fn check_refused(&self, data_dir: &Path, error: &Error) {
        let text = error.to_string();
        assert!(matches!(error, Error::Damaged { .. } | Error::DataDir { .. }), "{self}: {text}");
        assert!(text.contains(&data_dir.display().to_string()), "{self}: {text}");
        self.check_named(&text);
        check_advice(&text, &self.to_string());
    }

    /// An answer that is no data is about damage; nobody's store has to stop itself for it.
    #[track_caller]
    pub fn check_unread(&self, error: &Error) {
        let text = error.to_string();
        assert!(matches!(error, Error::Damaged { .. } | Error::Unreadable(_)), "{self}: {text}");
        self.check_named(&text);
        check_advice(&text, &self.to_string());
    }

    #[track_caller]
    fn check_named(&self, text: &str) {
        assert!(!self.file.as_os_str().is_empty(), "{self}: {text}");
        let path = self.file.display().to_string();
        let elsewhere = |(part, named, _): &(&str, &str, &str)| path.contains(part) && text.contains(named);
        let is_told = text.contains(&path) || ELSEWHERE.iter().any(elsewhere);
        assert!(is_told, "the file is not named: {self}: {text}");
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file.as_os_str().is_empty() {
            true => f.write_str(&self.how),
            false => write!(f, "{}: {}", self.file.display(), self.how),
        }
    }
}
