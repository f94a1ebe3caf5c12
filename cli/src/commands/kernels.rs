//! `phalanx kernels`: what a program has to offer, read from its file.

use phalanx_protocol::exit::ExitCode;

use crate::args::KernelsArguments;
use crate::program::Program;
use crate::ui::Ui;
use crate::ui::documents::{Content, Document, KernelShape};
use crate::ui::error::CliError;
use crate::ui::style::{Style, printable};
use crate::ui::table::Align::Left;
use crate::ui::table::Table;

pub(super) fn run(arguments: &KernelsArguments, ui: Ui) -> Result<ExitCode, CliError> {
    let program = Program::open(&arguments.program)?;
    let shapes = program.kernels.iter().map(|line| KernelShape {
        name: &line.name,
        input: &line.input,
        output: &line.output,
        parameters: line.parameters.as_deref(),
        reduces: line.reduces,
    });
    ui.data(&Document::new(Content::Kernels(shapes.collect())), |style| {
        kernels_table(&program, style)
    })?;
    Ok(ExitCode::Success)
}

fn kernels_table(program: &Program, style: Style) -> String {
    let mut table = Table::new(&[
        ("KERNEL", Left),
        ("INPUT", Left),
        ("PARAMETERS", Left),
        ("RETURNS", Left),
        ("REDUCES", Left),
    ]);
    for line in &program.kernels {
        table.row(vec![
            printable(&line.name, 0).into(),
            printable(&line.input, 0).into(),
            printable(line.parameters.as_deref().unwrap_or("-"), 0).into(),
            printable(&line.output, 0).into(),
            (if line.reduces { "yes" } else { "no" }).into(),
        ]);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use phalanx_protocol::message::host::KernelLine;

    use super::*;

    #[test]
    fn kernels_are_listed_with_their_types() {
        let program = Program {
            path: "prog".into(),
            kernels: KernelLine::parse_section(
                b"render\tu64\tVec<u8>\tScene\t-\nsquare\tu64\tu64\t-\treduce\n",
            ),
        };
        let expected = "\
KERNEL  INPUT  PARAMETERS  RETURNS  REDUCES
render  u64    Scene       Vec<u8>  no
square  u64    -           u64      yes
";
        assert_eq!(kernels_table(&program, Style::Plain), expected);
    }
}
