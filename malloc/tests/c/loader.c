/* Loads and unloads a library, from several threads. */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>

static void *load(void *path)
{
    for (int i = 0; i < 50; i++) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        CHECK(library != NULL);
        char *(*string)(const char *) = (char *(*)(const char *))dlsym(library, "plugin_string");
        void (*forget)(void) = (void (*)(void))dlsym(library, "plugin_forget");
        CHECK(string && forget);
        char *text = string("some text");
        CHECK(strcmp(text, "kept while the library is loaded") == 0);
        free(text);
        forget();
        dlclose(library);
    }
    return NULL;
}

int main(int count, char **arguments)
{
    CHECK(count == 2);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, load, arguments[1]) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    puts("ok");
    return 0;
}
