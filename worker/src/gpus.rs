//! Which gpus this node has, as its kernel shows them, without any vendor's library.
//!
//! NVIDIA's driver lists them by bus address under `/proc/driver/nvidia/gpus`; tasks are given numbers in that order, with
//! `CUDA_DEVICE_ORDER=PCI_BUS_ID`, by which CUDA counts in the same way. AMD's are the nodes with compute units under
//! `/sys/class/kfd`, in which order ROCm counts them. A worker that was itself given some of them offers these only.

use std::fs;
use std::path::{Path, PathBuf};

use phalanx_protocol::{Gpu, GpuVendor};

/// The number that AMD has on the PCI bus.
const AMD_PCI_VENDOR: &str = "0x1002";
/// Words in the name of an NVIDIA gpu that say nothing of its type.
const BRANDS: [&str; 4] = ["nvidia", "tesla", "geforce", "quadro"];

/// The gpus of the node whose file system is at `root`, as far as the variables of this process let it use them.
pub(crate) fn detect(root: &Path, variable: impl Fn(&str) -> Option<String>) -> Vec<Gpu> {
    let nvidia = allowed(nvidia(root), variable("CUDA_VISIBLE_DEVICES").as_deref());
    let hip = variable("HIP_VISIBLE_DEVICES");
    let amd = allowed(amd(root), variable("ROCR_VISIBLE_DEVICES").or(hip).as_deref());
    nvidia.into_iter().chain(amd).collect()
}

/// As many gpus of each type, or of any, as the operator says there are: of those that were found, or numbers if these are
/// not as many.
pub(crate) fn counted(mut found: Vec<Gpu>, counts: &[(Option<String>, usize)]) -> Vec<Gpu> {
    let mut chosen = Vec::new();
    for (kind, count) in counts {
        for _ in 0..*count {
            let is_wanted = |gpu: &Gpu| kind.is_none() || gpu.kind == *kind;
            match found.iter().position(is_wanted) {
                Some(at) => chosen.push(found.remove(at)),
                None => return numbered(counts),
            }
        }
    }
    chosen
}

fn numbered(counts: &[(Option<String>, usize)]) -> Vec<Gpu> {
    let kinds = counts
        .iter()
        .flat_map(|(kind, count)| std::iter::repeat_n(kind, *count));
    let kinds = kinds.enumerate();
    kinds
        .map(|(index, kind)| gpu(GpuVendor::Unknown, index, kind.clone()))
        .collect()
}

fn gpu(vendor: GpuVendor, index: usize, kind: Option<String>) -> Gpu {
    Gpu {
        vendor,
        id: index.to_string(),
        kind,
    }
}

fn nvidia(root: &Path) -> Vec<Gpu> {
    let by_address = entries(&root.join("proc/driver/nvidia/gpus"), |_| true);
    if !by_address.is_empty() {
        let kind = |folder: &PathBuf| nvidia_kind(&fs::read_to_string(folder.join("information")).ok()?);
        let kinds = by_address.iter().map(kind);
        return kinds
            .enumerate()
            .map(|(index, kind)| gpu(GpuVendor::Nvidia, index, kind))
            .collect();
    }
    // in a container there may be nothing but the devices
    let devices = entries(&root.join("dev"), |name| number_behind(name, "nvidia").is_some());
    (0..devices.len())
        .map(|index| gpu(GpuVendor::Nvidia, index, None))
        .collect()
}

