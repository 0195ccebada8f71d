//! The stack machine that a pickle is a program of, closed: it builds values and knows no code.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Seek};

use thiserror::Error;

use super::numpy;
use super::value::{Content, Heap, Id, Value};

/// What can be wrong with a pickle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file ends too early.
    #[error("cut off: {wanted} more bytes are declared, {left} are there")]
    Truncated {
        /// How many bytes should follow.
        wanted: u64,
        /// How many do.
        left: u64,
    },
    /// A newer protocol than 5.
    #[error("protocol {0} is not read, only 0 to 5")]
    Protocol(u8),
    /// A function or class that is not needed to build arrays of numbers and text.
    #[error("it asks for {0}, which is not data")]
    Global(String),
    /// An instruction that builds something else than data, or that no pickle has.
    #[error("instruction 0x{0:02x} is not read")]
    Instruction(u8),
    /// A number or name that cannot be understood.
    #[error("a malformed {0}")]
    Malformed(&'static str),
    /// An instruction needs values that are not there or of other types.
    #[error("instruction 0x{0:02x} does not find the values it needs")]
    Operands(u8),
    /// A function or an object gets arguments that numpy does not write.
    #[error("{0} with arguments that numpy does not write")]
    Arguments(&'static str),
    /// An array has more or fewer bytes than its shape needs.
    #[error("an array of shape {shape:?} and type {dtype} is stored in {bytes} bytes or objects")]
    Size {
        /// The shape.
        shape: Vec<usize>,
        /// The element type.
        dtype: String,
        /// What is stored.
        bytes: u64,
    },
    /// Several million single values: arrays are stored as lists of numbers.
    #[error("more than {limit} values outside of arrays")]
    TooMany {
        /// The most values that are read; a long text or shape counts as several.
        limit: usize,
    },
    /// An array has more axes than numpy has.
    #[error("an array of {found} axes, expected at most {limit}")]
    Axes {
        /// The most axes.
        limit: usize,
        /// How many it has.
        found: usize,
    },
    /// The pickle holds something else than a dictionary.
    #[error("it holds no dictionary of splits")]
    NoDictionary,
}

/// Bytes and text of at least this length stay in the file until they are asked for.
pub(crate) const LARGE: u64 = 1024;

/// Values weigh some tens of bytes each; real files have some hundred thousand.
const MOST_VALUES: usize = 1 << 22;

/// Runs the pickle at the start of the file up to its end mark.
///
/// # Errors
///
/// With the position of the instruction.
pub(crate) fn run<R: Read + Seek>(
    file: &mut BufReader<R>,
    size: u64,
) -> Result<(Heap, Id), (u64, PickleError)> {
    let mut machine = Machine {
        file,
        size,
        position: 0,
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let start = machine.position;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => return Ok((machine.heap, root)),
            Err(error) => return Err((start, error)),
        }
    }
}

