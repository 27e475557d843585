/* What both lab tests need: a check that says where it failed, the size of the process's address
 * space, and a C library heap that nobody may touch. Link with -Wl,--wrap for each wrapped name. */
#ifndef CHECK_H
#define CHECK_H

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            dprintf(1, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);           \
            _exit(1);                                                                     \
        }                                                                                 \
    } while (0)

/* The process's virtual size in bytes: field 23 of /proc/self/stat. Reading it
 * allocates nothing. */
static long vsz(void)
{
    char text[1024];
    int file = open("/proc/self/stat", O_RDONLY);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    CHECK(length > 0);
    text[length] = 0;
    /* Field 2, the program's name in brackets, may hold blanks: count from its end. */
    char *at = strrchr(text, ')');
    for (int field = 2; field < 23; field++)
        at = strchr(at + 1, ' ');
    return atol(at);
}

static void used(const char *name)
{
    dprintf(1, "%s was called\n", name);
    _exit(2);
}

/* Every way into the C library's heap, by the linker's names for them. */
#ifdef __cplusplus
extern "C" {
#endif
void *__wrap_malloc(size_t size) { (void)size; used("malloc"); return NULL; }
void *__wrap_calloc(size_t count, size_t size) { (void)count, (void)size; used("calloc"); return NULL; }
void *__wrap_realloc(void *at, size_t size) { (void)at, (void)size; used("realloc"); return NULL; }
void *__wrap_aligned_alloc(size_t align, size_t size) { (void)align, (void)size; used("aligned_alloc"); return NULL; }
int __wrap_posix_memalign(void **out, size_t align, size_t size) { (void)out, (void)align, (void)size; used("posix_memalign"); return 1; }
void *__wrap_memalign(size_t align, size_t size) { (void)align, (void)size; used("memalign"); return NULL; }
void __wrap_free(void *at) { (void)at; used("free"); }
void *__wrap_sbrk(ptrdiff_t by) { (void)by; used("sbrk"); return NULL; }
int __wrap_brk(void *at) { (void)at; used("brk"); return 1; }
#ifdef __cplusplus
}
#endif

/* Puts standard error into a pipe, so that what is reported can be counted. */
static int reports_from = -1;

static void catch_reports(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    reports_from = ends[0];
    dup2(ends[1], 2);
}

/* Lines reported since the last call. */
static int reports(void)
{
    char text[4096];
    int lines = 0;
    ssize_t length;
    while ((length = read(reports_from, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < length; i++)
            lines += text[i] == '\n';
    return lines;
}

#endif
