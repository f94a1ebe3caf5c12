//! Lists of jobs as text, by the formats that `squeue` and `sacct` are given. The values are texts already: who has them
//! knows the times and names, here is only where they stand.

mod accounts;
mod fields;
pub(crate) mod nodes;

pub(crate) use fields::Field;

/// The columns of `squeue` if nothing is said.
pub(crate) const SQUEUE_DEFAULT: &str = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R";

/// The columns of `squeue --long`.
pub(crate) const SQUEUE_LONG: &str = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R";

/// The columns of `sacct` if nothing is said.
pub(crate) const SACCT_DEFAULT: &str = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode";

/// How wide a column of `squeue --Format` is if nothing is said.
const LONG_FORMAT_WIDTH: usize = 20;

/// No column is wider than this.
const WIDTH_MAX: usize = 4096;

/// What a job, or something else, shows in a list.
pub(crate) trait Row<F = Field> {
    /// The text of a field; none if it has none, which each command shows in its own way.
    fn text(&self, field: F) -> Option<String>;
}

/// Why a format cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("a format has `%{letter}`, which stands for nothing; those that do are {known}")]
    Letter { letter: char, known: String },
    #[error("a format has `{name}`, which is no field{}", suggestion(.nearest))]
    Name {
        name: String,
        nearest: Option<&'static str>,
    },
    #[error("a format has `{text}`, whose width is no number up to {WIDTH_MAX}")]
    Width { text: String },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// On which side of its column a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// One column: a field, and the text that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column<F> {
    field: F,
    header: &'static str,
    /// As wide as its text if none is said.
    width: Option<usize>,
    side: Side,
    after: String,
    /// The last letter of a text that is cut.
    cut_mark: Option<char>,
}

impl<F> Column<F> {
    fn cell(&self, text: &str) -> String {
        let Some(width) = self.width else {
            return text.to_owned();
        };
        let length = text.chars().count();
        if length > width {
            let kept = width.saturating_sub(usize::from(self.cut_mark.is_some()));
            return text.chars().take(kept).chain(self.cut_mark).take(width).collect();
        }
        match self.side {
            Side::Left => format!("{text:<width$}"),
            Side::Right => format!("{text:>width$}"),
        }
    }
}

/// What a list looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format<F = Field> {
    /// What stands before the first column.
    before: String,
    columns: Vec<Column<F>>,
    /// What is shown for what a job doesn't have.
    absent: &'static str,
    /// A line of dashes under the headers.
    underlined: bool,
}

impl Format {
    /// `squeue -o '%.18i|%t'`: a percent sign, a point if the text stands on the right, a width, a letter; everything else
    /// stays as it is.
    ///
    /// # Errors
    ///
    /// A letter stands for nothing, or a width is too large.
    pub(crate) fn squeue_letters(text: &str) -> Result<Self, FormatError> {
        Self::of_letters(text, fields::by_letter, fields::letters)
    }

    /// `squeue -O 'JobID:10,State:.8'`: a name, and behind a colon a point if the text stands on the right, a width, and
    /// what follows the column.
    ///
    /// # Errors
    ///
    /// A name is no field, or a width no number.
    pub(crate) fn squeue_names(text: &str) -> Result<Self, FormatError> {
        Self::of_names(text, fields::by_squeue_name, fields::nearest_squeue)
    }

    /// `sacct --format JobID%20,State`: names, and behind a percent sign a width, negative if the text stands on the left; `ALL`
    /// is all of them.
    ///
    /// # Errors
    ///
    /// A name is no field, or a width no number.
    pub(crate) fn sacct(text: &str) -> Result<Self, FormatError> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let all = || accounts::all().iter().map(|column| column.header);
        let names = parts.flat_map(|part| match part.trim().eq_ignore_ascii_case("all") {
            true => all().collect(),
            false => vec![part],
        });
        Ok(Self {
            before: String::new(),
            columns: names.map(sacct_column).collect::<Result<_, _>>()?,
            absent: "",
            underlined: true,
        })
    }
}

