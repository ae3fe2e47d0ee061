# cython: language_level=3, binding=False, auto_pickle=False, boundscheck=False, wraparound=False
"""The base of ``nn.Module`` at C speed: calling a module, and reading and setting its attributes.

Owns the three registries (parameters, buffers, submodules) and the path from ``module(x)`` to
``forward``. Everything that need not be fast lives in ``module.py``. Imports nothing of the tensor
core: ``module.py`` registers the tensor type.
"""
from cpython.dict cimport PyDict_GetItemWithError
from cpython.exc cimport PyErr_Occurred
from cpython.object cimport PyObject_GenericGetAttr, PyTypeObject
from cpython.ref cimport Py_TYPE, PyObject


cdef extern from *:
    """
    /* The same pointer, as a reference that Cython then owns. */
    static inline PyObject *vt_steal(PyObject *object) { return object; }

    #define VT_IS_METHOD(function) \\
      PyType_HasFeature(Py_TYPE(function), Py_TPFLAGS_METHOD_DESCRIPTOR)
    #define VT_TYPE_CALL(type) ((type)->tp_call)

    static ternaryfunc vt_base_call;
    static getattrofunc vt_base_getattro;

    /* Makes the extension type itself callable by vectorcall and remembers its slots. */
    static void vt_module_setup_base(PyTypeObject *base, Py_ssize_t vectorcall_offset) {
      vt_base_call = base->tp_call;
      vt_base_getattro = base->tp_getattro;
      base->tp_vectorcall_offset = vectorcall_offset;
      base->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
      PyType_Modified(base);
    }

    /* Before 3.12 a Python class does not inherit the vectorcall flag, and a class with __getattr__
     * among its bases is given CPython's slow attribute slot: put right what `type` itself does
     * not override. */
    static void vt_module_setup_class(PyTypeObject *type, int plain_getattr) {
      if (type->tp_call == vt_base_call)
        type->tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL;
      else
        type->tp_flags &= ~Py_TPFLAGS_HAVE_VECTORCALL;
      if (plain_getattr) type->tp_getattro = vt_base_getattro;
      PyType_Modified(type);
    }

    /* Someone may assign __call__ to a class after it was made; 3.11 then keeps the flag. */
    static inline int vt_module_overrides_call(PyObject *self) {
      return Py_TYPE(self)->tp_call != vt_base_call;
    }

    static PyObject *vt_module_call_override(PyObject *self, PyObject *const *args, size_t nargsf,
                                             PyObject *names) {
      Py_ssize_t positional = PyVectorcall_NARGS(nargsf);
      PyObject *result = NULL, *keywords = NULL;
      PyObject *tuple = PyTuple_New(positional);
      if (!tuple) return NULL;
      for (Py_ssize_t i = 0; i < positional; i++) {
        Py_INCREF(args[i]);
        PyTuple_SET_ITEM(tuple, i, args[i]);
      }
      if (names) {
        if (!(keywords = PyDict_New())) goto done;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++)
          if (PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, i), args[positional + i]) < 0)
            goto done;
      }
      result = Py_TYPE(self)->tp_call(self, tuple, keywords);
    done:
      Py_DECREF(tuple);
      Py_XDECREF(keywords);
      return result;
    }

    /* Calls `function` with `self` put before the arguments. Uses the place before the first
     * argument where the caller lends it (the usual case), otherwise copies. */
    static PyObject *vt_call_with_self(PyObject *function, PyObject *self, PyObject *const *args,
                                       size_t nargsf, PyObject *names) {
      Py_ssize_t positional = PyVectorcall_NARGS(nargsf);
      if (nargsf & PY_VECTORCALL_ARGUMENTS_OFFSET) {
        PyObject **shifted = (PyObject **)args - 1;
        PyObject *lent = shifted[0];
        shifted[0] = self;
        PyObject *result = PyObject_Vectorcall(function, shifted, (size_t)positional + 1, names);
        shifted[0] = lent;
        return result;
      }
      Py_ssize_t total = positional + (names ? PyTuple_GET_SIZE(names) : 0);
      PyObject *few[9];
      PyObject **copy = few;
      if (total > 8) {
        copy = (PyObject **)PyMem_Malloc(((size_t)total + 1) * sizeof(PyObject *));
        if (!copy) return PyErr_NoMemory();
      }
      copy[0] = self;
      if (total) memcpy(copy + 1, args, (size_t)total * sizeof(PyObject *));
      PyObject *result = PyObject_Vectorcall(function, copy, (size_t)positional + 1, names);
      if (copy != few) PyMem_Free(copy);
      return result;
    }
    """
    ctypedef PyObject* const_args "PyObject *const *"
    ctypedef PyObject* (*vectorcallfunc)(PyObject*, const_args, size_t, PyObject*)
    object vt_steal(PyObject*)
    bint VT_IS_METHOD(PyObject*) noexcept
    void vt_module_setup_base(PyTypeObject*, Py_ssize_t) noexcept
    void vt_module_setup_class(PyTypeObject*, int) noexcept
    bint vt_module_overrides_call(PyObject*) noexcept
    PyObject* vt_module_call_override(PyObject*, const_args, size_t, PyObject*) noexcept
    PyObject* vt_call_with_self(PyObject*, PyObject*, const_args, size_t, PyObject*) noexcept
    PyObject* PyObject_Vectorcall(PyObject*, const_args, size_t, PyObject*) noexcept
    PyObject* c_getattr "PyObject_GetAttr"(PyObject*, PyObject*) noexcept
    int c_setattr "PyObject_GenericSetAttr"(PyObject*, PyObject*, PyObject*) except -1
    PyObject* _PyType_Lookup(PyTypeObject*, PyObject*) noexcept
    PyObject* _PyObject_GenericGetAttrWithDict(PyObject*, PyObject*, PyObject*, int) noexcept
    void c_incref "Py_INCREF"(PyObject*) noexcept
    void c_decref "Py_DECREF"(PyObject*) noexcept


