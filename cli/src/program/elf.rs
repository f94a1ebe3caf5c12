//! The executable format: whose it is, and the bytes of the section in which a kernel program lists its kernels.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use object::read::ReadCache;
use object::{FileKind, Object, ObjectKind, ObjectSection};
use phalanx_protocol::message::host::KERNELS_SECTION;

use super::ProgramError;

/// The architecture that this command was built for, as the format names it.
pub(crate) fn this_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86" => "i386",
        other => other,
    }
}

/// The section of kernels, `None` if there is none.
pub(super) fn kernels_section(path: &Path) -> Result<Option<Vec<u8>>, ProgramError> {
    let unreadable = |cause| ProgramError::File {
        path: path.to_owned(),
        cause,
    };
    let damaged = |cause| ProgramError::Damaged {
        path: path.to_owned(),
        cause,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    // opening a folder succeeds, reading it does not
    let beginning = beginning(&mut file).map_err(unreadable)?;
    let cache = ReadCache::new(file);
    let not_elf = |what| ProgramError::NotElf {
        path: path.to_owned(),
        what,
    };
    match FileKind::parse(&cache) {
        Ok(FileKind::Elf32 | FileKind::Elf64) => {}
        Ok(_) | Err(_) => return Err(not_elf(what_else(&beginning))),
    }
    let program = object::File::parse(&cache).map_err(damaged)?;
    match program.kind() {
        ObjectKind::Executable => {}
        // position-independent programs are marked like libraries, but they have an entry point
        ObjectKind::Dynamic if program.entry() != 0 => {}
        ObjectKind::Dynamic => return Err(not_elf("it is a shared library")),
        ObjectKind::Relocatable => return Err(not_elf("it is an object file that was not linked")),
        ObjectKind::Core => return Err(not_elf("it is a core dump")),
        ObjectKind::Unknown | _ => return Err(not_elf("it cannot be executed")),
    }
    let found = format!("{:?}", program.architecture()).to_lowercase();
    let own = this_architecture();
    if found != own {
        return Err(ProgramError::OtherArchitecture {
            path: path.to_owned(),
            found,
            own,
        });
    }
    let Some(section) = program.section_by_name(KERNELS_SECTION) else {
        return Ok(None);
    };
    Ok(Some(section.data().map_err(damaged)?.to_vec()))
}

/// The first bytes, by which people's mistakes can be told apart.
fn beginning(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.by_ref().take(4).read_to_end(&mut bytes)?;
    file.rewind()?;
    Ok(bytes)
}

fn what_else(beginning: &[u8]) -> &'static str {
    match beginning {
        [] => "it is empty",
        [b'#', b'!', ..] => "it is a script",
        [0x7f, b'E', b'L', b'F', ..] => "its header is cut off",
        [b'M', b'Z', ..] => "it is a program for Windows",
        [0xcf | 0xce, 0xfa, 0xed, 0xfe] | [0xca, 0xfe, 0xba, 0xbe] => "it is a program for macOS",
        _ => "it is not in the executable format of Linux (ELF)",
    }
}
