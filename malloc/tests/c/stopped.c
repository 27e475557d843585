/*
 * Stops a thread that allocates and one that forks by a signal, as collectors of garbage do, and
 * lets them go on: again and again.
 */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 1500, THREADS = 2 };

static sem_t stopped;
static atomic_int is_over, round_over;

static void stop(int signal)
{
    (void)signal;
    int round = atomic_load(&round_over);
    sem_post(&stopped);
    sigset_t others;
    sigfillset(&others);
    sigdelset(&others, SIGUSR2);
    while (atomic_load(&round_over) == round)
        sigsuspend(&others);
}

static void go_on(int signal)
{
    (void)signal;
}

static void *allocate(void *argument)
{
    (void)argument;
    while (!atomic_load(&is_over)) {
        void *blocks[20];
        for (int i = 0; i < 20; i++)
            blocks[i] = malloc(20000 + (size_t)i * 9000);
        for (int i = 0; i < 20; i++)
            free(blocks[i]);
    }
    return NULL;
}

static void *copy(void *argument)
{
    (void)argument;
    while (!atomic_load(&is_over)) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    return NULL;
}

int main(void)
{
    struct sigaction action = { .sa_handler = stop, .sa_flags = SA_RESTART };
    /* SIGUSR2, too, until the handler waits: one that comes before would be lost. */
    sigfillset(&action.sa_mask);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(signal(SIGUSR2, go_on) != SIG_ERR);
    CHECK(sem_init(&stopped, 0, 0) == 0);
    pthread_t threads[THREADS];
    CHECK(pthread_create(&threads[0], NULL, allocate, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, copy, NULL) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < THREADS; i++)
            pthread_kill(threads[i], SIGUSR1);
        for (int i = 0; i < THREADS; i++)
            while (sem_wait(&stopped) != 0)
                ;
        atomic_fetch_add(&round_over, 1);
        for (int i = 0; i < THREADS; i++)
            pthread_kill(threads[i], SIGUSR2);
    }
    atomic_store(&is_over, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    puts("ok");
    return 0;
}