struct Machine<'a, R> {
    file: &'a mut BufReader<R>,
    size: u64,
    position: u64,
    heap: Heap,
    stack: Vec<Id>,
    /// The stack's heights at its marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<R: Read + Seek> Machine<'_, R> {
    /// Obeys one instruction; the last one gives the result.
    fn step(&mut self) -> Result<Option<Id>, PickleError> {
        let [instruction] = self.array()?;
        let operands = || PickleError::Operands(instruction);
        match instruction {
            0x80 => {
                let [protocol] = self.array()?;
                if protocol > 5 {
                    return Err(PickleError::Protocol(protocol));
                }
            }
            // A frame announces how much to read at once, which nothing here needs to know.
            0x95 => drop(self.array::<8>()?),
            b'.' => return Ok(Some(self.pop().ok_or_else(operands)?)),

            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop().ok_or_else(operands)?;
                }
            }
            b'1' => drop(self.pop_to_mark().ok_or_else(operands)?),
            b'2' => {
                let top = self.top().ok_or_else(operands)?;
                self.stack.push(top);
            }

            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let bytes = self.array()?;
                self.push(Value::Int(i32::from_le_bytes(bytes).into()))?;
            }
            b'K' => {
                let [byte] = self.array()?;
                self.push(Value::Int(byte.into()))?;
            }
            b'M' => {
                let bytes = self.array()?;
                self.push(Value::Int(u16::from_le_bytes(bytes).into()))?;
            }
            b'G' => {
                let bytes = self.array()?;
                self.push(Value::Float(f64::from_be_bytes(bytes)))?;
            }
            0x8a => {
                let [length] = self.array()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = i32::from_le_bytes(self.array()?);
                self.long(
                    length
                        .try_into()
                        .map_err(|_| PickleError::Malformed("integer"))?,
                )?;
            }
            b'I' => {
                let value = match self.line()?.as_str() {
                    "00" => Value::Bool(false),
                    "01" => Value::Bool(true),
                    digits => decimal(digits)?,
                };
                self.push(value)?;
            }
            b'L' => {
                let line = self.line()?;
                self.push(decimal(line.strip_suffix('L').unwrap_or(&line))?)?;
            }
            b'F' => {
                let value = self.line()?.parse();
                let value = value.map_err(|_| PickleError::Malformed("number"))?;
                self.push(Value::Float(value))?;
            }

            b'V' => {
                let text = raw_unicode_escape(&self.line_bytes()?);
                let text = text.ok_or(PickleError::Malformed("text"))?;
                self.push(Value::Text(Content::Here(text.into_bytes())))?;
            }
            0x8c | b'X' | 0x8d => {
                let length = self.length(instruction)?;
                let content = self.content(length)?;
                self.push(Value::Text(content))?;
            }
            b'C' | b'U' | b'B' | b'T' | 0x8e | 0x96 => {
                let length = self.length(instruction)?;
                let content = self.content(length)?;
                self.push(Value::Bytes(content))?;
            }

            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let mut items = Vec::new();
                for _ in 0x85..=instruction {
                    items.push(self.pop().ok_or_else(operands)?);
                }
                items.reverse();
                self.push(Value::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_to_mark().ok_or_else(operands)?;
                self.push(Value::Tuple(items))?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'l' => {
                let items = self.pop_to_mark().ok_or_else(operands)?;
                self.push(Value::List(items))?;
            }
            b'a' | b'e' => {
                let items = if instruction == b'a' {
                    self.pop().map(|item| vec![item])
                } else {
                    self.pop_to_mark()
                };
                match (self.top().map(|list| self.heap.get_mut(list)), items) {
                    (Some(Value::List(list)), Some(items)) => list.extend(items),
                    _ => return Err(operands()),
                }
            }
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_to_mark().and_then(pairs).ok_or_else(operands)?;
                self.push(Value::Dict(items))?;
            }
            b's' | b'u' => {
                let items = if instruction == b's' {
                    let value = self.pop();
                    let key = self.pop();
                    key.zip(value).map(|pair| vec![pair])
                } else {
                    self.pop_to_mark().and_then(pairs)
                };
                match (self.top().map(|dict| self.heap.get_mut(dict)), items) {
                    (Some(Value::Dict(dict)), Some(items)) => dict.extend(items),
                    _ => return Err(operands()),
                }
            }

            b'p' | b'q' | b'r' | 0x94 => {
                let place = match instruction {
                    0x94 => self.memo.len() as u64,
                    _ => self.memo_place(instruction)?,
                };
                let top = self.top().ok_or_else(operands)?;
                self.memo.insert(place, top);
            }
            b'g' | b'h' | b'j' => {
                let place = self.memo_place(instruction)?;
                let id = *self.memo.get(&place).ok_or_else(operands)?;
                self.stack.push(id);
            }

            // A name, of a class to instantiate at once for `i`.
            b'c' | b'i' => {
                let module = self.line()?;
                let name = self.line()?;
                let global = numpy::global(&module, &name)?;
                if instruction == b'i' {
                    return Err(PickleError::Instruction(instruction));
                }
                self.push(Value::Global(global))?;
            }
            0x93 => {
                let (name, module) = (self.pop(), self.pop());
                let text = |id: Option<Id>| self.heap.text(id?);
                let (module, name) = text(module).zip(text(name)).ok_or_else(operands)?;
                let global = numpy::global(module, name)?;
                self.push(Value::Global(global))?;
            }
            b'R' => {
                let (arguments, function) = (self.pop(), self.pop());
                let (function, arguments) = function.zip(arguments).ok_or_else(operands)?;
                let value = match (self.heap.get(function), self.heap.get(arguments)) {
                    (Value::Global(global), Value::Tuple(arguments)) => {
                        numpy::call(*global, arguments, &self.heap)?
                    }
                    _ => return Err(operands()),
                };
                self.push(value)?;
            }
            b'b' => {
                let state = self.pop().ok_or_else(operands)?;
                let target = self.top().ok_or_else(operands)?;
                let built = numpy::build(target, state, &self.heap)?;
                self.heap.replace(target, built);
            }
            other => return Err(PickleError::Instruction(other)),
        }
        Ok(None)
    }

    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        if self.heap.weight() >= MOST_VALUES {
            return Err(PickleError::TooMany { limit: MOST_VALUES });
        }
        let id = self.heap.add(value);
        self.stack.push(id);
        Ok(())
    }

    /// Nothing below the last mark can be taken.
    fn top(&self) -> Option<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied()
    }

    fn pop(&mut self) -> Option<Id> {
        self.top()?;
        self.stack.pop()
    }

    fn pop_to_mark(&mut self) -> Option<Vec<Id>> {
        let mark = self.marks.pop()?;
        Some(self.stack.split_off(mark))
    }

    fn memo_place(&mut self, instruction: u8) -> Result<u64, PickleError> {
        Ok(match instruction {
            b'q' | b'h' => self.array::<1>()?[0].into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?).into(),
            _ => self
                .line()?
                .parse()
                .map_err(|_| PickleError::Malformed("place"))?,
        })
    }

    /// The length in front of text or bytes.
    fn length(&mut self, instruction: u8) -> Result<u64, PickleError> {
        Ok(match instruction {
            0x8c | b'C' | b'U' => self.array::<1>()?[0].into(),
            b'X' | b'B' | b'T' => u32::from_le_bytes(self.array()?).into(),
            _ => u64::from_le_bytes(self.array()?),
        })
    }

    /// Before anything is read or made room for: is it there?
    fn claim(&mut self, wanted: u64) -> Result<(), PickleError> {
        let left = self.size - self.position;
        if wanted > left {
            return Err(PickleError::Truncated { wanted, left });
        }
        self.position += wanted;
        Ok(())
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], PickleError> {
        self.claim(LENGTH as u64)?;
        let mut bytes = [0; LENGTH];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn content(&mut self, length: u64) -> Result<Content, PickleError> {
        let start = self.position;
        self.claim(length)?;
        if length >= LARGE {
            // A claimed length is below the file's, which is below `i64::MAX`.
            self.file.seek_relative(length as i64)?;
            return Ok(Content::InFile { start, length });
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        Ok(Content::Here(bytes))
    }

    fn line_bytes(&mut self) -> Result<Vec<u8>, PickleError> {
        let left = self.size - self.position;
        let mut bytes = Vec::new();
        (&mut *self.file).take(left).read_until(b'\n', &mut bytes)?;
        self.position += bytes.len() as u64;
        if bytes.pop() == Some(b'\n') {
            Ok(bytes)
        } else {
            Err(PickleError::Truncated { wanted: 1, left: 0 })
        }
    }

    fn line(&mut self) -> Result<String, PickleError> {
        String::from_utf8(self.line_bytes()?).map_err(|_| PickleError::Malformed("name"))
    }

    /// A two's complement integer of any length, least significant byte first.
    fn long(&mut self, length: u64) -> Result<(), PickleError> {
        let Content::Here(bytes) = self.content(length)? else {
            return self.push(Value::LargeInt);
        };
        let negative = bytes.last().is_some_and(|byte| byte >> 7 == 1);
        let mut number = [if negative { 0xff } else { 0 }; 8];
        let value = if bytes.len() <= number.len() {
            number[..bytes.len()].copy_from_slice(&bytes);
            Value::Int(i64::from_le_bytes(number))
        } else {
            Value::LargeInt
        };
        self.push(value)
    }
}

fn pairs(items: Vec<Id>) -> Option<Vec<(Id, Id)>> {
    let (pairs, []) = items.as_chunks() else {
        return None;
    };
    Some(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

fn decimal(digits: &str) -> Result<Value, PickleError> {
    if let Ok(number) = digits.parse() {
        return Ok(Value::Int(number));
    }
    let all_digits = digits
        .trim_start_matches('-')
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    if all_digits && digits.len() > 18 {
        return Ok(Value::LargeInt);
    }
    Err(PickleError::Malformed("integer"))
}

/// Latin-1 with `\uXXXX` and `\UXXXXXXXX` for the rest.
fn raw_unicode_escape(line: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let [byte, following @ ..] = rest {
        let digits = match rest {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => {
                text.push(char::from(*byte));
                rest = following;
                continue;
            }
        };
        let code = str::from_utf8(rest.get(2..2 + digits)?).ok()?;
        text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
        rest = &rest[2 + digits..];
    }
    Some(text)
}
