/* A memory manager that maps pages one at a time, when no mapped page has room. Sizes are
 * multiples of MINALLOC bytes up to a page, and no chunk crosses a page. */
#ifndef EALLOC_H
#define EALLOC_H

#define PAGESIZE 4096
#define MINALLOC 256
#define MAXPAGES 1024

#ifdef __cplusplus
extern "C" {
#endif

/* Starts the manager, if it is not running; maps nothing. */
void init_alloc(void);

/* Stops the manager and unmaps every page, whatever is still allocated. */
void cleanup(void);

/* `size` bytes inside one page; NULL if `size` is not a multiple of MINALLOC from MINALLOC to
 * PAGESIZE, or if another page is needed and MAXPAGES are mapped or the system has none. */
char *alloc(int size);

/* Takes back a chunk that `alloc` returned; it merges with what is left beside it in its page.
 * Any other pointer is refused, and reported on standard error. Pages stay mapped. */
void dealloc(char *chunk);

#ifdef __cplusplus
}
#endif

#endif
