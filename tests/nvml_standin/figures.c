/* Figures of this moment: utilization, memory, power, temperature, clocks. */
#include <math.h>

#include "call.h"

#define MIB 1048576.0

typedef struct {
    unsigned gpu, memory;
} Utilization;

nvmlReturn_t nvmlDeviceGetUtilizationRates(Handle handle, Utilization *utilization) {
    GPU_CALL(handle);
    if (call.device->mig_enabled) return NOT_SUPPORTED;
    double until_s = since_epoch();
    utilization->gpu = (unsigned)lround(mean_until(call.device, UTILIZATION, until_s, SAMPLE_PERIOD_S));
    utilization->memory = (unsigned)lround(mean_until(call.device, MEMORY_UTILIZATION, until_s, SAMPLE_PERIOD_S));
    return SUCCESS;
}

typedef struct {
    unsigned long long total, free, used;
} Memory;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} Memory_v2;

static Memory_v2 memory_of(const Device *device) {
    Memory_v2 memory = {.total = (unsigned long long)(figure_now(device, MEMORY_TOTAL) * MIB)};
    memory.reserved = (unsigned long long)(figure_now(device, MEMORY_RESERVED) * MIB);
    memory.used = (unsigned long long)(figure_now(device, MEMORY_USED) * MIB);
    memory.free = memory.total - memory.reserved - memory.used;
    return memory;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(Handle handle, Memory *memory) {
    CALL(handle);
    Memory_v2 found = memory_of(call.device);
    *memory = (Memory){found.total, found.free, found.used + found.reserved};
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(Handle handle, Memory_v2 *memory) {
    CALL(handle);
    unsigned version = sizeof(Memory_v2) | 2u << 24;
    if (memory->version != version) return ARGUMENT_VERSION_MISMATCH;
    *memory = memory_of(call.device);
    memory->version = version;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(Handle handle, unsigned *mw) {
    GPU_CALL(handle);
    *mw = (unsigned)lround(figure_now(call.device, POWER) * 1000);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(Handle handle, unsigned *mw) {
    GPU_CALL(handle);
    *mw = (unsigned)lround(figure_now(call.device, POWER_LIMIT) * 1000);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPowerManagementLimit(Handle handle, unsigned *mw) {
    GPU_CALL(handle);
    *mw = (unsigned)lround(figure_now(call.device, POWER_LIMIT) * 1000);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperature(Handle handle, int sensor, unsigned *celsius) {
    GPU_CALL(handle);
    if (sensor != 0) return INVALID_ARGUMENT;
    *celsius = (unsigned)lround(figure_now(call.device, TEMPERATURE));
    return SUCCESS;
}

typedef struct {
    unsigned version;
    int sensor, celsius;
} Temperature_v1;

nvmlReturn_t nvmlDeviceGetTemperatureV(Handle handle, Temperature_v1 *temperature) {
    GPU_CALL(handle);
    if (temperature->version != (sizeof(Temperature_v1) | 1u << 24)) return ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensor != 0) return INVALID_ARGUMENT;
    temperature->celsius = (int)lround(figure_now(call.device, TEMPERATURE));
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClockInfo(Handle handle, int type, unsigned *mhz) {
    GPU_CALL(handle);
    if (type < 0 || type > 3) return INVALID_ARGUMENT;
    *mhz = (unsigned)lround(figure_now(call.device, type == 2 ? MEMORY_CLOCK : SM_CLOCK));
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(Handle handle, unsigned long long *reasons) {
    GPU_CALL(handle);
    *reasons = (unsigned long long)figure_now(call.device, CLOCKS_EVENT);
    return SUCCESS;
}

/* The same under its older name. */
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(Handle handle, unsigned long long *reasons) {
    GPU_CALL(handle);
    *reasons = (unsigned long long)figure_now(call.device, CLOCKS_EVENT);
    return SUCCESS;
}
