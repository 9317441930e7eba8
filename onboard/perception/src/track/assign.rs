//! Who belongs to whom: the assignment of least total cost.

/// Most rows of an assignment.
pub(super) const ROWS: usize = super::MOST_PIECES;
/// Most columns: every track, and one column for each row that is left alone.
pub(super) const COLUMNS: usize = super::MOST_TRACKS + super::MOST_PIECES;

/// Costs of a small assignment, row by row; no allocation.
#[derive(Debug, Clone)]
pub(super) struct Costs {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) of: [[f64; COLUMNS]; ROWS],
}

/// The column of each row so that the sum of costs is least, every column used once at most; exact.
///
/// The Hungarian method with potentials and shortest augmenting paths (Jonker and Volgenant, Computing 38, 1987), in
/// `O(rows² · columns)`. Costs are finite, and there are at least as many columns as rows. Of equal assignments always the
/// same one is found.
// The index runs over five arrays at once.
#[allow(clippy::needless_range_loop)]
pub(super) fn assign(costs: &Costs) -> [usize; ROWS] {
    let (rows, columns) = (costs.rows.min(ROWS), costs.columns.min(COLUMNS));
    // Rows and columns are counted from 1 here; 0 stands for none.
    let mut row_potential = [0.0_f64; ROWS + 1];
    let mut column_potential = [0.0_f64; COLUMNS + 1];
    let mut row_of = [0_usize; COLUMNS + 1];
    let mut way = [0_usize; COLUMNS + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut column = 0;
        let mut least = [f64::INFINITY; COLUMNS + 1];
        let mut used = [false; COLUMNS + 1];
        loop {
            used[column] = true;
            let current = row_of[column];
            let (mut delta, mut next) = (f64::INFINITY, 0);
            for at in 1..=columns {
                if used[at] {
                    continue;
                }
                let reduced = costs.of[current - 1][at - 1] - row_potential[current] - column_potential[at];
                if reduced < least[at] {
                    least[at] = reduced;
                    way[at] = column;
                }
                if least[at] < delta {
                    delta = least[at];
                    next = at;
                }
            }
            for at in 0..=columns {
                if used[at] {
                    row_potential[row_of[at]] += delta;
                    column_potential[at] -= delta;
                } else {
                    least[at] -= delta;
                }
            }
            column = next;
            if row_of[column] == 0 || column == 0 {
                break;
            }
        }
        while column != 0 {
            let before = way[column];
            row_of[column] = row_of[before];
            column = before;
        }
    }
    let mut found = [0; ROWS];
    for column in 1..=columns {
        if row_of[column] > 0 {
            found[row_of[column] - 1] = column - 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn costs(rows: usize, columns: usize, of: &[f64]) -> Costs {
        let mut costs = Costs { rows, columns, of: [[0.0; COLUMNS]; ROWS] };
        for (at, cost) in of.iter().enumerate().take(rows * columns) {
            costs.of[at / columns][at % columns] = *cost;
        }
        costs
    }

    /// The least sum over all ways to choose, tried one by one.
    fn least(costs: &Costs, row: usize, taken: &mut Vec<usize>) -> f64 {
        if row == costs.rows {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        for column in 0..costs.columns {
            if !taken.contains(&column) {
                taken.push(column);
                best = best.min(costs.of[row][column] + least(costs, row + 1, taken));
                taken.pop();
            }
        }
        best
    }

    #[test]
    fn what_is_best_for_one_is_not_best_for_both() {
        let found = assign(&costs(2, 3, &[1.0, 2.0, 9.0, 1.0, 5.0, 9.0]));
        assert_eq!(found[..2], [1, 0]);
        assert_eq!(assign(&costs(0, 3, &[])), [0; ROWS]);
    }

    proptest! {
        #[test]
        fn no_other_assignment_costs_less(rows in 1_usize..5, more in 0_usize..3, of in prop::collection::vec(0.0_f64..1.0, 28)) {
            let costs = costs(rows, rows + more, &of);
            let found = assign(&costs);
            let mut columns = found[..rows].to_vec();
            let sum: f64 = columns.iter().enumerate().map(|(row, &column)| costs.of[row][column]).sum();
            prop_assert!((sum - least(&costs, 0, &mut Vec::new())).abs() < 1e-9);
            columns.sort_unstable();
            columns.dedup();
            prop_assert_eq!(columns.len(), rows, "a column was used twice");
        }
    }
}
