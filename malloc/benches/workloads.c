/*
 * Programs that do little else than allocate, one for each class of behaviour that papers on
 * allocators tell apart.
 *
 *     workloads NAME [PERCENT]
 *     workloads talk
 *
 * Each is deterministic up to the interleaving of its threads. At its end it prints its peak of
 * resident memory in KiB: what the system counts for this image alone, not for the process that
 * started it. PERCENT is how much of it is done.
 *
 * `talk` prints the nanoseconds that 100, 1,000, 10,000 and 100,000 ints take, allocated and freed
 * again: the published test of a talk's memory manager.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define THREADS 2

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static void *must(void *block)
{
    if (block == NULL) {
        fputs("workloads: out of memory\n", stderr);
        exit(2);
    }
    return block;
}

/* Touches a block as programs do: its first and last bytes. */
static void touch(char *block, size_t size)
{
    block[0] = (char)size;
    block[size - 1] = (char)size;
}

/* n ints allocated, then freed. */
static void ints(long n)
{
    int **all = must(malloc((size_t)n * sizeof *all));
    for (long i = 0; i < n; i++) {
        all[i] = must(malloc(sizeof(int)));
        *all[i] = (int)i;
    }
    for (long i = 0; i < n; i++)
        free(all[i]);
    free(all);
}

static void run_ints(long scale)
{
    for (long round = 0; round < scale; round++)
        for (long n = 100; n <= 100000; n *= 10)
            ints(n);
}

static double cpu_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * 1e9 + now.tv_nsec;
}

/* The fastest of many rounds: what else the machine does only ever adds. A round is long enough for
 * the clock. */
static void talk(void)
{
    for (long n = 100; n <= 100000; n *= 10) {
        double fastest = 1e18;
        long times = n < 10000 ? 10000 / n : 1;
        for (long round = 0; round < 2000000 / n / times; round++) {
            double start = cpu_nanoseconds();
            for (long i = 0; i < times; i++)
                ints(n);
            double time = (cpu_nanoseconds() - start) / (double)times;
            if (time < fastest)
                fastest = time;
        }
        printf("%.0f ", fastest);
    }
    printf("\n");
}

/* Many small objects: binary trees built and torn down, as compilers and interpreters do. */
struct tree {
    struct tree *left, *right;
    long value;
};

static struct tree *grow(int depth)
{
    struct tree *tree = must(malloc(sizeof *tree));
    tree->value = depth;
    tree->left = depth > 0 ? grow(depth - 1) : NULL;
    tree->right = depth > 0 ? grow(depth - 1) : NULL;
    return tree;
}

static void fell(struct tree *tree)
{
    if (tree == NULL)
        return;
    fell(tree->left);
    fell(tree->right);
    free(tree);
}

static void run_trees(long scale)
{
    struct tree *lasting = grow(16);
    for (long round = 0; round < scale * 40; round++)
        fell(grow(12));
    fell(lasting);
}

/* Short-lived objects, last in first out, with nothing between: the arithmetic of big numbers. */
static void run_numbers(long scale)
{
    char *digits[16];
    uint64_t random = 88172645463325252u;
    for (long round = 0; round < scale * 200000; round++) {
        int live = 1 + (int)(next_random(&random) % 15);
        for (int i = 0; i < live; i++) {
            size_t size = 8 + next_random(&random) % 56;
            digits[i] = must(malloc(size));
            touch(digits[i], size);
        }
        while (live-- > 0)
            free(digits[live]);
    }
}

/* Sizes with a long tail: most small, each doubling half as likely, up to a few megabytes. */
static size_t tailed_size(uint64_t *random)
{
    uint64_t bits = next_random(random);
    size_t base = (size_t)8 << __builtin_ctzll(bits | 1u << 17);
    return base + (bits >> 32) % base;
}

