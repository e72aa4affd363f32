/* A GPU that keeps memory but computes nothing, to be preloaded: enough of CUDA's driver, cuBLAS and cuRAND for candle.
 * A module is its PTX, and a function is had only where the PTX has it; what was not found is told on stderr. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOUND = 0, OUT_OF_MEMORY = 2, NOT_FOUND = 500 };

static int handle(void **out)
{
    static int something;
    *out = &something;
    return 0;
}

/* ---- what there is */

int cuInit(unsigned flags) { return (void)flags, 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int index) { return *device = index, 0; }
int cuDeviceGetAttribute(int *value, int what, int device) { return (void)what, (void)device, *value = 1, 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return (void)device, handle(context); }
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, 0; }
int cuCtxGetCurrent(void **context) { return handle(context); }
int cuCtxSetCurrent(void *context) { return (void)context, 0; }
int cuCtxSynchronize(void) { return 0; }
int cuStreamCreate(void **stream, unsigned flags) { return (void)flags, handle(stream); }
int cuStreamDestroy_v2(void *stream) { return (void)stream, 0; }
int cuStreamSynchronize(void *stream) { return (void)stream, 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return (void)stream, (void)event, (void)flags, 0; }
int cuStreamIsCapturing(void *stream, int *status) { return (void)stream, *status = 0, 0; }
int cuEventCreate(void **event, unsigned flags) { return (void)flags, handle(event); }
int cuEventRecord(void *event, void *stream) { return (void)event, (void)stream, 0; }
int cuEventDestroy_v2(void *event) { return (void)event, 0; }

int cuGetErrorString(int error, const char **text)
{
    *text = error == NOT_FOUND ? "named symbol not found" : "an error";
    return 0;
}

/* ---- memory: the host's, zeros at first */

int cuMemAlloc_v2(uintptr_t *memory, size_t size)
{
    *memory = (uintptr_t)calloc(size > 0 ? size : 1, 1);
    return *memory ? FOUND : OUT_OF_MEMORY;
}

int cuMemAllocAsync(uintptr_t *memory, size_t size, void *stream) { return (void)stream, cuMemAlloc_v2(memory, size); }
int cuMemFree_v2(uintptr_t memory) { return free((void *)memory), 0; }
int cuMemFreeAsync(uintptr_t memory, void *stream) { return (void)stream, cuMemFree_v2(memory); }

static int copy(uintptr_t to, uintptr_t from, size_t size)
{
    memmove((void *)to, (const void *)from, size);
    return 0;
}

int cuMemcpyHtoDAsync_v2(uintptr_t to, uintptr_t from, size_t size, void *s) { return (void)s, copy(to, from, size); }
int cuMemcpyDtoHAsync_v2(uintptr_t to, uintptr_t from, size_t size, void *s) { return (void)s, copy(to, from, size); }
int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t size, void *s) { return (void)s, copy(to, from, size); }

int cuMemsetD8Async(uintptr_t to, unsigned char value, size_t size, void *stream)
{
    (void)stream;
    memset((void *)to, value, size);
    return 0;
}

/* ---- kernels: looked for, not run */

int cuModuleLoadData(void **module, const void *ptx) { return *module = strdup(ptx), *module ? FOUND : OUT_OF_MEMORY; }
int cuModuleUnload(void *module) { return free(module), 0; }

int cuModuleGetFunction(void **function, void *module, const char *name)
{
    char entry[256];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    if (strstr(module, entry) == NULL) {
        fprintf(stderr, "no kernel %s\n", name);
        return NOT_FOUND;
    }
    return handle(function);
}

int cuLaunchKernel(void) { return 0; }

/* ---- the libraries */

int cublasCreate_v2(void **blas) { return handle(blas); }
int cublasDestroy_v2(void *blas) { return (void)blas, 0; }
int cublasSetStream_v2(void *blas, void *stream) { return (void)blas, (void)stream, 0; }
int cublasGemmStridedBatchedEx(void) { return 0; }
int curandCreateGenerator(void **generator, int kind) { return (void)kind, handle(generator); }
int curandDestroyGenerator(void *generator) { return (void)generator, 0; }
int curandSetStream(void *generator, void *stream) { return (void)generator, (void)stream, 0; }
int curandSetPseudoRandomGeneratorSeed(void *generator, uint64_t seed) { return (void)generator, (void)seed, 0; }
