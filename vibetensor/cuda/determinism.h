/* Whether operators whose threads race for an element should give one result every time. */
#ifndef VT_CUDA_DETERMINISM_H
#define VT_CUDA_DETERMINISM_H

#ifdef __cplusplus
extern "C" {
#endif

/* Of the process; vibetensor/backends/_determinism.py sets them. */
extern int vt_cuda_deterministic;      /* fixed orders, even where that is slower */
extern int vt_cuda_deterministic_only; /* an error where there is no such form, else a warning */

/* Gives the warning; false: it became an exception. Set by _runtime.pyx. */
extern int (*vt_cuda_warn)(const char *text);

#ifdef __cplusplus
}
#endif
#endif
