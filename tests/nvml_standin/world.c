/* Reads the control file that NVML_STANDIN_CONTROL names; world.py writes it. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

World world;

static const char *const FIGURE_NAMES[FIGURES] = {
    [UTILIZATION] = "utilization",
    [MEMORY_UTILIZATION] = "memory_utilization",
    [MEMORY_USED] = "memory_used_mib",
    [MEMORY_TOTAL] = "memory_total_mib",
    [MEMORY_RESERVED] = "memory_reserved_mib",
    [POWER] = "power_w",
    [POWER_LIMIT] = "power_limit_w",
    [TEMPERATURE] = "temperature_c",
    [SM_CLOCK] = "sm_clock_mhz",
    [MEMORY_CLOCK] = "memory_clock_mhz",
    [CLOCKS_EVENT] = "clocks_event_reasons",
    [SM_ACTIVE] = "sm_active",
    [TENSOR_ACTIVE] = "tensor_active",
};

double now_unix(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A test with a mistake in its control file shall not pass by luck. */
static void give_up(const char *why, const char *line) {
    fprintf(stderr, "nvml_standin: %s: %s\n", why, line);
    _exit(97);
}

static void copy(char *to, size_t size, const char *text, const char *line) {
    if (strlen(text) >= size) give_up("too long", line);
    strcpy(to, text);
}

static Device *add_device(World *into, int gpu, int instance) {
    into->devices = realloc(into->devices, (size_t)(into->device_count + 1) * sizeof(Device));
    Device *device = &into->devices[into->device_count++];
    *device = (Device){.gpu = gpu, .instance = instance, .gpu_instance_id = instance, .minor = gpu};
    device->integrated_until = into->epoch;
    return device;
}

static void add_rule(World *into, const char *keyword, const char *words, const char *line) {
    Rule rule = {.kind = *keyword == 'e' ? ERROR : *keyword == 'd' ? DELAY : HANG};
    int read = sscanf(words, "%63s %d %ld %ld %ld", rule.symbol, &rule.gpu, &rule.first, &rule.last, &rule.value);
    if (read != (rule.kind == HANG ? 4 : 5)) give_up("not understood", line);
    into->rules = realloc(into->rules, (size_t)(into->rule_count + 1) * sizeof(Rule));
    into->rules[into->rule_count++] = rule;
}

static bool read_world_line(World *into, const char *key, const char *value, const char *line) {
    if (strcmp(key, "epoch") == 0) into->epoch = atof(value);
    else if (strcmp(key, "driver") == 0) copy(into->driver, sizeof into->driver, value, line);
    else if (strcmp(key, "frozen") == 0) into->frozen = true;
    else if (strcmp(key, "log") == 0) copy(into->log, sizeof into->log, value, line);
    else if (strcmp(key, "cpu") == 0) copy(into->cpu, sizeof into->cpu, value, line);
    else if (strcmp(key, "error") == 0 || strcmp(key, "delay") == 0 || strcmp(key, "hang") == 0)
        add_rule(into, key, value, line);
    else return false;
    return true;
}

static bool read_device_line(Device *device, const char *key, const char *value, const char *line) {
    for (int figure = 0; figure < FIGURES; figure++) {
        if (strcmp(key, FIGURE_NAMES[figure]) == 0) {
            if (!curve_read(&device->curves[figure], value)) give_up("no figure", line);
            return true;
        }
    }
    if (strcmp(key, "uuid") == 0) copy(device->uuid, sizeof device->uuid, value, line);
    else if (strcmp(key, "name") == 0) copy(device->name, sizeof device->name, value, line);
    else if (strcmp(key, "minor") == 0) device->minor = atoi(value);
    else if (strcmp(key, "mig_max") == 0) device->mig_max = atoi(value);
    else if (strcmp(key, "mig_enabled") == 0) device->mig_enabled = atoi(value);
    else if (strcmp(key, "gpu_instance_id") == 0) device->gpu_instance_id = atoi(value);
    else if (strcmp(key, "lost") == 0) device->lost = atoi(value);
    else if (strcmp(key, "gpm") == 0) device->gpm = atoi(value);
    else return false;
    return true;
}

static void read_control(World *into, FILE *file) {
    char line[8192];
    int gpu = -1;
    Device *device = NULL;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *value = line;
        char *key = strsep(&value, " ");
        if (!value) value = "";
        if (*key == '\0') continue;
        if (strcmp(key, "gpu") == 0) device = add_device(into, ++gpu, -1);
        else if (strcmp(key, "instance") == 0 && gpu >= 0) device = add_device(into, gpu, atoi(value));
        else if (!read_world_line(into, key, value, line) &&
                 !(device && read_device_line(device, key, value, line)))
            give_up("unknown line", key);
    }
}

static void integrate(Device *device, double until) {
    for (int figure = 0; figure < FIGURES; figure++)
        device->integrals[figure] +=
            curve_integral(&device->curves[figure], device->integrated_until - world.epoch, until - world.epoch);
    device->integrated_until = until;
}

static Device *find(World *in, int gpu, int instance) {
    for (int i = 0; i < in->device_count; i++)
        if (in->devices[i].gpu == gpu && in->devices[i].instance == instance) return &in->devices[i];
    return NULL;
}

/* Counters go on from where they were: the energy of a GPU never falls because a test changes its power. */
static void replace_world(World *by) {
    double now = now_unix();
    for (int i = 0; i < world.device_count; i++) {
        Device *old = &world.devices[i], *new = find(by, old->gpu, old->instance);
        if (new) {
            integrate(old, now);
            memcpy(new->integrals, old->integrals, sizeof new->integrals);
            new->integrated_until = now;
        }
        for (int figure = 0; figure < FIGURES; figure++) curve_free(&old->curves[figure]);
    }
    free(world.devices);
    free(world.rules);
    world = *by;
}

void world_refresh(void) {
    static struct stat last;
    if (world.frozen) return;
    const char *path = getenv("NVML_STANDIN_CONTROL");
    struct stat found;
    if (!path) give_up("not set", "NVML_STANDIN_CONTROL");
    if (stat(path, &found) != 0) give_up("no control file", path);
    if (found.st_ino == last.st_ino && found.st_size == last.st_size &&
        found.st_mtim.tv_sec == last.st_mtim.tv_sec && found.st_mtim.tv_nsec == last.st_mtim.tv_nsec)
        return;
    last = found;
    FILE *file = fopen(path, "re");
    if (!file) give_up("cannot be read", path);
    World read = {0};
    read_control(&read, file);
    fclose(file);
    replace_world(&read);
}

int world_gpu_count(void) {
    int count = 0;
    for (int i = 0; i < world.device_count; i++) count += world.devices[i].instance < 0;
    return count;
}

Device *world_device(int gpu, int instance) { return find(&world, gpu, instance); }

double world_integral(Device *device, Figure figure) {
    integrate(device, now_unix());
    return device->integrals[figure];
}
