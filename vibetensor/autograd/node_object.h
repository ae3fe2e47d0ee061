/* Makes the Node type one that the cycle collector can follow, with a deallocator of its own.
 *
 * Like Tensor (Note [Late tracking] in core/object.h), a node is tracked only once it holds
 * something that can form a cycle: hooks, or the attributes of a Python Function's context. */
#ifndef VT_NODE_OBJECT_H
#define VT_NODE_OBJECT_H

#include <Python.h>

/* Must run before any instance or subclass exists. */
static void vt_node_type_setup(PyObject *tp, destructor dealloc, traverseproc traverse,
                               inquiry clear) {
  PyTypeObject *type = (PyTypeObject *)tp;
  type->tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->tp_free = PyObject_GC_Del;
  type->tp_dealloc = dealloc;
  type->tp_traverse = traverse;
  type->tp_clear = clear;
  PyType_Modified(type);
}

/* Puts `value` into the dictionary of the (static) type. */
static int vt_node_type_set(PyObject *tp, PyObject *name, PyObject *value) {
  int r = PyDict_SetItem(((PyTypeObject *)tp)->tp_dict, name, value);
  PyType_Modified((PyTypeObject *)tp);
  return r;
}

static inline int vt_visit(PyObject *o, visitproc visit, void *arg) {
  Py_VISIT(o);
  return 0;
}

#endif
