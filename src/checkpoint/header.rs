//! The header of a safetensors file, read without the leniency of the library's own reader: names that
//! occur twice are an error.

use crate::error::{Code, Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

/// Under which a file's metadata has ours.
pub const METADATA_KEY: &str = "lenet";

/// safetensors' own limit on the header's length.
const MAX_HEADER: u64 = 100_000_000;

/// Tensor names and our metadata.
pub fn read(bytes: &[u8]) -> Result<(BTreeSet<String>, Option<String>)> {
    let not_safetensors = || Error::new(Code::Format, "not a safetensors file");
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(not_safetensors)?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER || rest.first() != Some(&b'{') {
        return Err(not_safetensors());
    }
    let json = rest
        .get(..length as usize)
        .ok_or_else(|| Error::new(Code::Corrupt, "the file ends inside its header"))?;
    let bad = |e: serde_json::Error| Error::new(Code::Corrupt, format!("header: {e}"));
    let Unique(mut header) = serde_json::from_slice::<Unique<Box<RawValue>>>(json).map_err(bad)?;
    let metadata = match header.remove("__metadata__") {
        None => None,
        Some(json) => {
            let Unique(mut entries) = serde_json::from_str(json.get()).map_err(bad)?;
            entries.remove(METADATA_KEY)
        }
    };
    Ok((header.into_keys().collect(), metadata))
}

/// A JSON object none of whose names occurs twice.
struct Unique<V>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format!("{name} occurs twice")));
                    }
                    entries.insert(name, value);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
