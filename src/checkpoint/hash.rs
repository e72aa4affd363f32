//! Hashes as files have them: 32 hexadecimal digits.

pub fn to_hex(hash: u128) -> String {
    format!("{hash:032x}")
}

pub fn from_hex(hex: &str) -> Option<u128> {
    let digits = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(hex, 16).ok().filter(|_| digits)
}
