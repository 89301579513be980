//! Amounts as people write them in a definition's file: `"2GB"` of memory, `"500m"` of a core.

/// Megabytes, as the API counts them: 1,024 of them are a gigabyte.
pub(super) fn megabytes(text: &str) -> Result<i64, String> {
    let needed = || format!("must be a number of megabytes such as 512, or \"512MB\" or \"2GB\", not {text:?}");
    let (number, unit) = split(text).ok_or_else(needed)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mi" | "mib" => 1.0,
        "g" | "gb" | "gi" | "gib" => 1024.0,
        "t" | "tb" | "ti" | "tib" => 1024.0 * 1024.0,
        _ => return Err(needed()),
    };
    whole(number * factor).ok_or_else(needed)
}

/// Thousandths of a core.
pub(super) fn millis_of_a_core(text: &str) -> Result<i64, String> {
    let needed =
        || format!("must be a number of thousandths of a core such as 500, or \"500m\" or \"0.5 cores\", not {text:?}");
    let (number, unit) = split(text).ok_or_else(needed)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "m" => 1.0,
        "core" | "cores" => 1000.0,
        _ => return Err(needed()),
    };
    whole(number * factor).ok_or_else(needed)
}

/// A number that is not negative, and the unit behind it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

fn whole(number: f64) -> Option<i64> {
    const MOST: f64 = 1e15;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and far below the largest")]
    (number.fract() == 0.0 && number <= MOST).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        for (text, expected) in
            [("512", 512), ("512MB", 512), ("2GB", 2048), ("2 GiB", 2048), ("0.5g", 512), ("1t", 1_048_576)]
        {
            assert_eq!(megabytes(text), Ok(expected), "{text}");
        }
        for (text, expected) in [("500", 500), ("500m", 500), ("0.5 cores", 500), ("2cores", 2000)] {
            assert_eq!(millis_of_a_core(text), Ok(expected), "{text}");
        }
        for text in ["", "GB", "2 elephants", "-1GB", "1.0001GB", "1e3", "2GBB", "99999999999999999999"] {
            let error = megabytes(text).unwrap_err();
            assert!(
                error.contains("such as 512, or \"512MB\"") && error.ends_with(&format!("not {text:?}")),
                "{error}"
            );
        }
    }
}