# What keeps a call off the straight way to the `forward` of the class.
cdef enum:
    HOOKED = 1       # forward hooks are registered: go through Module._call_with_hooks
    OWN_FORWARD = 2  # the instance has a `forward` of its own

cdef str FORWARD = "forward"
cdef str CALL_WITH_HOOKS = "_call_with_hooks"
cdef str GETATTR = "__getattr__"
cdef str GETATTRIBUTE = "__getattribute__"

# The type whose values are offered to Module._register_value; set by register_tensor_type.
cdef object tensor_type = None


cdef PyObject* call_method(PyObject* self, PyObject* name, const_args args, size_t nargsf,
                           PyObject* keywords, bint own) noexcept:
    """Call ``self.<name>`` without making a bound method where the class holds a function."""
    cdef PyObject* function = NULL
    cdef PyObject* result
    if not own:
        function = _PyType_Lookup(Py_TYPE(<object>self), name)
    if function is not NULL and VT_IS_METHOD(function):
        c_incref(function)  # the class could drop it during the call
        result = vt_call_with_self(function, self, args, nargsf, keywords)
    else:
        function = c_getattr(self, name)
        if function is NULL:
            return NULL
        result = PyObject_Vectorcall(function, args, nargsf, keywords)
    c_decref(function)
    return result


cdef PyObject* module_vectorcall(PyObject* self, const_args args, size_t nargsf,
                                 PyObject* keywords) noexcept:
    cdef int flags = (<ModuleBase>self).flags
    if vt_module_overrides_call(self):
        return vt_module_call_override(self, args, nargsf, keywords)
    if flags & HOOKED:
        return call_method(self, <PyObject*>CALL_WITH_HOOKS, args, nargsf, keywords, False)
    return call_method(self, <PyObject*>FORWARD, args, nargsf, keywords, flags & OWN_FORWARD)


cdef inline PyObject* find(object registry, object name) except? NULL:
    """The registry's value, borrowed; NULL without an exception where there is none."""
    if registry is None:
        return NULL
    return PyDict_GetItemWithError(registry, name)


cdef inline bint holds(object registry, object name) except -1:
    return registry is not None and len(<dict>registry) != 0 and name in <dict>registry


