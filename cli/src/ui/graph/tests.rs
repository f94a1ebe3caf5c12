use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Jobs by name, each with what it waits for as `word name`.
fn graph(jobs: &[(&str, &[&'static str])]) -> Graph {
    let position = |name: &str| jobs.iter().position(|(known, _)| *known == name).unwrap();
    let arrow = |text: &&'static str| {
        let (relation, on) = text.split_once(' ').unwrap();
        Arrow {
            on: position(on),
            relation,
        }
    };
    let node = |&(name, waits_for): &(&str, &[&'static str])| Node {
        label: name.to_owned(),
        state: None,
        tasks: Some(1),
        remark: String::new(),
        waits_for: waits_for.iter().map(arrow).collect(),
    };
    Graph {
        nodes: jobs.iter().map(node).collect(),
    }
}

/// Only the lines, without the words behind them.
fn lines(jobs: &[(&'static str, &'static [&'static str])]) -> Vec<String> {
    let text = graph(jobs).text(Style::Plain);
    text.lines()
        .map(|line| line.split("  1 task").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_chain_goes_straight_down() {
    let text = graph(&[
        ("a", &[]),
        ("longer", &["afterok a"]),
        ("c", &["afterany longer"]),
    ])
    .text(Style::Plain);
    assert_eq!(
        text,
        "○ a       1 task\n│\n○ longer  1 task  afterok a\n│\n○ c       1 task  afterany longer\n"
    );
}

#[test]
fn jobs_that_wait_for_the_same_one_stand_beside_each_other_until_they_are_joined() {
    assert_eq!(
        lines(&[
            ("a", &[]),
            ("b", &["afterok a"]),
            ("c", &["afterok a"]),
            ("d", &["afterok b", "afterok c"]),
        ]),
        ["○   a", "├─╮", "│ ○ b", "│ │", "○ │ c", "├─╯", "○   d"]
    );
}

#[test]
fn lines_that_cross_are_not_joined() {
    assert_eq!(
        lines(&[
            ("a", &[]),
            ("b", &[]),
            ("c", &[]),
            ("d", &["afterok a", "afterok c"]),
            ("e", &["afterok b", "afterok d"]),
        ]),
        [
            "○     a",
            "│ ○   b",
            "│ │ ○ c",
            "├─│─╯",
            "○ │   d",
            "├─╯",
            "○     e"
        ]
    );
}

#[test]
fn a_lane_that_is_free_is_used_again_and_a_line_may_go_to_the_left() {
    assert_eq!(
        lines(&[
            ("a", &[]),
            ("b", &[]),
            ("c", &["after b"]),
            ("d", &["after a", "after c"]),
            ("e", &["after b"]),
            ("f", &["after b"]),
        ]),
        [
            "○     a",
            "│ ○   b",
            "│ ├─╮",
            "│ │ ○ c",
            "├─│─╯",
            "○ │   d",
            "╭─┤",
            "○ │   e",
            "  │",
            "  ○   f",
        ]
    );
}

#[test]
fn jobs_that_have_nothing_to_do_with_each_other_are_not_joined() {
    assert_eq!(lines(&[("a", &[]), ("b", &[])]), ["○ a", "○ b"]);
}

#[test]
fn states_are_words_and_colours_come_beside_them() {
    let mut graph = graph(&[("1 a", &[]), ("2 b", &["afterok 1 a"])]);
    (graph.nodes[0].state, graph.nodes[1].state) = (Some("succeeded"), Some("waiting"));
    graph.nodes[1].remark = "held".to_owned();
    assert_eq!(
        graph.text(Style::Plain),
        "● 1 a  succeeded  1 task\n│\n○ 2 b  waiting    1 task  afterok 1 a, held\n"
    );
    let text = graph.text(Style::Coloured);
    assert!(
        text.starts_with("\x1b[32m●\x1b[0m 1 a  \x1b[32msucceeded\x1b[0m  1 task\n│\n○ 2 b  waiting"),
        "{text:?}"
    );
}

/// The jobs to which lines lead from each one, followed through the rows of a drawing.
fn followed(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let mut lanes = Lanes::new(graph);
    let rows: Vec<Row> = (0..graph.nodes.len()).flat_map(|node| lanes.draw(node)).collect();
    // by column, the jobs whose lines come down there
    let mut above: Vec<BTreeSet<usize>> =
        vec![BTreeSet::new(); rows.iter().map(Row::width).max().unwrap_or(0)];
    let mut found = vec![BTreeSet::new(); graph.nodes.len()];
    let mut leads = BTreeSet::new();
    for (row, next) in rows.iter().zip(rows.iter().skip(1).map(Some).chain([None])) {
        let letters: Vec<char> = row.lines.chars().collect();
        let letter = |column: usize| letters.get(column).copied().unwrap_or(' ');
        if let Some(node) = row.node {
            let column = letters.iter().position(|&letter| letter == lanes::NODE).unwrap();
            // where no line leads to it, what stands above it is another's
            found[node] = std::mem::take(&mut leads);
            above[column] = BTreeSet::from([node]);
            for column in (0..above.len())
                .step_by(2)
                .filter(|&column| letter(column) == ' ')
            {
                above[column].clear();
            }
            continue;
        }
        let goes = |column: usize, ways: &str| ways.contains(letter(column));
        let corners = "┼┤├│┴╯╰╵┬╮╭╷";
        let joined: Vec<usize> = (0..above.len())
            .step_by(2)
            .filter(|&column| goes(column, corners))
            .filter(|&column| !goes(column, "│") || Some(column) == node_column(next))
            .collect();
        let sources = joined.iter().filter(|&&column| goes(column, "┼┤├│┴╯╰╵"));
        let sources: BTreeSet<usize> = sources.flat_map(|&column| above[column].clone()).collect();
        let at = node_column(next).unwrap();
        assert!(joined.contains(&at), "{}", graph.text(Style::Plain));
        for column in joined {
            if column != at && !goes(column, "┼┤├│┬╮╭╷") {
                above[column].clear();
            }
        }
        leads = sources;
    }
    found
}

fn node_column(row: Option<&Row>) -> Option<usize> {
    row?.lines.chars().position(|letter| letter == lanes::NODE)
}

proptest! {
    #[test]
    fn lines_lead_to_exactly_those_that_a_job_waits_for(
        edges in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..14),
    ) {
        let nodes = edges.iter().enumerate().map(|(position, others)| {
            let others: BTreeSet<usize> = match position {
                0 => BTreeSet::new(),
                _ => others.iter().map(|other| other.index(position)).collect(),
            };
            Node {
                label: format!("j{position}"),
                state: None,
                tasks: None,
                remark: String::new(),
                waits_for: others.into_iter().map(|on| Arrow { on, relation: "after" }).collect(),
            }
        });
        let graph = Graph { nodes: nodes.collect() };
        let wanted: Vec<BTreeSet<usize>> = graph
            .nodes
            .iter()
            .map(|node| node.waits_for.iter().map(|arrow| arrow.on).collect())
            .collect();
        prop_assert_eq!(followed(&graph), wanted, "{}", graph.text(Style::Plain));
    }
}

#[test]
fn what_is_too_wide_is_listed_without_lines() {
    let names: Vec<String> = (0..=LANES_MAX).map(|number| format!("j{number}")).collect();
    let mut wide = graph(&[]);
    for name in &names {
        let mut one = graph(&[("x", &[])]);
        one.nodes[0].label.clone_from(name);
        wide.nodes.append(&mut one.nodes);
    }
    let mut last = wide.nodes[0].clone();
    last.label = "last".to_owned();
    last.waits_for = (0..names.len())
        .map(|on| Arrow {
            on,
            relation: "afterok",
        })
        .collect();
    wide.nodes.push(last);
    let text = wide.text(Style::Plain);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), names.len() + 2, "{text}");
    assert!(lines[0].starts_with("j0 "), "{text}");
    assert!(lines[names.len()].contains("afterok j0, afterok j1, "), "{text}");
    assert!(lines[names.len() + 1].contains("--format dot"), "{text}");
}

#[test]
fn graphviz_gets_the_same_graph_with_quotes_in_order() {
    let mut graph = graph(&[("say \"a\\b\"", &[]), ("b", &["afternotok say \"a\\b\""])]);
    graph.nodes[0].state = Some("failed");
    assert_eq!(
        graph.dot(),
        "digraph jobs {\n  node [shape=box, style=rounded];\n  \
         n0 [label=\"say \\\"a\\\\b\\\"\\n1 task\\nfailed\", color=red];\n  n1 [label=\"b\\n1 task\"];\n  \
         n0 -> n1 [label=\"afternotok\"];\n}\n"
    );
}
