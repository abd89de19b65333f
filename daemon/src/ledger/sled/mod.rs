//! The ledger on one machine, in sled 0.34.
//!
//! Guarantees what [`Ledger`](super::Ledger) promises. Does not rate, plan or format, and never
//! reads the clock.
//!
//! Rows and sums stand in data files (`data`), written once and in order; everything that changes
//! stands in sled, and so does what says where they are.
//!
//! # How a change becomes durable
//!
//! Changes queue; one thread at a time takes all that wait and writes them as a group (`queue`):
//!
//! 1. rows and sums, behind the end of their data files, which are synced: no record names them;
//! 2. new texts, under keys that no reader looks at;
//! 3. `journal`: ONE record with all other writes of the group (slices, cursors, counters, keys,
//!    ends of data files …);
//! 4. sync: sled's `flush`, then `fdatasync` of sled's log. **Now the group is in the ledger.**
//! 5. a mark beside sled says that it is (`marks`);
//! 6. the journal's writes go to their places while readers wait outside; the new cursors are
//!    shown.
//!
//! A start replays the journal (which changes nothing when step 6 was done). What stands behind the
//! end of a data file is written over. So a group is there wholly or not at all, and readers only
//! ever see what is durable. Before step 1 the group asks whether there is room (`space`). After
//! step 1 has failed, on a full disk for example, the ledger is what it was; after a failed write
//! of sled no further change is taken until the ledger is opened again
//! ([`ReopeningLedger`](super::ReopeningLedger)), and if it was one of step 6, the group is in the
//! ledger and told so, and nothing that stands in sled is read: no query, no backup and no
//! `verify`. A record that a group replaces is read before step 2; if it cannot be, that group
//! alone fails.
//!
//! # What was found out about sled 0.34.7
//!
//! - One message of its log is atomic (it has a CRC). A start reads the log up to the first torn
//!   message, but only from the segment on that the newest segment headers call stable; before
//!   that, a torn message silently ends its segment alone. "Stable" means `sync_file_range`, so a
//!   power cut can leave a hole there if more than a segment was not synced. We sync before half
//!   a segment of log is not (`store`), and then what is recovered is a prefix of what was written.
//!   We rely on these two only.
//! - Batches and transactions write one message for each key and a marker in front that is compared
//!   with that same end of the log; across trees readers may see them half done. They are not used:
//!   one journal record needs no more than the promise above.
//! - `flush` writes with `sync_file_range`, which waits neither for the disk's cache nor for the
//!   file's size; we call `fdatasync` on the log after it. `conf` and directory entries are never
//!   synced by sled; we do so at every start, before anything is acknowledged.
//! - Values, and whole tree pages (up to 17 values) beyond a quarter of a segment go to files in
//!   `blobs/`, which are not synced at all and leak. Segments are 4 MiB here and values at most 40
//!   KiB, so there are none.
//! - A segment whose live pages were moved is written over without a sync in between. It is not
//!   reused before two further segments have been begun: that is why we sync so often.
//! - A change of a key is written as a link of its leaf; at the 11th the leaf is written anew. So a
//!   byte that changes takes up to four of the log when values are large.
//! - A start that is killed while it writes `snap.X.generating` makes every later start fail with
//!   "corruption" (the half file is taken for the newest snapshot; spacejam/sled#1527), and a start
//!   has more holes that a power cut or an error of reading falls through: see `files`.
//! - It writes snapshots of its page table at starts only: after a kill all that was written since
//!   the last start is read again, and a damaged byte in that part of the log cannot be told from
//!   its torn end. What follows it is lost as a whole, cursors included, so it is collected again;
//!   but rows that compaction has moved since, and whose old file it has deleted, are damaged then.
//! - A damaged byte in front of that end, but behind the last snapshot, ends its segment alone:
//!   what follows in the segment is gone, what follows in the next ones is there. A record may so
//!   be the one that it was before. No checksum notices either loss. Seals (`seal`) notice what is
//!   not what was written, marks (`marks`) what was acknowledged and is not there; the daemon says
//!   so at the start, deletes nothing from then on, and answers nothing of the records concerned
//!   until somebody accepts it. What else is damaged is a hole (`holes`); the rest goes on.
//! - Its cleaner ends for good after one failed read (a failed write is noticed by the next
//!   change): from then on the log only grows (`cleaner`).
//! - Damage may make it panic; opening is guarded.
//! - The lock on `db` may outlive the database by a moment, and its error cannot be told from
//!   others: we hold a lock of our own (`lock`).
//! - An iterator over a tree sees changes made meanwhile: readers list slices under a lock, then
//!   read rows and sums, which never change, without one. A data file that nobody can come to any
//!   more is deleted when those who began to read before have ended (`readers`, `compaction`).
//! - It keeps two to three bytes for each byte of a large value, gives hardly any back when it is
//!   deleted, and reads all that was written since the last start again after a kill: rows stood in
//!   it up to format 3.
//! - A key that is removed makes it write the rest of the leaf anew, so what is removed counts
//!   between two syncs like what is written.
//!
//! # Stored format, version 5
//!
//! Records of older versions are read as they are, and replaced when they change; a start raises
//! the header to 5, moves rows and sums out of sled (`raise`) and makes seals. Version 4 has no
//! trees `seals` and `generations` and no `root` in `meta`. Version 3 has rows and sums in trees
//! `rollups` and `blocks`, slices that wait to be deleted in `removed`, no trees `files` and
//! `sums`, and another version of the frame B. Version 2 has other versions of the frames I and B,
//! no order of slices but that of their numbers. Version 1 has no trees `removed`, `pushes`,
//! `reprocessings` and `staged` either, and other versions of the frames S, C and J.
//!
//! Integers in keys are big endian. In records `uint` is LEB128, `int` zigzag LEB128, `wide` a
//! length byte and as many bytes of two's complement, little endian; `text` and `bytes` have a
//! `uint` length in front; `time` is `secs:int nanos:uint`; `{ x }` repeats to the end of the
//! record.
//!
//! ```text
//! frame(kind, version) payload = kind:u8 version:u8 payload crc32(all before):u32le
//! packed(x)     = size:uint bytes      zstd of x when size > 0 (its size), x itself when size = 0
//! long(x)       = parts:u16be piece    at key part:u16be; further pieces at the next parts
//!
//! tree     key                           record
//! meta     "header"                       frame('L',1) "rated ledger\n" version:uint
//!          "counters"                     frame('O',1) rows:uint next_slice:uint next_note:uint
//!                                         next_mapping:uint
//!          "journal"                      frame('J',2) slot:u8 parts:uint rest
//!                                         rest = { packed({ write }) } if parts = 0,
//!                                         else crc32:u32le of the parts joined
//!                                         (version 1 has one `packed` only)
//!          "journal/" slot:u8 part:u32be  a part of { packed({ write }) }
//!                                         write = table:u8 key:bytes ( 0 | 1 value:bytes )
//! scopes   scope:u32be                    frame('S',2) id:text fetcher:text collector:text
//!                                         scope_key:text active:u8 toggled:time first_period:time
//!                                         ( 0 | 1 said_processed:time ) ( 0 | 1 rank:uint )
//!                                         (version 1 ends before these; its rank is its number)
//! metrics  metric:u32be                   frame('M',1) name:text alt_name:text
//! cursors  metric:u32be part:u16be        long(frame('C',2) …), see `cursors`
//! slices                                  see `slice`; in data files: see `data`, `rollup`,
//!                                         `block` and `columns`
//! files                                   see `data`
//! sums                                    see `sums`
//! seals; in meta "root" and "lost/"       see `seal`, `lost`; beside sled: see `marks`
//! meta     "stale sums"                   frame('y',1), if sums are not to be read (`sums`)
//! texts                                   see `texts`
//! chains   chain:u32be                    frame('H',3) ( 0 | 1 scope_key:text )
//!                                         { module:text revision:uint library:text config:text }
//!                                         (version 1 has no scope key, neither 1 nor 2 has
//!                                         `config`: it is not known)
//! notes    metric:u32be note:u64be        frame('N',1) begin:int end:int attempts:uint at:int
//!                                         reason:text { gap:uint more:uint }
//!                                         (runs of scope numbers, each `more` + 1 long)
//! kv                                      see `kv`
//! pushes                                  see `push`
//! reprocessings, staged                   see `reprocessing`
//! generations                             see `generations`
//! states   "configured" | "standing"      frame('Q',1) { metric:uint }
//!          "module/" name                 frame('U',1) enabled:u8 priority:int
//!          "collector/" name              frame('V',1) enabled:u8
//!          "mapping/" number:u64be        frame('W',1) service:text collector:text
//!          "kv/" instance                 see `kv`
//!          "dictionary/" metric:u32be column:text
//!                                         frame('Q',1) dictionary:uint
//!
//! tables of a write: 0 meta, 1 scopes, 2 metrics, 3 cursors, 4 slices, 5 rollups, 6 blocks,
//! 7 texts, 8 kv, 9 states, 10 notes, 11 chains, 12 removed, 13 pushes,
//! 14 reprocessings, 15 staged, 16 files, 17 sums, 18 seals, 19 generations
//! ```
//!
//! Example: the header is
//!
//! ```text
//! 4c 01 72 61 74 65 64 20 6c 65 64 67 65 72 0a 05 49 f0 ff 6f
//! L  1  r  a  t  e  d     l  e  d  g  e  r  \n 5  crc32
//! ```
//!
//! A program refuses a header with a higher version than its own. Within a version trees, keys
//! and records keep their meaning for ever; what changes gets a new version, and the old one
//! is still read.