cdef class ModuleBase:
    """Registries, attribute access and call path of :class:`vibetensor.nn.Module`."""

    cdef vectorcallfunc vectorcall
    cdef int flags
    cdef public object _parameters
    cdef public object _buffers
    cdef public object _modules
    cdef object __weakref__

    def __cinit__(self):
        # The registries stay None until Module.__init__ runs, so that assigning a parameter before
        # it can be refused.
        self.vectorcall = module_vectorcall

    def __call__(self, *args, **kwargs):
        # Reached by super().__call__() from a class with a __call__ of its own.
        if self.flags & HOOKED:
            return self._call_with_hooks(*args, **kwargs)
        return self.forward(*args, **kwargs)

    def __getattribute__(self, name):
        cdef PyObject* value = _PyObject_GenericGetAttrWithDict(
            <PyObject*>self, <PyObject*>name, NULL, 1)
        if value is not NULL:
            return vt_steal(value)
        if PyErr_Occurred():
            return vt_steal(NULL)
        value = find(self._parameters, name)
        if value is NULL:
            value = find(self._modules, name)
        if value is NULL:
            value = find(self._buffers, name)
        if value is not NULL:
            return <object>value
        if _PyType_Lookup(Py_TYPE(self), <PyObject*>name) is not NULL:
            return PyObject_GenericGetAttr(self, name)  # a property failed: let it say why
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name, value):
        if (
            isinstance(value, ModuleBase)
            or (tensor_type is not None and isinstance(value, tensor_type))
            or holds(self._parameters, name)
            or holds(self._modules, name)
            or holds(self._buffers, name)
        ):
            if self._register_value(name, value):
                return
        c_setattr(<PyObject*>self, <PyObject*>name, <PyObject*>value)
        if name == FORWARD:
            self.flags |= OWN_FORWARD

    def __delattr__(self, name):
        for registry in (self._parameters, self._buffers, self._modules):
            if holds(registry, name):
                del registry[name]
                return
        c_setattr(<PyObject*>self, <PyObject*>name, NULL)
        if name == FORWARD:
            self.flags &= ~OWN_FORWARD

    def _set_hooked(self, bint hooked):
        """Send calls through ``_call_with_hooks``, or straight to ``forward``."""
        if hooked:
            self.flags |= HOOKED
        else:
            self.flags &= ~HOOKED

    def _set_own_forward(self, bint own):
        """Say whether the instance's dictionary holds ``forward`` (it was filled at once)."""
        if own:
            self.flags |= OWN_FORWARD
        else:
            self.flags &= ~OWN_FORWARD


def parameters_of(ModuleBase root not None):
    """The parameters of the tree, each once, in the order of ``named_parameters``."""
    cdef list found = [], waiting = [root]
    cdef set modules = set(), known = set()  # of tensors the addresses: == compares their elements
    cdef ModuleBase module
    while waiting:
        module = waiting.pop()
        if module in modules:
            continue
        modules.add(module)
        for parameter in module._parameters.values():
            if parameter is not None and <size_t><PyObject*>parameter not in known:
                known.add(<size_t><PyObject*>parameter)
                found.append(parameter)
        if module._modules:
            waiting += [inner for inner in reversed(module._modules.values()) if inner is not None]
    return found


cdef Py_ssize_t vectorcall_offset():
    cdef ModuleBase probe = ModuleBase.__new__(ModuleBase)
    return <char*>&probe.vectorcall - <char*><PyObject*>probe


vt_module_setup_base(<PyTypeObject*>ModuleBase, vectorcall_offset())

cdef PyObject* base_getattribute = _PyType_Lookup(
    <PyTypeObject*>ModuleBase, <PyObject*>GETATTRIBUTE)
cdef object module_getattr = None


def prepare_class(type cls):
    """Give a new subclass of :class:`ModuleBase` the fast call and attribute slots it may have.

    The first class seen (``Module``) may define ``__getattr__``: it must do what attribute access
    does anyway, and exists so that subclasses can call ``super().__getattr__(name)``.
    """
    global module_getattr
    cdef PyObject* found = _PyType_Lookup(<PyTypeObject*>cls, <PyObject*>GETATTR)
    if module_getattr is None and found is not NULL:
        module_getattr = <object>found
    vt_module_setup_class(
        <PyTypeObject*>cls,
        found is <PyObject*>module_getattr
        and _PyType_Lookup(<PyTypeObject*>cls, <PyObject*>GETATTRIBUTE) is base_getattribute,
    )


def register_tensor_type(cls):
    """Name the type whose values ``__setattr__`` offers to ``_register_value``."""
    global tensor_type
    tensor_type = cls
