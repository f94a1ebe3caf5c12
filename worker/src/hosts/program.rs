//! Programs: from shared storage into this node's cache, and a look inside before anything is started.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use object::{Object, ReadCache};
use phalanx_protocol::BlobId;
use phalanx_protocol::message::host::KERNELS_SECTION;
use phalanx_storage::{BlobError, Blobs};

/// How the extension of an unfinished copy begins.
const PARTIAL: &str = "partial-";
const PIECE_BYTES: usize = 1 << 20;

/// Why a program cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// Shared storage does not give it.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The copy has another hash than its name: the blob is damaged.
    #[error("the program {program} is damaged on shared storage, its content has the hash {found}")]
    Damaged {
        /// Its name.
        program: BlobId,
        /// What its content hashes to.
        found: BlobId,
    },
    /// This node's cache takes no files.
    #[error("this worker's cache fails: cannot {action} `{}`: {cause}", path.display())]
    Cache {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Not an ELF file.
    #[error("the program is no executable of this system (ELF)")]
    NotElf,
    /// Of another machine.
    #[error(
        "the program is built for {built_for}, this worker is {}",
        std::env::consts::ARCH
    )]
    Architecture {
        /// The machine.
        built_for: String,
    },
    /// Nothing in it was registered.
    #[error("the program is no kernel program: it has no #[phalanx::kernel]")]
    NoKernels,
}

impl ProgramError {
    /// Whether another node would fail just the same.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Blob(error) => is_blob_damaged(error),
            // there may be workers of its machine
            Self::Cache { .. } | Self::Architecture { .. } => false,
            Self::Damaged { .. } | Self::NotElf | Self::NoKernels => true,
        }
    }
}

/// Whether a blob is of no use to anybody, rather than out of this node's reach: one that is not there may be missing
/// only here, behind a stale view of the storage or on the wrong one.
pub(crate) fn is_blob_damaged(error: &BlobError) -> bool {
    match error {
        BlobError::Damaged { .. } | BlobError::Hash { .. } | BlobError::TooLarge => true,
        BlobError::Missing { .. } | BlobError::Store(_) | BlobError::Source(_) => false,
    }
}
/// Makes a folder with nothing in it.
///
/// # Errors
/// Says why it cannot be made or emptied.
pub(crate) fn empty_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(folder)
}

/// Removes what an earlier process of this worker did not finish copying.
///
/// # Errors
/// Says why the folder cannot be read.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extension.starts_with(PARTIAL)) {
            // it costs room and nothing else
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Makes sure that the cache holds the program at `path`, whole, executable and a kernel program for this machine.
/// `copy_number` tells copies apart that are made at the same time.
///
/// # Errors
/// [`ProgramError`].
pub(crate) fn fetch(
    blobs: &Blobs,
    program: BlobId,
    path: &Path,
    copy_number: u64,
) -> Result<(), ProgramError> {
    if !is_cached(program, path) {
        let partial = path.with_extension(format!("{PARTIAL}{}-{copy_number}", std::process::id()));
        copy(blobs, program, path, &partial)?;
    }
    let file = File::open(path).map_err(|cause| cache_error("open", path, cause))?;
    check(file)
}

/// Whether the file is there with that content: an earlier process of this worker may have left it.
fn is_cached(program: BlobId, path: &Path) -> bool {
    let mut hasher = blake3::Hasher::new();
    let hashed = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    hashed.is_ok() && *hasher.finalize().as_bytes() == program.0
}

fn copy(blobs: &Blobs, program: BlobId, path: &Path, partial: &Path) -> Result<(), ProgramError> {
    let mut source = blobs.open(program)?;
    let copied = copy_hashed(&mut source, partial).map_err(|cause| cache_error("write", partial, cause));
    let renamed = copied.and_then(|found| match found == program {
        true => fs::rename(partial, path).map_err(|cause| cache_error("create", path, cause)),
        false => Err(ProgramError::Damaged { program, found }),
    });
    if renamed.is_err() {
        // it may not be there at all
        let _ = fs::remove_file(partial);
    }
    renamed
}

fn copy_hashed(source: &mut File, path: &Path) -> io::Result<BlobId> {
    let mut target = File::create(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&piece[..count]);
                target.write_all(&piece[..count])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    target.set_permissions(fs::Permissions::from_mode(0o755))?;
    Ok(BlobId(*hasher.finalize().as_bytes()))
}

fn cache_error(action: &'static str, path: &Path, cause: io::Error) -> ProgramError {
    ProgramError::Cache {
        action,
        path: path.to_owned(),
        cause,
    }
}

