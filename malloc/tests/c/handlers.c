/*
 * Signal handlers that allocate on top of a thread that allocates. The first argument says what is
 * tried:
 *
 *     books     handlers and the threads below them use blocks of their own, each filled with its
 *               own pattern and checked
 *     trim      the same, while both give memory back, and handlers recount
 *     look      handlers ask how full the heap is
 *     many      handlers that interrupted a lock free more blocks than one can wait for
 *     wave      what a handler freed is freed while others have all that they ask for at hand
 *     inside    a block that such a handler was given is freed inside; `twice`: a second time
 */
#include "check.h"
#include "kmem.h"
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define BLOCKS 16
#define HANDLERS 20000
#define TRIMMERS 50
#define LOOKS 2000
#define WAVE 400
#define INTERRUPTED 100
#define FREED 100

static atomic_int handled, interrupted;
static void *volatile of_handler;
static void *waiting[INTERRUPTED][FREED];

/* Its size class has 1280 bytes: as many as it has, rounded to 16, it has where the heap was
 * interrupted. */
enum { TOLD = 1050, INTERRUPTED_BYTES = 1056 };

struct block {
    unsigned char *bytes, value;
    size_t size;
};

static void check(const struct block *block, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (block->bytes[i] != block->value)
            abort();
}

static void fill(struct block *block, unsigned char *bytes, size_t size)
{
    if (bytes == NULL || malloc_usable_size(bytes) < size)
        abort();
    *block = (struct block){ .bytes = bytes, .value = (unsigned char)(block->value + 1), .size = size };
    memset(bytes, block->value, size);
}

/* Allocates, frees, or makes another size of one block. */
static void use(struct block *blocks, unsigned *random)
{
    *random = *random * 1664525u + 1013904223u;
    struct block *block = &blocks[(*random >> 20) % BLOCKS];
    /* Of one class, so that an address is soon used again. */
    size_t size = 449 + (*random >> 8) % 40;
    if (block->bytes == NULL) {
        fill(block, malloc(size), size);
        return;
    }
    check(block, block->size);
    if ((*random >> 4) % 3 == 0) {
        size_t kept = size < block->size ? size : block->size;
        block->bytes = realloc(block->bytes, size);
        if (block->bytes == NULL)
            abort();
        check(block, kept);
        fill(block, block->bytes, size);
    } else {
        free(block->bytes);
        block->bytes = NULL;
    }
}

static void use_books(int signal)
{
    static _Thread_local struct block blocks[BLOCKS];
    static _Thread_local unsigned random = 1;
    (void)signal;
    use(blocks, &random);
    use(blocks, &random);
    atomic_fetch_add(&handled, 1);
}

static void trim(int signal)
{
    malloc_trim(0);
    use_books(signal);
    kmem_verify();
}

static void look(int signal)
{
    (void)signal;
    /* Nothing is known on top of a lock. */
    if (mallinfo2().arena == 0)
        malloc_stats();
    atomic_fetch_add(&handled, 1);
}

static void interrupt(int signal)
{
    (void)signal;
    void *block = malloc(TOLD);
    int at = atomic_load(&interrupted);
    if (block != NULL && malloc_usable_size(block) == INTERRUPTED_BYTES && at < INTERRUPTED) {
        for (int i = 0; i < FREED; i++)
            free(waiting[at][i]);
        of_handler = block;
        atomic_fetch_add(&interrupted, 1);
    } else {
        free(block);
    }
}

/* The last of so many blocks is none that this thread had at hand. */
static void leave(int signal)
{
    void *blocks[40];
    (void)signal;
    for (int i = 0; i < 40; i++)
        blocks[i] = malloc(TOLD);
    if (malloc_usable_size(blocks[39]) == INTERRUPTED_BYTES && atomic_load(&interrupted) == 0) {
        for (int i = 0; i < FREED; i++)
            free(waiting[0][i]);
        atomic_store(&interrupted, 1);
    }
    for (int i = 0; i < 40; i++)
        free(blocks[i]);
}

