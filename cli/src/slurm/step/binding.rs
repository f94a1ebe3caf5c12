//! Which cpus each rank of a step may use (`--cpu-bind`), as sets and in the words of Slurm's variables. Pure.

/// How the ranks are bound, as was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wish {
    how: How,
    /// Each rank's cpus are told.
    pub(super) is_verbose: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum How {
    /// Each rank to its own, if they are as many as there are.
    #[default]
    Fitting,
    /// Each rank to any cpu of the step.
    Free,
    /// Each rank to as many as it needs.
    Own,
    /// Each rank to an equal part of all.
    Parts,
    /// To these, one after the other.
    Sets(Vec<Vec<u32>>),
}

/// Why a wish is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WishError {
    /// It is no word.
    #[error(
        "--cpu-bind: `{0}` is none of none, cores, threads, rank, sockets, ldoms, rank_ldom, map_cpu:LIST, mask_cpu:LIST, verbose and quiet"
    )]
    Word(String),
    /// It is in a list.
    #[error("--cpu-bind: `{0}` is no number of a cpu; write map_cpu:0,1 or mask_cpu:0x3,0xc")]
    Number(String),
}

/// Cpus beyond that have no place in a set.
const CPU_MAX: u32 = 1023;
/// Sets in a list, with repetitions.
const SETS_MAX: usize = 65_536;

impl Wish {
    /// `verbose,cores`, `map_cpu:0,1`, `mask_cpu:0x3*2`.
    ///
    /// # Errors
    /// [`WishError`].
    pub(super) fn parse(text: &str) -> Result<Self, WishError> {
        let mut wish = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (word, behind) = rest.split_once(',').unwrap_or((rest, ""));
            let lower = word.to_ascii_lowercase();
            let list = |prefix: &str| {
                let follows = lower.strip_prefix(prefix)?.starts_with([':', '=']);
                follows.then(|| &rest[prefix.len() + 1..])
            };
            // a list goes on to the end
            if let Some(list) = list("map_cpu") {
                wish.how = How::Sets(sets(list, |text| number(text).map(|cpu| vec![cpu]))?);
                break;
            }
            if let Some(list) = list("mask_cpu") {
                wish.how = How::Sets(sets(list, mask)?);
                break;
            }
            if list("map_ldom").or_else(|| list("mask_ldom")).is_some() {
                break;
            }
            match lower.as_str() {
                "" => {}
                "v" | "verbose" => wish.is_verbose = true,
                "q" | "quiet" => wish.is_verbose = false,
                "no" | "none" => wish.how = How::Free,
                "core" | "cores" | "thread" | "threads" | "rank" => wish.how = How::Own,
                "socket" | "sockets" | "ldom" | "ldoms" | "rank_ldom" => wish.how = How::Parts,
                _ => return Err(WishError::Word(word.to_owned())),
            }
            rest = behind;
        }
        Ok(wish)
    }

    /// Cpus for each of so many ranks that need so many each, of those that the step has on their node. Nothing is known of
    /// cpus if there are none; then ranks are bound only if it is said to which.
    pub(super) fn sets(&self, cpus: &[u32], n_ranks: u32, cpus_per_rank: u32) -> Bound {
        let (ranks, each) = (n_ranks as usize, cpus_per_rank.max(1) as usize);
        let slices = |each: usize| {
            let slice = |rank: usize| {
                let chosen = cpus.iter().cycle().skip(rank * each % cpus.len());
                let mut chosen: Vec<u32> = chosen.take(each.min(cpus.len())).copied().collect();
                chosen.sort_unstable();
                chosen
            };
            Bound::Ranks((0..ranks).map(slice).collect())
        };
        match &self.how {
            How::Sets(sets) => Bound::Ranks(sets.iter().cycle().take(ranks).cloned().collect()),
            How::Fitting | How::Free | How::Own | How::Parts if cpus.is_empty() => Bound::Unknown,
            How::Fitting if ranks.saturating_mul(each) == cpus.len() => slices(each),
            How::Fitting | How::Free => Bound::Step(cpus.to_vec()),
            How::Own => slices(each),
            How::Parts => slices(each.max(cpus.len() / ranks.max(1))),
        }
    }

    /// Whether a rank that cannot be bound must not run.
    pub(super) fn names_cpus(&self) -> bool {
        matches!(self.how, How::Sets(_))
    }
}

/// What the ranks are bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bound {
    /// Nobody knows.
    Unknown,
    /// All of them to all cpus of the step.
    Step(Vec<u32>),
    /// Each to its own.
    Ranks(Vec<Vec<u32>>),
}

impl Bound {
    /// The cpus that a rank may use, if they are known.
    pub(super) fn of(&self, rank: u32) -> Option<&[u32]> {
        match self {
            Self::Unknown => None,
            Self::Step(cpus) => Some(cpus),
            Self::Ranks(sets) => sets.get(rank as usize).map(Vec::as_slice),
        }
    }