/// Looks for this machine's code and for kernels in an executable.
fn check(file: File) -> Result<(), ProgramError> {
    let content = ReadCache::new(file);
    let elf = object::File::parse(&content).map_err(|_| ProgramError::NotElf)?;
    // its names are those of the targets, but for capital letters
    let built_for = format!("{:?}", elf.architecture()).to_lowercase();
    if built_for != std::env::consts::ARCH {
        return Err(ProgramError::Architecture { built_for });
    }
    elf.section_by_name(KERNELS_SECTION)
        .map(|_| ())
        .ok_or(ProgramError::NoKernels)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    struct Fixture {
        folder: tempfile::TempDir,
        blobs: Blobs,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let directory = phalanx_storage::Directory::open(folder.path().join("storage")).unwrap();
            Self {
                blobs: Blobs::new(Arc::new(directory)),
                folder,
            }
        }

        fn fetch(&self, content: &[u8]) -> Result<PathBuf, ProgramError> {
            let program = self.blobs.put_from_reader(content).unwrap();
            let path = self.folder.path().join("program");
            fetch(&self.blobs, program, &path, 1).map(|()| path)
        }
    }

    /// The header of a 64-bit little-endian executable without sections.
    fn elf_header(machine: u16) -> Vec<u8> {
        let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        header.resize(16, 0);
        header.extend(2u16.to_le_bytes());
        header.extend(machine.to_le_bytes());
        header.extend(1u32.to_le_bytes());
        header.resize(52, 0);
        for size in [64u16, 56, 0, 64, 0, 0] {
            header.extend(size.to_le_bytes());
        }
        header
    }

    const OURS: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

    /// An executable of this machine with nothing but the section of kernels.
    pub(crate) fn kernel_program() -> Vec<u8> {
        let names = format!("\0{KERNELS_SECTION}\0.shstrtab\0");
        let names_offset = 64u64;
        let table_offset = names_offset + names.len() as u64;
        let mut elf = elf_header(OURS);
        elf[40..48].copy_from_slice(&table_offset.to_le_bytes());
        elf[60..62].copy_from_slice(&3u16.to_le_bytes());
        elf[62..64].copy_from_slice(&2u16.to_le_bytes());
        elf.extend(names.as_bytes());
        let section = |name: u32, kind: u32, bytes: u64| {
            let mut header = Vec::new();
            header.extend(name.to_le_bytes());
            header.extend(kind.to_le_bytes());
            // flags, address, offset, size
            [0, 0, names_offset, bytes]
                .iter()
                .for_each(|field| header.extend(field.to_le_bytes()));
            header.resize(64, 0);
            header
        };
        elf.extend(vec![0; 64]);
        elf.extend(section(1, 1, 1));
        elf.extend(section(2 + KERNELS_SECTION.len() as u32, 3, names.len() as u64));
        elf
    }

    #[test]
    fn a_kernel_program_is_copied_and_can_be_executed() {
        let fixture = Fixture::new();
        let path = fixture.fetch(&kernel_program()).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        fixture.fetch(&kernel_program()).unwrap();
    }

    #[test]
    fn unfinished_copies_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("abc.partial-12-1"), b"").unwrap();
        fs::write(folder.path().join("abc"), b"").unwrap();
        sweep(folder.path()).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["abc"]);
    }

    #[test]
    fn a_program_for_another_machine_is_refused_by_name_and_may_run_on_another_node() {
        let (machine, name) = if cfg!(target_arch = "aarch64") {
            (62, "x86_64")
        } else {
            (183, "aarch64")
        };
        let error = Fixture::new().fetch(&elf_header(machine)).unwrap_err();
        assert!(!error.is_fatal());
        assert_eq!(
            error.to_string(),
            format!(
                "the program is built for {name}, this worker is {}",
                std::env::consts::ARCH
            )
        );
    }

    #[test]
    fn a_program_without_kernels_is_refused() {
        let this_test = fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = Fixture::new().fetch(&this_test).unwrap_err();
        assert!(
            matches!(error, ProgramError::NoKernels) && error.is_fatal(),
            "{error}"
        );
        assert!(matches!(
            Fixture::new().fetch(b"#!/bin/sh\n"),
            Err(ProgramError::NotElf)
        ));
    }

    #[test]
    fn a_damaged_program_is_not_used_and_leaves_nothing() {
        let fixture = Fixture::new();
        let program = fixture.blobs.put_from_reader(&b"program"[..]).unwrap();
        fs::write(fixture.blobs.path(program), b"pr0gram").unwrap();
        let cache = fixture.folder.path().join("cache");
        fs::create_dir(&cache).unwrap();
        let error = fetch(&fixture.blobs, program, &cache.join("p"), 1).unwrap_err();
        assert!(matches!(error, ProgramError::Damaged { .. }) && error.is_fatal());
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
    }

    #[test]
    fn a_program_that_is_not_there_and_a_broken_cache_are_this_nodes_trouble() {
        let fixture = Fixture::new();
        let missing = fetch(
            &fixture.blobs,
            BlobId([7; 32]),
            &fixture.folder.path().join("p"),
            1,
        );
        assert!(!missing.unwrap_err().is_fatal());
        let program = fixture.blobs.put_from_reader(&b"program"[..]).unwrap();
        let error = fetch(
            &fixture.blobs,
            program,
            &fixture.folder.path().join("no/folder"),
            1,
        )
        .unwrap_err();
        assert!(
            matches!(error, ProgramError::Cache { .. }) && !error.is_fatal(),
            "{error}"
        );
    }

    #[test]
    fn a_file_in_the_cache_is_used_only_if_it_is_the_program() {
        let fixture = Fixture::new();
        let header = elf_header(OURS);
        fs::write(fixture.folder.path().join("program"), b"something else").unwrap();
        assert!(matches!(fixture.fetch(&header), Err(ProgramError::NoKernels)));
        assert_eq!(fs::read(fixture.folder.path().join("program")).unwrap(), header);
    }
}
