//! Bounded reader and writer; "need more" is a value, not an error.
//!
//! [`Reader`] walks over bytes that are in hand and never past their end. [`Writer`] gathers the many small pieces
//! of a packet's head in one buffer on the stack, so that a sink is called once or twice a packet.

use std::ops::Range;
use std::sync::Arc;

use crate::conversation::FrameSink;

/// The largest value of a variable byte integer (MQTT 5 section 1.5.5).
pub const VARIABLE_INTEGER_MAX: u32 = 268_435_455;

/// Why bytes do not read as what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The bytes end before the value does.
    Short,
    /// A variable byte integer of more than four bytes.
    LongInteger,
    /// A variable byte integer with more bytes than its value needs [MQTT-1.5.5-1].
    NotMinimal,
    /// Not well-formed UTF-8 [MQTT-1.5.4-1].
    NotUtf8,
    /// U+0000 in a string [MQTT-1.5.4-2].
    NullCharacter,
}

/// What stands at the front of some bytes that should begin with a variable byte integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableInteger {
    /// `len` bytes were read; `minimal` where no shorter encoding exists.
    Value {
        value: u32,
        len: usize,
        minimal: bool,
    },
    /// At least one byte more is needed.
    NeedMore,
    /// The fourth byte still says that another follows.
    TooLong,
}

/// Reads a variable byte integer at the front of `bytes` (MQTT 5 section 1.5.5).
#[inline]
pub fn variable_integer(bytes: &[u8]) -> VariableInteger {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            // A last byte of 0 behind another byte adds nothing to the value.
            return VariableInteger::Value {
                value,
                len: index + 1,
                minimal: byte != 0 || index == 0,
            };
        }
    }
    if bytes.len() < 4 {
        VariableInteger::NeedMore
    } else {
        VariableInteger::TooLong
    }
}

/// How many bytes `value` takes as a variable byte integer.
pub const fn variable_integer_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Reads values from the front of a stretch of bytes; a failed read leaves the position undefined.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            rest: bytes,
            total: bytes.len(),
        }
    }

    /// Bytes taken so far.
    pub fn position(&self) -> usize {
        self.total - self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Defect> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Defect::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Defect> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Defect::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Defect> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Defect> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Defect> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer in its shortest form [MQTT-1.5.5-1].
    pub fn variable_integer(&mut self) -> Result<u32, Defect> {
        match variable_integer(self.rest) {
            VariableInteger::Value {
                value,
                len,
                minimal: true,
            } => {
                self.rest = &self.rest[len..];
                Ok(value)
            }
            VariableInteger::Value { .. } => Err(Defect::NotMinimal),
            VariableInteger::NeedMore => Err(Defect::Short),
            VariableInteger::TooLong => Err(Defect::LongInteger),
        }
    }

    /// Binary data: two bytes of length, then that many bytes (MQTT 5 section 1.5.6).
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], Defect> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 string (MQTT 5 section 1.5.4). Rust's check refuses surrogates too [MQTT-1.5.4-1]; U+FEFF is kept
    /// wherever it stands [MQTT-1.5.4-3].
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, Defect> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes).map_err(|_| Defect::NotUtf8)?;
        if memchr::memchr(0, bytes).is_some() {
            return Err(Defect::NullCharacter);
        }
        Ok(text)
    }
}

/// Heads of usual packets, with topic and a short payload, fit in one buffer and so in one call of the sink.
const BUFFER_BYTES: usize = 128;

/// Writes values into a [`FrameSink`] through a small buffer, which is flushed when it is full and on drop.
#[derive(Debug)]
pub struct Writer<'s, S: FrameSink> {
    sink: &'s mut S,
    buffer: [u8; BUFFER_BYTES],
    len: usize,
}

impl<'s, S: FrameSink> Writer<'s, S> {
    pub fn new(sink: &'s mut S) -> Self {
        Writer {
            sink,
            buffer: [0; BUFFER_BYTES],
            len: 0,
        }
    }

    pub fn u8(&mut self, value: u8) {
        self.array([value]);
    }

    pub fn u16(&mut self, value: u16) {
        self.array(value.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.array(value.to_be_bytes());
    }

    /// As [`Writer::bytes`], with a length the compiler knows: a store instead of a call.
    #[inline]
    fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        match self.buffer[self.len..].first_chunk_mut() {
            Some(free) => {
                *free = bytes;
                self.len += N;
            }
            None => self.bytes(&bytes),
        }
    }

