//! "Did you mean": the known word nearest to an unknown one.

/// The nearest of `known`, if it is near enough to be a slip of the hand.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded = fold(word);
    let allowed = (folded.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|k| (distance(&folded, &fold(k)), k))
        .filter(|(d, k)| *d <= allowed && *d < k.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

fn fold(word: &str) -> String {
    word.to_ascii_lowercase().replace('-', "_")
}

/// Edits between two words, a swap of neighbours counting as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    // Nobody mistypes more than this; keeps the work bounded for hostile input.
    const LONGEST: usize = 64;
    let a: Vec<char> = a.chars().take(LONGEST).collect();
    let b: Vec<char> = b.chars().take(LONGEST).collect();
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
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
    fn slips_are_found_and_strangers_are_not() {
        let known = ["timeout", "interval", "rise", "fall", "least-connections"];
        assert_eq!(nearest("timout", known), Some("timeout"));
        assert_eq!(nearest("itnerval", known), Some("interval"));
        assert_eq!(
            nearest("least_connection", known),
            Some("least-connections")
        );
        assert_eq!(nearest("banana", known), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
