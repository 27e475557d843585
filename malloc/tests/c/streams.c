#define _GNU_SOURCE
/* Forks while some threads flush all streams and others allocate under the lock of one. Nobody may
 * wait for ever. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKS = 200, LONG_LINE = 300000 };

static FILE *file;

/* The threads make way between two holds of a lock: the C library's locks go to whoever is at work,
 * and on a machine of one busy CPU, the process that forks would wait for seconds each time. */
static void *flush_all(void *unused)
{
    for (;;) {
        fflush(NULL);
        sched_yield();
    }
    return unused;
}

static void *read_line(void *unused)
{
    for (;;) {
        char *line = NULL;
        size_t size = 0;
        fseek(file, 0, SEEK_SET);
        /* The other one may have read to the end just now. */
        if (getline(&line, &size, file) < 0)
            clearerr(file);
        free(line);
        sched_yield();
    }
    return unused;
}

int main(void)
{
    file = tmpfile();
    CHECK(file != NULL);
    for (int i = 0; i < LONG_LINE; i++)
        fputc('x', file);
    fputc('\n', file);
    CHECK(fflush(file) == 0);
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&thread, NULL, flush_all, NULL) == 0);
        CHECK(pthread_create(&thread, NULL, read_line, NULL) == 0);
    }
    for (int i = 0; i < FORKS; i++) {
        /* For each anew: how long they take together depends on the machine. */
        alarm(60);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            /* The locks are nobody's here, and streams work. */
            fflush(NULL);
            free(malloc(100000));
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    puts("ok");
    fflush(stdout);
    _exit(0);
}
