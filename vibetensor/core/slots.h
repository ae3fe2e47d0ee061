/* Special methods of a static extension type, installed after the type was made.
 *
 * Each is set twice: as the C slot, which the interpreter's fast paths call, and as a slot wrapper in
 * the type's dictionary, which lets Python subclasses inherit the C slot instead of a method lookup.
 * (Cython's own special methods are plain methods in the dictionary, so that `x + y` with a subclass
 * of Tensor would cost several times as much.)
 *
 * Note [Slot wrappers]: CPython trusts a wrapper to stand for the C slot if its descriptor carries the
 * slot's interned name and the interpreter's own wrapper function. We take that function from a type
 * that has a slot of the same C signature (the pattern) and give it our name. */
#ifndef VT_SLOTS_H
#define VT_SLOTS_H

#include <Python.h>
#include <stddef.h>
#include <string.h>

typedef struct vt_slot_info {
  const char *name; /* the special method */
  char group;       /* the struct that holds the slot: 't'ype, 'n'umber, 'm'apping, 's'equence */
  Py_ssize_t offset;
  PyTypeObject *pattern_type;
  const char *pattern;
} vt_slot_info;

#define VT_UNARY(name, field) {name, 'n', offsetof(PyNumberMethods, field), &PyLong_Type, "__neg__"}
#define VT_BINARY(name, reversed, field)                                  \
  {name, 'n', offsetof(PyNumberMethods, field), &PyLong_Type, "__add__"}, \
      {reversed, 'n', offsetof(PyNumberMethods, field), &PyLong_Type, "__radd__"}
#define VT_INPLACE(name, field) \
  {name, 'n', offsetof(PyNumberMethods, field), &PySet_Type, "__isub__"}

static const vt_slot_info vt_slots[] = {
    {"__repr__", 't', offsetof(PyTypeObject, tp_repr), &PyBaseObject_Type, "__repr__"},
    {"__iter__", 't', offsetof(PyTypeObject, tp_iter), &PyList_Type, "__iter__"},
    {"__len__", 'm', offsetof(PyMappingMethods, mp_length), &PyDict_Type, "__len__"},
    {"__getitem__", 'm', offsetof(PyMappingMethods, mp_subscript), &PyMemoryView_Type,
     "__getitem__"},
    {"__setitem__", 'm', offsetof(PyMappingMethods, mp_ass_subscript), &PyDict_Type, "__setitem__"},
    {"__contains__", 's', offsetof(PySequenceMethods, sq_contains), &PyList_Type, "__contains__"},
    {"__bool__", 'n', offsetof(PyNumberMethods, nb_bool), &PyLong_Type, "__bool__"},
    VT_UNARY("__int__", nb_int),
    VT_UNARY("__float__", nb_float),
    VT_UNARY("__index__", nb_index),
    VT_UNARY("__neg__", nb_negative),
    VT_UNARY("__pos__", nb_positive),
    VT_UNARY("__abs__", nb_absolute),
    VT_UNARY("__invert__", nb_invert),
    VT_BINARY("__add__", "__radd__", nb_add),
    VT_BINARY("__sub__", "__rsub__", nb_subtract),
    VT_BINARY("__mul__", "__rmul__", nb_multiply),
    VT_BINARY("__mod__", "__rmod__", nb_remainder),
    VT_BINARY("__divmod__", "__rdivmod__", nb_divmod),
    VT_BINARY("__lshift__", "__rlshift__", nb_lshift),
    VT_BINARY("__rshift__", "__rrshift__", nb_rshift),
    VT_BINARY("__and__", "__rand__", nb_and),
    VT_BINARY("__xor__", "__rxor__", nb_xor),
    VT_BINARY("__or__", "__ror__", nb_or),
    VT_BINARY("__floordiv__", "__rfloordiv__", nb_floor_divide),
    VT_BINARY("__truediv__", "__rtruediv__", nb_true_divide),
    VT_BINARY("__matmul__", "__rmatmul__", nb_matrix_multiply),
    VT_INPLACE("__iadd__", nb_inplace_add),
    VT_INPLACE("__isub__", nb_inplace_subtract),
    VT_INPLACE("__imul__", nb_inplace_multiply),
    VT_INPLACE("__imod__", nb_inplace_remainder),
    VT_INPLACE("__ilshift__", nb_inplace_lshift),
    VT_INPLACE("__irshift__", nb_inplace_rshift),
    VT_INPLACE("__iand__", nb_inplace_and),
    VT_INPLACE("__ixor__", nb_inplace_xor),
    VT_INPLACE("__ior__", nb_inplace_or),
    VT_INPLACE("__ifloordiv__", nb_inplace_floor_divide),
    VT_INPLACE("__itruediv__", nb_inplace_true_divide),
    VT_INPLACE("__imatmul__", nb_inplace_matrix_multiply),
    /* Of three arguments in C; a function that takes two never sees the modulus. */
    {"__pow__", 'n', offsetof(PyNumberMethods, nb_power), &PyLong_Type, "__pow__"},
    {"__rpow__", 'n', offsetof(PyNumberMethods, nb_power), &PyLong_Type, "__rpow__"},
    {"__ipow__", 'n', offsetof(PyNumberMethods, nb_inplace_power), &PyLong_Type, "__pow__"},
};

