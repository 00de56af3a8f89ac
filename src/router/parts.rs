//! A batch in parts that can be written side by side. Pure.

use std::collections::BTreeMap;

/// Rows that are worth a transaction of their own. Fewer are done sooner than another commit is.
const WORTH: usize = 6;

/// Splits rows into at most `most` parts of about the same size, each with all rows of its shares, in their order.
pub(super) fn parts<R, S: Ord + Clone>(rows: Vec<R>, most: usize, share: impl Fn(&R) -> &S) -> Vec<Vec<R>> {
    let most = most.min(rows.len() / WORTH);
    if most < 2 {
        return vec![rows];
    }
    let mut sizes: BTreeMap<S, usize> = BTreeMap::new();
    for row in &rows {
        match sizes.get_mut(share(row)) {
            Some(size) => *size += 1,
            None => drop(sizes.insert(share(row).clone(), 1)),
        }
    }
    let mut largest_first: Vec<(S, usize)> = sizes.into_iter().collect();
    largest_first.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let mut parts: Vec<Vec<R>> = Vec::new();
    parts.resize_with(most.min(largest_first.len()), Vec::new);
    let mut filled = vec![0; parts.len()];
    let mut place: BTreeMap<S, usize> = BTreeMap::new();
    for (share, size) in largest_first {
        let (emptiest, _) = filled.iter().enumerate().min_by_key(|(_, size)| **size).unwrap_or((0, &0));
        filled[emptiest] += size;
        place.insert(share, emptiest);
    }
    for row in rows {
        let part = place.get(share(&row)).copied().unwrap_or(0);
        parts[part].push(row);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(shares: &[u8], most: usize) -> Vec<Vec<(u8, usize)>> {
        let rows: Vec<(u8, usize)> = shares.iter().enumerate().map(|(at, share)| (*share, at)).collect();
        parts(rows, most, |(share, _)| share)
    }

    #[test]
    fn few_rows_and_one_share_are_one_part() {
        assert_eq!(split(&[], 4), [vec![]]);
        assert_eq!(split(&[1; 100], 4).len(), 1);
        assert_eq!(split(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 4).len(), 1);
        assert_eq!(split(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 4).len(), 2);
        assert_eq!(split(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 1).len(), 1);
    }

    #[test]
    fn parts_are_of_about_one_size() {
        let shares: Vec<u8> = (0..12).flat_map(|share| std::iter::repeat_n(share, usize::from(share) + 5)).collect();
        let sizes: Vec<usize> = split(&shares, 4).iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 126);
        assert!(sizes.iter().all(|size| (28..=36).contains(size)), "{sizes:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_parted_or_overtaken(shares in prop::collection::vec(0u8..30, 0..200), most in 1usize..6) {
            let parts = split(&shares, most);
            prop_assert!(parts.len() <= most);
            let mut all: Vec<usize> = parts.iter().flatten().map(|(_, at)| *at).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..shares.len()).collect::<Vec<_>>());
            for (n, part) in parts.iter().enumerate() {
                prop_assert!(part.is_sorted_by_key(|(_, at)| *at));
                let mine = |share: &u8| part.iter().any(|(other, _)| other == share);
                prop_assert!(parts[n + 1..].iter().flatten().all(|(share, _)| !mine(share)));
            }
        }
    }
}
