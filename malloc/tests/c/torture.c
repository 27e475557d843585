/*
 * Threads that allocate, free each other's blocks and end, while the process forks, children
 * allocate and fork again, and a timer's signal handler allocates on top of it all. Every block is
 * filled with its own pattern and checked.
 *
 *     torture threads|fork|signal|churn|vfork|remote
 */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

struct block {
    size_t size;
    unsigned char tag, bytes[];
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static struct block *make(uint64_t *random)
{
    size_t size = next_random(random) % (next_random(random) % 64 == 0 ? 200000 : 700);
    struct block *block = malloc(sizeof *block + size);
    CHECK(block != NULL);
    block->size = size;
    block->tag = (unsigned char)(size * 31 + 7);
    memset(block->bytes, block->tag, size);
    return block;
}

static void unmake(struct block *block)
{
    if (block == NULL)
        return;
    CHECK(block->tag == (unsigned char)(block->size * 31 + 7));
    for (size_t i = 0; i < block->size; i += 1 + i / 16)
        CHECK(block->bytes[i] == block->tag);
    free(block);
}

enum { SHARED = 512 };
static _Atomic(struct block *) shared[SHARED];
static atomic_int stop;

/* Whether a handler is to come soon. */
static atomic_int is_signal_due;

static void set_timer(long microseconds)
{
    struct itimerval timer = { { 0, 0 }, { 0, microseconds } };
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

/* Exchanges blocks with other threads through the shared cells: about half are freed by a thread
 * that did not make them. */
static void exchange(uint64_t *random, long rounds)
{
    for (long i = 0; i < rounds && !atomic_load(&stop); i++) {
        /* Here, so that a round is done between two handlers, however slow the machine is: a timer
         * that went on by itself could leave no time for any. */
        if (atomic_exchange(&is_signal_due, 0))
            set_timer(50);
        struct block *block = make(random);
        unmake(atomic_exchange(&shared[next_random(random) % SHARED], block));
    }
}

static void *work(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15u + 1;
    exchange(&random, 60000);
    return NULL;
}

static void empty_shared(void)
{
    for (int i = 0; i < SHARED; i++)
        unmake(atomic_exchange(&shared[i], NULL));
}

static void run_threads(int count)
{
    pthread_t threads[16];
    for (int i = 0; i < count; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(i + 1)) == 0);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    empty_shared();
}

static void *work_until_stopped(void *argument)
{
    while (!atomic_load(&stop))
        work(argument);
    return NULL;
}

static void wait_for(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        CHECK(errno == EINTR);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Forks while other threads are anywhere in the allocator; the child uses it, with threads, and
 * forks again. */
static void run_fork(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, work_until_stopped, (void *)(uintptr_t)(i + 1)) == 0);
    for (int round = 0; round < 60; round++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(60);
            uint64_t random = 7;
            for (int i = 0; i < 2000; i++)
                unmake(make(&random));
            if (round % 10 == 0) {
                pthread_t thread;
                CHECK(pthread_create(&thread, NULL, work, (void *)9) == 0);
                pthread_join(thread, NULL);
                pid_t grandchild = fork();
                CHECK(grandchild >= 0);
                if (grandchild == 0) {
                    for (int i = 0; i < 2000; i++)
                        unmake(make(&random));
                    _exit(0);
                }
                wait_for(grandchild);
            }
            _exit(0);
        }
        wait_for(child);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    empty_shared();
}

static void run_vfork(void)
{
    for (int round = 0; round < 50; round++) {
        void *block = malloc(100 + (size_t)round);
        pid_t child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        wait_for(child);
        free(block);
    }
}

static struct block *_Atomic by_handler[64];
static atomic_long handled;

static void on_signal(int number)
{
    (void)number;
    int saved = errno;
    uint64_t random = (uint64_t)atomic_fetch_add(&handled, 1) * 2654435761u + 1;
    unmake(atomic_exchange(&by_handler[next_random(&random) % 64], make(&random)));
    unmake(make(&random));
    atomic_store(&is_signal_due, 1);
    errno = saved;
}

/* A handler that allocates and frees, at whatever instruction the timer finds. */
static void run_signal(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    atomic_store(&is_signal_due, 1);
    uint64_t random = 5;
    exchange(&random, 200000);
    run_threads(3);
    set_timer(0);
    CHECK(atomic_load(&handled) > 10);
    for (int i = 0; i < 64; i++)
        unmake(atomic_exchange(&by_handler[i], NULL));
    empty_shared();
}

static pthread_key_t key;

/* A destructor that runs as its thread ends, and allocates. */
static void late(void *argument)
{
    uint64_t random = 11;
    for (int i = 0; i < 3; i++)
        unmake(make(&random));
    free(argument);
}

static void *visit(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument + 1;
    pthread_setspecific(key, malloc(40));
    exchange(&random, 20);
    return NULL;
}

static long resident_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%*d %ld", &pages) == 1);
    fclose(file);
    return pages * 4;
}

/* Ten thousand threads, eight at a time: nothing may be left of them. */
static void run_churn(void)
{
    CHECK(pthread_key_create(&key, late) == 0);
    long early = 0;
    for (int round = 0; round < 1250; round++) {
        pthread_t threads[8];
        for (int i = 0; i < 8; i++)
            CHECK(pthread_create(&threads[i], NULL, visit, (void *)(uintptr_t)(round * 8 + i)) == 0);
        for (int i = 0; i < 8; i++)
            pthread_join(threads[i], NULL);
        if (round == 250)
            early = resident_kib();
    }
    empty_shared();
    long grown = resident_kib() - early;
    fprintf(stderr, "grown by %ld KiB after the first 2000 threads\n", grown);
    CHECK(grown < 24 << 10);
}

/* Three hundred and fifty threads at a time: more than the allocator has slots. */
static void *wait_and_work(void *argument)
{
    pthread_barrier_wait(argument);
    uint64_t random = (uint64_t)pthread_self() | 1;
    exchange(&random, 200);
    pthread_barrier_wait(argument);
    return NULL;
}

static void run_crowd(void)
{
    enum { CROWD = 350 };
    static pthread_t threads[CROWD];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, CROWD);
    for (int i = 0; i < CROWD; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_and_work, &barrier) == 0);
    for (int i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    empty_shared();
}

/* Works again after main has returned. */
static void after_main(void)
{
    uint64_t random = 3;
    for (int i = 0; i < 1000; i++)
        unmake(make(&random));
}

__attribute__((destructor)) static void at_the_very_end(void)
{
    after_main();
    _exit(strcmp(getenv("TORTURE_STATUS"), "0"));
}

int main(int count, char **arguments)
{
    const char *what = count > 1 ? arguments[1] : "";
    setenv("TORTURE_STATUS", "1", 1);
    atexit(after_main);
    if (strcmp(what, "threads") == 0)
        run_threads(6);
    else if (strcmp(what, "fork") == 0)
        run_fork();
    else if (strcmp(what, "vfork") == 0)
        run_vfork();
    else if (strcmp(what, "signal") == 0)
        run_signal();
    else if (strcmp(what, "churn") == 0)
        run_churn();
    else if (strcmp(what, "crowd") == 0)
        run_crowd();
    else
        return 2;
    setenv("TORTURE_STATUS", "0", 1);
    return 0;
}
