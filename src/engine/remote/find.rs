//! Where the plugin is: beside the library or program that this code is in, else where the loader
//! looks. It is loaded once, when a model first asks for a GPU, and stays.

use crate::error::{Code, Error, Result};
use crate::host::{Lock, signals};
use crate::plugin_abi::{Table, VERSION};
use std::ffi::{CStr, CString, OsStr, c_void};
use std::mem::{self, MaybeUninit};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const NAME: &CStr = c"liblenet_cuda.so.1";

/// The one symbol that a plugin exports, an `Entry`.
const ENTRY: &CStr = c"lenet_plugin";
type Entry = unsafe extern "C" fn() -> *const Table;

/// The plugin's table, or why there is none, which stays so for as long as the process lives.
pub fn plugin() -> Result<&'static Table> {
    static PLUGIN: Lock<Option<Result<&'static Table>>> = Lock::new(None);
    PLUGIN.lock().get_or_insert_with(find).clone()
}

fn find() -> Result<&'static Table> {
    let path = beside().unwrap_or_else(|| NAME.to_owned());
    let unavailable = |why: String| Err(Error::new(Code::DeviceUnavailable, why));
    let _signals = signals::block(); // on threads that a library makes while it is loaded
    // SAFETY: what lies there is lenet's own; whoever may put something else there owns the host.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if library.is_null() {
        return unavailable(format!(
            "LENET_DEVICE_CUDA needs a plugin; the loader says: {}",
            loader_error()
        ));
    }
    // SAFETY: a loaded library, and a name.
    let entry = unsafe { libc::dlsym(library, ENTRY.as_ptr()) };
    // SAFETY: NULL is none; a library with this name has this function.
    let table =
        unsafe { mem::transmute::<*mut c_void, Option<Entry>>(entry).map(|entry| &*entry()) };
    let found = match table {
        Some(table) if table.version == VERSION => return Ok(table),
        Some(table) => format!("is a plugin of version {}", table.version),
        None => "is no plugin of lenet".to_string(),
    };
    // SAFETY: loaded here, and nobody has anything of it.
    unsafe { libc::dlclose(library) };
    unavailable(format!("{} {found}; this library needs version {VERSION}", path.to_string_lossy()))
}

/// The plugin beside the library or program that this code is in, if there is one.
fn beside() -> Option<CString> {
    let mut found = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: an address of this code; what it is filled with is read only where it says so.
    let found = unsafe {
        (libc::dladdr(find as *const c_void, found.as_mut_ptr()) != 0)
            .then(|| found.assume_init())?
    };
    // SAFETY: a path that lives as long as this code.
    let here = unsafe { CStr::from_ptr(found.dli_fname) };
    let bytes = |text: &CStr| OsStr::from_bytes(text.to_bytes()).to_owned();
    let path = Path::new(&bytes(here)).parent()?.join(bytes(NAME));
    path.exists().then(|| CString::new(path.as_os_str().as_bytes()).ok())?
}

fn loader_error() -> String {
    // SAFETY: NULL or a string of this thread's.
    let error = unsafe { libc::dlerror() };
    if error.is_null() {
        return "nothing".into();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()
}
