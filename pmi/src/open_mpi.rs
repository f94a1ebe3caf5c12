//! What ranks of Open MPI 4 need beyond their socket, on which they do not ask themselves: a library that does it for them,
//! and a place for the memory that they share.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The file of the library.
const LIBRARY: &str = "libpmi.so";
/// Where memory is a file.
const MEMORY: &str = "/dev/shm";
/// How all names begin, so that what nobody holds any more is known.
const PREFIX: &str = "phalanx-";

/// The surroundings of the ranks of one start on one node, as long as this lives.
#[derive(Debug)]
pub struct OpenMpi {
    library: PathBuf,
    /// Where ranks keep the memory that they share: those that are killed leave it behind.
    shared: PathBuf,
    number: u32,
    /// The place, locked as long as this lives, also if this process is killed.
    _held: File,
}

impl OpenMpi {
    /// Surroundings under a name that nothing else on this machine has at this time, and that begins with `phalanx-`. The number
    /// is the same on all nodes of a start. `None` where the library does not lie beside this program, or in `../lib/phalanx`.
    pub fn find(name: &str, number: u32) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        Self::beside(program.parent()?, Path::new(MEMORY), name, number)
    }

    fn beside(folder: &Path, memory: &Path, name: &str, number: u32) -> Option<Self> {
        let places = [folder.join(LIBRARY), folder.join("../lib/phalanx").join(LIBRARY)];
        let library = places.into_iter().find(|place| place.is_file())?;
        // what cannot be swept is in nobody's way
        let _ = sweep(memory);
        let shared = memory.join(name);
        fs::create_dir(&shared).ok()?;
        let held = File::open(&shared).ok()?;
        held.lock().ok()?;
        // somebody may have swept it before it was held
        shared.is_dir().then_some(Self {
            library,
            shared,
            number,
            _held: held,
        })
    }

    /// The variables by which a rank finds them.
    pub fn variables(&self) -> [(&'static str, OsString); 3] {
        [
            ("FLUX_PMI_LIBRARY_PATH", self.library.clone().into()),
            ("FLUX_JOB_ID", self.number.to_string().into()),
            ("OMPI_MCA_btl_vader_backing_directory", self.shared.clone().into()),
        ]
    }
}

impl Drop for OpenMpi {
    fn drop(&mut self) {
        // what cannot be removed is in nobody's way
        let _ = fs::remove_dir_all(&self.shared);
    }
}

/// Removes what was left behind by those that were killed: it takes memory until the machine is started again.
fn sweep(memory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(memory)? {
        let entry = entry?;
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            continue;
        }
        let is_left = File::open(entry.path()).is_ok_and(|place| place.try_lock().is_ok());
        if is_left {
            // others may be at it as well
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder for programs with the library beside it, and one for memory.
    fn machine() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (own, memory) = (folder.path().join("bin"), folder.path().join("memory"));
        let installed = folder.path().join("lib/phalanx");
        for path in [&own, &memory, &installed] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(installed.join(LIBRARY), "").unwrap();
        (folder, own, memory)
    }

    #[test]
    fn what_ranks_share_goes_with_them_and_names_are_given_once() {
        let (_folder, own, memory) = machine();
        let find = |name: &str| OpenMpi::beside(&own, &memory, name, 7);
        assert!(
            OpenMpi::beside(Path::new("/nowhere"), &memory, "phalanx-1", 7).is_none(),
            "no library"
        );
        let found = find("phalanx-1").unwrap();
        assert!(find("phalanx-1").is_none(), "the name is taken");
        let [library, number, shared] = found.variables().map(|(_, value)| value);
        assert!(Path::new(&library).is_file());
        assert_eq!(
            (number, Path::new(&shared)),
            ("7".into(), &*memory.join("phalanx-1"))
        );
        fs::write(memory.join("phalanx-1/segment"), "").unwrap();
        drop(found);
        assert!(!memory.join("phalanx-1").exists());
    }

    #[test]
    fn what_others_left_that_were_killed_is_swept_and_what_is_in_use_is_not() {
        let (_folder, own, memory) = machine();
        for left in ["phalanx-1", "somebody"] {
            fs::create_dir(memory.join(left)).unwrap();
            fs::write(memory.join(left).join("segment"), "").unwrap();
        }
        let find = |name: &str| OpenMpi::beside(&own, &memory, name, 7);
        // the name of one that is gone can be had again
        let again = find("phalanx-1").unwrap();
        assert!(!memory.join("phalanx-1/segment").exists());
        fs::write(memory.join("phalanx-1/segment"), "").unwrap();
        let other = find("phalanx-2").unwrap();
        assert!(memory.join("phalanx-1/segment").exists(), "it is in use");
        assert!(memory.join("somebody/segment").exists(), "it is not ours");
        drop((again, other));
    }
}
