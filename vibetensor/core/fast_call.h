/* A shortcut in front of a Cython function: the ordinary call, of tensors by position, goes straight
 * to a C function. Unpacking arguments into a function of three parameters costs about as much as a
 * small operator. All other calls take the function's own way, which knows names and defaults. */
#ifndef VT_FAST_CALL_H
#define VT_FAST_CALL_H

#include <Python.h>

/* What the functions of this extension module do without a shortcut, by their calling convention. */
static vectorcallfunc vt_plain_calls[256];

/* A vectorcallfunc as Cython writes it, without const. */
typedef PyObject *(*vt_fast_call)(PyObject *f, PyObject **args, size_t n, PyObject *names);

#define VT_CALL_KIND(f) (PyCFunction_GET_FLAGS(f) & 255)

static inline void vt_set_fast_call(PyObject *f, vt_fast_call fast) {
  vectorcallfunc *call = (vectorcallfunc *)((char *)f + Py_TYPE(f)->tp_vectorcall_offset);
  vt_plain_calls[VT_CALL_KIND(f)] = *call;
  *call = (vectorcallfunc)fast;
}

static inline PyObject *vt_plain_call(PyObject *f, PyObject **args, size_t n, PyObject *names) {
  return vt_plain_calls[VT_CALL_KIND(f)](f, args, n, names);
}

#endif
