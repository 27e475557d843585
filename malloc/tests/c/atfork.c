/* More handlers of forks than the C library has room for, before anything is allocated: it asks for
 * more room under the lock that registering takes. */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { HANDLERS = 500 };

static int prepared, copied;

static void prepare(void) { prepared++; }
static void child(void) { copied++; }

int main(void)
{
    for (int i = 0; i < HANDLERS; i++)
        CHECK(pthread_atfork(prepare, NULL, child) == 0);
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        free(malloc(100));
        _exit(copied == HANDLERS ? 0 : 1);
    }
    int status = 1;
    CHECK(waitpid(process, &status, 0) == process && status == 0 && prepared == HANDLERS);
    puts("ok");
    return 0;
}
