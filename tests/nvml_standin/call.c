/* What happens at every call: the lock, the log, delays and errors by rule, and the handle's device. */
#include "call.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int init_count;
static pid_t init_pid;

Handle handle_of(int gpu, int instance) { return (Handle)((gpu + 1) * 64 + instance + 1); }

static Device *device_of(Handle handle) { return world_device((int)(handle / 64) - 1, (int)(handle % 64) - 1); }

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

static uint64_t cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* What looking at the clock costs by itself, between two looks. */
static uint64_t clock_ns(void) {
    static uint64_t least = 1000000;
    for (int i = 0; i < 100; i++) {
        uint64_t before = cpu_ns(), passed = cpu_ns() - before;
        if (passed < least) least = passed;
    }
    return least;
}

/* The number that `world.cpu` names, shared with whoever reads it. */
static uint64_t *open_account(void) {
    int file = open(world.cpu, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0 || ftruncate(file, sizeof(uint64_t)) != 0) _exit(97);
    uint64_t *account = mmap(NULL, sizeof *account, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (account == MAP_FAILED) _exit(97);
    return account;
}

static void charge(uint64_t begun_ns) {
    static uint64_t *account, clock;
    if (!begun_ns) return;
    if (!account) {
        account = open_account();
        clock = clock_ns();
        return;
    }
    uint64_t passed = cpu_ns() - begun_ns;
    *account += passed > clock ? passed - clock : 0;
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

Call enter(const char *symbol, Handle handle) {
    int gpu = handle == NO_DEVICE ? -1 : (int)(handle / 64) - 1;
    uint64_t begun_ns = *world.cpu ? cpu_ns() : 0;
    pthread_mutex_lock(&mutex);
    world_refresh();
    write_log(symbol, gpu);
    Call call = {obey_rules(symbol, gpu), NULL, begun_ns};
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

void leave(Call *call) {
    charge(call->begun_ns);
    pthread_mutex_unlock(&mutex);
}

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

double since_epoch(void) { return now_unix() - world.epoch; }

double figure_now(const Device *device, Figure figure) {
    return curve_at(&device->curves[figure], since_epoch());
}

double mean_until(const Device *device, Figure figure, double until_s, double period_s) {
    return curve_integral(&device->curves[figure], until_s - period_s, until_s) / period_s;
}
