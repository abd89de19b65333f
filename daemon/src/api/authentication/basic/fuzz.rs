//! Files of users as a fuzzer has them.

use std::path::Path;

use super::htpasswd::Htpasswd;

/// An htpasswd file. Nobody's password is checked: that takes its time on purpose.
pub(in crate::api) fn htpasswd(bytes: &[u8]) {
    match Htpasswd::parse(bytes, Path::new("htpasswd")) {
        Ok(file) => {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#"));
            for line in lines {
                let Some(end) = line.iter().position(|byte| *byte == b':') else { continue };
                let name = std::str::from_utf8(&line[..end]).expect("it was taken");
                assert!(file.has(name) && file.of(name).is_some());
            }
        }
        // A hash is nothing for a log.
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains("$2y$0") && !text.contains("$argon2id$v"), "{text}");
        }
    }
}
