/* A memory manager for one page. Sizes are multiples of MINALLOC bytes, and all PAGESIZE bytes of
 * the page can be allocated: what the manager has to remember lies outside it. */
#ifndef ALLOC_H
#define ALLOC_H

#define PAGESIZE 4096
#define MINALLOC 8

#ifdef __cplusplus
extern "C" {
#endif

/* Maps the page. 0, or non-zero if there is one already or the system has none. */
int init_alloc(void);

/* Gives the page back, whatever is still allocated in it. 0, or non-zero if there is no page. */
int cleanup(void);

/* `size` bytes inside the page; NULL if `size` is not a positive multiple of MINALLOC or no such
 * piece of the page is left. The shortest piece that is long enough is used, and split. */
char *alloc(int size);

/* Takes back a chunk that `alloc` returned; it merges with what is left beside it. Any other
 * pointer is refused, and reported on standard error. */
void dealloc(char *chunk);

#ifdef __cplusplus
}
#endif

#endif
