/* Threads that allocate, free, and make blocks another size, 0 among them. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 3, STEPS = 60000, BLOCKS = 16 };

static void *work(void *argument)
{
    unsigned random = (unsigned)(uintptr_t)argument;
    void *blocks[BLOCKS] = { 0 };
    for (int step = 0; step < STEPS; step++) {
        random = random * 1664525u + 1013904223u;
        void **block = &blocks[(random >> 24) % BLOCKS];
        size_t size = (random >> 8) % 50 == 0 ? 100000 : (random >> 8) % 400;
        if (*block == NULL)
            *block = malloc(size + 1);
        else if (random % 3 != 0)
            *block = realloc(*block, size);
        else
            free(*block), *block = NULL;
    }
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
