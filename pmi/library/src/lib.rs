//! `libpmi.so`: the functions of `pmi.h` for MPI libraries that do not speak PMI-1 themselves, over the socket that their
//! starter left them (`PMI_FD`). Open MPI 4 loads it where `FLUX_PMI_LIBRARY_PATH` says.
//!
//! [`client`] asks and reads answers; here are C's names and C's pointers.

#![expect(unsafe_code, reason = "pointers are those of a C library that others load")]

mod client;

use std::ffi::{CStr, c_char, c_int};
use std::sync::{Mutex, PoisonError};

use client::{Client, Failure};

const SUCCESS: c_int = 0;
const FAIL: c_int = -1;
const ERR_INIT: c_int = 1;
const ERR_INVALID_ARG: c_int = 3;
const ERR_INVALID_LENGTH: c_int = 5;

static CLIENT: Mutex<Option<Client>> = Mutex::new(None);

/// Does something with the connection, if there is one.
fn with<T>(act: impl FnOnce(&mut Client) -> Result<T, Failure>) -> Result<T, c_int> {
    let mut client = CLIENT.lock().unwrap_or_else(PoisonError::into_inner);
    let client = client.as_mut().ok_or(ERR_INIT)?;
    act(client).map_err(|_| FAIL)
}

/// Writes a number where C wants it.
///
/// # Safety
/// `to` is null or may be written to.
unsafe fn put_number(to: *mut c_int, number: Result<u32, c_int>) -> c_int {
    match (number, to.is_null()) {
        (Err(code), _) => code,
        (Ok(_), true) => ERR_INVALID_ARG,
        (Ok(number), false) => {
            // SAFETY: the caller's promise.
            unsafe { to.write(c_int::try_from(number).unwrap_or(c_int::MAX)) };
            SUCCESS
        }
    }
}

/// Writes a text with its final zero where C wants it.
///
/// # Safety
/// `to` is null or has room for `length` bytes.
unsafe fn put_text(to: *mut c_char, length: c_int, text: Result<String, c_int>) -> c_int {
    let text = match text {
        Ok(text) => text,
        Err(code) => return code,
    };
    let room = usize::try_from(length).unwrap_or_default();
    if to.is_null() {
        return ERR_INVALID_ARG;
    }
    if text.len() >= room {
        return ERR_INVALID_LENGTH;
    }
    // SAFETY: there is room for the text and its zero, and what is copied is ours.
    unsafe {
        to.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        to.add(text.len()).write(0);
    }
    SUCCESS
}

/// Reads a text of C's.
///
/// # Safety
/// `text` is null or ends with a zero.
unsafe fn text_of(text: *const c_char) -> Result<String, c_int> {
    if text.is_null() {
        return Err(ERR_INVALID_ARG);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map(str::to_owned).map_err(|_| ERR_INVALID_ARG)
}

/// Connects to whoever started this process.
///
/// # Safety
/// `spawned` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Init(spawned: *mut c_int) -> c_int {
    let mut client = CLIENT.lock().unwrap_or_else(PoisonError::into_inner);
    if client.is_none() {
        match Client::of_environment() {
            Ok(connected) => *client = Some(connected),
            Err(_) => return FAIL,
        }
    }
    // SAFETY: the caller's promise.
    unsafe { put_number(spawned, Ok(0)) }
}

/// Whether it is connected.
///
/// # Safety
/// `initialized` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Initialized(initialized: *mut c_int) -> c_int {
    let is_connected = CLIENT.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    // SAFETY: the caller's promise.
    unsafe { put_number(initialized, Ok(is_connected.into())) }
}

/// Says farewell.
#[unsafe(no_mangle)]
pub extern "C" fn PMI_Finalize() -> c_int {
    let done = with(Client::finalize);
    *CLIENT.lock().unwrap_or_else(PoisonError::into_inner) = None;
    done.err().unwrap_or(SUCCESS)
}

/// How many ranks there are.
///
/// # Safety
/// `size` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Get_size(size: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { put_number(size, with(|client| Ok(client.size))) }
}

/// Which rank this is.
///
/// # Safety
/// `rank` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Get_rank(rank: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { put_number(rank, with(|client| Ok(client.rank))) }
}

