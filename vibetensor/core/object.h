/* The object machinery of Tensor: free list, deallocation, attribute dictionary, late tracking by the
 * cycle collector. A Tensor is created some forty million times a second at best; what CPython does
 * by default for such a type (zeroed allocation, an eager dict, collector tracking) costs several
 * times the work of a small operator.
 *
 * Note [Late tracking]: the type takes part in cyclic collection, but an instance is tracked only
 * once it holds something that can form a cycle (a hook or a Python attribute). The free list holds
 * dead instances with a reference count of zero and every rare field NULL.
 */
#ifndef VT_OBJECT_H
#define VT_OBJECT_H

#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "core/storage.h"

#define VT_TENSOR_FREE_LIST 1024

/* Where a Tensor has the objects it owns; filled in once by vt_tensor_type_setup. */
typedef struct vt_tensor_layout {
  PyTypeObject *type;
  Py_ssize_t weakrefs, attributes, hooks, grad, grad_fn, base, accumulate;
  PyObject *free_list; /* linked through the `data` field, which follows the header */
  int free_room;
} vt_tensor_layout;

static vt_tensor_layout vt_layout;

#define VT_FIELD(o, offset) (*(PyObject **)((char *)(o) + (offset)))
#define VT_NEXT_FREE(o) (*(PyObject **)((char *)(o) + sizeof(PyObject)))

static inline void vt_clear(PyObject **field) {
  PyObject *p = *field;
  if (p != NULL) {
    *field = NULL;
    Py_DECREF(p);
  }
}

static inline uintptr_t vt_weakrefs(PyObject *o) {
  return (uintptr_t)VT_FIELD(o, vt_layout.weakrefs);
}
static inline void vt_clear_weakrefs(PyObject *o) {
  if (vt_weakrefs(o)) PyObject_ClearWeakRefs(o);
}

/* PyObject_GC_IsTracked without the call: the first word of the collector's header links tracked
 * objects. */
static inline int vt_is_tracked(PyObject *o) {
#ifdef Py_GIL_DISABLED
  return PyObject_GC_IsTracked(o);
#else
  return ((uintptr_t *)o)[-2] != 0;
#endif
}

/* Gives the memory of a dead Tensor back; its rare fields are NULL. Subclasses may be larger. */
static inline void vt_tensor_push(PyObject *o) {
  if (Py_TYPE(o) == vt_layout.type && vt_layout.free_room > 0) {
    VT_NEXT_FREE(o) = vt_layout.free_list;
    vt_layout.free_list = o;
    vt_layout.free_room--;
  } else {
    Py_TYPE(o)->tp_free(o);
  }
}

/* A dead Tensor from the free list, with a reference count of zero, or NULL. */
static inline PyObject *vt_tensor_pop(void) {
  PyObject *o = vt_layout.free_list;
  if (o != NULL) {
    vt_layout.free_list = VT_NEXT_FREE(o);
    vt_layout.free_room++;
  }
  return o;
}

static int vt_tensor_traverse(PyObject *o, visitproc visit, void *arg) {
  const vt_tensor_layout *l = &vt_layout;
  Py_VISIT(VT_FIELD(o, l->attributes));
  Py_VISIT(VT_FIELD(o, l->hooks));
  Py_VISIT(VT_FIELD(o, l->grad));
  Py_VISIT(VT_FIELD(o, l->grad_fn));
  Py_VISIT(VT_FIELD(o, l->base));
  Py_VISIT(VT_FIELD(o, l->accumulate));
  return 0;
}

static int vt_tensor_clear(PyObject *o) {
  const vt_tensor_layout *l = &vt_layout;
  vt_clear(&VT_FIELD(o, l->attributes));
  vt_clear(&VT_FIELD(o, l->hooks));
  vt_clear(&VT_FIELD(o, l->accumulate));
  return 0;
}

static int vt_tensor_setattro(PyObject *o, PyObject *name, PyObject *value) {
  int r = PyObject_GenericSetAttr(o, name, value);
  if (r == 0 && VT_FIELD(o, vt_layout.attributes) != NULL && !PyObject_GC_IsTracked(o)) {
    PyObject_GC_Track(o);
  }
  return r;
}

static PyGetSetDef vt_dict_getset = {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict,
                                     NULL, NULL};

/* Installs the machinery on the type; must run before any instance or subclass exists. */
static int vt_tensor_type_setup(PyObject *tp, vt_tensor_layout layout, destructor dealloc) {
  PyTypeObject *type = (PyTypeObject *)tp;
  vt_layout = layout;
  vt_layout.type = type;
  vt_layout.free_list = NULL;
  vt_layout.free_room = VT_TENSOR_FREE_LIST;
  vt_layout.weakrefs = type->tp_weaklistoffset;
  type->tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->tp_free = PyObject_GC_Del;
  type->tp_dealloc = dealloc;
  type->tp_traverse = vt_tensor_traverse;
  type->tp_clear = vt_tensor_clear;
  type->tp_setattro = vt_tensor_setattro;
  type->tp_dictoffset = layout.attributes;
  PyObject *descr = PyDescr_NewGetSet(type, &vt_dict_getset);
  if (descr == NULL) return -1;
  int r = PyDict_SetItemString(type->tp_dict, "__dict__", descr);
  Py_DECREF(descr);
  PyType_Modified(type);
  return r;
}

/* Sets an attribute of the (static) type as `type.__setattr__` would: a special method fills its slot.
 * Only here is the type not immutable. */
static int vt_type_set(PyObject *tp, PyObject *name, PyObject *value) {
  PyTypeObject *type = (PyTypeObject *)tp;
  type->tp_flags &= ~Py_TPFLAGS_IMMUTABLETYPE;
  int r = PyObject_SetAttr(tp, name, value);
  type->tp_flags |= Py_TPFLAGS_IMMUTABLETYPE;
  return r;
}

/* Adds a property to the (static) type. The strings must be static. */
static int vt_type_getset(PyObject *tp, const char *name, getter get, setter set, const char *doc) {
  PyGetSetDef *def = (PyGetSetDef *)PyMem_Calloc(1, sizeof(PyGetSetDef));
  if (def == NULL) return -1;
  def->name = name;
  def->get = get;
  def->set = set;
  def->doc = doc;
  PyObject *descr = PyDescr_NewGetSet((PyTypeObject *)tp, def);
  if (descr == NULL) return -1;
  int r = PyDict_SetItemString(((PyTypeObject *)tp)->tp_dict, name, descr);
  Py_DECREF(descr);
  PyType_Modified((PyTypeObject *)tp);
  return r;
}

/* A new instance of `type`, a subclass of tuple without fields of its own, with n empty items. */
static PyObject *vt_new_tuple_subclass(PyObject *type, Py_ssize_t n) {
  return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, n);
}

#endif