    /// `value` must not exceed [`VARIABLE_INTEGER_MAX`]; callers check sizes first.
    pub fn variable_integer(&mut self, mut value: u32) {
        debug_assert!(value <= VARIABLE_INTEGER_MAX);
        while value > 0x7F {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() > BUFFER_BYTES - self.len {
            self.flush();
            if bytes.len() > BUFFER_BYTES {
                return self.sink.put(bytes);
            }
        }
        self.buffer[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// A stretch of a shared block: copied where it fits beside the head, else handed on as it is.
    pub fn shared(&mut self, block: &Arc<[u8]>, range: Range<usize>) {
        if range.len() <= BUFFER_BYTES - self.len {
            self.bytes(&block[range]);
        } else {
            self.flush();
            self.sink.put_shared(block, range);
        }
    }

    /// Length-prefixed bytes. What is written comes from us or was read from a wire: never above 65,535 bytes.
    pub fn binary(&mut self, bytes: &[u8]) {
        let len =
            u16::try_from(bytes.len()).expect("length-prefixed fields have at most 65,535 bytes");
        self.u16(len);
        self.bytes(bytes);
    }

    pub fn string(&mut self, text: &str) {
        self.binary(text.as_bytes());
    }

    fn flush(&mut self) {
        if self.len > 0 {
            self.sink.put(&self.buffer[..self.len]);
            self.len = 0;
        }
    }
}

impl<S: FrameSink> Drop for Writer<'_, S> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A sink that only counts: a packet written into it first knows its remaining length.
#[derive(Debug, Default, Clone, Copy)]
pub struct Count(pub usize);

impl FrameSink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn put_shared(&mut self, _block: &Arc<[u8]>, range: Range<usize>) {
        self.0 += range.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt5_1_5_5_variable_integers_follow_table_1_1() {
        let check = |bytes: &[u8], expected: Result<u32, Defect>| {
            assert_eq!(
                Reader::new(bytes).variable_integer(),
                expected,
                "{bytes:02x?}"
            );
        };
        check(&[0x00], Ok(0));
        check(&[0x7F], Ok(127));
        check(&[0x80, 0x01], Ok(128));
        check(&[0xFF, 0x7F], Ok(16_383));
        check(&[0x80, 0x80, 0x01], Ok(16_384));
        check(&[0xFF, 0xFF, 0x7F], Ok(2_097_151));
        check(&[0x80, 0x80, 0x80, 0x01], Ok(2_097_152));
        check(&[0xFF, 0xFF, 0xFF, 0x7F], Ok(VARIABLE_INTEGER_MAX));
        check(&[0xFF, 0xFF, 0xFF, 0xFF, 0x01], Err(Defect::LongInteger));
        check(&[0xFF, 0xFF, 0xFF], Err(Defect::Short));
        check(&[], Err(Defect::Short));
    }

    #[test]
    fn mqtt5_1_5_5_1_longer_than_needed_is_a_defect() {
        for bytes in [
            &[0x80, 0x00][..],
            &[0xFF, 0x80, 0x00],
            &[0x81, 0x80, 0x80, 0x00],
        ] {
            assert_eq!(
                Reader::new(bytes).variable_integer(),
                Err(Defect::NotMinimal)
            );
        }
    }

    #[test]
    fn variable_integers_come_back_in_the_length_foretold() {
        for shift in 0..28 {
            for value in [(1u32 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let mut bytes = Vec::new();
                Writer::new(&mut bytes).variable_integer(value);
                assert_eq!(bytes.len(), variable_integer_len(value), "{value}");
                assert_eq!(Reader::new(&bytes).variable_integer(), Ok(value));
            }
        }
    }

    #[test]
    fn mqtt5_1_5_4_strings_are_utf_8_without_null() {
        let check = |bytes: &[u8], expected: Result<&str, Defect>| {
            assert_eq!(Reader::new(bytes).string(), expected, "{bytes:02x?}");
        };
        check(b"\0\0", Ok(""));
        check(b"\0\x02ab", Ok("ab"));
        check(b"\0\x05A\xF0\xAA\x9B\x94", Ok("A\u{2A6D4}"));
        check(b"\0\x04\xEF\xBB\xBFa", Ok("\u{FEFF}a")); // [MQTT-1.5.4-3]
        check(b"\0\x03\xED\xA0\x80", Err(Defect::NotUtf8)); // U+D800 [MQTT-1.5.4-1]
        check(b"\0\x01\xFF", Err(Defect::NotUtf8));
        check(b"\0\x02\xC0\x80", Err(Defect::NotUtf8)); // overlong null
        check(b"\0\x03a\0b", Err(Defect::NullCharacter)); // [MQTT-1.5.4-2]
        check(b"\0\x03ab", Err(Defect::Short));
        check(b"\0", Err(Defect::Short));
    }

    #[test]
    fn a_writer_keeps_the_order_of_small_large_and_shared_pieces() {
        let block: Arc<[u8]> = vec![7; 300].into();
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.u8(1);
        writer.bytes(&[2; 200]);
        writer.u16(0x0303);
        writer.shared(&block, 0..10);
        writer.shared(&block, 10..300);
        writer.u8(4);
        drop(writer);
        let expected = [&[1][..], &[2; 200], &[3, 3], &[7; 300], &[4]].concat();
        assert_eq!(out, expected);
    }
}
