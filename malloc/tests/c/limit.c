/* Under a limit of 100 MiB threads that allocate at the same time get one block of 60 MiB, and a
 * block of 90 MiB can shrink. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 4 };

static pthread_barrier_t barrier;
static atomic_int served;

static void *allocate(void *argument)
{
    (void)argument;
    pthread_barrier_wait(&barrier);
    void *block = malloc((size_t)60 << 20);
    atomic_fetch_add(&served, block != NULL);
    pthread_barrier_wait(&barrier);
    free(block);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, allocate, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&served) == 1);
    char *block = malloc((size_t)90 << 20);
    CHECK(block != NULL);
    block[0] = 5;
    block = realloc(block, (size_t)60 << 20);
    CHECK(block != NULL && block[0] == 5);
    CHECK(realloc(block, (size_t)110 << 20) == NULL && errno == ENOMEM && block[0] == 5);
    free(block);
    puts("ok");
    return 0;
}
