//! What a wrong name was probably meant to be.

/// Proposes the nearest of the known names, or lists them all.
pub(crate) fn remedy<'a>(name: &str, known: impl Iterator<Item = &'a str>, what: &str) -> String {
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    known.dedup();
    let nearest = known
        .iter()
        .map(|candidate| (distance(name, candidate), *candidate))
        .min();
    match nearest {
        Some((edits, candidate)) if edits <= 1 + candidate.len() / 4 => format!("did you mean `{candidate}`?"),
        Some(_) => format!("the {what} are {}", known.join(", ")),
        None => format!("there are no {what} here"),
    }
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other. `_` and `-` count as the same.
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| {
        word.to_lowercase()
            .replace('_', "-")
            .chars()
            .take(64)
            .collect::<Vec<_>>()
    };
    let (a, b) = (letters(a), letters(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposes_only_what_is_near() {
        let keys = ["address", "addresses", "name", "host-interface"];
        let remedy = |name| remedy(name, keys.into_iter(), "keys");
        assert_eq!(remedy("nmae"), "did you mean `name`?");
        assert_eq!(remedy("host_interface"), "did you mean `host-interface`?");
        assert_eq!(remedy("adresses"), "did you mean `addresses`?");
        assert_eq!(
            remedy("colour"),
            "the keys are address, addresses, host-interface, name"
        );
        assert_eq!(super::remedy("x", std::iter::empty(), "keys"), "there are no keys here");
    }
}
