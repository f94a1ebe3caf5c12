//! The lines of a drawn graph. Every job that others wait for has a lane, a column in which its line goes down until the
//! last of these is drawn; a job stands in the lane of one that nobody else waits for, or in one of its own.

use std::collections::BTreeSet;

use super::Graph;

/// Stands for a job in a row's lines.
pub(super) const NODE: char = '*';

/// One line of the drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Lanes and what joins them, two letters for each lane.
    pub(super) lines: String,
    /// The job that stands in the line.
    pub(super) node: Option<usize>,
}

impl Row {
    pub(super) fn width(&self) -> usize {
        self.lines.chars().count()
    }
}

/// The lanes as they are below what was drawn so far.
#[derive(Debug)]
pub(super) struct Lanes {
    /// By column, the job whose line goes down there.
    columns: Vec<Option<usize>>,
    /// By job, those that it waits for.
    sources: Vec<BTreeSet<usize>>,
    /// By job, how many that wait for it are not drawn yet.
    left: Vec<usize>,
}

impl Lanes {
    pub(super) fn new(graph: &Graph) -> Self {
        let sources: Vec<BTreeSet<usize>> = graph
            .nodes
            .iter()
            .map(|node| node.waits_for.iter().map(|arrow| arrow.on).collect())
            .collect();
        let mut left = vec![0; sources.len()];
        for &source in sources.iter().flatten() {
            left[source] += 1;
        }
        Self {
            columns: Vec::new(),
            sources,
            left,
        }
    }

    /// The next job: a row that leads to it, if it waits for any, and its own.
    pub(super) fn draw(&mut self, node: usize) -> Vec<Row> {
        let sources = std::mem::take(&mut self.sources[node]);
        for &source in &sources {
            self.left[source] -= 1;
        }
        let is_source = |lane: &Option<usize>| lane.is_some_and(|lane| sources.contains(&lane));
        let ends = |lane: &Option<usize>| is_source(lane) && lane.is_some_and(|lane| self.left[lane] == 0);
        let at = self.columns.iter().position(ends);
        let at = at.or_else(|| self.columns.iter().position(Option::is_none));
        let at = at.unwrap_or(self.columns.len());
        let before = self.columns.clone();
        let mut after: Vec<Option<usize>> = before.iter().map(|lane| lane.filter(|_| !ends(lane))).collect();
        after.resize(after.len().max(at + 1), None);
        after[at] = Some(node);
        let mut rows = Vec::new();
        if !sources.is_empty() {
            let joined = |column: usize| column == at || before.get(column).is_some_and(is_source);
            rows.push(Row {
                lines: connection(&before, &after, joined),
                node: None,
            });
        }
        let letters = after.iter().map(|lane| match lane {
            Some(lane) if *lane == node => NODE,
            Some(_) => '│',
            None => ' ',
        });
        rows.push(Row {
            lines: letters.flat_map(|letter| [letter, ' ']).collect(),
            node: Some(node),
        });
        if self.left[node] == 0 {
            after[at] = None;
        }
        while after.last() == Some(&None) {
            after.pop();
        }
        self.columns = after;
        rows
    }
}

/// The row between lanes as they were and as they will be, in which some columns are joined.
fn connection(before: &[Option<usize>], after: &[Option<usize>], joined: impl Fn(usize) -> bool) -> String {
    let columns = before.len().max(after.len());
    let ends = (0..columns).filter(|&column| joined(column));
    let (first, last) = (ends.clone().min().unwrap_or(0), ends.max().unwrap_or(0));
    let mut lines = String::new();
    for column in 0..columns {
        let lane = |lanes: &[Option<usize>]| lanes.get(column).copied().flatten();
        let (up, down) = (lane(before).is_some(), lane(after).is_some());
        let is_between = first < column && column < last;
        lines.push(match (joined(column), is_between, up) {
            (true, _, _) => corner(up, down, column > first, column < last),
            // crossed, not joined
            (false, _, true) => '│',
            (false, true, false) => '─',
            (false, false, false) => ' ',
        });
        lines.push(match first <= column && column < last {
            true => '─',
            false => ' ',
        });
    }
    lines
}

/// The letter whose lines go these ways.
fn corner(up: bool, down: bool, left: bool, right: bool) -> char {
    match (up, down, left, right) {
        (true, true, true, true) => '┼',
        (true, true, true, false) => '┤',
        (true, true, false, true) => '├',
        (true, true, false, false) => '│',
        (true, false, true, true) => '┴',
        (true, false, true, false) => '╯',
        (true, false, false, true) => '╰',
        (true, false, false, false) => '╵',
        (false, true, true, true) => '┬',
        (false, true, true, false) => '╮',
        (false, true, false, true) => '╭',
        (false, true, false, false) => '╷',
        (false, false, _, _) => '─',
    }
}
