/* A thread allocates and frees while the process forks children that end well. Prints the thread,
 * as the system numbers it. */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 300 };

static atomic_int is_over;
static pthread_barrier_t is_printed;

static void *work(void *argument)
{
    (void)argument;
    printf("%d\n", gettid());
    fflush(stdout);
    pthread_barrier_wait(&is_printed);
    while (!atomic_load(&is_over)) {
        void *volatile block = malloc(100);
        free(block);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread;
    CHECK(pthread_barrier_init(&is_printed, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
    /* A child that had the line in its copy of the buffer would print it, too. */
    pthread_barrier_wait(&is_printed);
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        if (child == 0)
            exit(0);
        CHECK(waitpid(child, NULL, 0) == child);
    }
    atomic_store(&is_over, 1);
    pthread_join(thread, NULL);
    return 0;
}
