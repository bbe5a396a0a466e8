//! Texts for many rows in one statement. Counts are rounded up or split, so that each database
//! prepares a handful of texts and no more.

/// Rows at most in one statement: 32 rows of 20 columns stay far below every limit on parameters.
pub(crate) const MOST: usize = 64;

/// `… ($1, $2), ($3, $4)`.
pub(crate) fn values(head: &str, rows: usize, columns: usize) -> String {
    let mut sql = String::with_capacity(head.len() + rows * columns * 6);
    sql.push_str(head);
    let mut number = 0;
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            number += 1;
            if column > 0 {
                sql.push_str(", ");
            }
            sql.push('$');
            sql.push_str(&number.to_string());
        }
        sql.push(')');
    }
    sql
}

/// [`values`] in the cheapest placeholders of a connection's database. SQLite keeps the names of
/// numbered ones in a list that it walks for each of them, when it prepares and whenever it is
/// bound: with a thousand of them that costs more than the rows. Only for a text whose head and
/// tail have none of their own.
pub(crate) fn rows(
    connection: &sqlx::AnyConnection,
    head: &str,
    rows: usize,
    columns: usize,
) -> String {
    if connection.backend_name() == "SQLite" {
        unnumbered(head, rows, columns)
    } else {
        values(head, rows, columns)
    }
}

/// `… (?, ?), (?, ?)`.
fn unnumbered(head: &str, rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    head.to_owned() + &vec![row.as_str(); rows].join(", ")
}

/// Cuts rows into parts whose sizes are powers of two: seven texts to prepare, and six statements
/// at most for a group.
pub(crate) fn parts<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = [MOST, 32, 16, 8, 4, 2, 1]
            .into_iter()
            .find(|size| *size <= rows.len())?;
        let (part, rest) = rows.split_at(size);
        rows = rest;
        Some(part)
    })
}

/// `head ($1, …, $n) tail`, for `IN`.
pub(crate) fn list(head: &str, count: usize, tail: &str) -> String {
    values(head, 1, count) + tail
}

/// The next size that a list is filled up to, by repeating its last element.
pub(crate) fn padded(count: usize) -> usize {
    match count {
        0..=1 => 1,
        2..=8 => 8,
        _ => MOST,
    }
}

/// An id as it is asked for: an empty one, which nothing has, for one that nothing can have and that PostgreSQL would
/// refuse all others for.
pub(crate) fn asked(id: &str) -> String {
    if super::is_no_id(id) {
        String::new()
    } else {
        id.to_owned()
    }
}

/// The elements, then the last one again until there are `count`.
pub(crate) fn padding<T>(elements: &[T], count: usize) -> impl Iterator<Item = &T> {
    elements
        .iter()
        .chain(elements.last().into_iter().cycle())
        .take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_counted_through() {
        assert_eq!(values("V ", 2, 3), "V ($1, $2, $3), ($4, $5, $6)");
        assert_eq!(unnumbered("V ", 2, 3), "V (?, ?, ?), (?, ?, ?)");
        assert_eq!(list("IN ", 2, " X"), "IN ($1, $2) X");
        let sizes: Vec<usize> = parts(&[0; 150]).map(<[_]>::len).collect();
        assert_eq!(sizes, [64, 64, 16, 4, 2]);
        assert_eq!(
            [padded(1), padded(2), padded(8), padded(9), padded(64)],
            [1, 8, 8, 64, 64]
        );
    }
}
