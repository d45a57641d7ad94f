/* What every symbol's function begins with, and the types that they share. Layouts and codes as in nvml.h. */
#pragma once
#include <stdint.h>

#include "world.h"

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

/* A handle is a number that stays the same when the control file is read again. */
typedef uintptr_t Handle;
static const Handle NO_DEVICE = ~(Handle)0;

Handle handle_of(int gpu, int instance);

typedef struct {
    nvmlReturn_t error;
    Device *device;
    uint64_t begun_ns;
} Call;

/* Takes the lock, obeys the control file's rules; `leave` lets the lock go at the end of the symbol's function. */
Call enter(const char *symbol, Handle handle);
void leave(Call *call);

#define CALL(handle)                                                        \
    __attribute__((cleanup(leave))) Call call = enter(__func__, (handle)); \
    if (call.error) return call.error

/* Only a whole GPU has it, not a MIG device. */
#define GPU_CALL(handle) \
    CALL(handle);        \
    if (call.device->instance >= 0) return NOT_SUPPORTED

/* Mean over the driver's own sampling period, which ends now, as "instantaneous" figures are. */
#define SAMPLE_PERIOD_S (1.0 / 6)

double since_epoch(void);
double figure_now(const Device *device, Figure figure);
double mean_until(const Device *device, Figure figure, double until_s, double period_s);
