use std::fs;
use std::path::Path;

/// Longest input that a mutation grows to, bytes.
const INPUT_SIZE_MAX: usize = 64 << 10;
/// Most changes that make a mutation of an input.
const CHANGES_MAX: u64 = 4;

/// Runs `target` over every file of a folder, then over `mutations` of them: what a fuzzer has
/// found once stays found, and a little is looked for anew by every test.
///
/// The same folder and seed make the same mutations. When `target` panics, the input and where it
/// came from are printed.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("rated-replay-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// std::fs::write(folder.join("seed"), "12.50")?;
///
/// let mut runs = 0;
/// rated_plugin::testing::replay(&folder, 7, 100, |bytes| {
///     let text = String::from_utf8_lossy(bytes);
///     if let Ok(qty) = text.parse::<rated_plugin::Decimal>() {
///         assert_eq!(qty.to_string().parse(), Ok(qty));
///     }
///     runs += 1;
/// });
///
/// assert_eq!(runs, 1 + 100);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
///
/// If the folder cannot be read or has no file, and when `target` does.
pub fn replay(folder: &Path, seed: u64, mutations: usize, mut target: impl FnMut(&[u8])) {
    let inputs = read_inputs(folder);
    for (name, bytes) in &inputs {
        let _shown = Shown { origin: format!("`{}`", folder.join(name).display()), bytes };
        target(bytes);
    }
    let mut chance = Chance(seed);
    for number in 0..mutations {
        let bytes = mutation(&mut chance, &inputs);
        let origin = format!("mutation {number} of `{}`, seed {seed}", folder.display());
        let _shown = Shown { origin, bytes: &bytes };
        target(&bytes);
    }
}

/// By name, so that their order is the same everywhere.
fn read_inputs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = || -> std::io::Result<Vec<(String, Vec<u8>)>> {
        let mut inputs = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            inputs.push((name, fs::read(entry.path())?));
        }
        inputs.sort();
        Ok(inputs)
    };
    let inputs = read().unwrap_or_else(|error| panic!("`{}`: {error}", folder.display()));
    assert!(!inputs.is_empty(), "`{}` has no inputs", folder.display());
    inputs
}

/// Says which input it was when the test panics.
struct Shown<'a> {
    origin: String,
    bytes: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was {}:\nb\"{}\"", self.origin, self.bytes.escape_ascii());
        }
    }
}

fn mutation(chance: &mut Chance, inputs: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = chance.one_of(inputs).1.clone();
    for _ in 0..=chance.below(CHANGES_MAX) {
        change(chance, &mut bytes, inputs);
    }
    bytes.truncate(INPUT_SIZE_MAX);
    bytes
}

/// What a fuzzer does without knowing where it gets: bits, bytes, pieces, pieces of others.
fn change(chance: &mut Chance, bytes: &mut Vec<u8>, inputs: &[(String, Vec<u8>)]) {
    let at = chance.index(bytes.len() + 1);
    let piece = |chance: &mut Chance, of: &[u8]| {
        let begin = chance.index(of.len() + 1);
        let size = chance.index((of.len() - begin).min(64) + 1);
        of[begin..begin + size].to_vec()
    };
    match chance.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        1 if at < bytes.len() => bytes[at] = chance.byte(),
        2 => bytes.insert(at, chance.byte()),
        3 => {
            let end = at + chance.index((bytes.len() - at).min(32) + 1);
            drop(bytes.drain(at..end));
        }
        4 => {
            let repeated = piece(chance, bytes);
            drop(bytes.splice(at..at, repeated));
        }
        5 => {
            let other = chance.index(inputs.len());
            let foreign = piece(chance, &inputs[other].1);
            let end = (at + foreign.len()).min(bytes.len());
            drop(bytes.splice(at..end, foreign));
        }
        _ => bytes.truncate(at),
    }
}

/// Numbers without a pattern, the same for the same seed (`SplitMix64`).
#[derive(Debug, Clone)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).expect("below a size in memory")
    }

    fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }

    /// Mostly one that means something to a parser.
    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\"'\\{}[]<>&;:,.=/-+eE019 \n#%";
        let any = self.next().to_le_bytes()[0];
        if self.below(4) == 0 { any } else { *self.one_of(TELLING) }
    }
}
