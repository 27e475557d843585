/*
 * Closes descriptors that it has not opened.
 *
 *     closed stderr        as GNU's tools do, before the end
 *     closed all FILE      as daemons do; then has FILE open on each of them, which must not get
 *                          what others write
 */
#include <fcntl.h>
#include <unistd.h>

#include "check.h"

static void *volatile leaked;

static void close_stderr(void) { close(2); }

int main(int count, char **arguments)
{
    leaked = malloc(1000);
    if (count == 2) {
        CHECK(atexit(close_stderr) == 0);
        return 0;
    }
    int file = open(arguments[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(file >= 0 && write(file, "mine", 4) == 4);
    for (int descriptor = 3; descriptor < 1100; descriptor++)
        if (descriptor != file)
            dup2(file, descriptor);
    for (int i = 0; i < 10000; i++)
        free(malloc(1000 + (size_t)i));
    CHECK(lseek(file, 0, SEEK_END) == 4);
    puts("ok");
    return 0;
}