static void run_tail(long scale)
{
    enum { LIVE = 20000 };
    char **live = must(calloc(LIVE, sizeof *live));
    uint64_t random = 2463534242u;
    for (long round = 0; round < scale * 1000000; round++) {
        size_t at = next_random(&random) % LIVE;
        free(live[at]);
        size_t size = tailed_size(&random);
        live[at] = must(malloc(size));
        touch(live[at], size);
    }
    for (long i = 0; i < LIVE; i++)
        free(live[i]);
    free(live);
}

/* A server: each thread replaces random blocks of its own array and then hands the array to its
 * successor. */
struct shift {
    _Alignas(128) /* no two threads write to one cache line */
    char **blocks;
    uint64_t random;
    long rounds;
    int successors;
};

enum { SERVED = 5000 };

static void *serve(void *argument)
{
    struct shift *shift = argument;
    for (long round = 0; round < shift->rounds; round++) {
        size_t at = next_random(&shift->random) % SERVED;
        free(shift->blocks[at]);
        size_t size = 16 + next_random(&shift->random) % 496;
        shift->blocks[at] = must(malloc(size));
        touch(shift->blocks[at], size);
    }
    if (shift->successors-- > 0) {
        pthread_t successor;
        if (pthread_create(&successor, NULL, serve, shift) != 0)
            exit(2);
        pthread_join(successor, NULL);
    }
    return NULL;
}

static void run_server(long scale)
{
    struct shift shifts[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        shifts[i] = (struct shift){
            .blocks = must(calloc(SERVED, sizeof(char *))),
            .random = 1234567u + (uint64_t)i * 7919u,
            .rounds = scale * 100000,
            .successors = 8,
        };
        if (pthread_create(&threads[i], NULL, serve, &shifts[i]) != 0)
            exit(2);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        for (long j = 0; j < SERVED; j++)
            free(shifts[i].blocks[j]);
        free(shifts[i].blocks);
    }
}

/* A producer allocates, a consumer frees: batches through a ring. */
enum { RING = 64, BATCH = 256 };

static struct {
    _Atomic(void **) cells[RING];
} ring;

static void *consume(void *argument)
{
    long batches = *(long *)argument;
    for (long i = 0; i < batches; i++) {
        void **batch;
        while ((batch = atomic_exchange(&ring.cells[i % RING], NULL)) == NULL)
            sched_yield();
        for (int j = 0; j < BATCH; j++)
            free(batch[j]);
        free(batch);
    }
    return NULL;
}

static void run_pipe(long scale)
{
    long batches = scale * 8000;
    pthread_t consumer;
    uint64_t random = 362436069u;
    if (pthread_create(&consumer, NULL, consume, &batches) != 0)
        exit(2);
    for (long i = 0; i < batches; i++) {
        void **batch = must(malloc(BATCH * sizeof *batch));
        for (int j = 0; j < BATCH; j++) {
            size_t size = 16 + next_random(&random) % 240;
            batch[j] = must(malloc(size));
            touch(batch[j], size);
        }
        while (atomic_load(&ring.cells[i % RING]) != NULL)
            sched_yield();
        atomic_store(&ring.cells[i % RING], batch);
    }
    pthread_join(consumer, NULL);
}

/* Growing arrays: large blocks reallocated until they are some megabytes long. */
static void run_arrays(long scale)
{
    enum { ARRAYS = 4 };
    for (long round = 0; round < scale * 4; round++) {
        char *arrays[ARRAYS] = { NULL };
        for (size_t size = 1000; size < (size_t)24 << 20; size += size / 2) {
            for (int i = 0; i < ARRAYS; i++) {
                arrays[i] = must(realloc(arrays[i], size));
                memset(arrays[i] + size / 2, i, size - size / 2);
            }
        }
        for (int i = 0; i < ARRAYS; i++)
            free(arrays[i]);
    }
}

/* Large blocks for a moment: what readers of files and images do. */
static void run_buffers(long scale)
{
    uint64_t random = 521288629u;
    for (long round = 0; round < scale * 6000; round++) {
        size_t size = ((size_t)16 << 10) << next_random(&random) % 7;
        char *buffer = must(malloc(size));
        for (size_t at = 0; at < size; at += 4096)
            buffer[at] = 1;
        free(buffer);
    }
}

