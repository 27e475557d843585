/*
 * One wrong call, named by the first argument. The second, a size, is that of the block.
 */
#include "check.h"
#include "kmem.h"
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static void *volatile block;

static atomic_int is_free;

/* Started before the first free: what a new thread needs could be given the very block. */
static void *free_it(void *argument)
{
    while (!atomic_load(&is_free))
        sched_yield();
    free(argument);
    return NULL;
}

/* While the first free is still at work, if the block is large and is filled. */
static void *free_it_soon(void *argument)
{
    /* Not by the clock: on a busy machine this free could be over before the other begins. */
    while (*(volatile char *)argument == 1)
        ;
    free(argument);
    /* Perhaps the very block, which the first free would free again. */
    return malloc((size_t)256 << 20);
}

static atomic_int is_moved;

/* While realloc copies to the new block, which is there as soon as so much is in use; on a busy
 * machine after it, which is one wrong call, too. */
static void *free_it_when_two(void *argument)
{
    struct mallinfo2 before = mallinfo2();
    size_t size = malloc_usable_size(argument);
    atomic_store(&is_free, 1);
    while (!atomic_load(&is_moved)) {
        struct mallinfo2 now = mallinfo2();
        if (now.hblkhd + now.uordblks >= before.hblkhd + before.uordblks + size)
            break;
    }
    free(argument);
    return NULL;
}

/* On top of the call that has found something. */
static void verify_again(int signal)
{
    (void)signal;
    _exit(kmem_verify() == 1 ? 0 : 1);
}

int main(int count, char **arguments)
{
    CHECK(count == 3);
    const char *what = arguments[1];
    size_t size = strtoul(arguments[2], NULL, 10);
    int on_stack = 0;
    static int in_data[64];
    block = malloc(size);
    void *volatile other = malloc(size);
    printf("%p\n", block);
    fflush(stdout);
    if (strcmp(what, "twice") == 0) {
        free(block);
        free(block);
    } else if (strcmp(what, "twice-later") == 0) {
        free(block);
        for (int i = 0; i < 1000; i++)
            free(malloc(size + 64 + (size_t)i * 16));
        free(block);
    } else if (strcmp(what, "twice-elsewhere") == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, free_it, block) == 0);
        free(block);
        atomic_store(&is_free, 1);
        pthread_join(thread, NULL);
    } else if (strcmp(what, "twice-at-once") == 0) {
        memset(block, 1, size);
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, free_it_soon, block) == 0);
        free(block);
        pthread_join(thread, NULL);
    } else if (strcmp(what, "inside") == 0) {
        free((char *)block + 8);
    } else if (strcmp(what, "deep-inside") == 0) {
        free((char *)block + size / 2);
    } else if (strcmp(what, "misaligned") == 0) {
        free((char *)block + 1);
    } else if (strcmp(what, "stack") == 0) {
        void *volatile foreign = &on_stack;
        free(foreign);
    } else if (strcmp(what, "data") == 0) {
        void *volatile foreign = in_data;
        free(foreign);
    } else if (strcmp(what, "wild") == 0) {
        void *volatile foreign = (void *)0x123456789000;
        free(foreign);
    } else if (strcmp(what, "realloc-freed") == 0) {
        free(block);
        block = realloc(block, size + 100);
    } else if (strcmp(what, "realloc-foreign") == 0) {
        void *volatile foreign = &on_stack;
        block = realloc(foreign, 100);
    } else if (strcmp(what, "realloc-freed-at-once") == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, free_it_when_two, block) == 0);
        while (!atomic_load(&is_free))
            sched_yield();
        void *moved = realloc(block, size * 2);
        atomic_store(&is_moved, 1);
        pthread_join(thread, NULL);
        free(moved);
        struct mallinfo2 after = mallinfo2();
        /* There is the other one. */
        CHECK(after.hblkhd + after.uordblks < 2 * size);
    } else if (strcmp(what, "overrun") == 0) {
        memset(block, 1, size + 1);
        free(block);
    } else if (strcmp(what, "write-after-free") == 0) {
        free(block);
        ((char *)block)[size / 2] = 5;
        for (int i = 0; i < 100000; i++)
            free(malloc(size));
    } else if (strcmp(what, "overrun-kept") == 0) {
        memset(block, 1, size + 1);
    } else if (strcmp(what, "overrun-verified") == 0) {
        memset(block, 1, size + 1);
        printf("%d went on\n", kmem_verify());
    } else if (strcmp(what, "verified-on-top") == 0) {
        memset(block, 1, size + 1);
        signal(SIGABRT, verify_again);
        kmem_verify();
    } else if (strcmp(what, "write-after-free-kept") == 0) {
        free(block);
        ((char *)block)[size / 2] = 5;
    } else if (strcmp(what, "usable-freed") == 0) {
        free(block);
        CHECK(malloc_usable_size(block) == 0);
    } else if (strcmp(what, "name-freed") == 0) {
        free(block);
        malloc_name(block, "a ghost");
    } else if (strcmp(what, "wrong-size") == 0) {
        free_sized(block, size * 3);
    } else if (strcmp(what, "wrong-alignment") == 0) {
        free_aligned_sized(block, (size_t)1 << 40, size);
    } else {
        return 2;
    }
    free(other);
    puts("went on");
    return 0;
}
