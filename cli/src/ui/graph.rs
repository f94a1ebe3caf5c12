//! Jobs and what they wait for of each other, drawn: as text for a terminal, and in Graphviz's language.
//!
//! Both are made of a [`Graph`], the same each time. [`lanes`] has the lines of the text.

mod lanes;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::style::{Style, Tone, printable, state_tone};
use super::units::counted;
use lanes::{Lanes, Row};

/// Lines beside each other that still fit a terminal; with more, the jobs are listed without them.
const LANES_MAX: usize = 40;

/// Jobs, each behind those that it waits for.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Node {
    /// Its id, if it has one, and its name, if that is known.
    pub(crate) label: String,
    /// The word for its state, if it is on a cluster.
    pub(crate) state: Option<&'static str>,
    /// Absent if nobody has counted them.
    pub(crate) tasks: Option<u64>,
    /// What else is to be said of it, as that it is held.
    pub(crate) remark: String,
    pub(crate) waits_for: Vec<Arrow>,
}

/// From a job to one that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Arrow {
    /// The other job's position in the graph.
    pub(crate) on: usize,
    /// The condition's word.
    pub(crate) relation: &'static str,
}

impl Node {
    fn glyph(&self) -> char {
        match self.state {
            None | Some("waiting") => '○',
            Some("running") => '◐',
            Some(_) => '●',
        }
    }

    fn tone(&self) -> Tone {
        self.state.map_or(Tone::Plain, state_tone)
    }

    fn tasks_text(&self) -> String {
        self.tasks
            .map_or_else(String::new, |tasks| counted(tasks, "task"))
    }
}

impl Graph {
    /// The drawing: a line per job, below all that it waits for; what it waits for is joined to it by lines that go down.
    pub(crate) fn text(&self, style: Style) -> String {
        let mut lanes = Lanes::new(self);
        let rows: Vec<Row> = (0..self.nodes.len()).flat_map(|node| lanes.draw(node)).collect();
        let width = rows.iter().map(Row::width).max().unwrap_or(0);
        let draws = width <= 2 * LANES_MAX;
        let cells = |cell: &dyn Fn(&Node) -> String| -> (Vec<String>, usize) {
            let texts: Vec<String> = self.nodes.iter().map(cell).collect();
            let width = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
            (texts, width)
        };
        let columns = [
            cells(&|node| printable(&node.label, 0)),
            cells(&|node| node.state.unwrap_or_default().to_owned()),
            cells(&Node::tasks_text),
            cells(&|node| printable(&self.words_of(node), 0)),
        ];
        let mut text = String::new();
        for row in &rows {
            let Some(node) = row.node else {
                if draws {
                    text += row.lines.trim_end();
                    text.push('\n');
                }
                continue;
            };
            let tone = self.nodes[node].tone();
            let mut line = String::new();
            if draws {
                for letter in row.lines.chars() {
                    match letter == lanes::NODE {
                        true => line += &style.paint(tone, &self.nodes[node].glyph().to_string()),
                        false => line.push(letter),
                    }
                }
                line.extend(std::iter::repeat_n(' ', width - row.width()));
            }
            for (column, (texts, width)) in columns.iter().enumerate().filter(|(_, (_, width))| *width > 0) {
                let cell = &texts[node];
                let padding = " ".repeat(width - cell.chars().count() + 2);
                line += &match column {
                    1 => style.paint(tone, cell),
                    _ => cell.clone(),
                };
                line += &padding;
            }
            text += line.trim_end();
            text.push('\n');
        }
        if !draws {
            text += "too many arrows to draw beside each other; --format dot has them\n";
        }
        text
    }

    /// `afterok train, held`.
    fn words_of(&self, node: &Node) -> String {
        let arrows = node.waits_for.iter();
        let arrows = arrows.map(|arrow| format!("{} {}", arrow.relation, self.nodes[arrow.on].label));
        let remark = Some(node.remark.clone()).filter(|remark| !remark.is_empty());
        arrows.chain(remark).collect::<Vec<_>>().join(", ")
    }

    /// The same for Graphviz's `dot`.
    pub(crate) fn dot(&self) -> String {
        let mut text = "digraph jobs {\n  node [shape=box, style=rounded];\n".to_owned();
        for (position, node) in self.nodes.iter().enumerate() {
            let lines = [
                node.label.clone(),
                node.tasks_text(),
                node.state.unwrap_or_default().to_owned(),
                node.remark.clone(),
            ];
            let lines: Vec<String> = lines
                .iter()
                .filter(|line| !line.is_empty())
                .map(|line| quoted(line))
                .collect();
            text += &format!(
                "  n{position} [label=\"{}\"{}];\n",
                lines.join("\\n"),
                colour(node)
            );
        }
        for (position, node) in self.nodes.iter().enumerate() {
            for arrow in &node.waits_for {
                text += &format!("  n{} -> n{position} [label=\"{}\"];\n", arrow.on, arrow.relation);
            }
        }
        text + "}\n"
    }
}

/// A text between quotes of Graphviz's language.
fn quoted(text: &str) -> String {
    printable(text, 0).replace('\\', "\\\\").replace('"', "\\\"")
}

fn colour(node: &Node) -> &'static str {
    match node.tone() {
        Tone::Good => ", color=darkgreen",
        Tone::Bad => ", color=red",
        Tone::Busy => ", color=blue",
        Tone::Faint => ", color=gray",
        Tone::Plain | Tone::Heading => "",
    }
}