fn amd(root: &Path) -> Vec<Gpu> {
    let mut nodes = entries(&root.join("sys/class/kfd/kfd/topology/nodes"), |name| {
        number_behind(name, "").is_some()
    });
    nodes.sort_by_key(|node| name_of(node).parse::<u32>().ok());
    // processors are nodes too, without an id of a gpu
    let is_gpu = |node: &PathBuf| trimmed(&node.join("gpu_id")).is_some_and(|id| id != "0");
    nodes.retain(is_gpu);
    if !nodes.is_empty() {
        let kind = |node: &PathBuf| trimmed(&node.join("name")).map(|name| as_kind(&name));
        let kinds = nodes
            .iter()
            .map(|node| kind(node).filter(|kind| !kind.is_empty()));
        return kinds
            .enumerate()
            .map(|(index, kind)| gpu(GpuVendor::Amd, index, kind))
            .collect();
    }
    let rendering = entries(&root.join("sys/class/drm"), |name| {
        number_behind(name, "renderD").is_some()
    });
    let is_amd =
        |node: &&PathBuf| trimmed(&node.join("device/vendor")).is_some_and(|id| id == AMD_PCI_VENDOR);
    let count = rendering.iter().filter(is_amd).count();
    (0..count).map(|index| gpu(GpuVendor::Amd, index, None)).collect()
}

/// Those of `found` that the variable of this process names, as it names them: numbers up to the first that is none, or
/// unique ids, of which the type is known only if all found have the same.
fn allowed(found: Vec<Gpu>, visible: Option<&str>) -> Vec<Gpu> {
    let (Some(visible), Some(first)) = (visible, found.first()) else {
        return found;
    };
    let (vendor, kind) = (first.vendor, first.kind.clone());
    let kind = kind.filter(|_| found.iter().all(|gpu| gpu.kind == first.kind));
    let named = visible.split(',').map(str::trim).map_while(|id| {
        if let Ok(number) = id.parse::<i64>() {
            return found.get(usize::try_from(number).ok()?).cloned();
        }
        let is_unique_id = id.len() > 4 && id.contains('-');
        is_unique_id.then(|| Gpu {
            vendor,
            id: id.to_owned(),
            kind: kind.clone(),
        })
    });
    named.take(found.len()).collect()
}

/// `a100` of `Model: NVIDIA A100-SXM4-40GB`, `rtx_3090` of `Model: NVIDIA GeForce RTX 3090`.
fn nvidia_kind(information: &str) -> Option<String> {
    let model = information.lines().find_map(|line| line.strip_prefix("Model:"))?;
    let model = model.trim().to_ascii_lowercase();
    let model = model.split('-').next().unwrap_or_default();
    let words = model
        .split_ascii_whitespace()
        .filter(|word| !BRANDS.contains(word));
    let is_form = |word: &&str| word.ends_with("gb") || word.starts_with("hbm") || word.starts_with("pcie");
    let words: Vec<&str> = words.take_while(|word| !is_form(word)).collect();
    let kind = as_kind(&words.join("_"));
    (!kind.is_empty()).then_some(kind)
}

/// Small letters, digits and what joins them.
fn as_kind(name: &str) -> String {
    let letter = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
        _ => '_',
    };
    name.chars().map(letter).collect()
}

/// What a folder has, by name, if the name is wanted; nothing if there is no such folder.
fn entries(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| is_wanted(&name_of(path)))
        .collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The number in a name that begins so.
