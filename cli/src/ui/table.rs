//! Tables: a heading, aligned columns, two spaces between them.

use super::style::{Style, Tone};

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One field.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text.to_string(), Tone::Plain)
    }
}

/// Rows under a heading.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with one cell for each column.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row has a cell for each column"
        );
        self.rows.push(cells);
    }

    /// The lines, each ended by a line feed.
    pub(crate) fn render(&self, style: Style) -> String {
        let heading: Vec<Cell> = self
            .columns
            .iter()
            .map(|(name, _)| Cell::toned(*name, Tone::Heading))
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let rows = self.rows.iter().chain([&heading]);
                rows.map(|row| row[column].text.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in [&heading].into_iter().chain(&self.rows) {
            text += &self.line(row, &widths, style);
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[Cell], widths: &[usize], style: Style) -> String {
        let last = row.len() - 1;
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let space = " ".repeat(widths[column] - cell.text.chars().count());
            let painted = style.paint(cell.tone, &cell.text);
            match self.columns[column].1 {
                Align::Right => line = line + &space + &painted,
                // nothing is put behind the last column
                Align::Left if column == last => line += &painted,
                Align::Left => line = line + &painted + &space,
            }
            if column < last {
                line += "  ";
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[
            ("ID", Align::Right),
            ("NAME", Align::Left),
            ("STATE", Align::Left),
        ]);
        table.row(vec![Cell::from(7), "primes".into(), "running".into()]);
        table.row(vec![
            Cell::from(1042),
            "é".into(),
            Cell::toned("failed", Tone::Bad),
        ]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        let expected = "  ID  NAME    STATE\n   7  primes  running\n1042  é       failed\n";
        assert_eq!(table().render(Style::Plain), expected);
    }

    #[test]
    fn colours_do_not_move_columns() {
        let text = table().render(Style::Coloured);
        assert!(
            text.ends_with("1042  é       \x1b[31mfailed\x1b[0m\n"),
            "{text:?}"
        );
    }
}