/// How many ranks there could be.
///
/// # Safety
/// `size` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Get_universe_size(size: *mut c_int) -> c_int {
    let asked = with(|client| client.number("get_universe_size", "size"));
    // SAFETY: the caller's promise.
    unsafe { put_number(size, asked) }
}

/// Which of the programs started together this is.
///
/// # Safety
/// `appnum` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Get_appnum(appnum: *mut c_int) -> c_int {
    let asked = with(|client| client.number("get_appnum", "appnum"));
    // SAFETY: the caller's promise.
    unsafe { put_number(appnum, asked) }
}

/// Waits for all ranks.
#[unsafe(no_mangle)]
pub extern "C" fn PMI_Barrier() -> c_int {
    with(Client::barrier).err().unwrap_or(SUCCESS)
}

/// Ends all ranks; returns only if they cannot be told, or have not ended yet.
///
/// # Safety
/// `message` is not looked at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Abort(code: c_int, _message: *const c_char) -> c_int {
    with(|client| client.abort(code)).err().unwrap_or(SUCCESS)
}

/// The name of the space in which keys are put.
///
/// # Safety
/// `name` is null or has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_KVS_Get_my_name(name: *mut c_char, length: c_int) -> c_int {
    let own = with(|client| Ok(client.space.clone()));
    // SAFETY: the caller's promise.
    unsafe { put_text(name, length, own) }
}

/// Bytes of that name, with its final zero.
///
/// # Safety
/// `length` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_KVS_Get_name_length_max(length: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { put_number(length, with(|client| Ok(client.name_bytes_max))) }
}

/// Bytes of a key, with its final zero.
///
/// # Safety
/// `length` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_KVS_Get_key_length_max(length: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { put_number(length, with(|client| Ok(client.key_bytes_max))) }
}

/// Bytes of a value, with its final zero.
///
/// # Safety
/// `length` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_KVS_Get_value_length_max(length: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { put_number(length, with(|client| Ok(client.value_bytes_max))) }
}

/// Puts a value for all ranks.
///
/// # Safety
/// All three are null or end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_KVS_Put(
    _space: *const c_char,
    key: *const c_char,
    value: *const c_char,
) -> c_int {
    // SAFETY: the caller's promise.
    let (key, value) = unsafe { (text_of(key), text_of(value)) };
    match (key, value) {
        (Ok(key), Ok(value)) => with(|client| client.put(&key, &value)).err().unwrap_or(SUCCESS),
        (Err(code), _) | (_, Err(code)) => code,
    }
}

/// Makes what was put visible, which it is already.
///
/// # Safety
/// `space` is not looked at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_KVS_Commit(_space: *const c_char) -> c_int {
    with(|_| Ok(())).err().unwrap_or(SUCCESS)
}

/// Gets a value that some rank has put.
///
/// # Safety
/// `space` and `key` are null or end with a zero; `value` is null or has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_KVS_Get(
    _space: *const c_char,
    key: *const c_char,
    value: *mut c_char,
    length: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    let asked = unsafe { text_of(key) }.and_then(|key| with(|client| client.get(&key)));
    // SAFETY: the caller's promise.
    unsafe { put_text(value, length, asked) }
}

/// How many ranks share this node.
///
/// # Safety
/// `size` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Get_clique_size(size: *mut c_int) -> c_int {
    let found = with(Client::clique);
    let found = found.map(|ranks| u32::try_from(ranks.len()).unwrap_or(u32::MAX));
    // SAFETY: the caller's promise.
    unsafe { put_number(size, found) }
}

/// The ranks that share this node.
///
/// # Safety
/// `ranks` is null or has room for `length` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PMI_Get_clique_ranks(ranks: *mut c_int, length: c_int) -> c_int {
    let found = match with(Client::clique) {
        Ok(found) => found,
        Err(code) => return code,
    };
    if ranks.is_null() {
        return ERR_INVALID_ARG;
    }
    if usize::try_from(length).unwrap_or_default() < found.len() {
        return ERR_INVALID_LENGTH;
    }
    for (position, rank) in (0..).zip(found) {
        // SAFETY: there is room for all of them.
        unsafe {
            ranks
                .add(position)
                .write(c_int::try_from(rank).unwrap_or(c_int::MAX))
        };
    }
    SUCCESS
}
