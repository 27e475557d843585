#define _GNU_SOURCE
/* A library that is loaded and unloaded; its constructor and destructor allocate. */
#include <stdlib.h>
#include <string.h>

static __thread char *local;
static char *kept;

__attribute__((constructor)) static void begin(void)
{
    kept = strdup("kept while the library is loaded");
}

__attribute__((destructor)) static void end(void)
{
    free(kept);
}

char *plugin_string(const char *text)
{
    free(local);
    local = strdup(text);
    return strdup(kept);
}

void plugin_forget(void)
{
    free(local);
    local = NULL;
}
