//! Aligned tables.
//!
//! Invariant: text that came from elsewhere cannot steer the terminal: control characters are
//! shown escaped.

use crate::output::Style;

/// Between two columns.
const GAP: &str = "  ";

/// A table with a head.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One field of a row.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A field that says that something is wrong.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self {
            style: Style::Bad,
            ..Self::from(text.into())
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self {
            text: printable(&text),
            style: Style::Plain,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

macro_rules! number_cells {
    ($($type:ty),*) => {$(
        impl From<$type> for Cell {
            fn from(number: $type) -> Self {
                Self::from(number.to_string())
            }
        }
    )*};
}

number_cells!(u32, u64, i32, usize);

impl Table {
    pub(crate) fn new(head: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            head: head.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text. The last column is not padded.
    pub(crate) fn render(&self, colour: bool) -> String {
        let head: Vec<Cell> = self
            .head
            .iter()
            .map(|text| Cell {
                text: (*text).to_owned(),
                style: Style::Head,
            })
            .collect();
        let lines: Vec<&Vec<Cell>> = std::iter::once(&head).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = lines.iter().filter_map(|line| line.get(column));
                cells.map(Cell::width).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for line in lines {
            let last = line.len().saturating_sub(1);
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                match cell.style {
                    Style::Plain => text.push_str(&cell.text),
                    style if colour => text.push_str(&style.paint(&cell.text)),
                    Style::Head | Style::Bad => text.push_str(&cell.text),
                }
                if column < last {
                    text.extend(std::iter::repeat_n(' ', width - cell.width()));
                    text.push_str(GAP);
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Text with its control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_harmless() {
        let mut table = Table::new(["NAME", "TOKEN"]);
        table.row(["ä".into(), 7_u64.into()]);
        table.row(["a\x1b[2Jlock".into(), Cell::bad("gone")]);
        let want = [
            "NAME            TOKEN",
            "ä               7",
            "a\\u{1b}[2Jlock  gone",
            "",
        ];
        assert_eq!(table.render(false), want.join("\n"));
        let painted = table.render(true);
        assert!(painted.contains("\x1b[31mgone\x1b[0m"), "{painted:?}");
        assert!(!painted.contains("\x1b[2J"), "{painted:?}");
    }
}
