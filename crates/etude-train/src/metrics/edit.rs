//! How far sequences are apart.

/// How many insertions, deletions and replacements turn one sequence into the other (Levenshtein, 1966).
pub fn edit_distance<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    // One row of the table at a time: `row[j]` is the distance of what is read of `a` to the first j of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Edits over true elements, summed over all sequences: the character or word error rate. It may exceed 1.
#[track_caller]
pub fn error_rate<T: PartialEq>(predicted: &[Vec<T>], actual: &[Vec<T>]) -> f64 {
    super::same_length("error_rate", predicted.len(), actual.len());
    let edits: usize = predicted.iter().zip(actual).map(|(p, a)| edit_distance(p, a)).sum();
    edits as f64 / actual.iter().map(Vec::len).sum::<usize>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: the cheapest of the three ways to treat the first elements.
    fn plain(a: &[u8], b: &[u8]) -> usize {
        match (a, b) {
            ([], rest) | (rest, []) => rest.len(),
            ([x, a @ ..], [y, b @ ..]) if x == y => plain(a, b),
            ([_, short_a @ ..], [_, short_b @ ..]) => {
                1 + plain(short_a, short_b).min(plain(short_a, b)).min(plain(a, short_b))
            }
        }
    }

    #[test]
    fn distances() {
        let words = ["", "a", "kitten", "sitting", "Saturday", "Sunday", "aaaa", "abab"];
        for a in words {
            for b in words {
                assert_eq!(edit_distance(a.as_bytes(), b.as_bytes()), plain(a.as_bytes(), b.as_bytes()), "{a} {b}");
            }
        }
        assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
        assert_eq!(error_rate(&[vec![1, 2], vec![3]], &[vec![1], vec![4]]), 1.0);
        assert!(error_rate::<u8>(&[], &[]).is_nan());
    }
}
