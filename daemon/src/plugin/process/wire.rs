//! Frames over a socket, and what they are made of.
//!
//! A frame is its size (four bytes, little-endian) and so many bytes. In it stand numbers of a
//! fixed size, little-endian; bytes after their size (eight bytes); and at its end, from a multiple
//! of 64 on, what is left (columns). Whoever reads believes nothing: a size is held against what is
//! there before anything is made of it, and memory grows with what has come, not with what was
//! announced.

use std::io::{self, Read};

use rated_plugin::{Error, Result};

/// Largest frame, bytes: the largest body that a plugin may fetch over HTTP, and its head.
pub(super) const FRAME_SIZE_MAX: usize = (1 << 30) + (1 << 20);
/// Where columns begin in a frame: a multiple of it.
const ALIGNMENT: usize = 64;
/// Most entries of one list.
const LIST_MAX: usize = 5_000_000;

/// The next frame; `None` when the other side has closed its end between two frames. `size_max` of
/// its kind, the first byte, is the most that is accepted.
pub(super) fn read_frame(
    socket: &mut impl Read,
    size_max: impl Fn(u8) -> usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 5];
    if !fill(socket, &mut head[..4])? {
        return Ok(None);
    }
    let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let check = |max: usize| {
        let text = format!("a frame of {size} bytes, at most {max} are accepted");
        let lies = size == 0 || size > max;
        if lies { Err(io::Error::new(io::ErrorKind::InvalidData, text)) } else { Ok(()) }
    };
    check(FRAME_SIZE_MAX)?;
    if !fill(socket, &mut head[4..])? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    check(size_max(head[4]))?;
    let mut frame = Vec::with_capacity(size.min(1 << 20));
    frame.push(head[4]);
    socket.take(size as u64 - 1).read_to_end(&mut frame)?;
    if frame.len() < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}

/// Fills the buffer; `false` when there was nothing at all.
fn fill(socket: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match socket.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(size) => filled += size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Makes a frame. Its first four bytes are its size, so that it is written at once.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Writer {
        Writer(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Writer {
        self.0.push(value);
        self
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Writer {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Writer {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut Writer {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn fixed(&mut self, bytes: &[u8]) -> &mut Writer {
        self.0.extend(bytes);
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.u64(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Writer {
        self.bytes(text.as_bytes())
    }

    /// What is left of the frame, written by `write`.
    pub(super) fn rest(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        // The size is not part of the frame.
        let padded = (self.0.len() - 4).next_multiple_of(ALIGNMENT) + 4;
        self.0.resize(padded, 0);
        write(&mut self.0)
    }

    /// The bytes to send.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        let size = self.0.len() - 4;
        if size > FRAME_SIZE_MAX {
            return Err(Error::invalid_request(format!(
                "{size} bytes for one call, at most {FRAME_SIZE_MAX} are passed on"
            )));
        }
        let head = u32::try_from(size).expect("checked just now").to_le_bytes();
        self.0[..4].copy_from_slice(&head);
        Ok(self.0)
    }
}

/// A frame is not what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Error {
        Error::internal("a message between daemon and plugin is malformed")
    }
}

type Taken<T> = std::result::Result<T, Malformed>;

/// Takes a frame apart.
#[derive(Debug)]
pub(super) struct Reader {
    frame: Vec<u8>,
    at: usize,
}

impl Reader {
    pub(super) fn new(frame: Vec<u8>) -> Reader {
        Reader { frame, at: 0 }
    }

    /// Bytes of the whole frame.
    pub(super) fn len(&self) -> usize {
        self.frame.len()
    }

    fn take(&mut self, size: usize) -> Taken<&[u8]> {
        let end = self.at.checked_add(size).ok_or(Malformed)?;
        let taken = self.frame.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Taken<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(super) fn u8(&mut self) -> Taken<u8> {
        Ok(self.fixed::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Taken<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Taken<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Taken<i64> {
        self.fixed().map(i64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Taken<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub(super) fn bytes(&mut self) -> Taken<Vec<u8>> {
        let size = usize::try_from(self.u64()?).map_err(|_| Malformed)?;
        self.take(size).map(<[u8]>::to_vec)
    }

    pub(super) fn text(&mut self) -> Taken<String> {
        String::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// Entries after their number.
    pub(super) fn list<T>(&mut self, entry: impl Fn(&mut Reader) -> Taken<T>) -> Taken<Vec<T>> {
        let count = self.u32()? as usize;
        if count > LIST_MAX {
            return Err(Malformed);
        }
        (0..count).map(|_| entry(self)).collect()
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Taken<()> {
        if self.at == self.frame.len() { Ok(()) } else { Err(Malformed) }
    }

    /// What is left, from the next multiple of 64 on: the whole frame and where it begins.
    pub(super) fn rest(self) -> Taken<(Vec<u8>, usize)> {
        let begin = self.at.next_multiple_of(ALIGNMENT);
        if begin > self.frame.len() { Err(Malformed) } else { Ok((self.frame, begin)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(frame: &[u8]) -> io::Result<Option<Vec<u8>>> {
        read_frame(&mut &*frame, |_| FRAME_SIZE_MAX)
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut writer = Writer::new(7);
        writer.u8(1).u32(2).u64(3).i64(-4).text("fünf").bytes(&[]).fixed(&[6, 6]);
        writer
            .rest(|bytes| {
                bytes.extend(b"columns");
                Ok(())
            })
            .unwrap();
        let frame = writer.finish().unwrap();

        let mut reader = Reader::new(sent(&frame).unwrap().unwrap());

        assert_eq!((reader.u8(), reader.flag(), reader.u32()), (Ok(7), Ok(true), Ok(2)));
        assert_eq!((reader.u64(), reader.i64()), (Ok(3), Ok(-4)));
        assert_eq!((reader.text(), reader.bytes()), (Ok("fünf".to_owned()), Ok(Vec::new())));
        assert_eq!(reader.fixed(), Ok([6, 6]));
        let (whole, begin) = reader.rest().unwrap();
        assert_eq!((begin % ALIGNMENT, &whole[begin..]), (0, &b"columns"[..]));
    }

    #[test]
    fn the_end_between_two_frames_is_one_and_within_a_frame_is_an_error() {
        assert!(sent(&[]).unwrap().is_none());
        for cut in 1..9 {
            let mut writer = Writer::new(7);
            let frame = {
                writer.u32(1);
                writer.finish().unwrap()
            };
            assert_eq!(frame.len(), 9);
            assert!(sent(&frame[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn sizes_that_lie_are_found_before_memory_is_taken() {
        assert!(sent(&u32::MAX.to_le_bytes()).is_err());
        assert!(sent(&0_u32.to_le_bytes()).is_err());
        let mut writer = Writer::new(7);
        let frame = writer.fixed(&[0; 9]).0.clone();
        let frame = Writer(frame).finish().unwrap();
        let of_kind = |kind| if kind == 7 { 9 } else { FRAME_SIZE_MAX };
        let refused = read_frame(&mut &*frame, of_kind).unwrap_err().to_string();
        assert_eq!(refused, "a frame of 10 bytes, at most 9 are accepted");
        let mut reader = Reader::new(u64::MAX.to_le_bytes().to_vec());
        assert_eq!(reader.bytes(), Err(Malformed));
        let mut reader = Reader::new(u32::MAX.to_le_bytes().to_vec());
        assert_eq!(reader.list(Reader::u8), Err(Malformed));
        let reader = Reader { frame: vec![0; 3], at: 1 };
        assert_eq!(reader.rest(), Err(Malformed));
    }
}