fn number_behind(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

fn trimmed(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn found(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Vec<(GpuVendor, String, String)> {
        let root = tree(files);
        let value = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let told = |gpu: Gpu| (gpu.vendor, gpu.id, gpu.kind.unwrap_or_default());
        detect(root.path(), value).into_iter().map(told).collect()
    }

    fn ids(gpus: &[(GpuVendor, String, String)]) -> Vec<&str> {
        gpus.iter().map(|(_, id, _)| id.as_str()).collect()
    }

    const TWO_A100: [(&str, &str); 2] = [
        (
            "proc/driver/nvidia/gpus/0000:3b:00.0/information",
            "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 1\n",
        ),
        (
            "proc/driver/nvidia/gpus/0000:86:00.0/information",
            "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ: 2\n",
        ),
    ];

    #[test]
    fn nvidia_gpus_are_found_by_their_driver_with_their_type() {
        let gpus = found(&TWO_A100, &[]);
        assert_eq!(ids(&gpus), ["0", "1"]);
        assert!(
            gpus.iter()
                .all(|(vendor, _, kind)| (*vendor, kind.as_str()) == (GpuVendor::Nvidia, "a100"))
        );
        for (model, kind) in [
            ("NVIDIA GeForce RTX 3090", "rtx_3090"),
            ("Tesla V100-SXM2-32GB", "v100"),
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA RTX A6000", "rtx_a6000"),
        ] {
            assert_eq!(
                nvidia_kind(&format!("Model: \t {model}\n")).as_deref(),
                Some(kind)
            );
        }
        assert_eq!(nvidia_kind("Model: NVIDIA\n"), None);
    }

    #[test]
    fn without_the_drivers_list_nvidia_devices_are_counted() {
        let devices = [
            ("dev/nvidia0", ""),
            ("dev/nvidia1", ""),
            ("dev/nvidiactl", ""),
            ("dev/nvidia-uvm", ""),
        ];
        assert_eq!(ids(&found(&devices, &[])), ["0", "1"]);
    }

    #[test]
    fn amd_gpus_are_the_nodes_that_are_no_processors() {
        let nodes = "sys/class/kfd/kfd/topology/nodes";
        let file = |node: u32, name: &str| format!("{nodes}/{node}/{name}");
        let files = [
            (file(0, "gpu_id"), "0\n"),
            (file(2, "gpu_id"), "51000\n"),
            (file(2, "name"), "Aldebaran\n"),
            (file(10, "gpu_id"), "51001\n"),
            (file(10, "name"), "\n"),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let amd = |id: &str, kind: &str| (GpuVendor::Amd, id.to_owned(), kind.to_owned());
        assert_eq!(found(&files, &[]), [amd("0", "aldebaran"), amd("1", "")]);
        assert_eq!(ids(&found(&files, &[("ROCR_VISIBLE_DEVICES", "1")])), ["1"]);
        let rendering = [
            ("sys/class/drm/renderD128/device/vendor", "0x8086\n"),
            ("sys/class/drm/renderD129/device/vendor", "0x1002\n"),
        ];
        assert_eq!(found(&rendering, &[]), [amd("0", "")]);
    }

    #[test]
    fn a_worker_that_was_given_some_offers_these_only() {
        let visible = |value: &str| {
            let gpus = found(&TWO_A100, &[("CUDA_VISIBLE_DEVICES", value)]);
            ids(&gpus).join(" ")
        };
        assert_eq!(visible("1"), "1");
        assert_eq!(visible("1, 0"), "1 0");
        assert_eq!(visible("0,-1,1"), "0", "none behind the first that is none");
        assert_eq!(
            (visible(""), visible("NoDevFiles"), visible("7")),
            Default::default()
        );
        assert_eq!(
            visible("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"),
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
        );
        assert_eq!(
            found(&[], &[("CUDA_VISIBLE_DEVICES", "0")]),
            [],
            "a variable makes no gpu"
        );
    }

    #[test]
    fn an_operator_says_how_many_there_are() {
        let found: Vec<Gpu> = (0..4)
            .map(|index| gpu(GpuVendor::Nvidia, index, Some("a100".to_owned())))
            .collect();
        let said = |counts: &[(&str, usize)]| {
            let kind = |kind: &str| (!kind.is_empty()).then(|| kind.to_owned());
            let counts: Vec<_> = counts.iter().map(|(name, count)| (kind(name), *count)).collect();
            counted(found.clone(), &counts)
        };
        assert_eq!(said(&[("", 2)]), found[..2]);
        assert_eq!(said(&[("a100", 3)]), found[..3]);
        assert_eq!(said(&[("", 0)]), []);
        let unknown = |index, kind: &str| gpu(GpuVendor::Unknown, index, Some(kind.to_owned()));
        assert_eq!(
            said(&[("a100", 1), ("v100", 2)]),
            [unknown(0, "a100"), unknown(1, "v100"), unknown(2, "v100")]
        );
        assert_eq!(said(&[("", 5)]).len(), 5);
    }
}
