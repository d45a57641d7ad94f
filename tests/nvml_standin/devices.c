/* Which devices there are and what they are called, MIG included; the driver and its errors' names. */
#include <string.h>

#include "call.h"

static const char *const ERROR_STRINGS[] = {
    "Success",
    "Uninitialized",
    "Invalid Argument",
    "Not Supported",
    "Insufficient Permissions",
    "Already Initialized",
    "Not Found",
    "Insufficient Size",
    "Insufficient External Power",
    "Driver Not Loaded",
    "Timeout",
    "Interrupt Request Issue",
    "NVML Shared Library Not Found",
    "Function Not Found",
    "Corrupted infoROM",
    "GPU is lost",
    "GPU requires reset",
    "The operating system has blocked the request",
    "Driver/library version mismatch",
    "In use by another client",
    "Insufficient Memory",
    "No data",
};

static nvmlReturn_t copy_text(char *to, unsigned size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t error) {
    size_t known = sizeof ERROR_STRINGS / sizeof *ERROR_STRINGS;
    return error >= 0 && (size_t)error < known ? ERROR_STRINGS[error] : "Unknown Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned size) {
    CALL(NO_DEVICE);
    return copy_text(version, size, world.driver);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    CALL(NO_DEVICE);
    *count = (unsigned)world_gpu_count();
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *handle) {
    CALL(handle_of((int)index, -1));
    *handle = handle_of((int)index, -1);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, Handle *handle) {
    CALL(NO_DEVICE);
    for (int i = 0; i < world.device_count; i++) {
        const Device *device = &world.devices[i];
        if (strcmp(device->uuid, uuid) != 0) continue;
        if (world_device(device->gpu, -1)->lost) return GPU_IS_LOST;
        *handle = handle_of(device->gpu, device->instance);
        return SUCCESS;
    }
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetUUID(Handle handle, char *uuid, unsigned size) {
    CALL(handle);
    return copy_text(uuid, size, call.device->uuid);
}

nvmlReturn_t nvmlDeviceGetName(Handle handle, char *name, unsigned size) {
    CALL(handle);
    return copy_text(name, size, call.device->name);
}

/* Of a MIG device: the number that nvmlDeviceGetMigDeviceHandleByIndex takes. */
nvmlReturn_t nvmlDeviceGetIndex(Handle handle, unsigned *index) {
    CALL(handle);
    *index = (unsigned)(call.device->instance >= 0 ? call.device->instance : call.device->gpu);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMinorNumber(Handle handle, unsigned *minor) {
    GPU_CALL(handle);
    *minor = (unsigned)call.device->minor;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(Handle handle, unsigned *current, unsigned *pending) {
    GPU_CALL(handle);
    if (call.device->mig_max == 0) return NOT_SUPPORTED;
    *current = *pending = call.device->mig_enabled;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(Handle handle, unsigned *count) {
    GPU_CALL(handle);
    *count = (unsigned)call.device->mig_max;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(Handle handle, unsigned index, Handle *mig) {
    GPU_CALL(handle);
    if (call.device->mig_max == 0) return NOT_SUPPORTED;
    if (index >= (unsigned)call.device->mig_max) return INVALID_ARGUMENT;
    if (!call.device->mig_enabled || !world_device(call.device->gpu, (int)index)) return NOT_FOUND;
    *mig = handle_of(call.device->gpu, (int)index);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(Handle handle, unsigned *is_mig) {
    CALL(handle);
    *is_mig = call.device->instance >= 0;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Handle mig, Handle *handle) {
    CALL(mig);
    if (call.device->instance < 0) return INVALID_ARGUMENT;
    *handle = handle_of(call.device->gpu, -1);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(Handle mig, unsigned *id) {
    CALL(mig);
    if (call.device->instance < 0) return NOT_SUPPORTED;
    *id = (unsigned)call.device->gpu_instance_id;
    return SUCCESS;
}
