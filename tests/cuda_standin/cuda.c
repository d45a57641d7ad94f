/* As much of libcuda.so.1 as scripts/verify-gpu's load uses: a kernel "runs" for as long as its parameter says. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define MEMORY_BYTES (16ull << 30)

static uint64_t queued_until_ns;
static uint64_t held_bytes;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int cuInit(unsigned flags) { return flags == 0 ? 0 : 1; }

int cuDeviceGet(int *device, int ordinal) {
    *device = 0;
    return ordinal == 0 ? 0 : 101;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = &queued_until_ns;
    return device == 0 ? 0 : 101;
}

int cuCtxSetCurrent(void *context) { return context == &queued_until_ns ? 0 : 201; }

/* Each block's address is its size. */
int cuMemAlloc_v2(uint64_t *address, size_t size) {
    if (size == 0 || size > MEMORY_BYTES - held_bytes) return 2;
    held_bytes += size;
    *address = size;
    return 0;
}

int cuMemFree_v2(uint64_t address) {
    if (address == 0 || address > held_bytes) return 1;
    held_bytes -= address;
    return 0;
}

/* As a driver that knows no GPUs so old any more. */
int cuModuleLoadData(void **module, const char *text) {
    *module = &queued_until_ns;
    return strstr(text, ".target sm_52") ? 218 : 0;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = module;
    return strcmp(name, "spin") == 0 ? 0 : 500;
}

int cuLaunchKernel(void *function, unsigned blocks_x, unsigned blocks_y, unsigned blocks_z, unsigned threads_x,
                   unsigned threads_y, unsigned threads_z, unsigned shared_bytes, void *stream, void **parameters,
                   void **extra) {
    if (function != &queued_until_ns || shared_bytes || stream || extra) return 1;
    if (!blocks_x || !blocks_y || !blocks_z || !threads_x || !threads_y || !threads_z) return 1;
    uint64_t now = now_ns();
    if (queued_until_ns < now) queued_until_ns = now;
    queued_until_ns += *(uint64_t *)parameters[0];
    return 0;
}

int cuCtxSynchronize(void) {
    struct timespec until = {(time_t)(queued_until_ns / 1000000000u), (long)(queued_until_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) {}
    return 0;
}
