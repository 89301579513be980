//! Kubernetes quantities: `64Mi`, `250m`, `1.5`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths; `None` if the text is not a quantity. For the suffixes see
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
fn thousandths(text: &str) -> Option<i64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let text = text.trim();
    let (number, factor) =
        SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor))).unwrap_or((text, 1.0));
    let amount = number.parse::<f64>().ok()? * factor * 1000.0;
    #[expect(clippy::cast_possible_truncation, reason = "what is larger than any machine becomes the largest number")]
    amount.is_finite().then_some(amount.round() as i64)
}

pub(super) fn millis_of(quantity: &Quantity) -> Option<i64> {
    thousandths(&quantity.0)
}

pub(super) fn bytes_of(quantity: &Quantity) -> Option<i64> {
    count(&quantity.0)
}

/// A whole number, rounded down.
pub(super) fn count(text: &str) -> Option<i64> {
    thousandths(text).map(|thousandths| thousandths / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_all_ways_of_writing() {
        let table = [
            ("64Mi", Some(64 << 20)),
            ("1500m", Some(1)),
            ("2", Some(2)),
            ("1e3", Some(1000)),
            ("1E3", Some(1000)),
            ("5G", Some(5_000_000_000)),
            ("24670192Ki", Some(24_670_192 << 10)),
            ("", None),
            ("x", None),
        ];
        for (text, expected) in table {
            assert_eq!(count(text), expected, "{text}");
        }
        assert_eq!(millis_of(&Quantity("250m".into())), Some(250));
        assert_eq!(millis_of(&Quantity("186497213n".into())), Some(186));
    }
}
