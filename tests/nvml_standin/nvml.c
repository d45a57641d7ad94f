/* The symbols of libnvidia-ml.so.1 that evalmon and its peers look up, answered from the control file.
 *
 * Layouts and error codes as in nvml.h. A symbol is left out of the library by build.py, not here.
 */
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

#define MIB 1048576.0

typedef int nvmlReturn_t;
enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
    UNKNOWN = 999,
};

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

/* -- handles: a number that stays the same when the control file is read again --------------------------------- */

typedef uintptr_t Handle;
static const Handle NO_DEVICE = ~(Handle)0;

static Handle handle_of(int gpu, int instance) { return (Handle)((gpu + 1) * 64 + instance + 1); }

static Device *device_of(Handle handle) { return world_device((int)(handle / 64) - 1, (int)(handle % 64) - 1); }

/* -- what happens at every call -------------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int init_count;
static pid_t init_pid;

typedef struct {
    nvmlReturn_t error;
    Device *device;
} Call;

static void sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0) {}
}

static void write_log(const char *symbol, int gpu) {
    if (!*world.log) return;
    char line[160];
    int size = snprintf(line, sizeof line, "%s %d %d %d\n", symbol, gpu, getpid(), (int)syscall(SYS_gettid));
    int file = open(world.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) return;
    if (write(file, line, (size_t)size) != size) _exit(97);
    close(file);
}

static bool concerns(const Rule *rule, const char *symbol, int gpu) {
    return strcmp(rule->symbol, symbol) == 0 && (rule->gpu < 0 || rule->gpu == gpu);
}

static bool is_hung(const char *symbol, int gpu) {
    for (int i = 0; i < world.rule_count; i++)
        if (world.rules[i].kind == HANG && concerns(&world.rules[i], symbol, gpu)) return true;
    return false;
}

/* The error that the rules prescribe; sleeps, without the lock, where they say so. */
static nvmlReturn_t obey_rules(const char *symbol, int gpu) {
    nvmlReturn_t error = SUCCESS;
    long delay_ms = 0;
    bool hangs = false;
    for (int i = 0; i < world.rule_count; i++) {
        Rule *rule = &world.rules[i];
        if (!concerns(rule, symbol, gpu)) continue;
        rule->calls++;
        if (rule->calls < rule->first || rule->calls > rule->last) continue;
        if (rule->kind == ERROR) error = (nvmlReturn_t)rule->value;
        if (rule->kind == DELAY) delay_ms += rule->value;
        if (rule->kind == HANG) hangs = true;
    }
    if (delay_ms == 0 && !hangs) return error;
    pthread_mutex_unlock(&mutex);
    sleep_ms(delay_ms);
    pthread_mutex_lock(&mutex);
    world_refresh();
    while (hangs && is_hung(symbol, gpu)) { /* until the control file no longer says so */
        pthread_mutex_unlock(&mutex);
        sleep_ms(20);
        pthread_mutex_lock(&mutex);
        world_refresh();
    }
    return error;
}

/* Takes the lock; `leave` lets it go at the end of the symbol's function. */
static Call enter(const char *symbol, Handle handle) {
    int gpu = handle == NO_DEVICE ? -1 : (int)(handle / 64) - 1;
    pthread_mutex_lock(&mutex);
    world_refresh();
    write_log(symbol, gpu);
    Call call = {obey_rules(symbol, gpu), NULL};
    bool is_init = strcmp(symbol, "nvmlInitWithFlags") == 0;
    if (call.error || is_init) return call;
    if (init_count == 0) call.error = UNINITIALIZED;
    else if (init_pid != getpid()) call.error = UNKNOWN; /* NVML does not survive a fork */
    if (call.error || handle == NO_DEVICE) return call;
    call.device = device_of(handle);
    if (!call.device) call.error = INVALID_ARGUMENT;
    else if (world_device(gpu, -1)->lost) call.error = GPU_IS_LOST;
    return call;
}

static void leave(Call *call) {
    (void)call;
    pthread_mutex_unlock(&mutex);
}

#define CALL(handle)                                                        \
    __attribute__((cleanup(leave))) Call call = enter(__func__, (handle)); \
    if (call.error) return call.error

/* Only a whole GPU has it, not a MIG device. */
#define GPU_CALL(handle) \
    CALL(handle);        \
    if (call.device->instance >= 0) return NOT_SUPPORTED

/* Mean over the driver's own sampling period, which ends now, as "instantaneous" figures are. */
#define SAMPLE_PERIOD_S (1.0 / 6)

static double since_epoch(void) { return now_unix() - world.epoch; }

static double figure_now(const Device *device, Figure figure) {
    return curve_at(&device->curves[figure], since_epoch());
}

static double mean_until(const Device *device, Figure figure, double until_s, double period_s) {
    return curve_integral(&device->curves[figure], until_s - period_s, until_s) / period_s;
}

static nvmlReturn_t copy_text(char *to, unsigned size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

/* -- the library and the system -------------------------------------------------------------------------------- */

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    CALL(NO_DEVICE);
    init_count++;
    init_pid = getpid();
    return SUCCESS;
}

nvmlReturn_t nvmlShutdown(void) {
    CALL(NO_DEVICE);
    init_count--;
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

/* -- which devices there are ----------------------------------------------------------------------------------- */

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

/* -- MIG ------------------------------------------------------------------------------------------------------- */

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

/* -- figures of this moment ------------------------------------------------------------------------------------ */

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

/* -- figures over time ----------------------------------------------------------------------------------------- */

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

/* -- GPM: Hopper and later ------------------------------------------------------------------------------------- */

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