/* Threads that come, allocate a little, and go. */
static void *visit(void *argument)
{
    char *blocks[200];
    uint64_t random = (uint64_t)(uintptr_t)argument * 2654435761u + 1;
    for (int i = 0; i < 200; i++) {
        size_t size = 16 + next_random(&random) % 1000;
        blocks[i] = must(malloc(size));
        touch(blocks[i], size);
    }
    for (int i = 0; i < 200; i++)
        free(blocks[i]);
    return NULL;
}

static void run_threads(long scale)
{
    for (long round = 0; round < scale * 800; round++) {
        pthread_t threads[4];
        for (long i = 0; i < 4; i++)
            if (pthread_create(&threads[i], NULL, visit, (void *)(uintptr_t)(round * 4 + i)) != 0)
                exit(2);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
    }
}

/* Small objects written to by several threads at once: an allocator that puts two threads' on one
 * line pays. */
static void *scratch(void *argument)
{
    char *given = argument;
    free(given);
    for (int round = 0; round < 3000; round++) {
        volatile char *block = must(malloc(8));
        for (int i = 0; i < 1000; i++)
            block[i % 8]++;
        free((void *)block);
    }
    return NULL;
}

static void run_scratch(long scale)
{
    for (long round = 0; round < scale * 8; round++) {
        char *given[THREADS];
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            given[i] = must(malloc(8));
        for (int i = 0; i < THREADS; i++)
            if (pthread_create(&threads[i], NULL, scratch, given[i]) != 0)
                exit(2);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
}

/* Strings: built by realloc, kept in a table, thrown out at random; tables cleared by calloc. */
static void run_strings(long scale)
{
    enum { KEPT = 50000 };
    char **kept = must(calloc(KEPT, sizeof *kept));
    uint64_t random = 1013904223u;
    for (long round = 0; round < scale * 150000; round++) {
        size_t size = 8, final = 8 + next_random(&random) % 120;
        char *string = must(malloc(size));
        touch(string, size);
        while (size < final) {
            size = size * 2;
            string = must(realloc(string, size));
            touch(string, size);
        }
        if (round % 64 == 0)
            free(must(calloc(64, 24)));
        size_t at = next_random(&random) % KEPT;
        free(kept[at]);
        kept[at] = string;
    }
    for (long i = 0; i < KEPT; i++)
        free(kept[i]);
    free(kept);
}

static void print_peak(void)
{
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            printf("%ld\n", strtol(line + 6, NULL, 10));
}

int main(int count, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(long scale);
        long scale;
    } all[] = {
        { "ints", run_ints, 120 },
        { "trees", run_trees, 80 },
        { "numbers", run_numbers, 30 },
        { "tail", run_tail, 12 },
        { "server", run_server, 12 },
        { "pipe", run_pipe, 4 },
        { "arrays", run_arrays, 3 },
        { "buffers", run_buffers, 200 },
        { "threads", run_threads, 6 },
        { "scratch", run_scratch, 12 },
        { "strings", run_strings, 24 },
    };
    if (count >= 2 && strcmp(arguments[1], "talk") == 0) {
        /* `nothing.c` has no memory to give. */
        static char buffer[BUFSIZ];
        setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
        talk();
        return 0;
    }
    long percent = count > 2 ? strtol(arguments[2], NULL, 10) : 100;
    for (size_t i = 0; count >= 2 && i < sizeof all / sizeof *all; i++) {
        if (strcmp(arguments[1], all[i].name) == 0) {
            long scale = all[i].scale * percent / 100;
            all[i].run(scale > 0 ? scale : 1);
            print_peak();
            return 0;
        }
    }
    fputs("workloads: name one of talk", stderr);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fprintf(stderr, " %s", all[i].name);
    fputs("\n", stderr);
    return 2;
}
