/* Figures over time: the energy counter, the driver's buffers of samples, and GPM (Hopper and later). */
#include <math.h>
#include <stdlib.h>

#include "call.h"

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(Handle handle, unsigned long long *mj) {
    GPU_CALL(handle);
    *mj = (unsigned long long)(world_integral(call.device, POWER) * 1000);
    return SUCCESS;
}

typedef union {
    double d;
    unsigned ui;
    unsigned long long ull;
} Value;

typedef struct {
    unsigned long long unix_us;
    Value value;
} Sample;

/* As `nvidia-smi -q -d UTILIZATION,POWER` describes the driver's buffers: 99 in 16.5 s, and 119 in 2.4 s. */
static const struct {
    Figure figure;
    double period_s, scale;
    int size;
} BUFFERS[] = {
    {POWER, 0.02, 1000, 119},
    {UTILIZATION, SAMPLE_PERIOD_S, 1, 99},
    {MEMORY_UTILIZATION, SAMPLE_PERIOD_S, 1, 99},
};

nvmlReturn_t nvmlDeviceGetSamples(Handle handle, unsigned kind, unsigned long long last_seen_us, int *value_type,
                                         unsigned *count, Sample *samples) {
    GPU_CALL(handle);
    if (kind >= sizeof BUFFERS / sizeof *BUFFERS) return NOT_SUPPORTED;
    if (kind != 0 && call.device->mig_enabled) return NOT_SUPPORTED;
    *value_type = 1; /* unsigned int */
    if (!samples) {
        *count = (unsigned)BUFFERS[kind].size;
        return SUCCESS;
    }
    double period_s = BUFFERS[kind].period_s;
    double latest = floor(since_epoch() / period_s); /* of the driver's ticks, counted from the epoch */
    unsigned found = 0;
    for (double tick = latest - BUFFERS[kind].size + 1; tick <= latest && found < *count; tick++) {
        unsigned long long unix_us = (unsigned long long)((world.epoch + tick * period_s) * 1e6);
        if (unix_us <= last_seen_us) continue;
        double value = mean_until(call.device, BUFFERS[kind].figure, tick * period_s, period_s);
        samples[found++] = (Sample){unix_us, {.ui = (unsigned)lround(value * BUFFERS[kind].scale)}};
    }
    *count = found;
    return found ? SUCCESS : NOT_FOUND;
}

typedef struct {
    unsigned version, is_supported;
} GpmSupport;

typedef struct {
    double taken_at; /* unix seconds; 0: nothing in it yet */
    double sm, tensor, graphics;
} GpmSample;

typedef struct {
    unsigned id;
    nvmlReturn_t error;
    double value;
    const char *short_name, *long_name, *unit;
} GpmMetric;

typedef struct {
    unsigned version, count;
    GpmSample *first, *second;
    GpmMetric metrics[];
} GpmMetrics;

nvmlReturn_t nvmlGpmQueryDeviceSupport(Handle handle, GpmSupport *support) {
    CALL(handle);
    if (support->version != 1) return ARGUMENT_VERSION_MISMATCH;
    support->is_supported = world_device(call.device->gpu, -1)->gpm;
    return SUCCESS;
}

nvmlReturn_t nvmlGpmSampleAlloc(GpmSample **sample) {
    CALL(NO_DEVICE);
    *sample = calloc(1, sizeof **sample);
    return SUCCESS;
}

nvmlReturn_t nvmlGpmSampleFree(GpmSample *sample) {
    CALL(NO_DEVICE);
    free(sample);
    return SUCCESS;
}

static void take_sample(Device *device, GpmSample *sample) {
    sample->sm = world_integral(device, SM_ACTIVE);
    sample->tensor = world_integral(device, TENSOR_ACTIVE);
    sample->graphics = world_integral(device, UTILIZATION);
    sample->taken_at = device->integrated_until;
}

nvmlReturn_t nvmlGpmSampleGet(Handle handle, GpmSample *sample) {
    GPU_CALL(handle);
    if (!call.device->gpm || call.device->mig_enabled) return NOT_SUPPORTED;
    take_sample(call.device, sample);
    return SUCCESS;
}

nvmlReturn_t nvmlGpmMigSampleGet(Handle handle, unsigned gpu_instance_id, GpmSample *sample) {
    GPU_CALL(handle);
    if (!call.device->gpm || !call.device->mig_enabled) return NOT_SUPPORTED;
    for (int i = 0; i < world.device_count; i++) {
        Device *device = &world.devices[i];
        if (device->gpu != call.device->gpu || device->instance < 0) continue;
        if (device->gpu_instance_id != (int)gpu_instance_id) continue;
        take_sample(device, sample);
        return SUCCESS;
    }
    return INVALID_ARGUMENT;
}

nvmlReturn_t nvmlGpmMetricsGet(GpmMetrics *asked) {
    CALL(NO_DEVICE);
    if (asked->version != 1) return ARGUMENT_VERSION_MISMATCH;
    if (!asked->first || !asked->second) return INVALID_ARGUMENT;
    double elapsed_s = asked->second->taken_at - asked->first->taken_at;
    if (asked->first->taken_at == 0 || elapsed_s <= 0) return INVALID_ARGUMENT;
    for (unsigned i = 0; i < asked->count; i++) {
        GpmMetric *metric = &asked->metrics[i];
        metric->error = SUCCESS;
        if (metric->id == 1) metric->value = (asked->second->graphics - asked->first->graphics) / elapsed_s;
        else if (metric->id == 2) metric->value = (asked->second->sm - asked->first->sm) / elapsed_s;
        else if (metric->id == 5) metric->value = (asked->second->tensor - asked->first->tensor) / elapsed_s;
        else metric->error = NOT_SUPPORTED;
    }
    return SUCCESS;
}
