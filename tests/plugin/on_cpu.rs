//! liblenet_cuda.so.1 as it would be if the CPU was a GPU.

/// What liblenet looks for.
#[unsafe(no_mangle)]
pub extern "C" fn lenet_plugin() -> *const std::ffi::c_void {
    lenet::plugin_on_cpu()
}
