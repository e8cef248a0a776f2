//! Spans of time as people type them: `8h`, `30m`, `1d12h`.

/// Seconds; units are d, h, m and s, each at most once and in this order.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is no span of time; write 8h, 30m or 1d12h");
    let (mut total, mut left) = (0_u32, text);
    for (unit, seconds) in [('d', 86_400_u32), ('h', 3600), ('m', 60), ('s', 1)] {
        let Some((count, rest)) = left.split_once(unit) else { continue };
        let count: u32 = count.parse().map_err(|_| wrong())?;
        total = count.checked_mul(seconds).and_then(|more| total.checked_add(more)).ok_or_else(wrong)?;
        left = rest;
    }
    if left.is_empty() && total > 0 { Ok(total) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_typed_and_nothing_else_is() {
        for (text, expected) in [("8h", 28_800), ("30m", 1800), ("1d12h", 129_600), ("90s", 90), ("1h1m1s", 3661)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for wrong in ["", "8", "h", "1h1d", "-1h", "1.5h", "1h ", "0s", "99999d", "1h2h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
