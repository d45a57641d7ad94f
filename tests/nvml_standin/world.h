/* The machine that the stand-in pretends to be: its GPUs and how the calls behave. Read from a control file. */
#pragma once
#include "curve.h"

typedef enum {
    UTILIZATION,        /* % */
    MEMORY_UTILIZATION, /* % */
    MEMORY_USED,        /* MiB, without the reserved part */
    MEMORY_TOTAL,       /* MiB */
    MEMORY_RESERVED,    /* MiB */
    POWER,              /* W */
    POWER_LIMIT,        /* W */
    TEMPERATURE,        /* degrees Celsius */
    SM_CLOCK,           /* MHz */
    MEMORY_CLOCK,       /* MHz */
    CLOCKS_EVENT,       /* a mask, as nvmlClocksEventReason* */
    SM_ACTIVE,          /* % */
    TENSOR_ACTIVE,      /* % */
    FIGURES,
} Figure;

typedef struct {
    int gpu;      /* NVML's index */
    int instance; /* a MIG device's index in its GPU; -1: the GPU itself */
    int gpu_instance_id;
    int minor;
    int mig_max; /* 0: no MIG on this kind of GPU */
    bool mig_enabled, lost, gpm;
    char uuid[96], name[96];
    Curve curves[FIGURES];
    double integrals[FIGURES]; /* from the epoch to `integrated_until` */
    double integrated_until;   /* unix seconds */
} Device;

/* A line `error`, `delay` or `hang`. */
typedef struct {
    enum { ERROR, DELAY, HANG } kind;
    char symbol[64];
    int gpu;          /* -1: all */
    long value;       /* NVML's error code, or milliseconds */
    long first, last; /* of the calls that it concerns, counted from 1 since the file was read */
    long calls;
} Rule;

typedef struct {
    double epoch; /* unix seconds; where all curves begin */
    bool frozen;  /* not read again: no cost of ours in a measurement */
    char driver[80];
    char log[4096];
    char cpu[4096]; /* a file of one number of 8 bytes: nanoseconds of CPU that all calls took together */
    Device *devices;
    int device_count;
    Rule *rules;
    int rule_count;
} World;

extern World world;

double now_unix(void);
/* Reads the control file if it is another than last time. Ends the process if it cannot be understood. */
void world_refresh(void);
int world_gpu_count(void);
Device *world_device(int gpu, int instance);
/* The figure's integral from the epoch to now. */
double world_integral(Device *device, Figure figure);
