//! What is stored and what scripts leave, as a fuzzer has it.

use crate::python::fuzz::answer;
use crate::record::{self, edits};

/// A stored script (its key, a NUL, its record), or what a process answers.
pub fn scripts(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 2 {
        0 => stored(bytes),
        _ => answer(bytes),
    }
}

/// What is read comes back when it is written.
fn stored(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return };
    let Ok(key) = std::str::from_utf8(&bytes[..end]) else { return };
    let Ok((id, script)) = record::read(key, &bytes[end + 1..]) else { return };
    let edit = edits(id, &script, None).remove(0);
    let written = edit.value.expect("it was put");
    assert_eq!(record::read(&edit.key, &written).ok(), Some((id, script)));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn any_stored_script_and_any_answer_is_read_or_refused() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../daemon/fuzz/corpus/scripts");
        rated_plugin::testing::replay(&corpus, 1, 10_000, super::scripts);
    }
}
