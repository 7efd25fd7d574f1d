//! The fields of a frame, each once, unread.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::fault::{Fault, Refusal};
use super::position::{Epoch, OFFSET_MAX, Position};
use super::scan;

/// The members of a JSON object that some message has. Others are passed over, so that later versions may add some.
///
/// serde derives readers that take the array of values for the object, and tells of a wrong field only in a
/// sentence that quotes it; so names are matched here, and values are read one by one.
#[derive(Default)]
pub(super) struct Fields<'a> {
    values: [Option<&'a RawValue>; NAMES.len()],
    repeated: Option<&'static str>,
}

impl<'a> Fields<'a> {
    /// Reads the frame as far as its outermost members.
    pub(super) fn of_frame(text: &'a str) -> Result<Self, Refusal> {
        let fields = scan::check(text).and_then(|()| Self::parse(text)).map_err(|fault| Refusal { id: None, fault })?;
        match fields.repeated {
            Some(field) => Err(fields.refusal(Fault::Repeated { field })),
            None => Ok(fields),
        }
    }

    /// Reads an object within a frame, as what the field `name` holds.
    pub(super) fn of_object(name: &'static str, value: &'a RawValue) -> Result<Self, Fault> {
        let fields = Self::parse(value.get()).map_err(|_| Fault::Wrong { field: name, expected: "an object" })?;
        match fields.repeated {
            Some(field) => Err(Fault::Repeated { field }),
            None => Ok(fields),
        }
    }

    /// With the `id` that the frame has, if it can be read.
    pub(super) fn refusal(&self, fault: Fault) -> Refusal {
        Refusal { id: self.number("id", ID_MAX, ID).ok().flatten().map(|id| id as u32), fault }
    }

    pub(super) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or(Fault::Missing { field })
    }

    /// What a client counts its messages with.
    pub(super) fn id(&self) -> Result<Option<u32>, Fault> {
        Ok(self.number("id", ID_MAX, ID)?.map(|id| id as u32))
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, Fault> {
        let read = |value| read(value).map(|Text(text)| text).ok_or(Fault::Wrong { field: name, expected: "a string" });
        self.value(name).map(read).transpose()
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, Fault> {
        let read = |value| read(value).ok_or(Fault::Wrong { field: name, expected: "true or false" });
        self.value(name).map(read).transpose()
    }

    pub(super) fn number(&self, name: &'static str, max: u64, expected: &'static str) -> Result<Option<u64>, Fault> {
        let fits = |value| read(value).filter(|&number| number <= max).ok_or(Fault::Wrong { field: name, expected });
        self.value(name).map(fits).transpose()
    }

    /// As it stands, checked for its grammar only; also `null`.
    pub(super) fn raw(&self, name: &'static str) -> Option<&'a RawValue> {
        self.values[index_of(name)?]
    }

    /// As it stands, where it must be an object.
    pub(super) fn object(&self, name: &'static str) -> Result<Option<&'a RawValue>, Fault> {
        let object = |value: &'a RawValue| match value.get().starts_with('{') {
            true => Ok(value),
            false => Err(Fault::Wrong { field: name, expected: "an object" }),
        };
        self.value(name).map(object).transpose()
    }

    /// Its elements, as they stand.
    pub(super) fn array(&self, name: &'static str) -> Result<Option<Vec<&'a RawValue>>, Fault> {
        let read = |value| read(value).ok_or(Fault::Wrong { field: name, expected: "an array" });
        self.value(name).map(read).transpose()
    }

    pub(super) fn epoch(&self) -> Result<Option<Epoch>, Fault> {
        let wrong =
            Fault::Wrong { field: "epoch", expected: "a string of 16 hexadecimal digits, letters in lower case" };
        self.text("epoch")?.map(|epoch| Epoch::parse(&epoch).ok_or(wrong)).transpose()
    }

    pub(super) fn offset(&self) -> Result<Option<u64>, Fault> {
        self.number("offset", OFFSET_MAX, "a whole number from 0 to 9007199254740991")
    }

    /// Both `epoch` and `offset`, or neither.
    pub(super) fn position(&self) -> Result<Option<Position>, Fault> {
        match (self.epoch()?, self.offset()?) {
            (None, None) => Ok(None),
            (Some(epoch), Some(offset)) => Ok(Some(Position { epoch, offset })),
            (None, Some(_)) => Err(Fault::Missing { field: "epoch" }),
            (Some(_), None) => Err(Fault::Missing { field: "offset" }),
        }
    }

    /// Where `null` is as good as nothing: everywhere but in `data`.
    fn value(&self, name: &'static str) -> Option<&'a RawValue> {
        self.raw(name).filter(|value| value.get() != "null")
    }

    fn parse(text: &'a str) -> Result<Self, Fault> {
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Syntax | Category::Eof | Category::Io => {
                Fault::NotJson { line: error.line(), column: error.column() }
            }
            Category::Data => Fault::NotAnObject,
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(Text(name)) = map.next_key()? {
            let Some(index) = index_of(&name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.values[index].replace(map.next_value()?).is_some() {
                fields.repeated = Some(NAMES[index]);
            }
        }
        Ok(fields)
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

fn index_of(name: &str) -> Option<usize> {
    NAMES.iter().position(|&known| known == name)
}

/// All fields of all messages, the frequent ones first.
const NAMES: [&str; 23] = [
    "type",
    "topic",
    "data",
    "id",
    "offset",
    "key",
    "user",
    "epoch",
    "token",
    "recover",
    "presence",
    "recovered",
    "replay",
    "info",
    "event",
    "members",
    "connections",
    "connection",
    "expires_in",
    "code",
    "message",
    "retry_ms",
    "reason",
];

const ID_MAX: u64 = u32::MAX as u64;
const ID: &str = "a whole number from 0 to 4294967295";
