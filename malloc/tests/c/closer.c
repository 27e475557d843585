/* Opens the allocator as a plug-in, uses it in a thread, closes it, and ends the thread. */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void *(*their_malloc)(size_t);
static void (*their_free)(void *);
static pthread_barrier_t barrier;

static void *use(void *unused)
{
    their_free(their_malloc(100));
    pthread_barrier_wait(&barrier);
    /* Closed now. */
    pthread_barrier_wait(&barrier);
    return unused;
}

int main(int count, char **arguments)
{
    CHECK(count == 2);
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(library != NULL);
    their_malloc = (void *(*)(size_t))dlsym(library, "malloc");
    their_free = (void (*)(void *))dlsym(library, "free");
    CHECK(their_malloc != NULL && their_free != NULL);
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use, NULL) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(dlclose(library) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(thread, NULL) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    puts("ok");
    return 0;
}
