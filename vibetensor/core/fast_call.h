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

/* The call of a function that takes its arguments as a tuple and a dict. Not through its type, which
 * would come back to the shortcut. */
static inline PyObject *vt_tuple_call(PyObject *f, PyObject **args, size_t n, PyObject *names) {
  const Py_ssize_t positional = PyVectorcall_NARGS(n);
  PyObject *result = NULL, *keywords = names != NULL ? PyDict_New() : NULL;
  PyObject *tuple = PyTuple_New(positional);
  int failed = tuple == NULL || (names != NULL && keywords == NULL);
  for (Py_ssize_t i = 0; !failed && i < positional; i++) {
    Py_INCREF(args[i]);
    PyTuple_SET_ITEM(tuple, i, args[i]);
  }
  for (Py_ssize_t i = 0; !failed && names != NULL && i < PyTuple_GET_SIZE(names); i++)
    failed = PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, i), args[positional + i]) < 0;
  if (!failed) {
    PyCFunctionWithKeywords plain =
        (PyCFunctionWithKeywords)(void (*)(void))PyCFunction_GET_FUNCTION(f);
    result = plain(((PyCFunctionObject *)f)->m_self, tuple, keywords);
  }
  Py_XDECREF(tuple);
  Py_XDECREF(keywords);
  return result;
}

static inline PyObject *vt_plain_call(PyObject *f, PyObject **args, size_t n, PyObject *names) {
  vectorcallfunc plain = vt_plain_calls[VT_CALL_KIND(f)];
  return plain != NULL ? plain(f, args, n, names) : vt_tuple_call(f, args, n, names);
}

#endif