static void *work_on_books(void *argument)
{
    struct block blocks[BLOCKS] = { 0 };
    unsigned random = 77;
    (void)argument;
    while (atomic_load(&handled) < HANDLERS)
        use(blocks, &random);
    return NULL;
}

static void *work_on_trims(void *argument)
{
    struct block blocks[BLOCKS] = { 0 };
    unsigned random = 77;
    (void)argument;
    while (atomic_load(&handled) < TRIMMERS) {
        for (int i = 0; i < BLOCKS; i++)
            use(blocks, &random);
        malloc_trim(0);
    }
    return NULL;
}

/* More blocks at a time than lie in a thread's magazines in use. */
static void wave(void)
{
    void *blocks[WAVE];
    for (int i = 0; i < WAVE; i++)
        blocks[i] = malloc(449);
    for (int i = 0; i < WAVE; i++)
        free(blocks[i]);
}

static void *work_on_slabs(void *argument)
{
    (void)argument;
    while (atomic_load(&handled) < LOOKS)
        wave();
    return NULL;
}

/* Locks, and nothing is freed. */
static void *work_on_counts(void *argument)
{
    (void)argument;
    while (atomic_load(&interrupted) == 0)
        mallinfo2();
    return NULL;
}

static void *work_on_runs(void *argument)
{
    (void)argument;
    while (atomic_load(&interrupted) < INTERRUPTED) {
        void *runs[20];
        for (int i = 0; i < 20; i++)
            runs[i] = malloc(200000 + (size_t)i * 8000);
        for (int i = 0; i < 20; i++)
            free(runs[i]);
        malloc_trim(0);
    }
    return NULL;
}

static void (*handler)(int);
static atomic_int is_pending;

static void handle(int signal)
{
    handler(signal);
    atomic_store(&is_pending, 0);
}

/* Runs `work` in a thread that gets signals until it is done: each when the one before has been
 * handled, so that the thread gets on in between. */
static void run(void *(*work)(void *), void (*with)(int), atomic_int *count, int enough)
{
    struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
    handler = with;
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
    while (atomic_load(count) < enough) {
        if (atomic_exchange(&is_pending, 1) == 0)
            pthread_kill(thread, SIGUSR1);
        usleep(20);
    }
    pthread_join(thread, NULL);
    signal(SIGUSR1, SIG_IGN);
}

int main(int count, char **arguments)
{
    CHECK(count == 2);
    const char *what = arguments[1];
    if (strcmp(what, "books") == 0) {
        run(work_on_books, use_books, &handled, HANDLERS);
    } else if (strcmp(what, "trim") == 0) {
        run(work_on_trims, trim, &handled, TRIMMERS);
    } else if (strcmp(what, "look") == 0) {
        run(work_on_slabs, look, &handled, LOOKS);
    } else if (strcmp(what, "wave") == 0) {
        wave();
        wave();
        size_t live = mallinfo2().uordblks;
        for (int i = 0; i < FREED; i++)
            waiting[0][i] = malloc(10000);
        run(work_on_counts, leave, &interrupted, 1);
        wave();
        CHECK(mallinfo2().uordblks < live + FREED * 10000 / 2);
    } else {
        for (int i = 0; i < INTERRUPTED * FREED; i++)
            waiting[i / FREED][i % FREED] = malloc(10000);
        run(work_on_runs, interrupt, &interrupted, INTERRUPTED);
        if (strcmp(what, "inside") == 0)
            free((char *)of_handler + 16);
        if (strcmp(what, "twice") == 0)
            free(of_handler);
        free(of_handler);
        /* One that takes the long way, and all that waits with it. */
        free(malloc(5 << 20));
        struct mallinfo2 info = mallinfo2();
        CHECK(info.uordblks + info.hblkhd < 1 << 20);
    }
    puts("ok");
    return 0;
}