    /// `SLURM_CPU_BIND` and what it is made of.
    pub(super) fn variables(&self, is_verbose: bool) -> [(&'static str, String); 4] {
        let verbose = if is_verbose { "verbose" } else { "quiet" };
        let (kind, list) = match self {
            Self::Unknown | Self::Step(_) => ("none", String::new()),
            Self::Ranks(sets) => {
                let masks: Vec<String> = sets.iter().map(|cpus| mask_text(cpus)).collect();
                ("mask_cpu:", masks.join(","))
            }
        };
        [
            ("SLURM_CPU_BIND", format!("{verbose},{kind}{list}")),
            ("SLURM_CPU_BIND_VERBOSE", verbose.to_owned()),
            ("SLURM_CPU_BIND_TYPE", kind.to_owned()),
            ("SLURM_CPU_BIND_LIST", list),
        ]
    }
}

/// Cpus as the bits of a number: `0x3`.
pub(super) fn mask_text(cpus: &[u32]) -> String {
    let digits = cpus.iter().max().map_or(0, |&cpu| cpu / 4);
    let digit = |position: u32| {
        let bits = cpus.iter().filter(|&&cpu| cpu / 4 == position);
        format!("{:x}", bits.fold(0_u32, |digit, cpu| digit | 1 << (cpu % 4)))
    };
    let text: String = (0..=digits).rev().map(digit).collect();
    format!("0x{text}")
}

/// What is in a list: `a,b*3`.
fn sets(text: &str, read: impl Fn(&str) -> Result<Vec<u32>, WishError>) -> Result<Vec<Vec<u32>>, WishError> {
    let mut sets = Vec::new();
    for word in text.split(',') {
        let wrong = || WishError::Number(word.to_owned());
        let (one, times) = match word.split_once('*') {
            Some((one, times)) => (one, times.parse::<usize>().map_err(|_| wrong())?),
            None => (word, 1),
        };
        if times == 0 || sets.len() + times > SETS_MAX {
            return Err(wrong());
        }
        sets.extend(vec![read(one)?; times]);
    }
    Ok(sets)
}

/// `4`, `0x4`.
fn number(text: &str) -> Result<u32, WishError> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let number = parsed.ok().filter(|&number| number <= CPU_MAX);
    number.ok_or_else(|| WishError::Number(text.to_owned()))
}

/// `0xc`: the cpus whose bits are set.
fn mask(text: &str) -> Result<Vec<u32>, WishError> {
    let wrong = || WishError::Number(text.to_owned());
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let mut cpus = Vec::new();
    for (position, digit) in (0..).zip(digits.unwrap_or(text).chars().rev()) {
        let digit = digit.to_digit(16).ok_or_else(wrong)?;
        let of_digit = (0..4).filter(|bit| digit >> bit & 1 == 1);
        cpus.extend(of_digit.map(|bit| 4 * position + bit));
    }
    let fits = cpus.last().is_some_and(|&cpu| cpu <= CPU_MAX);
    if fits { Ok(cpus) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn bound(text: &str, cpus: &[u32], ranks: u32, each: u32) -> Bound {
        Wish::parse(text).unwrap().sets(cpus, ranks, each)
    }

    #[test]
    fn ranks_have_their_own_cpus_if_these_are_as_many_as_they_need() {
        assert_eq!(
            bound("", &[4, 5, 8, 9], 2, 2),
            Bound::Ranks(vec![vec![4, 5], vec![8, 9]])
        );
        assert_eq!(bound("", &[4, 5, 8], 2, 1), Bound::Step(vec![4, 5, 8]));
        assert_eq!(bound("none", &[4, 5], 2, 1), Bound::Step(vec![4, 5]));
        assert_eq!(
            bound("quiet,cores", &[4, 5, 8], 2, 1),
            Bound::Ranks(vec![vec![4], vec![5]])
        );
        assert_eq!(
            bound("sockets", &[4, 5, 8, 9], 2, 1),
            Bound::Ranks(vec![vec![4, 5], vec![8, 9]])
        );
        // more ranks than cpus
        assert_eq!(
            bound("rank", &[4, 5], 3, 1),
            Bound::Ranks(vec![vec![4], vec![5], vec![4]])
        );
        assert_eq!(bound("cores", &[], 2, 1), Bound::Unknown);
    }

    #[test]
    fn lists_are_dealt_out_one_after_the_other() {
        assert_eq!(
            bound("v,map_cpu:3,0x1", &[], 3, 1),
            Bound::Ranks(vec![vec![3], vec![1], vec![3]])
        );
        assert_eq!(
            bound("mask_cpu=0x3*2,F0", &[9], 3, 1),
            Bound::Ranks(vec![vec![0, 1], vec![0, 1], vec![4, 5, 6, 7]])
        );
        assert!(Wish::parse("v,map_cpu:3").unwrap().is_verbose);
        assert_eq!(bound("map_ldom:0,1", &[7, 8], 2, 1), bound("", &[7, 8], 2, 1));
    }

    #[test]
    fn what_is_no_binding_is_refused() {
        assert_eq!(
            Wish::parse("core,s").unwrap_err(),
            WishError::Word("s".to_owned())
        );
        for list in [
            "map_cpu:",
            "map_cpu:a",
            "map_cpu:1024",
            "map_cpu:0*0",
            "map_cpu:0*99999999999",
        ] {
            assert!(matches!(Wish::parse(list), Err(WishError::Number(_))), "{list}");
        }
        for list in ["mask_cpu:0x", "mask_cpu:0", "mask_cpu:g"] {
            assert!(matches!(Wish::parse(list), Err(WishError::Number(_))), "{list}");
        }
        assert!(Wish::parse(&format!("mask_cpu:1{}", "0".repeat(256))).is_err());
    }

    #[test]
    fn variables_say_it_in_the_words_of_slurm() {
        let values = |bound: Bound| bound.variables(false).map(|(_, value)| value);
        assert_eq!(
            values(Bound::Ranks(vec![vec![0, 1], vec![4, 33]])),
            [
                "quiet,mask_cpu:0x3,0x200000010",
                "quiet",
                "mask_cpu:",
                "0x3,0x200000010"
            ]
        );
        assert_eq!(values(Bound::Step(vec![1])), ["quiet,none", "quiet", "none", ""]);
        assert_eq!(mask_text(&[]), "0x0");
    }
}
