//! What somebody most likely meant to write.

/// The known name that `name` most likely was meant to be.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    let close = |other: &str| distance(&lower, &other.to_ascii_lowercase());
    let allowed = (name.len() / 3).max(1);
    let near = known.iter().map(|other| (close(other), *other)).min()?;
    (near.0 <= allowed).then_some(near.1)
}

/// Single-character insertions, deletions, replacements and swaps of neighbours between two texts
/// (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut before = vec![0; to.len() + 1];
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut next = vec![i + 1];
        for j in 0..to.len() {
            let replace = row[j] + usize::from(from[i] != to[j]);
            let mut least = replace.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        let known = ["name", "port", "targetPort", "protocol", "appProtocol"];
        for (wrong, want) in [
            ("prot", Some("port")),
            ("potr", Some("port")),
            ("targetport", Some("targetPort")),
            ("target_port", Some("targetPort")),
            ("Name", Some("name")),
            ("protocl", Some("protocol")),
            ("selector", None),
            ("", None),
        ] {
            assert_eq!(nearest(wrong, &known), want, "{wrong}");
        }
    }
}
