/* A thread that is to be cancelled allocates and frees: neither is a point where that happens. */
#include "check.h"
#include <pthread.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static int is_at_end;

static void *allocate(void *unused)
{
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &(int){ 0 }) == 0);
    pthread_barrier_wait(&barrier);
    /* Not before the request is there. */
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 5000; i++) {
        char *volatile block = malloc(24);
        free(block);
    }
    is_at_end = 1;
    return unused;
}

int main(void)
{
    alarm(60);
    pthread_t thread;
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, allocate, NULL) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_cancel(thread) == 0);
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(is_at_end);
    free(malloc(100));
    puts("ok");
    return 0;
}