mod accepting;
mod aside;
mod backup;
mod bits;
mod block;
mod catalog;
mod cells;
mod cleaner;
mod codec;
mod columns;
mod commit;
mod compaction;
mod completeness;
mod cursors;
mod data;
mod differences;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gather;
mod generations;
mod groups;
mod hash;
mod header;
mod holes;
mod indexes;
mod inner;
mod journal;
mod kv;
mod ledger;
mod load;
mod lookup;
mod lost;
mod marks;
mod merge;
mod missing;
mod moving;
mod numbers;
mod off;
mod opening;
mod pruning;
mod push;
mod query;
mod queue;
mod raise;
mod rates;
mod readers;
mod records;
mod removal;
mod reprocessing;
mod reset;
mod retention;
mod revisions;
mod rollup;
mod rows;
mod runs;
mod scopes;
mod seal;
mod seal_group;
mod slice;
mod space;
mod states;
mod store;
mod summary;
mod summary_page;
mod sums;
mod swap;
#[cfg(test)]
mod tests;
mod texts;
mod threads;
mod verify;
mod verify_parts;
mod verify_position;
mod verify_records;

pub use accepting::{Accepted, accept};
pub use backup::{RestoreError, restore_records};
pub use ledger::SledLedger;
pub use opening::{OpenError, SledOpener, SledOptions, is_disk_full};

/// Version of the stored format; a ledger with a newer one is not opened.
pub const LEDGER_VERSION: u16 = 5;
const COUNTERS_KEY: &[u8] = b"counters";
/// Up to format 3: slices that were being written.
const PENDING_KEY: &[u8] = b"pending";