/* The struct that holds the slots of a group. */
static char *vt_slot_group(PyTypeObject *type, char group) {
  static PyNumberMethods number;
  static PyMappingMethods mapping;
  static PySequenceMethods sequence;
  switch (group) {
    case 'n':
      if (type->tp_as_number == NULL) type->tp_as_number = &number;
      return (char *)type->tp_as_number;
    case 'm':
      if (type->tp_as_mapping == NULL) type->tp_as_mapping = &mapping;
      return (char *)type->tp_as_mapping;
    case 's':
      if (type->tp_as_sequence == NULL) type->tp_as_sequence = &sequence;
      return (char *)type->tp_as_sequence;
    default:
      return (char *)type;
  }
}

/* Puts a wrapper of `function` named `name` into the type's dictionary; see Note [Slot wrappers]. */
static int vt_add_wrapper(PyTypeObject *type, const char *name, void *function,
                          PyTypeObject *pattern_type, const char *pattern) {
  PyObject *found = PyObject_GetAttrString((PyObject *)pattern_type, pattern);
  if (found == NULL) return -1;
  /* Lives as long as the type, which is never freed. */
  struct wrapperbase *base = (struct wrapperbase *)PyMem_Malloc(sizeof(struct wrapperbase));
  int r = -1;
  if (base != NULL && Py_IS_TYPE(found, &PyWrapperDescr_Type)) {
    *base = *((PyWrapperDescrObject *)found)->d_base;
    base->name = name;
    base->name_strobj = PyUnicode_InternFromString(name);
    PyObject *wrapper = base->name_strobj ? PyDescr_NewWrapper(type, base, function) : NULL;
    if (wrapper != NULL) r = PyDict_SetItem(type->tp_dict, base->name_strobj, wrapper);
    Py_XDECREF(wrapper);
    PyType_Modified(type);
  } else {
    PyErr_Format(PyExc_SystemError, "no slot wrapper to take as pattern for %s", name);
  }
  Py_DECREF(found);
  return r;
}

typedef int (*vt_assign_function)(PyObject *self, PyObject *key, PyObject *value);
static vt_assign_function vt_assign;

/* The slot of x[i] = v serves `del x[i]` too, with no value. */
static int vt_assign_item(PyObject *self, PyObject *key, PyObject *value) {
  if (value == NULL) {
    PyErr_SetString(PyExc_TypeError, "Tensor does not support deleting items");
    return -1;
  }
  return vt_assign(self, key, value);
}

/* Makes `function`, of the C signature of the slot, the special method `name` of a type that has no
 * subclasses so far. `name` must be static. A binary operator gets its reversed form as well: the
 * slot is called with the operands in their order, either of which may be the instance. */
static int vt_set_slot(PyObject *tp, const char *name, void *function) {
  PyTypeObject *type = (PyTypeObject *)tp;
  int found = 0;
  if (strcmp(name, "__setitem__") == 0) {
    vt_assign = (vt_assign_function)function;
    function = (void *)vt_assign_item;
  }
  for (size_t i = 0; i < sizeof(vt_slots) / sizeof(vt_slots[0]); i++) {
    const vt_slot_info *s = &vt_slots[i];
    int reversed = s->name[2] == 'r' && strcmp(s->name + 3, name + 2) == 0 && s->group == 'n';
    if (strcmp(s->name, name) != 0 && !reversed) continue;
    *(void **)(vt_slot_group(type, s->group) + s->offset) = function;
    if (vt_add_wrapper(type, s->name, function, s->pattern_type, s->pattern) < 0) return -1;
    found = 1;
  }
  if (!found) PyErr_Format(PyExc_SystemError, "vt_set_slot: no slot for %s", name);
  return found ? 0 : -1;
}

static binaryfunc vt_comparisons[6]; /* by Py_LT ... Py_GE */

static PyObject *vt_compare(PyObject *a, PyObject *b, int code) {
  if (vt_comparisons[code] == NULL) Py_RETURN_NOTIMPLEMENTED;
  return vt_comparisons[code](a, b);
}

/* Makes `function(a, b)` the comparison Py_LT ... Py_GE of the type; `a` is always an instance. */
static int vt_set_comparison(PyObject *tp, int code, void *function) {
  static const char *const names[] = {"__lt__", "__le__", "__eq__", "__ne__", "__gt__", "__ge__"};
  PyTypeObject *type = (PyTypeObject *)tp;
  vt_comparisons[code] = (binaryfunc)function;
  type->tp_richcompare = vt_compare;
  return vt_add_wrapper(type, names[code], (void *)vt_compare, &PyLong_Type, names[code]);
}

#endif
