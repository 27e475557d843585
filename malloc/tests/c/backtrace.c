/* A program that shows where it was stopped finds its own functions behind the allocator's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"

static void *caller;

/* The C library's unwinder: what it knows of the function that an address lies in. */
struct bases {
    void *text, *data, *function;
};
const void *_Unwind_Find_FDE(void *address, struct bases *bases);

static void on_abort(int signal)
{
    (void)signal;
    void *frames[64];
    int count = backtrace(frames, 64);
    for (int i = 0; i < count; i++)
        if (frames[i] == caller)
            _exit(write(1, "ok\n", 3) != 3);
    backtrace_symbols_fd(frames, count, 2);
    _exit(1);
}

static __attribute__((noinline, noclone)) void free_inside(char *volatile block)
{
    caller = __builtin_return_address(0);
    free(block + 8);
    block[0] = 1;
}

int main(void)
{
    /* Common code and rare code. */
    const char *names[] = { "malloc", "free", "realloc", "kmem_verify", "print_memory" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct bases bases;
        char *function = dlsym(RTLD_DEFAULT, names[i]);
        CHECK(function && _Unwind_Find_FDE(function + 1, &bases) && bases.function == function);
    }
    void *first[1];
    backtrace(first, 1); /* Loads the unwinder, which allocates. */
    signal(SIGABRT, on_abort);
    free_inside(malloc(100));
    return 1;
}