impl<F: Copy> Format<F> {
    /// Columns by letters; `by_letter` knows them, `known` lists them.
    fn of_letters(
        text: &str,
        by_letter: fn(char) -> Option<(F, &'static str)>,
        known: fn() -> String,
    ) -> Result<Self, FormatError> {
        let mut parts = text.split('%');
        let before = parts.next().unwrap_or_default().to_owned();
        let columns = parts.map(|part| letter_column(part, by_letter, known));
        Ok(Self {
            before,
            columns: columns.collect::<Result<_, _>>()?,
            absent: "N/A",
            underlined: false,
        })
    }

    /// Columns by names; `by_name` knows them, `nearest` the one that is most like another name.
    fn of_names(
        text: &str,
        by_name: fn(&str) -> Option<(F, &'static str)>,
        nearest: fn(&str) -> Option<&'static str>,
    ) -> Result<Self, FormatError> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let columns = parts.map(|part| name_column(part, by_name, nearest));
        Ok(Self {
            before: String::new(),
            columns: columns.collect::<Result<_, _>>()?,
            absent: "N/A",
            underlined: false,
        })
    }

    /// The fields of its columns.
    pub(crate) fn fields(&self) -> impl Iterator<Item = F> {
        self.columns.iter().map(|column| column.field)
    }

    /// `sacct --parsable` (a delimiter behind the last field too) or `--parsable2`: nothing is cut or filled up.
    pub(crate) fn delimited(mut self, delimiter: &str, also_last: bool) -> Self {
        let last = self.columns.len().saturating_sub(1);
        for (position, column) in self.columns.iter_mut().enumerate() {
            column.width = None;
            column.after = match position < last || also_last {
                true => delimiter.to_owned(),
                false => String::new(),
            };
        }
        self.underlined = false;
        self
    }

    /// The names of the columns, in one line or, where there are dashes under them, in two.
    pub(crate) fn header(&self) -> String {
        let names = self.line(|column| column.cell(column.header));
        if !self.underlined {
            return names;
        }
        let dashes = self.line(|column| "-".repeat(column.width.unwrap_or(column.header.len())));
        format!("{names}\n{dashes}")
    }

    /// One job's line.
    pub(crate) fn render(&self, row: &dyn Row<F>) -> String {
        self.line(|column| match row.text(column.field) {
            Some(text) => column.cell(&text),
            None => column.cell(self.absent),
        })
    }

    fn line(&self, cell: impl Fn(&Column<F>) -> String) -> String {
        let mut line = self.before.clone();
        for column in &self.columns {
            line.push_str(&cell(column));
            line.push_str(&column.after);
        }
        line
    }
}

/// What stands behind a percent sign: `.18i|`. A `#`, for a column as wide as its longest text, is that of no width.
fn letter_column<F>(
    text: &str,
    by_letter: fn(char) -> Option<(F, &'static str)>,
    known: fn() -> String,
) -> Result<Column<F>, FormatError> {
    let text = text.strip_prefix('#').unwrap_or(text);
    let (side, rest) = match text.strip_prefix('.') {
        Some(rest) => (Side::Right, rest),
        None => (Side::Left, text),
    };
    let digits = rest
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(rest.len());
    let width = width(&rest[..digits])?;
    let mut after = rest[digits..].chars();
    let letter = after.next().unwrap_or('%');
    let (field, header) = by_letter(letter).ok_or_else(|| FormatError::Letter {
        letter,
        known: known(),
    })?;
    Ok(Column {
        field,
        header,
        width,
        side,
        after: after.as_str().to_owned(),
        cut_mark: None,
    })
}

/// `JobID:.10|`.
fn name_column<F>(
    text: &str,
    by_name: fn(&str) -> Option<(F, &'static str)>,
    nearest: fn(&str) -> Option<&'static str>,
) -> Result<Column<F>, FormatError> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let name = name.trim();
    let (field, header) = by_name(name).ok_or_else(|| FormatError::Name {
        name: name.to_owned(),
        nearest: nearest(name),
    })?;
    let (side, rest) = match rest.strip_prefix('.') {
        Some(rest) => (Side::Right, rest),
        None => (Side::Left, rest),
    };
    let digits = rest
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(rest.len());
    Ok(Column {
        field,
        header,
        width: width(&rest[..digits])?.or(Some(LONG_FORMAT_WIDTH)),
        side,
        after: rest[digits..].to_owned(),
        cut_mark: None,
    })
}

/// `JobID%20`, `JobName%-30`.
fn sacct_column(text: &str) -> Result<Column<Field>, FormatError> {
    let text = text.trim();
    let (name, said) = match text.split_once('%') {
        Some((name, said)) => (name, Some(said)),
        None => (text, None),
    };
    let account = accounts::by_name(name).ok_or_else(|| FormatError::Name {
        name: name.to_owned(),
        nearest: accounts::nearest_name(name),
    })?;
    let (side, width) = match said {
        None if account.width < 0 => (Side::Left, account.width.unsigned_abs() as usize),
        None => (Side::Right, account.width.unsigned_abs() as usize),
        Some(said) => {
            let (side, digits) = match said.strip_prefix('-') {
                Some(digits) => (Side::Left, digits),
                None => (Side::Right, said),
            };
            let wrong = || FormatError::Width {
                text: text.to_owned(),
            };
            (side, self::width(digits)?.ok_or_else(wrong)?)
        }
    };
    Ok(Column {
        field: account.field,
        header: account.header,
        width: Some(width),
        side,
        after: " ".to_owned(),
        cut_mark: Some('+'),
    })
}

/// The field that a letter of `squeue` stands for.
pub(crate) fn letter_field(letter: char) -> Option<Field> {
    fields::by_letter(letter).map(|(field, _)| field)
}

/// The names of all columns of `sacct`.
pub(crate) fn sacct_names() -> String {
    accounts::names()
}

/// A width in letters; none if nothing is said.
fn width(digits: &str) -> Result<Option<usize>, FormatError> {
    if digits.is_empty() {
        return Ok(None);
    }
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: Option<usize> = digits.parse().ok();
    match number.filter(|&width| plain && width <= WIDTH_MAX) {
        // of no width is as wide as its text
        Some(0) => Ok(None),
        Some(width) => Ok(Some(width)),
        None => Err(FormatError::Width {
            text: digits.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
