//! What ranks of Open MPI 4 need beyond their socket, on which they do not ask themselves: a library that does it for them,
//! and a place for the memory that they share.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The file of the library.
const LIBRARY: &str = "libpmi.so";
/// Where memory is a file.
const MEMORY: &str = "/dev/shm";

/// The surroundings of the ranks of one start on one node, as long as this lives.
#[derive(Debug)]
pub struct OpenMpi {
    library: PathBuf,
    /// Where ranks keep the memory that they share: those that are killed leave it behind.
    shared: PathBuf,
    number: u32,
}

impl OpenMpi {
    /// Surroundings under a name that nothing else on this machine has at this time. The number is the same on all nodes of a
    /// start. `None` where the library does not lie beside this program, or in `../lib/phalanx`.
    pub fn find(name: &str, number: u32) -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        Self::beside(program.parent()?, Path::new(MEMORY), name, number)
    }

    fn beside(folder: &Path, memory: &Path, name: &str, number: u32) -> Option<Self> {
        let places = [folder.join(LIBRARY), folder.join("../lib/phalanx").join(LIBRARY)];
        let library = places.into_iter().find(|place| place.is_file())?;
        let shared = memory.join(name);
        fs::create_dir(&shared).ok()?;
        Some(Self {
            library,
            shared,
            number,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_ranks_leave_behind_goes_and_names_are_given_once() {
        let folder = tempfile::tempdir().unwrap();
        let (own, memory) = (folder.path().join("bin"), folder.path().join("memory"));
        let installed = folder.path().join("lib/phalanx");
        for path in [&own, &memory, &installed] {
            fs::create_dir_all(path).unwrap();
        }
        let find = |name: &str| OpenMpi::beside(&own, &memory, name, 7);
        assert!(find("job").is_none(), "the library is not there");
        fs::write(installed.join(LIBRARY), "").unwrap();
        let found = find("job").unwrap();
        assert!(find("job").is_none(), "the name is taken");
        let [library, number, shared] = found.variables().map(|(_, value)| value);
        assert!(Path::new(&library).is_file());
        assert_eq!((number, Path::new(&shared)), ("7".into(), &*memory.join("job")));
        fs::write(memory.join("job/segment"), "").unwrap();
        drop(found);
        assert!(!memory.join("job").exists());
        assert!(find("job").is_some());
    }
}
