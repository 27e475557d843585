/* Under a limit of 300 MiB: what another thread is about to get while the process forks is not
 * counted in the copy, where nobody gets it. */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static const size_t bytes = (size_t)200 << 20;

static _Atomic(void *) block;

/* Takes its time: the block is filled before it is noted. */
static void *allocate(void *argument)
{
    (void)argument;
    atomic_store(&block, malloc(bytes));
    return NULL;
}

int main(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, allocate, NULL) == 0);
    while (mallinfo2().hblkhd < bytes)
        ;
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0)
        _exit(atomic_load(&block) == NULL && malloc(bytes) == NULL);
    int status = 1;
    CHECK(waitpid(process, &status, 0) == process && status == 0);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&block) != NULL);
    /* Here it counts. */
    CHECK(malloc(bytes) == NULL && errno == ENOMEM);
    puts("ok");
    return 0;
}
